package main

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/syncer"
)

// opened is the gateway of a verb, with the store open until the test ends.
func (m *memory) opened() *gateway {
	m.t.Helper()
	log := &syncBuffer{}
	p := &program{in: strings.NewReader(""), out: log, err: log, file: filepath.Join(m.dir, "mailgate.yaml")}
	g, err := p.localSyncing(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if err := p.closeLocal(context.Background(), false); err != nil {
			m.t.Error(err)
		}
	})
	return g
}

// TestGapsExit: the exit code is the gravest of all kinds and users, and an answer that holds only in part is no answer.
func TestGapsExit(t *testing.T) {
	users := []string{"alice@example.com", "bob@example.com", "carol@example.com", "dora@example.com"}
	m := newMemory(t, users...)
	none := syncer.Gap{Kind: syncer.GapACL, Answer: syncer.GapNone}
	some := syncer.Gap{Kind: syncer.GapACL, Answer: syncer.GapCounted, Count: 2, What: "2 rights", Do: "give them", Things: []syncer.GapThing{{Folder: "Work", What: "anna may lrs"}}, More: 1}
	partly := some
	partly.Why = "OLD does not tell of 1 folder"
	unknown := syncer.Gap{Kind: syncer.GapQuota, Answer: syncer.GapUnknown, Why: "no QUOTA"}
	t.Run("seed", func(t *testing.T) {
		m := *m
		m.t = t
		g := m.opened()
		for i, gaps := range [][]syncer.Gap{{none}, {none, some}, {some, unknown}, {partly}} {
			at := time.Now().Add(-3 * time.Hour)
			text, err := json.Marshal(syncer.GapReport{User: users[i], At: at, Gaps: gaps})
			if err != nil {
				t.Fatal(err)
			}
			if err := g.store.SaveGaps(t.Context(), users[i], at, text); err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, x := range []struct {
		args string
		exit int
		want []string
	}{
		{"alice@example.com", exitOK, []string{"alice@example.com: nothing was found that does not travel; looked at 3 hours ago"}},
		{"bob@example.com", exitDifference, []string{"2 things of 1 kind do not travel", "- Work: anna may lrs", "- and 1 more", "to do: give them"}},
		{"carol@example.com", exitUnknown, []string{"unknown  quota  no QUOTA"}},
		{"dora@example.com", exitUnknown, []string{"not all is known: OLD does not tell of 1 folder", "of 1 kind not all is known"}},
		{"alice@example.com bob@example.com", exitDifference, []string{"all together: 2 looked at, 0 not", "acl   2       1      0"}},
		{"--all", exitUnknown, []string{"all together: 4 looked at, 0 not", "acl    6       3      1", "quota  0       0      1"}},
	} {
		var out, errOut bytes.Buffer
		args := append([]string{"-c", filepath.Join(m.dir, "mailgate.yaml"), "gaps"}, strings.Fields(x.args)...)
		if got := run(t.Context(), args, strings.NewReader(""), &out, &errOut); got != x.exit {
			t.Errorf("%s: exit %d, want %d: %s", x.args, got, x.exit, errOut.String())
		}
		for _, want := range x.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%s", x.args, want, out.String())
			}
		}
	}
}

// TestGapsKept: serve looks by itself when the first copy of a user is done; a pause, or a side that is down, is no reason to give up.
func TestGapsKept(t *testing.T) {
	users := []string{"alice@example.com", "bob@example.com"}
	m := newMemory(t, users...)
	m.keeps("")
	m.deliver(0, users[0], 3)
	g := m.opened()
	kp := newKeeping(g.syncing)
	g.syncing.keeping = kp
	kp.gapsPause = 20 * time.Millisecond
	if _, err := kp.pause(t.Context(), users[1], "test", "", "", true); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { kp.run(ctx) })
	kept := func(user string) (r syncer.GapReport) {
		text, ok, err := g.store.Gaps(t.Context(), user)
		if err != nil || ok && json.Unmarshal(text, &r) != nil {
			t.Errorf("%s: %v", text, err)
		}
		return r
	}
	until(t, "a look", func() bool { return kept(users[0]).User != "" })
	until(t, "its line in status", func() bool { return kp.status(users[0]).Gaps != "" })
	r := kept(users[0])
	if s := kp.status(users[0]); s.Gaps != r.Summary() || !s.GapsAt.Equal(r.At) || kp.status(users[1]).Gaps != "" {
		t.Errorf("status says %+v, %+v", s, kp.status(users[1]))
	}
	if len(r.Gaps) < 10 || r.Found() != 0 || r.Unreached != [2]string{} {
		t.Errorf("%+v", r)
	}
	for _, x := range r.Gaps { // after the first copy, not before
		if x.Kind == syncer.GapKeywords && x.Answer != syncer.GapNone {
			t.Errorf("%+v", x)
		}
	}
	time.Sleep(200 * time.Millisecond)
	if got := kept(users[0]); !got.At.Equal(r.At) || kept(users[1]).User != "" {
		t.Errorf("it is looked again at once: %v, %v; or at who is paused: %+v", got.At, r.At, kept(users[1]))
	}
	if _, err := kp.pause(t.Context(), users[1], "test", "", "", false); err != nil {
		t.Fatal(err)
	}
	until(t, "a look at who was paused", func() bool { return kept(users[1]).User != "" })
	end()
	wg.Wait()
	again := newKeeping(g.syncing) // as after a restart
	if err := again.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	times, err := g.store.GapTimes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again.recallGaps(t.Context(), times)
	if s := again.status(users[0]); s.Gaps != r.Summary() || !s.GapsAt.Equal(r.At) {
		t.Errorf("after a restart status says %+v", s)
	}
}

