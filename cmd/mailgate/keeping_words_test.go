package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/syncer"
)

// TestPauseVerbs: what the verbs say and their exit codes, with and without serve.
func TestPauseVerbs(t *testing.T) {
	const alice, bob = "alice@example.com", "bob@example.com"
	m := newMemory(t, alice, bob)
	m.keeps("")
	text, routes := mustRead(t, m.dir+"/mailgate.yaml"), mustRead(t, m.dir+"/routes")
	verb := func(code int, says string, args ...string) {
		t.Helper()
		var out, errOut bytes.Buffer
		got := run(context.Background(), append([]string{"--config", m.dir + "/mailgate.yaml", "sync"}, args...), strings.NewReader(""), &out, &errOut)
		if all := out.String() + errOut.String(); got != code || !strings.Contains(all, says) {
			t.Errorf("%v: exit %d, want %d and %q\n%s", args, got, code, says, all)
		}
	}
	for _, where := range []string{"alone", "serve"} {
		t.Run(where, func(t *testing.T) {
			if where == "serve" {
				m := *m
				m.t = t
				m.serve()
			}
			verb(0, alice+" is paused\n", "pause", alice, "--reason", "a backup")
			verb(0, alice+" was paused already, by cli: ", "pause", alice)
			verb(0, "everybody is paused\n", "pause", "--all")
			verb(0, "everybody was paused already, by cli: ", "pause", "--all")
			verb(0, alice+" stays paused: everybody is, by cli: ", "resume", alice)
			verb(2, bob+" stays paused: everybody is, by cli: ", "resume", bob)
			verb(0, bob+" is paused\n", "pause", bob)
			verb(0, "everybody goes on, but for those who are paused themselves\n", "resume", "--all")
			verb(2, "nothing was paused so", "resume", "--all")
			verb(0, bob+" goes on\n", "resume", bob)
			verb(2, bob+" was not paused\n", "resume", bob)
			verb(3, "has no line in the routes file", "pause", "nobody@example.com")
			verb(2, "nobody@example.com was not paused\n", "resume", "nobody@example.com")
			verb(64, "one address, or --all", "pause")
			verb(64, "one address, or --all", "pause", alice, bob)
			verb(64, "one address, or --all", "resume", alice, "--all")
			verb(64, "", "pause", "*")
			verb(64, "", "resume", "a b c")

			// One who has left the routes file, and one whose wave has not started.
			verb(0, alice+" is paused\n", "pause", alice)
			m.write("routes", strings.Replace(routes, alice+" old wave=pilot\n", "", 1))
			if where == "serve" {
				verb(0, "", "pause", bob)
				verb(0, "", "resume", bob)
				var out bytes.Buffer
				if code := run(context.Background(), []string{"--config", m.dir + "/mailgate.yaml", "reload"}, strings.NewReader(""), &out, &out); code != 0 {
					t.Errorf("reload: %d %s", code, out.String())
				}
			}
			verb(0, alice+" is paused no more; his wave is not in sync.waves, so nothing begins by itself\n", "resume", alice)
			m.write("routes", routes)

			m.write("mailgate.yaml", strings.Replace(text, "settle: 50ms", "settle: soon", 1))
			switch where {
			case "alone":
				verb(3, "settle", "pause", alice)
			default: // what is in force stands
				verb(0, bob+" is paused\n", "pause", bob)
				verb(0, bob+" goes on\n", "resume", bob)
			}
			m.write("mailgate.yaml", text)
		})
	}
}

// TestSyncWords: what status says of users in each phase.
func TestSyncWords(t *testing.T) {
	soon, past := time.Now().Add(time.Minute), time.Now().Add(-2*time.Hour)
	for want, s := range map[string]*admin.SyncStatus{
		"sync\tfirst copy, waits for its turn\n":                                                     {Phase: "first copy", Next: past},
		"sync\tfirst copy, a pass is under way\n":                                                    {Phase: "first copy", Running: true},
		"sync\tfirst copy, a pass is under way: folders 1/2\n":                                       {Phase: "first copy", Running: true, Progress: "folders 1/2"},
		"sync\tconverged, next pass at " + soon.Format(time.TimeOnly) + " at the latest\n":           {Phase: "converged", Next: soon},
		"sync\tconverged, waits for its turn; the oldest change not carried yet is 1m0s old\n":       {Phase: "converged", Next: past, LagSeconds: 60},
		"sync\tpaused, by me at " + stamp(past) + ": a backup\n":                                     {Phase: "paused", Paused: &admin.SyncPause{By: "me", At: past, Reason: "a backup"}},
		"sync\tfailing, waits for its turn\nsync failed\tno (3 times)\nwhat to do\tnothing\n":        {Phase: "failing", Next: past, Error: "no", Tries: 3, Do: "nothing"},
		"sync\tconverged\nnot done\tBox: no; why\nset aside\t1 messages: mailgate quarantine list\n": {Phase: "converged", Quarantine: 1, Broken: []admin.BrokenFolder{{Folder: "Box", Error: "no\nwhy"}}},
	} {
		var out bytes.Buffer
		if printSyncStatus(&out, s); out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
	}
	var out bytes.Buffer
	printSyncOverview(&out, &admin.SyncOverview{Users: 3, Waves: []string{"pilot"}, Phases: map[string]int{"converged": 3}, Waiting: 2, Partly: 1})
	for _, want := range []string{"sync waits\t2 messages set aside and folders with deletes held back", "sync partly\t1 users have folders that cannot be done"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s\nwant %s", out.String(), want)
		}
	}
}

// TestKeptRules: a look at numbers is enough only under the rules that the last whole pass was made under. Another routes file is none.
func TestKeptRules(t *testing.T) {
	const alice = "alice@example.com"
	m := newMemory(t, alice)
	m.keeps("")
	g := m.serve()
	kp := g.syncing.keeping
	until(t, "a pass", func() bool { return !g.syncing.Status(alice).Last.IsZero() })
	reload := func(from, to string) {
		t.Helper()
		text := mustRead(t, m.dir+"/mailgate.yaml")
		m.write("mailgate.yaml", strings.Replace(text, from, to, 1))
		if _, err := g.Reload(t.Context(), "test", ""); err != nil {
			t.Fatal(err)
		}
	}
	enough := func() bool {
		now := time.Now()
		k := &keptUser{report: &syncer.Report{}, whole: now, under: before(kp, alice)}
		kp.mu.Lock()
		was := kp.users[alice]
		kp.users[alice] = k
		kp.mu.Unlock()
		defer func() {
			kp.mu.Lock()
			kp.users[alice] = was
			kp.mu.Unlock()
		}()
		return kp.atRest(alice, g.conf.Load(), now)
	}
	if _, err := m.ask(g, "pause", alice); err != nil {
		t.Fatal(err)
	}
	if !enough() {
		t.Error("under the same rules a look is not enough")
	}
	reload("shutdown: 1s", "shutdown: 2s")
	if !enough() {
		t.Error("behind a reload of the same rules a look is not enough")
	}
	reload("settle: 50ms", "settle: 50ms, exclude: [Junk]")
	if enough() {
		t.Error("under other rules a look is enough")
	}
}

// before is the configuration of the last whole pass.
func before(kp *keeping, user string) *config.Config {
	kp.mu.Lock()
	defer kp.mu.Unlock()
	return kp.users[user].under
}
