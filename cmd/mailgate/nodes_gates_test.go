package main

import (
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailgate/admin"
	"mailgate/config"
	wavegate "mailgate/cutover/gate"
)

// newWaveFleet is a fleet whose users are the wave pilot, with this behind the configuration of each.
func newWaveFleet(t *testing.T, many, users int, extra string) *fleet {
	t.Helper()
	f := newFleet(t, many, users)
	for _, g := range f.gates {
		g.write(g.file, mustRead(t, g.file)+extra)
	}
	g := f.gates[0]
	g.write(g.routes, strings.ReplaceAll(mustRead(t, g.routes), "example.com old", "example.com old wave=pilot"))
	return f
}

// logsIn logs in and out, and tells whether that went well.
func logsIn(t *testing.T, g *gate, user, password string) bool {
	t.Helper()
	c, err := g.dial(user, password)
	if err != nil {
		return false
	}
	_ = c.Logout().Wait()
	_ = c.Close()
	return true
}

// pilot is how a node says that the wave stands.
func (f *fleet) pilot(g *gate) (w admin.WaveStatus) {
	f.t.Helper()
	if err := ask(g, http.MethodGet, "/wave", url.Values{"wave": {"pilot"}}, &w); err != nil {
		f.t.Fatal(err)
	}
	return w
}

// gate is what a node says of a gate of the wave.
func (f *fleet) gate(g *gate, name config.Gate) (r wavegate.Result) {
	f.t.Helper()
	for _, x := range f.pilot(g).Gates {
		if x.Gate == name {
			r = x.Result
		}
	}
	return r
}

// TestNodesGates: what happens to people at a follower is judged by the one that leads, against what it was there before the flip: a burst
// of failed logins takes a soaking wave back. While the follower does not answer, the gate says that, and the counts of sessions say so too.
func TestNodesGates(t *testing.T) {
	t.Parallel()
	f := newWaveFleet(t, 2, 2, `login: {fail_delay: 0s}
waves: [{name: pilot, soak: 1h, rollback: true}]
gates: {login_failures: {mode: enforce, min_samples: 10}}
`)
	f.start()
	gw1, gw2 := f.gates[0], f.gates[1]
	if l := f.leader(gw2, ""); l != "gw1" {
		t.Fatalf("%s leads", l)
	}
	logins := func(good, bad int) {
		t.Helper()
		for i := range good + bad {
			user, password := f.users[i%2], "secret"
			if i >= good {
				password = "wrong"
			}
			if logsIn(t, gw2, user, password) != (i < good) {
				t.Fatalf("login %d of %s", i, user)
			}
		}
	}
	logins(18, 2) // 10 % fail before
	gw2.run(0, "flip", "pilot", "new", "--yes")
	f.until("the wave soaks", func() bool { return f.pilot(gw2).State == "soaking" })
	logins(10, 0)
	f.until("the follower's logins pass", func() bool {
		r := f.gate(gw1, config.GateLoginFailures)
		return r.Verdict == wavegate.Pass && r.Why == "login failures 0 % of 10 (limit 2x baseline 10 %)"
	})

	c, err := gw2.dial(f.users[0], "secret")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, g := range f.gates {
		if w := f.pilot(g); len(w.Protocols) == 0 || w.Protocols[0].Sessions["new"] != 1 || len(w.Silent) > 0 {
			t.Errorf("%+v", w.Protocols)
		}
		if out := g.run(0, "status"); !strings.Contains(strings.Join(strings.Fields(out), " "), "sessions imap new 1") {
			t.Error(out)
		}
	}
	f.signal(1, syscall.SIGSTOP)
	f.until("nobody knows", func() bool {
		r := f.gate(gw1, config.GateLoginFailures)
		return r.Verdict == wavegate.Unknown && r.Holds && strings.HasPrefix(r.Why, "gw2 does not answer, and what was counted there is not known")
	})
	if out := gw1.run(0, "wave", "show", "pilot"); !strings.Contains(out, "(without gw2: no answer)") {
		t.Error(out)
	}
	if out := gw1.run(0, "status"); !strings.Contains(out, "(without gw2: no answer)") {
		t.Error(out)
	}
	f.signal(1, syscall.SIGCONT)
	f.until("it is known again", func() bool { return f.gate(gw1, config.GateLoginFailures).Verdict == wavegate.Pass })

	logins(0, 20)
	for end := time.Now().Add(3 * time.Minute); f.pilot(gw1).State != "rolled back"; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is not taken back: %+v", f.pilot(gw1))
		}
	}
	for _, u := range f.users {
		if side := f.settle(gw2, u); side != "old" {
			t.Errorf("%s is on %s", u, side)
		}
	}
	if out := gw1.run(0, "history"); !strings.Contains(out, "gate login_failures") || !strings.Contains(out, "(limit 2x baseline 10 %)") {
		t.Error(out)
	}
}