// TestGapsDue: who was never looked at comes first, then who waits longest; those whom passes are not through with do not count.
func TestGapsDue(t *testing.T) {
	now := time.Now()
	kp := &keeping{users: map[string]*keptUser{"fresh": {}, "failing": {copied: true, failing: true}, "paused": {copied: true}, "never": {copied: true},
		"long": {copied: true}, "short": {copied: true}, "later": {copied: true}}, paused: map[string]syncer.Pause{"paused": {User: "paused"}}}
	due := map[string]time.Time{"long": now.Add(-time.Hour), "short": now.Add(-time.Minute), "later": now.Add(time.Second)}
	for _, want := range []string{"never", "long", "short", ""} {
		got := kp.gapsDue(due, now)
		if got != want {
			t.Fatalf("%q is due, want %q", got, want)
		}
		due[got] = now.Add(gapsEvery)
	}
}

// TestGapsDown: where a side is not there, it is looked again soon, and what is unknown is said.
func TestGapsDown(t *testing.T) {
	m := newMemory(t, "alice@example.com")
	m.keeps("")
	g := m.opened()
	kp := newKeeping(g.syncing)
	if d := kp.lookForGaps(t.Context(), "alice@example.com"); d != gapsAgain {
		t.Errorf("there was no pass yet: again in %s", d)
	}
	if _, err := m.ask(g, "run", "alice@example.com"); err != nil {
		t.Fatal(err)
	}
	if d := kp.lookForGaps(t.Context(), "alice@example.com"); d != gapsEvery {
		t.Errorf("both are there: again in %s", d)
	}
	m.hosts[1].Close()
	if d := kp.lookForGaps(t.Context(), "alice@example.com"); d != gapsAgain {
		t.Errorf("NEW is down: again in %s", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before, _, _ := g.store.Gaps(t.Context(), "alice@example.com")
	if d := kp.lookForGaps(ctx, "alice@example.com"); d != gapsAgain {
		t.Errorf("it has ended: again in %s", d)
	}
	if after, _, err := g.store.Gaps(t.Context(), "alice@example.com"); err != nil || !bytes.Equal(before, after) {
		t.Errorf("a look that was ended is kept: %s, %v", after, err)
	}
}

// TestGapsHang: a look at a host that stops talking ends with serve, and holds nobody up meanwhile.
func TestGapsHang(t *testing.T) {
	m := newMemory(t, "alice@example.com")
	m.keeps("")
	g := m.opened()
	kp := newKeeping(g.syncing)
	m.relay.block()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan time.Duration, 1)
	go func() { ended <- kp.lookForGaps(ctx, "alice@example.com") }()
	select {
	case d := <-ended:
		t.Fatalf("it does not hang: again in %s", d)
	case <-time.After(300 * time.Millisecond):
	}
	if resume, err := g.syncing.Quiesce(t.Context(), "alice@example.com"); err != nil { // a flip does not wait for it
		t.Error(err)
	} else {
		resume()
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the look does not end")
	}
	m.relay.unblock()
}
