package backend

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/imapwire"
)

// walk is a random sequence of commands by the engine, each held against what the oracle sees before and behind it.
type walk struct {
	t    testing.TB
	c    *Client
	o    *oracle
	r    *rand.Rand
	text string // as the oracle has it
	now  boxes
	log  []string
}

// TestOracleRandom lets the engine do what it can to go-imap's server, and go-imap's client look at it.
func TestOracleRandom(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := &walk{t: t, r: rand.New(rand.NewPCG(seed, 7))}
			w.c, w.o = memory(t)
			w.text, w.now = w.o.all()
			for step := range 60 {
				w.step()
				if w.text, w.now = w.o.all(); t.Failed() {
					t.Fatalf("step %d: %s", step, strings.Join(w.log, "\n"))
				}
				text, err := everything(ctx(t), w.c)
				if err != nil {
					t.Fatalf("%v\n%s", err, strings.Join(w.log, "\n"))
				}
				differ(t, strings.Join(w.log, "\n"), text, w.text)
			}
		})
	}
}

func (w *walk) names() []string {
	var list []string
	for n := range w.now {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// open selects a mailbox that is not empty and picks some of its messages.
func (w *walk) open() (box string, uids []uint32) {
	for range 20 {
		if box = pick(w.r, w.names()); len(w.now[box]) > 0 {
			break
		}
	}
	for u := range w.now[box] {
		if w.r.IntN(2) == 0 {
			uids = append(uids, u)
		}
	}
	slices.Sort(uids)
	if _, err := w.c.Select(box, SelectOptions{}).Result(ctx(w.t)); err != nil {
		w.t.Errorf("SELECT %s: %v", box, err)
	}
	return box, uids
}

func (w *walk) note(format string, args ...any) { w.log = append(w.log, fmt.Sprintf(format, args...)) }

// step does one thing and checks what the engine says it has done.
func (w *walk) step() {
	t := w.t
	fail := func(err error) {
		if err != nil {
			t.Errorf("%v", err)
		}
	}
	switch k := w.r.IntN(12); k {
	case 0: // CREATE, of what may be there
		name := pick(w.r, []string{"a", "a/b", "say \"hi\"", "Entw&APw-rfe", "R&-D", "Sent"})
		w.note("CREATE %s", name)
		err := w.c.Create(name, "").Wait(ctx(t))
		var s *StatusError
		if was := w.now[name] != nil; was != (errors.As(err, &s) && s.Code.Name == "ALREADYEXISTS") || !was && err != nil {
			t.Errorf("CREATE: %v", err)
		}
	case 1: // DELETE or RENAME
		name, to := pick(w.r, w.names()), fmt.Sprint("r", w.r.IntN(3))
		if name == "INBOX" || w.now[to] != nil || w.r.IntN(2) == 0 && len(w.now) < 4 {
			return
		}
		if w.r.IntN(2) == 0 {
			w.note("DELETE %s", name)
			fail(w.c.Delete(name).Wait(ctx(t)))
			return
		}
		w.note("RENAME %s %s", name, to)
		fail(w.c.Rename(name, to).Wait(ctx(t)))
	case 2, 3, 4, 5:
		w.append()
	case 6: // SUBSCRIBE
		name := pick(w.r, w.names())
		w.note("SUBSCRIBE %s", name)
		fail(w.c.Subscribe(name).Wait(ctx(t)))
		found := false
		fail(w.c.List(ctx(t), ListOptions{Subscribed: true}, func(e ListEntry) error {
			found = found || e.Name == name
			return nil
		}))
		fail(w.c.Unsubscribe(name).Wait(ctx(t)))
		if !found {
			t.Errorf("%s is not subscribed", name)
		}
	case 7, 8: // STORE
		box, uids := w.open()
		if len(uids) == 0 {
			return
		}
		set := string(imapwire.AppendUIDs(nil, uids))
		flags := []string{pick(w.r, []string{`\Seen`, `\Flagged`, `\Deleted`, "$Label1", "k.w"})}
		o := StoreOptions{Add: flags}
		if w.r.IntN(3) == 0 {
			o = StoreOptions{Remove: flags}
		}
		w.note("STORE %s %s %+v", box, set, o)
		fail(w.c.Store(set, o).Wait(ctx(t)))
	case 9, 10: // COPY, MOVE
		w.copy(k == 10)
	case 11: // EXPUNGE
		box, uids := w.open()
		set := string(imapwire.AppendUIDs(nil, uids)) // "" is all
		w.note("EXPUNGE %s %q", box, set)
		gone := 0
		w.c.SetUntagged(Untagged{Expunge: func(uint32) { gone++ }})
		fail(w.c.Expunge(set).Wait(ctx(t)))
		want := 0
		for u, m := range w.now[box] {
			if strings.Contains(m.Flags, `\deleted`) && (set == "" || slices.Contains(uids, u)) {
				want++
			}
		}
		if gone != want {
			t.Errorf("%d were expunged, want %d", gone, want)
		}
	}
}

// append stores a message of any bytes.
func (w *walk) append() {
	t := w.t
	box := pick(w.r, append(w.names(), "missing"))
	body := []byte("Subject: x\r\n\r\n")
	for range pick(w.r, []int{1, 500, 4000, 9000}) {
		body = append(body, byte(1+w.r.IntN(255)))
	}
	m := AppendMessage{Size: int64(len(body)), Date: time.Unix(w.r.Int64N(1<<31), 0).In(time.FixedZone("", 3600*w.r.IntN(12)))}
	for _, f := range []string{`\Seen`, `\Deleted`, `\Draft`, "$Work"} {
		if w.r.IntN(3) == 0 {
			m.Flags = append(m.Flags, f)
		}
	}
	w.note("APPEND %s %d %v", box, len(body), m.Flags)
	a := w.c.Append(ctx(t), box)
	to, err := a.Next(ctx(t), m)
	if err == nil {
		_, err = to.Write(body)
	}
	got, err2 := a.Finish().Result(ctx(t))
	if err = errors.Join(err, err2); box == "missing" {
		var s *StatusError
		if !errors.As(err, &s) || s.Code.Name != "TRYCREATE" {
			t.Errorf("APPEND: %v", err)
		}
		return
	}
	_, now := w.o.all()
	want := seen{sorted(slices.Clone(m.Flags)), m.Date.UTC().String(), hash(body)}
	if err != nil || len(got.UIDs) != 1 || now[box][got.UIDs[0]] != want {
		t.Errorf("APPEND: %+v %v; the oracle sees %+v, want %+v", got, err, now[box], want)
	}
}

// copy copies or moves, and looks for each message where it is said to be.
func (w *walk) copy(move bool) {
	t := w.t
	box, uids := w.open()
	to := pick(w.r, w.names())
	if len(uids) == 0 || to == box {
		return
	}
	set := string(imapwire.AppendUIDs(nil, uids))
	w.note("COPY (move: %v) %s %s %s", move, box, set, to)
	var x *CopyCommand
	if move {
		x = w.c.Move(set, to)
	} else {
		x = w.c.Copy(set, to)
	}
	got, err := x.Result(ctx(t))
	if err != nil || !slices.Equal(got.From, uids) || len(got.To) != len(uids) {
		t.Errorf("%v to %v, want %v: %v", got.From, got.To, uids, err)
		return
	}
	_, now := w.o.all()
	for i, u := range uids {
		if now[to][got.To[i]] != w.now[box][u] {
			t.Errorf("%d is %+v, %d was %+v", got.To[i], now[to][got.To[i]], u, w.now[box][u])
		}
		if _, there := now[box][u]; there == move {
			t.Errorf("%d is in %s: %v", u, box, there)
		}
	}
}
