package protocol

import (
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"mailgate/router"
)

// Report is what an exploration has found.
type Report struct {
	States, Steps int
	Depth         int // the longest of the shortest ways to a state
	Took          time.Duration
	Broken        string               // the invariant that does not hold; "" when all do
	Trace         []string             // a shortest way there, from the start
	Taken         map[router.Move]bool // moves of the row that were taken, without What
}

// explorer visits all states, breadth first.
type explorer struct {
	rules  Rules
	bounds Bounds
	dig    digester
	legal  [][]bool
	taken  [][]bool
	seen   []digest
	marks  []mark
	parent []int32 // -1 at a start
	table  []int32 // open addressing: 1 + place in seen
	next   []State // of the next depth
	first  []int   // where each one's edges begin
	edges  []uint32
	report Report
}

// mark is what liveness must know of a state.
type mark uint8

const (
	isCalm mark = 1 << iota // the row is settled, and all who run serve
	isEasy                  // nobody waits at the nodes that run
	isLed                   // somebody who runs leads or can
)

// classBits are the upper bits of an edge.
const (
	classShift = 30
	target     = 1<<classShift - 1
)

// Explore visits every state that can be reached under rules within bounds, and stops at the first invariant that does not hold.
// It takes some 200 bytes of memory for each.
func Explore(rules Rules, b Bounds) Report {
	start := time.Now()
	x := newExplorer(rules, b)
	x.run()
	if x.report.Broken == "" {
		x.liveness()
	}
	x.report.States, x.report.Steps, x.report.Took = len(x.seen), len(x.edges), time.Since(start)
	x.report.Taken = map[router.Move]bool{}
	names := router.States()
	for i, line := range x.taken {
		for k, yes := range line {
			if yes {
				x.report.Taken[router.Move{From: names[i], To: names[k]}] = true
			}
		}
	}
	return x.report
}

func newExplorer(rules Rules, b Bounds) *explorer {
	x := &explorer{rules: rules, bounds: b, dig: digester{maphash.MakeSeed(), maphash.MakeSeed()}, table: make([]int32, 1<<16)}
	names := router.States()
	for _, from := range names {
		line := make([]bool, len(names))
		for k, to := range names {
			line[k] = router.Legal(from, to) == nil
		}
		x.legal, x.taken = append(x.legal, line), append(x.taken, make([]bool, len(names)))
	}
	return x
}

// add finds a state, or takes it in.
func (x *explorer) add(s State, from int32) int32 {
	s, d := x.dig.canon(s, x.rules)
	if 2*len(x.seen) >= len(x.table) {
		x.grow()
	}
	mask := uint64(len(x.table) - 1)
	for at := d.a & mask; ; at = (at + 1) & mask {
		i := x.table[at]
		if i == 0 {
			x.seen = append(x.seen, d)
			x.marks = append(x.marks, marksOf(&s))
			x.parent = append(x.parent, from)
			x.next = append(x.next, s)
			x.table[at] = int32(len(x.seen))
			return int32(len(x.seen) - 1)
		}
		if x.seen[i-1] == d {
			return i - 1
		}
	}
}

func (x *explorer) grow() {
	x.table = make([]int32, 2*len(x.table))
	mask := uint64(len(x.table) - 1)
	for i, d := range x.seen {
		at := d.a & mask
		for x.table[at] != 0 {
			at = (at + 1) & mask
		}
		x.table[at] = int32(i + 1)
	}
}

// finding is a step that breaks an invariant.
type finding struct {
	what string
	to   State
	act  act
}

func (x *explorer) run() {
	for _, s := range starts(x.bounds) {
		x.add(s, -1)
	}
	for i := int32(0); len(x.next) > 0; x.report.Depth++ {
		var now []State
		now, x.next = x.next, make([]State, 0, len(x.next))
		for _, s := range now {
			x.first = append(x.first, len(x.edges))
			if f := x.expand(s, i); f.what != "" {
				x.report.Broken = f.what
				x.report.Trace = x.trace(i, &f)
				return
			}
			i++
		}
	}
	x.first = append(x.first, len(x.edges))
}

