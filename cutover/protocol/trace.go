package protocol

import (
	"fmt"
	"slices"
	"strings"

	"mailgate/router"
)

func stateNames() []router.State { return router.States() }

// trace words the shortest way to a state, and the step from there that breaks an invariant, or what the state is like. It goes the
// way again without shift and swap, so that nodes keep their names and generations their numbers.
func (x *explorer) trace(to int32, f *finding) (out []string) {
	var path []int32
	for i := to; i >= 0; i = x.parent[i] {
		path = append([]int32{i}, path...)
	}
	raw := x.start(x.seen[path[0]])
	out = append(out, "start: "+strings.Join(raw.describe(), "; "))
	for _, i := range path[1:] {
		next, line, ok := x.again(raw, x.seen[i])
		if !ok {
			return append(out, "(the way is lost: canon takes for equal what is not)")
		}
		out = append(out, line)
		raw = next
	}
	if f == nil {
		return append(out, raw.describe()...)
	}
	_, want := x.dig.canon(f.to, x.rules)
	if _, line, ok := x.again(raw, want); ok {
		return append(out, line)
	}
	return append(out, f.act.describe(&raw))
}

// start is the one of the starts that d stands for.
func (x *explorer) start(d digest) State {
	all := starts(x.bounds)
	return all[slices.IndexFunc(all, func(s State) bool {
		_, got := x.dig.canon(s, x.rules)
		return got == d
	})]
}

// again takes the step to the state that want stands for.
func (x *explorer) again(from State, want digest) (to State, line string, ok bool) {
	step := stepper{rules: x.rules, from: from}
	see := func(s State, a act) {
		if _, got := x.dig.canon(s, x.rules); !ok && got == want {
			to, line, ok = s, a.describe(&from)+changes(&from, &s), true
			to.tidy(x.rules)
		}
	}
	step.emit = func(s State, a act, _ class) { see(s, a) }
	step.wrong = func(_ string, s State, a act) { see(s, a) }
	step.moved = func(row, State, act) {}
	step.next()
	return to, line, ok
}

// changes words what is different.
func changes(a, b *State) string {
	was, is := a.describe(), b.describe()
	var out []string
	for i := range is {
		if was[i] != is[i] {
			out = append(out, is[i])
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "   => " + strings.Join(out, "; ")
}

func (p place) String() string {
	return fmt.Sprintf("%s epoch %d gen %d", [2]string{"OLD", "NEW"}[p.Side&1], p.Epoch, p.Gen)
}

func (m msg) String() string {
	what := [...]string{"nothing", "fence", "drain", "release"}[m.Kind]
	if m.Kind == msgRelease {
		return fmt.Sprintf("%s(%s, term %d)", what, m.place, m.Term)
	}
	return fmt.Sprintf("%s(gen %d, term %d)", what, m.Gen, m.Term)
}

// describe is a line for the store and one for each node.
func (s *State) describe() []string {
	store := fmt.Sprintf("store: %s %s, registered %v", stateNames()[s.Row.St], s.Row.place, s.Reg)
	if s.Hold {
		store += ", held"
	}
	out := []string{store}
	for i := range s.Node {
		out = append(out, string('A'+rune(i))+": "+s.Node[i].describe())
	}
	return out
}

func (n *node) describe() string {
	if n.Life == down {
		return "down"
	}
	w := []string{fmt.Sprintf("#%d", n.Inc)}
	if n.Life == paused {
		w = append(w, "stopped")
	}
	switch n.Phase {
	case fresh:
		w = append(w, "not registered")
	case registered, listening:
		w = append(w, "starting")
	case hasRead:
		w = append(w, "has read "+n.P.String())
	}
	if n.Known {
		w = append(w, n.place.String())
	} else {
		w = append(w, "does not know him")
	}
	if n.Fenced {
		w = append(w, "FENCED")
	}
	switch n.Login {
	case waiting:
		w = append(w, "login waits")
	case routed:
		w = append(w, fmt.Sprintf("login routed to %s", n.P))
	}
	for side := range uint8(2) {
		for epoch := range uint8(4) {
			if n.Sess&session(side, epoch) != 0 {
				w = append(w, fmt.Sprintf("session on %s of epoch %d", [2]string{"OLD", "NEW"}[side], epoch))
			}
		}
	}
	if n.PC != nobody {
		w = append(w, fmt.Sprintf("leads in term %d (%s)", n.MTerm, pcNames()[n.PC]))
	}
	return strings.Join(w, ", ")
}

func pcNames() []string {
	return []string{"", "idle", "PREP written", "FENCE written", "asks for the fence", "DRAIN written", "asks for the drain",
		"DELTA written", "VERIFY written", "asks who joined", "COMMIT without answer", "RELEASE written", "tells the release",
		"calls it off", "tells the abort", "found it half way", "tells the repair"}
}
