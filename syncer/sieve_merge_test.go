package syncer

import (
	"strings"
	"testing"

	"mailgate/config"
)

// heldOf reads "name=text" and "*name=text", the active one; "name!" cannot be read.
func heldOf(list string) sieveHeld {
	h := sieveHeld{scripts: map[string]sieveText{}}
	for _, w := range strings.Fields(list) {
		name, text, ok := strings.Cut(w, "=")
		if n, active := strings.CutPrefix(name, "*"); active {
			name, h.active = n, n
		}
		if !ok {
			h.scripts[strings.TrimSuffix(name, "!")] = sieveText{why: "odd"}
			continue
		}
		h.scripts[name] = sieveText{text: text}
	}
	return h
}

// knownOf reads the same of what both sides had when last in agreement; "name" alone was never in agreement.
func knownOf(old, new string) (out []Script) {
	a, b := heldOf(old), heldOf(new)
	for name, x := range a.scripts {
		s := Script{Name: name, Active: [2]bool{a.active == name, b.active == name}, State: ScriptEqual}
		if x.why == "" {
			s.Base = [2]string{sieveHash(x.text), sieveHash(b.scripts[name].text)}
		}
		out = append(out, s)
	}
	return out
}

// TestMergeScripts is the table of what becomes of a script.
func TestMergeScripts(t *testing.T) {
	word := map[sieveDo]string{sieveAgree: "agree", sieveWrite: "write", sieveDelete: "delete", sieveHold: "hold", sieveStuck: "stuck", sieveForget: "forget"}
	for _, x := range []struct {
		what, base, a, f, want string
		believed               bool
	}{
		{"new on the side that decides", "", "x=1", "", "x write follower", false},
		{"new on the follower", "", "", "x=1", "x write decider", false},
		{"on both, alike", "", "x=1", "x=1", "x agree follower", false},
		{"on both, another text", "", "x=1", "x=2", "x write follower", false},
		{"unchanged", "x=1", "x=1", "x=1", "x agree follower", false},
		{"changed where it counts", "x=1", "x=2", "x=1", "x write follower", false},
		{"changed on the follower", "x=1", "x=1", "x=2", "x write decider", false},
		{"changed on both", "x=1", "x=2", "x=3", "x write follower", false},
		{"changed on both alike", "x=1", "x=2", "x=2", "x agree follower", false},
		{"deleted where it counts", "x=1 y=1", "y=1", "x=1 y=1", "x delete follower, y agree follower", false},
		{"deleted where it counts, changed on the follower", "x=1 y=1", "y=1", "x=2 y=1", "x hold follower, y agree follower", false},
		{"deleted on the follower", "x=1", "x=1", "", "x write follower", false},
		{"deleted on the follower, changed where it counts", "x=1", "x=2", "", "x write follower", false},
		{"deleted on both", "x=1", "", "", "x forget follower", false},
		{"all gone where it counts", "x=1 y=1", "", "x=1 y=1", "x hold follower, y hold follower", false},
		{"all gone where it counts, and a person says so", "x=1 y=1", "", "x=1 y=2", "x delete follower, y hold follower", true},
		{"all gone on the follower", "x=1 y=1", "x=1 y=1", "", "x write follower, y write follower", false},
		{"refused before, on the side that decides", "x!", "x=1", "", "x write follower", false},
		{"refused before, on the follower", "x!", "", "x=1", "x write decider", false},
		{"nothing was agreed, nothing is there", "x!", "", "x=1 y=1", "x write decider, y write decider", false},
		{"cannot be read", "x=1", "x!", "x=1", "x stuck follower", false},
		{"cannot be read on the follower", "x=1", "x=2", "x!", "x stuck follower", false},
	} {
		for _, authority := range config.Sides {
			var held [2]sieveHeld
			held[authority], held[authority.Other()] = heldOf(x.a), heldOf(x.f)
			same := func(name string) bool { return held[0].scripts[name] == held[1].scripts[name] }
			var got []string
			for _, s := range mergeScripts(authority, held, knownOf(x.base, x.base), same, x.believed) {
				got = append(got, s.name+" "+word[s.do]+map[bool]string{true: " decider", false: " follower"}[s.to == authority])
			}
			if text := strings.Join(got, ", "); text != x.want {
				t.Errorf("%s, %s decides: got %s, want %s", x.what, authority, text, x.want)
			}
		}
	}
}

// TestMergeMarks is the table of the active mark.
func TestMergeMarks(t *testing.T) {
	for _, x := range []struct{ what, baseA, baseF, a, f, want string }{
		{"the first meeting", "", "", "*x=1 y=1", "x=1 *y=1", "x on the follower"},
		{"the first meeting, none where it counts", "", "", "x=1", "*x=1", "left"},
		{"the first meeting, alike", "", "", "*x=1", "*x=1", "nothing"},
		{"none anywhere", "x=1", "x=1", "x=1", "x=1", "nothing"},
		{"another where it counts", "*x=1 y=1", "*x=1 y=1", "x=1 *y=1", "*x=1 y=1", "y on the follower"},
		{"another on the follower", "*x=1 y=1", "*x=1 y=1", "*x=1 y=1", "x=1 *y=1", "y on the decider"},
		{"another on each", "*x=1 y=1 z=1", "*x=1 y=1 z=1", "x=1 *y=1 z=1", "x=1 y=1 *z=1", "y on the follower"},
		{"none any more where it counts", "*x=1", "*x=1", "x=1", "*x=1", "none on the follower"},
		{"none any more on the follower", "*x=1", "*x=1", "*x=1", "x=1", "none on the decider"},
		{"deleted with its mark on the follower", "*x=1", "*x=1", "*x=1", "", "x on the follower"},
		{"deleted on the follower, where another is active", "*x=1", "*x=1", "*x=1", "*z=1", "x on the follower"},
		{"all gone where it counts", "*x=1", "*x=1", "", "*x=1", "left"},
		{"left before, and nobody has changed it", "x=1", "*x=1", "x=1", "*x=1", "left"},
		{"left before, now set where it counts", "x=1 y=1", "*x=1 y=1", "x=1 *y=1", "*x=1 y=1", "y on the follower"},
		{"pending: not carried yet", "x! y!", "x! y!", "*x=1", "*y=1", "x on the follower"},
	} {
		for _, authority := range config.Sides {
			var held [2]sieveHeld
			var base [2]string
			held[authority], held[authority.Other()] = heldOf(x.a), heldOf(x.f)
			base[authority], base[authority.Other()] = x.baseA, x.baseF
			m := mergeMarks(authority, held, knownOf(base[0], base[1]), false)
			got := "nothing"
			switch {
			case m.carry && m.name == "":
				got = "none on the "
			case m.carry:
				got = m.name + " on the "
			case m.why != "":
				got = "left"
			}
			if m.carry {
				got += map[bool]string{true: "decider", false: "follower"}[m.to == authority]
			}
			if got != x.want {
				t.Errorf("%s, %s decides: got %s, want %s (%s)", x.what, authority, got, x.want, m.why)
			}
		}
	}
}
