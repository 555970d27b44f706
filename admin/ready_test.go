package admin

import (
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// TestReadiness: who is ready and why not, in the words that people read.
func TestReadiness(t *testing.T) {
	now := time.Now()
	kept := func(change func(*SyncStatus)) *SyncStatus {
		s := &SyncStatus{Phase: "converged", Last: now.Add(-4 * time.Second), TookSeconds: 60, LagSeconds: 0.3}
		if change != nil {
			change(s)
		}
		return s
	}
	hold := op.Hold{Scope: op.HoldWave("sales"), By: "kim", Reason: "the lecture", At: now}
	for _, x := range []struct {
		name  string
		side  config.Side
		sync  *SyncStatus
		open  []op.Operation
		facts ReadyFacts
		ready bool
		want  []string
	}{
		{"rollback", config.New, kept(nil), nil, ReadyFacts{Pace: time.Second}, true, []string{"ready, about 2.0 s (last pass 4.0 s ago, lag 0.3 s, nothing in quarantine)"}},
		{"flip", config.Old, kept(func(s *SyncStatus) { s.LagSeconds = 0 }), nil, ReadyFacts{}, true, []string{"ready; how long it takes was not measured yet (last pass 4.0 s ago, no lag,"}},
		{"held", config.New, kept(nil), nil, ReadyFacts{Holds: []op.Hold{hold}}, false, []string{"wave sales is held by kim since ", ": the lecture (mailgate unhold sales)"}},
		{"everybody held", config.New, kept(nil), nil, ReadyFacts{Holds: []op.Hold{{Scope: op.HoldAll, By: "kim"}}}, false, []string{"everybody is held by kim", "(mailgate unhold --all)"}},
		{"moving", config.New, kept(nil), []op.Operation{{ID: "op-1", Kind: op.Sync}, {ID: "op-2", Kind: op.Flip}}, ReadyFacts{}, false, []string{"op-2 is to move him to old (mailgate op wait op-2)"}},
		{"a pass is no move", config.New, kept(nil), []op.Operation{{ID: "op-1", Kind: op.Sync}}, ReadyFacts{}, true, []string{"ready"}},
		{"NEW is down", config.New, kept(nil), nil, ReadyFacts{Down: [2]string{"", "refused"}}, false, []string{"NEW cannot be reached, so that what is left there", "mailgate rollback --now alice@example.com"}},
		{"OLD is down", config.New, kept(nil), nil, ReadyFacts{Down: [2]string{"refused", ""}}, false, []string{"OLD cannot be reached: refused (see to the host)"}},
		{"OLD is down, on OLD", config.Old, kept(nil), nil, ReadyFacts{Down: [2]string{"refused", ""}}, false, []string{"OLD cannot be reached, so that what is left there cannot be carried: refused (see to the host)"}},
		{"no logins", config.New, nil, nil, ReadyFacts{NoMail: "no mail is carried"}, true, []string{"ready (no mail is carried: what is only on new is not on old)"}},
		{"no logins, NEW down", config.New, nil, nil, ReadyFacts{NoMail: "no mail is carried", Down: [2]string{"", "refused"}}, true, []string{"ready (no mail is carried"}},
		{"not kept", config.New, nil, nil, ReadyFacts{}, false, []string{"not ready: his mailboxes are not kept equal (he is in no wave of sync.waves), so that a whole pass comes first (mailgate sync run alice@example.com"}},
		{"paused", config.New, kept(func(s *SyncStatus) { s.Phase = "paused"; s.Paused = &SyncPause{By: "kim", At: now} }), nil, ReadyFacts{}, false, []string{"sync is paused by kim", "(mailgate sync resume alice@example.com)"}},
		{"first copy", config.Old, kept(func(s *SyncStatus) { s.Phase = "first copy"; s.Progress = "1/3" }), nil, ReadyFacts{Left: 3 * time.Minute}, false, []string{"his first copy is not through: 1/3, for about 3 min more"}},
		{"failing", config.New, kept(func(s *SyncStatus) { s.Phase, s.Error, s.Do, s.Tries = "failing", "it is down", "wait", 3 }), nil, ReadyFacts{}, false, []string{"it is down (3 times) (wait)"}},
		{"quarantine and deletes", config.New, kept(func(s *SyncStatus) { s.Quarantine, s.Held = 1200, 1 }), nil, ReadyFacts{}, false, []string{"1,200 messages in quarantine (mailgate quarantine list", "; deletes in 1 folder are held back"}},
		{"store", config.New, kept(nil), nil, ReadyFacts{}, false, []string{"the store does not answer, and nobody is moved without it: no answer (see to the store: mailgate status)"}},
		{"folders", config.New, kept(func(s *SyncStatus) { s.Broken = make([]BrokenFolder, 5) }), nil, ReadyFacts{}, false, []string{"and 2 folders more"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			u := &UserStatus{User: "alice@example.com", Side: x.side, Sync: x.sync, Open: x.open, State: op.Settled, Store: "ok"}
			if x.name == "store" {
				u.State, u.Store = "", "no answer"
			}
			r := ReadinessOf(u, x.facts)
			if r.Ready != x.ready || r.To != x.side.Other() {
				t.Errorf("%+v", r)
			}
			text := r.Text(now)
			for _, want := range x.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in %q", want, text)
				}
			}
		})
	}
	c := &ReadyCounts{}
	for _, r := range []*Readiness{{Ready: true, Seconds: 2}, {Ready: true, Seconds: 1}, {Why: []Hindrance{{Class: "held"}, {Class: "paused"}}}} {
		c.Add(r)
	}
	if c.Ready != 2 || c.Not != 1 || c.Seconds != 2 || c.Why["held"] != 1 || c.Why["paused"] != 0 {
		t.Errorf("%+v", c)
	}
}
