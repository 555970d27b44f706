package syncer

import (
	"slices"
	"strings"
	"testing"

	"mailgate/config"
)

// actions lists what a plan does, in its order, as "what OLD | NEW".
func actions(p *Plan) (out []string) {
	for _, f := range p.Folders {
		if f.Action != ActionPair {
			out = append(out, whatText(f)+" "+f.Shown[config.Old]+" | "+f.Shown[config.New])
		}
	}
	return out
}

// TestPlanRenames has users rename folders on both sides before anybody looks.
func TestPlanRenames(t *testing.T) {
	type rename struct {
		side     config.Side
		from, to string
	}
	const old, new = config.Old, config.New
	tests := []struct {
		name    string
		folders []string
		renames []rename
		decides []config.Side
		want    []string // folders on both sides afterwards; nil where they are not alike
		actions []string
		note    string
	}{
		{"a folder and what is below it", []string{"A", "A/x", "A/x/z"}, []rename{{old, "A", "B"}}, config.Sides[:],
			[]string{"B", "B/x", "B/x/z"}, []string{"rename on NEW INBOX.B | B"}, ""},
		{"on the follower too", []string{"A", "A/x"}, []rename{{new, "A", "B"}}, config.Sides[:],
			[]string{"B", "B/x"}, []string{"rename on OLD INBOX.B | B"}, ""},
		{"a folder on one side, the one above it on the other", []string{"A", "A/x", "A/x/z"}, []rename{{old, "A", "B"}, {new, "A/x", "A/y"}}, config.Sides[:],
			[]string{"B", "B/y", "B/y/z"}, []string{"rename on OLD INBOX.B.y | B/y", "rename on NEW INBOX.B | B"}, ""},
		{"out of a folder that is renamed on the other side", []string{"A", "A/x"}, []rename{{old, "A", "B"}, {new, "A/x", "X"}}, config.Sides[:],
			[]string{"B", "X"}, []string{"rename on OLD INBOX.X | X", "rename on NEW INBOX.B | B"}, ""},
		{"into a folder that is renamed on the other side", []string{"A", "x"}, []rename{{old, "A", "B"}, {new, "x", "A/x"}}, config.Sides[:],
			[]string{"B", "B/x"}, []string{"rename on OLD INBOX.B.x | B/x", "rename on NEW INBOX.B | B"}, ""},
		{"otherwise on both sides: OLD decides", []string{"A", "A/x"}, []rename{{old, "A", "B"}, {new, "A", "C"}}, []config.Side{old},
			[]string{"B", "B/x"}, []string{"rename on NEW INBOX.B | B"}, ""},
		{"otherwise on both sides: NEW decides", []string{"A", "A/x"}, []rename{{old, "A", "B"}, {new, "A", "C"}}, []config.Side{new},
			[]string{"C", "C/x"}, []string{"rename on OLD INBOX.C | C"}, ""},
		{"alike on both sides", []string{"A", "A/x"}, []rename{{old, "A", "B"}, {new, "A", "B"}}, config.Sides[:],
			[]string{"B", "B/x"}, nil, ""},
		{"one after the other", []string{"A", "B"}, []rename{{old, "B", "C"}, {old, "A", "B"}}, config.Sides[:],
			[]string{"B", "C"}, []string{"rename on NEW INBOX.C | C", "rename on NEW INBOX.B | B"}, ""},
		{"the child above its parent", []string{"A", "A/x"}, []rename{{old, "A/x", "X"}, {old, "A", "X/A"}}, config.Sides[:],
			[]string{"X", "X/A"}, []string{"rename on NEW INBOX.X | X", "rename on NEW INBOX.X.A | X/A"}, ""},
		{"two change names: they stay what they are", []string{"A", "B"}, []rename{{old, "A", "T"}, {old, "B", "A"}, {old, "T", "B"}}, []config.Side{old},
			[]string{"A", "B"}, nil, "NEW keeps the name B: another folder has that name there."},
		{"two change names on the follower: it takes that back where it can", []string{"A", "B"},
			[]rename{{new, "A", "T"}, {new, "B", "A"}, {new, "T", "B"}}, []config.Side{old},
			[]string{"A", "B"}, nil, "which does not decide; that is taken back: another folder has that name there."},
		{"each into the other", []string{"A", "B"}, []rename{{old, "A", "B/A"}, {new, "B", "A/B"}}, config.Sides[:],
			nil, nil, "it and another folder were each moved into the other"},
	}
	for _, x := range tests {
		for _, side := range x.decides {
			t.Run(x.name+", "+side.String()+" decides", func(t *testing.T) {
				m := twoSides(t, x.folders...)
				m.authority = side
				for _, r := range x.renames {
					m.do(t, r.side, r.from, r.to)
				}
				p := m.plan()
				if got := actions(p); x.want != nil && len(p.Notes) == 0 && !slices.Equal(got, x.actions) {
					t.Errorf("the plan does %q, not %q", got, x.actions)
				}
				if notes := strings.Join(p.Notes, "\n"); !strings.Contains(notes, x.note) || x.note == "" && notes != "" {
					t.Errorf("notes: %q", notes)
				}
				if !m.carry(t) {
					t.Fatal(p.Text())
				}
				if x.want != nil {
					m.want(t, x.want...)
				}
			})
		}
	}
}

