package protocol

import (
	"os"
	"slices"
	"strings"
	"testing"

	"mailgate/router"
)

// whole tells whether all that make check-model looks at is asked for: minutes, and some GB of memory.
func whole() bool { return os.Getenv("MAILGATE_MODEL") == "whole" }

// TestProtocol visits every state within the bounds: no invariant is broken, and every legal move is taken.
func TestProtocol(t *testing.T) {
	bounds := []Bounds{{Flips: 1, Logins: 1, Faults: 1}, {Flips: 2, Logins: 1}, {Flips: 1, Logins: 1, Rereads: 2}}
	if whole() {
		bounds = []Bounds{{Flips: 2, Logins: 1, Faults: 2}, {Flips: 1, Logins: 2, Faults: 2}, {Flips: 1, Logins: 1, Faults: 3},
			{Flips: 2, Logins: 1, Faults: 1, Rereads: 1}}
	}
	for _, b := range bounds {
		r := Explore(0, b)
		t.Logf("%+v: %d states, %d steps, depth %d, %v", b, r.States, r.Steps, r.Depth, r.Took)
		if r.Broken != "" {
			t.Fatalf("%+v: %s\n%s", b, r.Broken, strings.Join(r.Trace, "\n"))
		}
		for _, m := range router.Moves() {
			if !r.Taken[router.Move{From: m.From, To: m.To}] {
				t.Errorf("%+v: %s to %s is legal and was never taken", b, m.From, m.To)
			}
		}
	}
}

// TestRulesAreNeeded: the protocol without one of its rules breaks an invariant, with a way there that can be read.
func TestRulesAreNeeded(t *testing.T) {
	for _, c := range []struct {
		rules  Rules
		bounds Bounds
		broken string
		soak   bool // only where all is asked for
	}{
		{NoGenerationCheck, Bounds{1, 1, 0, 0}, "I1", false},
		{RouteBeforeHold, Bounds{1, 1, 0, 0}, "I1", false},
		{CommitUndrained, Bounds{1, 1, 0, 0}, "I1", false},
		{CommitWithoutOne, Bounds{1, 1, 0, 0}, "I1", false},
		{HoldNotChecked, Bounds{1, 1, 1, 0}, "a hold stood", false},
		{OlderRelease, Bounds{2, 1, 0, 0}, "I1", false},
		{UnknownIsFailed, Bounds{1, 1, 1, 0}, "I1", false},
		{UndoCommitted, Bounds{1, 1, 1, 0}, "I13", false},
		{NoWriterNumber, Bounds{1, 1, 1, 0}, "I13", false},
		{NoAsking, Bounds{1, 1, 0, 0}, "I14", false},
		{TellInTurn, Bounds{1, 1, 1, 0}, "until another returns", false},
		{NoDeadline, Bounds{1, 1, 1, 0}, "I14", false},
		{LoadBeforeRegister, Bounds{1, 1, 0, 0}, "I1", false},
		{RemovedServesOn, Bounds{1, 1, 2, 0}, "I1", false},
		{RemovedAlive, Bounds{1, 1, 1, 0}, "I1", false},
		{NoTerms, Bounds{2, 1, 1, 0}, "I1", true},
		{NoTermAtLoad, Bounds{2, 1, 2, 0}, "I1", true},
		{ListenFirst, Bounds{2, 1, 2, 0}, "I1", true},
		// Of these each makes up for the other: who joins behind the fence is fenced by what he loads, and asked again before
		// COMMIT; who joins before it is read with the nodes, and asked with them.
		{IgnoreJoined | LoadUnfenced, Bounds{1, 1, 0, 0}, "I1", false},
		{IgnoreJoined | NodesBeforeFence, Bounds{1, 1, 0, 0}, "I1", false},
	} {
		t.Run(c.rules.String(), func(t *testing.T) {
			if c.soak && !whole() {
				t.Skip("make check-model")
			}
			r := Explore(c.rules, c.bounds)
			t.Logf("%d states, %v: %s\n%s", r.States, r.Took, r.Broken, strings.Join(r.Trace, "\n"))
			if !strings.Contains(r.Broken, c.broken) {
				t.Errorf("broken: %q, want %q, in %d states", r.Broken, c.broken, r.States)
			}
			if len(r.Trace) < 2 || slices.ContainsFunc(r.Trace, func(l string) bool { return strings.Contains(l, "lost") && strings.HasPrefix(l, "(") }) {
				t.Error("no way there")
			}
		})
	}
}

// TestOneOfTwoIsEnough: rules that make up for each other. Should one of these break, the other does not do what it is said to do.
func TestOneOfTwoIsEnough(t *testing.T) {
	b := Bounds{1, 1, 0, 0}
	if whole() {
		b.Faults = 2
	}
	for _, rules := range []Rules{IgnoreJoined, LoadUnfenced, NodesBeforeFence} {
		if r := Explore(rules, b); r.Broken != "" {
			t.Errorf("%s: %s\n%s", rules, r.Broken, strings.Join(r.Trace, "\n"))
		}
	}
}

// TestStates: the numbers that the model has for the states are their places in the router's list.
func TestStates(t *testing.T) {
	want := []router.State{settled: router.Settled, prep: router.Prep, fence: router.Fence, drain: router.Drain, delta: router.Delta,
		verify: router.Verify, release: router.Release}
	if !slices.Equal(want, router.States()) {
		t.Errorf("%v, the router has %v", want, router.States())
	}
	for i, s := range want {
		next, committed := router.Undo(s)
		if s != router.Settled && (next != router.Settled || committed != (uint8(i) == release)) {
			t.Errorf("router.Undo(%s) is %s, %v: not what the model's repair does", s, next, committed)
		}
		if half(uint8(i)) != (s.Fenced() && s != router.Release) {
			t.Errorf("%s fences: %v, in the model %v", s, s.Fenced(), half(uint8(i)))
		}
	}
}
