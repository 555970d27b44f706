package admin

import (
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
)

// TestWaveAdvice: what comes next for a wave is true of it, and the command does that.
func TestWaveAdvice(t *testing.T) {
	at := time.Now().Add(-time.Hour)
	members := func(sides ...config.Side) (list []WaveMember, count map[string]int) {
		count = map[string]int{"old": 0, "new": 0}
		for i, s := range sides {
			list = append(list, WaveMember{User: string(rune('a'+i)) + "@x", Side: s})
			count[s.String()]++
		}
		return list, count
	}
	const o, n = config.Old, config.New
	gate := op.WaveRow{Name: "w", Flipped: at, Gate: "lag", GateWhy: "14 s", GateAt: at}
	pin := map[string]op.Pin{"a@x": {User: "a@x"}}
	for name, c := range map[string]struct {
		w       WaveStatus
		sides   []config.Side
		own     map[string]op.Pin
		back    bool
		next    string
		command string
	}{
		"soaking":          {w: WaveStatus{State: cutover.WaveSoaking}, sides: []config.Side{n, n}, next: "the soak is over", command: "mailgate wave complete w --confirm w"},
		"gate":             {w: WaveStatus{State: cutover.WaveSoaking, Row: gate}, sides: []config.Side{n, n}, next: "gate lag fails", command: "mailgate rollback w"},
		"gate takes back":  {w: WaveStatus{State: cutover.WaveSoaking, Row: gate}, sides: []config.Side{n, n}, back: true, next: "taken back by itself", command: "mailgate wave show w"},
		"gate and hold":    {w: WaveStatus{State: cutover.WaveSoaking, Row: gate, Holds: []op.Hold{{Scope: op.HoldUser("a@x")}, {Scope: op.HoldWave("w"), By: "lee"}}}, sides: []config.Side{n}, next: "held by lee", command: "mailgate unhold w"},
		"held by the file": {w: WaveStatus{State: cutover.WaveReady, Holds: []op.Hold{{Scope: op.HoldAll, By: "the file /run/hold"}}}, sides: []config.Side{o}, next: "the file /run/hold", command: "remove /run/hold"},
		"member held":      {w: WaveStatus{State: cutover.WaveReady, Holds: []op.Hold{{Scope: op.HoldUser("a@x")}}}, sides: []config.Side{o}, next: "rehearse", command: "mailgate wave rehearse w"},
		"went back":        {w: WaveStatus{State: cutover.WaveRolledBack}, sides: []config.Side{o, o}, next: "it went back; move it again", command: "mailgate flip w new"},
		"partly back":      {w: WaveStatus{State: cutover.WaveRolledBack}, sides: []config.Side{o, n}, next: "1 members are on new (b@x)", command: "mailgate rollback w"},
		"owed": {w: WaveStatus{State: cutover.WaveRolledBack, Owed: &cutover.Owed{Op: "op-7", Users: []cutover.OwedUser{{User: "b@x"}}, Again: time.Now().Add(time.Hour)}}, sides: []config.Side{o, n},
			next: "1 members are to go back still; it is tried again by itself from", command: "mailgate op show op-7"},
		"owed and held": {w: WaveStatus{State: cutover.WaveRolledBack, Holds: []op.Hold{{Scope: op.HoldAll, By: "lee"}}, Owed: &cutover.Owed{Op: "op-7", Users: []cutover.OwedUser{{User: "b@x"}}}}, sides: []config.Side{o, n},
			next: "1 members are to go back still", command: "mailgate unhold --all"},
		"stragglers": {w: WaveStatus{State: cutover.WaveSoaking}, sides: []config.Side{o, n}, next: "1 members are on old still", command: "mailgate flip w new"},
		"pinned":     {w: WaveStatus{State: cutover.WaveSoaking}, sides: []config.Side{o, n}, own: pin, next: "1 members stay on old, as they are pinned (a@x)", command: "mailgate unpin a@x"},
		"waits":      {w: WaveStatus{State: cutover.WaveReady, Op: &op.Operation{ID: "op-3", Status: op.Waiting}}, sides: []config.Side{o}, next: "op-3 moves it when its window opens", command: "mailgate op wait op-3"},
	} {
		w := c.w
		w.Name, w.Users = "w", len(c.sides)
		w.Members, w.Sides = members(c.sides...)
		if w.advise(c.own, c.back); !strings.Contains(w.Next, c.next) || w.Command != c.command {
			t.Errorf("%s: %q -> %q", name, w.Next, w.Command)
		}
	}
}