// with adds a folder to a side.
func (m *model) with(side config.Side, name, use string, id int) {
	m.sides[side].add(name, modelFolder{id: id, messages: 5, use: use})
}

// TestPlanCases are plans of the first meeting, and what they refuse.
func TestPlanCases(t *testing.T) {
	const old, new = config.Old, config.New
	tests := []struct {
		name    string
		make    func(m *model)
		actions []string
		why     string // of the first folder that is refused
	}{
		{"a rename of the operator, and what is below", func(m *model) {
			m.with(old, "INBOX.Work", "", 2)
			m.with(old, "INBOX.Work.2025", "", 3)
			m.with(old, "INBOX.Workshop", "", 4)
			m.rules.Rename = map[string]string{"Work": "Archive/Old work"}
		}, []string{"create on NEW INBOX.Work | Archive/Old work", "create on NEW INBOX.Work.2025 | Archive/Old work/2025", "create on NEW INBOX.Workshop | Workshop"}, ""},
		{"folders of special use are one, and what is below follows", func(m *model) {
			m.with(old, "INBOX.Gesendet", `\Sent`, 2)
			m.with(old, "INBOX.Gesendet.2025", "", 3)
			m.with(new, "Sent", `\Sent`, 4)
		}, []string{`create on NEW INBOX.Gesendet.2025 | Sent/2025`}, ""},
		{"a name tells the use where the other side says it", func(m *model) {
			m.with(old, "INBOX.Papierkorb", "", 2)
			m.with(new, "Trash", `\Trash`, 4)
		}, nil, ""},
		{"both have the name: nothing is guessed", func(m *model) {
			m.with(old, "INBOX.Gesendet", `\Sent`, 2)
			m.with(new, "Gesendet", "", 3)
			m.with(new, "Sent", `\Sent`, 4)
		}, []string{`create on OLD INBOX.Sent | Sent`}, ""},
		{"letter case that the other side does not tell apart", func(m *model) {
			m.sides[new].Profile = &Profile{CaseFolds: true}
			m.with(old, "INBOX.Work", "", 2)
			m.with(old, "INBOX.work", "", 3)
		}, []string{"create on NEW INBOX.Work | Work", "refuse INBOX.work | work"}, "NEW would hold it as work, and so it would INBOX.Work."},
		{"two folders that a rule makes one", func(m *model) {
			m.with(old, "INBOX.A", "", 2)
			m.with(old, "INBOX.B", "", 3)
			m.rules.Rename = map[string]string{"A": "B"}
		}, []string{"create on NEW INBOX.A | B", "refuse INBOX.B | B"}, "NEW would hold it as B, and so it would INBOX.A."},
		{"two spellings of one name", func(m *model) {
			m.with(old, "INBOX.R&D", "", 2)
			m.with(old, "INBOX.R&-D", "", 3)
		}, []string{"create on NEW INBOX.R&D | R&D", "refuse INBOX.R&D | "}, "OLD lists another folder that reads the same"},
		{"folders in folders where there are none", func(m *model) {
			m.sides[new] = newModelSide(namespaced("", 0))
			m.with(old, "INBOX.A", "", 2)
			m.with(old, "INBOX.A.x", "", 3)
		}, []string{"create on NEW INBOX.A | A", "refuse INBOX.A.x | A/x"}, "NEW cannot hold it: folders cannot hold folders there."},
		{"a name that is too long", func(m *model) {
			m.sides[new].Profile = &Profile{MaxName: 100}
			m.with(old, "INBOX."+strings.Repeat("n", 101), "", 2)
		}, []string{"refuse INBOX." + strings.Repeat("n", 101) + " | " + strings.Repeat("n", 101)}, "the name has 101 bytes and the server takes 100"},
		{"a name that folders left out have", func(m *model) {
			m.sides[old].Profile = &Profile{CaseFolds: true}
			m.with(old, "INBOX.A", "", 2)
			m.with(new, "a", "", 3)
			m.rules.Exclude = []string{"A"}
		}, []string{"leave out INBOX.A | ", "refuse INBOX.a | a"}, "OLD has another folder INBOX.a, which is left out."},
		{"what a rule leaves out has no partner that is only guessed", func(m *model) { // another "Sent" comes to NEW, and the guess would be over
			m.with(old, "INBOX.b", `\Sent`, 2)
			m.with(old, "INBOX.Sent", "", 3)
			m.with(new, "Sent Items", "", 4)
			m.rules.Exclude = []string{"b"}
		}, []string{"create on NEW INBOX.Sent | Sent", "create on OLD INBOX.Sent Items | Sent Items", `leave out (\Sent) INBOX.b | `}, ""},
		{"what is below a folder follows it, and no rule for another", func(m *model) {
			m.with(old, "INBOX.C", "", 2)
			m.with(new, "C", "", 3)
			m.with(new, "C/x", "", 4)
			m.rules.Rename = map[string]string{"X": "C"}
		}, []string{"create on OLD INBOX.C.x | C/x"}, ""},
		{"characters that a side cannot hold", func(m *model) {
			m.sides[new].Profile = &Profile{BadNames: `%"`, BadFirst: "~"}
			m.with(old, `INBOX.100% "sure"/no`, "", 2)
			m.with(old, "INBOX.~tilde", "", 3)
		}, []string{`create on NEW INBOX.100% "sure"/no | 100=25 =22sure=22=2Fno`, "create on NEW INBOX.~tilde | =7Etilde"}, ""},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			m := twoSides(t)
			x.make(m)
			p := m.plan()
			if got := actions(p); !slices.Equal(got, x.actions) {
				t.Errorf("the plan does\n%q, not\n%q", got, x.actions)
			}
			switch refused := p.Refused(); {
			case len(refused) > 0 != (x.why != "") || x.why != "" && !strings.Contains(refused[0].Why, x.why):
				t.Errorf("refused: %+v", refused)
			case m.carry(t) != (x.why == ""):
				t.Error("a plan with refusals was carried out, or none without")
			}
		})
	}
}

// TestFollowerTakesBack has the follower call a folder what another is called on the side that decides.
func TestFollowerTakesBack(t *testing.T) {
	m := twoSides(t, "A", "C")
	delete(m.sides[config.New].folders, "A")
	m.do(t, config.New, "C", "A")
	p := m.plan()
	if got, want := actions(p), []string{"rename on NEW INBOX.C | C", "create on NEW INBOX.A | A"}; !slices.Equal(got, want) {
		t.Errorf("the plan does %q, not %q", got, want)
	}
	if len(p.Notes) != 1 || p.Notes[0] != "C was renamed to A on NEW, which does not decide; that is taken back: another folder has that name there." {
		t.Errorf("notes: %q", p.Notes)
	}
	if !m.carry(t) {
		t.Fatal(p.Text())
	}
	m.want(t, "A", "C")
}
