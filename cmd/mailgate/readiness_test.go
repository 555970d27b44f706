package main

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/op"
	"mailgate/router"
	"mailgate/syncer"
)

// TestReadyKept: status follows what passes, pauses and holds do, and the overview counts it.
func TestReadyKept(t *testing.T) {
	users := []string{"alice@example.com", "bob@example.com"}
	m := newMemory(t, users...)
	m.keeps("")
	m.deliver(0, users[0], 60)
	g := m.opened()
	kp := newKeeping(g.syncing)
	g.syncing.keeping = kp
	ready := func(user string) *admin.Readiness {
		return g.readiness(t.Context(), &admin.UserStatus{User: user, Side: config.Old, Wave: "pilot", Sync: kp.status(user)})
	}
	if err := kp.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := ready(users[0]); r.Ready || r.Why[0].Class != "first copy" {
		t.Errorf("before the first pass: %+v", r)
	}
	ctx, end := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { kp.run(ctx) })
	defer wg.Wait()
	defer end()
	until(t, "the first copies", func() bool { return ready(users[0]).Ready && ready(users[1]).Ready })
	if pace, _ := kp.pace(users[0], time.Now()); pace != 0 { // a copy of 60 tells nothing of how long a flip takes
		t.Errorf("the first copy counts: %v", pace)
	}
	m.deliver(0, users[0], 1)
	kp.k.Hint(users[0])
	until(t, "a pass that was measured", func() bool { return ready(users[0]).Seconds > 0 })
	if s := ready(users[0]).Text(time.Now()); !strings.HasPrefix(s, "ready, about 0.") || !strings.Contains(s, "(last pass ") || !strings.Contains(s, "nothing in quarantine)") {
		t.Error(s)
	}
	if _, err := g.store.AddHold(t.Context(), op.Hold{Scope: op.HoldWave("pilot"), By: "kim", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if r := ready(users[0]); r.Ready || r.Why[0].Class != "held" {
		t.Errorf("held: %+v", r)
	}
	if _, err := g.store.DropHold(t.Context(), op.HoldWave("pilot")); err != nil {
		t.Fatal(err)
	}
	if _, err := kp.pause(t.Context(), users[1], "kim", "", "", true); err != nil {
		t.Fatal(err)
	}
	counts, err := g.readyCounts(t.Context())
	if err != nil || counts["rollback"] != nil || counts["flip"] == nil || counts["flip"].Ready != 1 || counts["flip"].Not != 1 || counts["flip"].Why["paused"] != 1 {
		t.Errorf("%+v, %v", counts["flip"], err)
	}
	var b strings.Builder
	printReadyCounts(&b, counts)
	if !strings.HasPrefix(b.String(), "flip\t1 user is ready, about 0.") || !strings.HasSuffix(b.String(), "each at most; 1 not: 1 paused\n") {
		t.Error(b.String())
	}
	behind, err := g.syncing.leaves(t.Context(), g.syncing.syncer(), users[0])
	if err != nil || behind.Side != config.Old || behind.Known != 61 || behind.Never || time.Since(behind.Read) > time.Minute {
		t.Errorf("%+v, %v", behind, err)
	}
}

// TestPlanSteps: every state of the machine is in the plan once, in its order, and what is said of calling off is the table's.
func TestPlanSteps(t *testing.T) {
	flip := config.Default().Flip
	steps := planSteps(config.New, flip, "")
	if len(steps) != len(router.States()) {
		t.Fatalf("%+v", steps)
	}
	for i, s := range steps {
		if want := router.States()[(i+1)%len(steps)]; s.State != want || s.What == "" || strings.Contains(s.What, "passed by") {
			t.Errorf("%d: %+v, want %s", i, s, want)
		}
		if (s.State == router.Fence) != strings.Contains(s.Most, "25s") {
			t.Errorf("%+v", s)
		}
	}
	if !strings.HasSuffix(steps[5].What, "the route is new") {
		t.Error(steps[5].What)
	}
	passed := 0
	for _, s := range planSteps(config.Old, flip, "no login") {
		if s.What == "passed by: no login" {
			passed++
		}
	}
	if passed != 3 || callable() != "PREP, FENCE, DRAIN, DELTA and VERIFY" {
		t.Errorf("%d, %s", passed, callable())
	}
	conf := config.Default()
	conf.Backends[config.Old].Sync.Secrets = "s"
	now := newPlan(&conf, config.Old, true)
	now.User, now.Behind = "alice@example.com", &syncer.LeftBehind{User: "alice@example.com", Side: config.New, Read: time.Now().Add(-3 * time.Minute), Known: 1200, Hinted: time.Now().Add(-time.Minute), Waiting: 2, Sessions: 1}
	text := now.text()
	for _, want := range []string{"passed by: --now asks nothing of new", "alice@example.com leaves NEW without another look at it.", "what came or changed on NEW since", "3 min ago", "a change of 60 s ago is not carried yet",
		"2 messages there in quarantine", "1,200 messages, which are on both sides", "what 1 open session does there now"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