// expand takes all steps from a state.
func (x *explorer) expand(s State, i int32) (f finding) {
	step := stepper{rules: x.rules, from: s}
	step.wrong = func(what string, to State, a act) {
		if f.what == "" {
			f = finding{what, to, a}
		}
	}
	step.moved = func(was row, to State, a act) {
		if what := x.move(was, to.Row); what != "" {
			step.wrong(what, to, a)
		}
	}
	step.emit = func(to State, a act, c class) {
		if f.what != "" || to == s {
			return
		}
		if what := check(&to); what != "" {
			step.wrong(what, to, a)
			return
		}
		k := x.add(to, i)
		x.edges = append(x.edges, uint32(c)<<classShift|uint32(k))
	}
	step.next()
	return f
}

// move looks at a write of the row.
func (x *explorer) move(was, is row) string {
	x.taken[was.St][is.St] = true
	names := router.States()
	switch {
	case !x.legal[was.St][is.St]:
		return fmt.Sprintf("the table has no move from %s to %s", names[was.St], names[is.St])
	case is.Gen <= was.Gen:
		return fmt.Sprintf("a write took the generation from %d to %d", was.Gen, is.Gen)
	case is.St == release && (is.Side == was.Side || is.Epoch != was.Epoch+1):
		return "COMMIT did not move the user"
	case is.St != release && (is.Side != was.Side || is.Epoch != was.Epoch):
		return "I13: a write that is no COMMIT changed the side or the epoch"
	}
	return ""
}

// check looks at the sessions of a state.
func check(s *State) string {
	for i := range s.Node {
		n := &s.Node[i]
		if n.Life == down || n.Life == paused && s.Reg[i] != n.Inc { // the admin has promised that it is down
			continue
		}
		for side := range uint8(2) {
			for epoch := range uint8(4) {
				switch {
				case n.Sess&session(side, epoch) == 0:
				case side != s.Row.Side:
					return "I1: a session works on another side than the committed one"
				case epoch != s.Row.Epoch:
					return "I2: a session of another epoch lives"
				}
			}
		}
	}
	return ""
}

func marksOf(s *State) (m mark) {
	m = isEasy
	stopped := false // who leads
	for i := range s.Node {
		n := &s.Node[i]
		if n.Life != up {
			stopped = stopped || n.Life == paused && n.PC != nobody && n.MTerm == s.Term
			continue
		}
		if n.Phase == serving {
			m |= isLed
		}
		if n.Phase != serving || n.Fenced || n.Login != noLogin {
			m &^= isEasy
		}
	}
	if stopped {
		m &^= isLed
	}
	if m&isEasy != 0 && s.Row.St == settled {
		m |= isCalm
	}
	return m
}

// liveness looks for states from which no calm one can be reached.
func (x *explorer) liveness() {
	if i := x.stuck(heal, isCalm, 0); i >= 0 {
		x.report.Broken = "I14: from here, nothing leads to a state in which the row is settled and nobody waits"
		x.report.Trace = x.trace(i, nil)
	} else if i := x.stuck(lead, isEasy, isLed); i >= 0 {
		x.report.Broken = "I14: from here, a node that runs lets its users wait until another returns"
		x.report.Trace = x.trace(i, nil)
	}
}

// stuck finds the first state with the marks of from, from which no goal is reached by steps of at most class c; -1 when there is none.
func (x *explorer) stuck(c class, goal, from mark) int32 {
	ok := make([]bool, len(x.seen))
	for i, m := range x.marks {
		ok[i] = m&goal != 0
	}
	for again := true; again; {
		again = false
		for i := len(ok) - 1; i >= 0; i-- {
			if !ok[i] && slices.ContainsFunc(x.edges[x.first[i]:x.first[i+1]], func(e uint32) bool {
				return class(e>>classShift) <= c && ok[e&target]
			}) {
				ok[i], again = true, true
			}
		}
	}
	for i, m := range x.marks {
		if !ok[i] && m&from == from {
			return int32(i)
		}
	}
	return -1
}
