package traffic

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/config"
)

// TestLedgerSees: a listing that is not what was acknowledged is found to be so, and nothing else is.
func TestLedgerSees(t *testing.T) {
	put := func(b *Box, at, flags string) *letter {
		l := b.add(worker)
		b.begin("APPEND", []*letter{l}, func(_ *letter, w world) world { return w.with(at, flags) }).ok()
		return l
	}
	expunge := func(b *Box, l *letter) *act {
		return b.begin("EXPUNGE", []*letter{l}, func(_ *letter, w world) world { return w.without(inbox) })
	}
	b := newBox(1)
	kept, gone, cut, late := put(b, inbox, `\seen`), put(b, inbox, ""), put(b, inbox, ""), b.arriving(worker)
	expunge(b, gone).ok()
	expunge(b, cut).cut(errors.New("EOF"))
	b.arrived(late, "delivered")
	it := func(l *letter, flags string) item { return item{l.mark, flags, "1"} }
	for name, test := range map[string]struct {
		list []item
		want string
	}{
		"as it is":              {[]item{it(kept, `\seen`)}, ""},
		"cut, and not done":     {[]item{it(kept, `\seen`), it(cut, "")}, ""},
		"missing":               {nil, "is not in INBOX"},
		"twice":                 {[]item{it(kept, `\seen`), it(kept, `\seen`)}, "2 times"},
		"flags":                 {[]item{it(kept, "")}, `not (\seen)`},
		"back from the dead":    {[]item{it(kept, `\seen`), it(gone, "")}, "must be nowhere"},
		"nobody has written it": {[]item{it(kept, `\seen`), {"t-9-9.", "", "2"}}, "nobody has written it"},
		"late mail twice":       {[]item{it(kept, `\seen`), it(late, ""), it(late, "")}, "2 times"},
	} {
		odd := strings.Join(b.seen(b.look(inbox), test.list, true), "; ")
		if test.want == "" && odd != "" || !strings.Contains(odd, test.want) {
			t.Errorf("%s: %q", name, odd)
		}
	}
	v := b.look(inbox)
	under := expunge(b, kept)
	if odd := b.seen(v, nil, true); len(odd) > 0 {
		t.Errorf("a command is under way: %q", odd)
	}
	under.ok()
	if odd := b.seen(v, []item{it(kept, `\seen`)}, true); len(odd) > 0 {
		t.Errorf("it was deleted behind the look: %q", odd)
	}
	if odd := b.seen(b.look(inbox), []item{it(late, "")}, true); len(odd) > 0 || late.pending {
		t.Errorf("late mail has come: %q", odd)
	}
	if odd := b.seen(b.look(inbox), nil, true); len(odd) != 1 {
		t.Errorf("late mail has gone again: %q", odd)
	}
}

// TestSides: who is served on two sides at once, or where he is not, is found; an answer that was read late is no such thing.
func TestSides(t *testing.T) {
	zero := time.Now()
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	span := func(side, login, in, sent, done int) *Span {
		return &Span{Client: "x", Side: side, Login: at(login), In: at(in), LastSent: at(sent), LastDone: at(done)}
	}
	for name, test := range map[string]struct {
		spans   []*Span
		settled []Settled
		want    string
		gaps    []time.Duration
	}{
		"one after the other":      {spans: []*Span{span(0, 0, 10, 90, 100), span(1, 110, 150, 200, 210)}, gaps: []time.Duration{50 * time.Millisecond}},
		"both at once":             {spans: []*Span{span(0, 0, 10, 190, 200), span(1, 110, 150, 200, 210)}, want: "both sides at once"},
		"an answer that came late": {spans: []*Span{span(0, 0, 10, 190, 200), span(1, 110, 150, 110, 150)}},
		"let in where he is not":   {spans: []*Span{span(0, 20, 30, 20, 30)}, settled: []Settled{{config.New, at(10), at(100)}}, want: "let in on the wrong side"},
		"served where he is not":   {spans: []*Span{span(0, 0, 5, 20, 30)}, settled: []Settled{{config.New, at(10), at(100)}}, want: "served on the wrong side"},
		"where he is":              {spans: []*Span{span(1, 20, 30, 40, 50)}, settled: []Settled{{config.New, at(10), at(100)}}},
		"while he is moved":        {spans: []*Span{span(0, 0, 5, 20, 30)}, settled: []Settled{{config.New, at(40), at(100)}}},
	} {
		b := newBox(1)
		b.spans = test.spans
		odd, gaps := b.sides(test.settled, nil)
		text := strings.Join(odd, "; ")
		if test.want == "" && text != "" || !strings.Contains(text, test.want) || test.want == "" && !slices.Equal(gaps, test.gaps) {
			t.Errorf("%s: %q, gaps %v", name, text, gaps)
		}
	}
}

// TestWords: what a mail program takes for a wrong password, and what for trouble that passes.
func TestWords(t *testing.T) {
	for _, text := range []string{"NO [AUTHENTICATIONFAILED] no", "-ERR [AUTH] no", "535 5.7.8 no"} {
		if !wrongPassword(text) {
			t.Error(text)
		}
	}
	for _, text := range []string{"NO [UNAVAILABLE] later", "-ERR [SYS/TEMP] later", "454 4.7.0 later", "421 4.3.2 later"} {
		if wrongPassword(text) || !passing(text) {
			t.Error(text)
		}
	}
}
