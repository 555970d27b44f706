package syncer

import (
	"slices"
	"strings"
	"testing"

	"mailgate/backend"
	"mailgate/config"

	"pgregory.net/rapid"
)

// anyModel is an account of some folders on two sides of any product.
func anyModel(t *rapid.T) *model {
	m := &model{authority: rapid.SampledFrom(config.Sides[:]).Draw(t, "authority"), last: 10, ids: map[int64]int{}}
	id := 1
	for side := range m.sides {
		m.sides[side] = newModelSide(anySide().Draw(t, "side"))
		m.sides[side].objectIDs = rapid.Bool().Draw(t, "objectid")
		for range rapid.IntRange(0, 8).Draw(t, "folders") {
			id++
			m.create(t, config.Side(side), id)
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "rules") == 0 {
		m.rules = Rules{Rename: map[string]string{leaf().Draw(t, "rule"): leaf().Draw(t, "renamed")},
			Exclude: rapid.SampledFrom([][]string{nil, {"A"}, {"b*"}}).Draw(t, "exclude")}
	}
	return m
}

// leaf is a component as people and programs name folders; few, so that they meet.
func leaf() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"A", "B", "C", "a", "b", "A", "B", "C", "Sent", "Sent Items", "Entw&APw-rfe", "R&-D", "x=2Fy", "~t", "q%r", "INBOX", "a b"})
}

// create makes a folder as a user does, where the name is free.
func (m *model) create(t *rapid.T, side config.Side, id int) {
	s := m.sides[side]
	name := s.some(t)
	use := rapid.SampledFrom([]string{"", "", "", "", `\Sent`}).Draw(t, "use")
	if !s.has(name) && !strings.EqualFold(name, "INBOX") {
		s.add(name, modelFolder{id: id, messages: uint32(id%7) * 10, use: use, subscribed: id%2 == 0})
	}
}

// some is a name that the side itself can hold: below one that is there, or at the top.
func (s *modelSide) some(t *rapid.T) string {
	part := leaf().Draw(t, "name")
	n := newNaming(s.SideFolders)
	if n.escaper.escape(n.decode(part)) != n.decode(part) && !strings.Contains(part, "=") {
		part = "A"
	}
	above := rapid.SampledFrom(s.names()).Draw(t, "above")
	if s.separator != "" && above != "INBOX" && rapid.Bool().Draw(t, "below") {
		return above + s.separator + part
	}
	return s.prefix + part
}

// change does what a user does to his folders.
func (m *model) change(t *rapid.T, id int) {
	side := rapid.SampledFrom(config.Sides[:]).Draw(t, "where")
	s := m.sides[side]
	name := rapid.SampledFrom(s.names()).Draw(t, "folder")
	switch rapid.IntRange(0, 5).Draw(t, "what") {
	case 0:
		m.create(t, side, id)
	case 1:
		if name != "INBOX" {
			delete(s.folders, name)
		}
	case 2:
		if f := s.folders[name]; f.id != 0 {
			f.messages, f.next = f.messages+1, f.next+1
		}
	default:
		to := s.some(t)
		before := map[string]*modelFolder{}
		for n, f := range s.folders {
			before[n] = f
		}
		if name == "INBOX" || strings.EqualFold(to, "INBOX") || s.rename(name, to) != nil {
			s.folders = before
		}
	}
}

// carry makes a plan, looks at it, carries it out and sees to it that nothing is left to do. It is false when the plan is refused.
func (m *model) carry(t interface{ Fatalf(string, ...any) }) bool {
	before := [2][]string{m.sides[0].names(), m.sides[1].names()}
	p := m.plan()
	if err := m.check(p); err != nil {
		t.Fatalf("%q: %v\n%s", before, err, p.Text())
	}
	if len(p.Refused()) > 0 {
		return false
	}
	if err := m.apply(p); err != nil {
		t.Fatalf("%q: %v\n%s", before, err, p.Text())
	}
	again := m.plan()
	if len(m.rules.Rename) > 0 && still(again) != nil && len(again.Refused()) == 0 {
		// What a rule has made may have a name by which special uses are guessed, once.
		if err := m.apply(again); err != nil {
			t.Fatalf("%q: %v\n%s", before, err, again.Text())
		}
		again = m.plan()
	}
	for _, err := range []error{m.check(again), still(again)} {
		if err != nil {
			t.Fatalf("%q: once more: %v\n%s\n%s", before, err, p.Text(), again.Text())
		}
	}
	return true
}

// TestPlanConverges makes plans for any two sides, carries them out in a model, and again after users have created, renamed and
// deleted folders on both sides: each folder has its line, no two become one, a folder stays what it is whatever it is called,
// and a second plan has nothing to do.
func TestPlanConverges(t *testing.T) {
	checks(t, "3000")
	refused, carried := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		m := anyModel(t)
		for round := range 3 {
			if !m.carry(t) {
				refused++
				return
			}
			carried++
			for i := range rapid.IntRange(1, 4).Draw(t, "changes") {
				m.change(t, 100*(round+1)+i)
			}
		}
	})
	if carried < 2*refused {
		t.Errorf("%d plans were carried out, %d refused", carried, refused)
	}
	t.Logf("%d plans were carried out, %d refused", carried, refused)
}

// twoSides is a model with folders on both sides that are paired already.
func twoSides(t *testing.T, folders ...string) *model {
	t.Helper()
	m := &model{ids: map[int64]int{}}
	for side, prefix := range []string{"INBOX.", ""} {
		m.sides[side] = newModelSide(namespaced(prefix, "./"[side]))
	}
	for i, name := range folders {
		m.sides[0].add("INBOX."+strings.ReplaceAll(name, "/", "."), modelFolder{id: 10 + i, messages: uint32(10 + i)})
	}
	if !m.carry(t) {
		t.Fatal(m.plan().Text())
	}
	return m
}

// do renames on a side, with "/" for the separator and without prefix.
func (m *model) do(t *testing.T, side config.Side, from, to string) {
	t.Helper()
	s := m.sides[side]
	raw := func(name string) string { return s.prefix + strings.ReplaceAll(name, "/", s.separator) }
	if err := s.rename(raw(from), raw(to)); err != nil {
		t.Fatal(err)
	}
}

// want compares the folders of both sides with names, without INBOX.
func (m *model) want(t *testing.T, names ...string) {
	t.Helper()
	slices.Sort(names)
	for side, s := range m.sides {
		var got []string
		for _, name := range s.names() {
			if name != "INBOX" {
				got = append(got, strings.ReplaceAll(strings.TrimPrefix(name, s.prefix), s.separator, "/"))
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, names) {
			t.Errorf("%s has %q, not %q", config.Side(side), got, names)
		}
	}
}

func namespaced(prefix string, separator byte) SideFolders {
	return SideFolders{Namespaces: backend.Namespaces{Personal: []backend.Namespace{{Prefix: prefix, Separator: separator}}}}
}
