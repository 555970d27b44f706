package cutover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/store"
)

// hookRig is a HookRunner on a store of its own.
type hookRig struct {
	*HookRunner
	t     *testing.T
	store *store.SQLite
	dir   string
	runs  *hookCounts
}

// hookCounts counts runs.
type hookCounts struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *hookCounts) HookRun(event, outcome string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[event+" "+outcome]++
}

func newHookRig(t *testing.T, hooks ...config.Hook) *hookRig {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), filepath.Join(dir, "db"))
	must(t, err)
	t.Cleanup(func() { st.Close() })
	return hookRigOn(t, st, st, dir, hooks...)
}

// hookRigOn is another process on the same store, or on what stands before it.
func hookRigOn(t *testing.T, st *store.SQLite, seen HookStore, dir string, hooks ...config.Hook) *hookRig {
	t.Helper()
	runs := &hookCounts{n: map[string]int{}}
	for i := range hooks {
		if hooks[i].Timeout == 0 {
			hooks[i].Timeout = 20 * time.Second
		}
	}
	r := NewHookRunner(HookOptions{Store: seen, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Recorder: runs, Hooks: hooks,
		Places: func(user string) [2]HookPlace {
			return [2]HookPlace{{Login: "old-" + user, Hosts: []HookHost{{Name: "o1", IMAP: "imaps://o1:993"}}}, {Login: "new-" + user}}
		}})
	h := &hookRig{r, t, st, dir, runs}
	t.Cleanup(func() { h.Close(t.Context()) })
	return h
}

// told waits until all has been told.
func (h *hookRig) told() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	must(h.t, h.Idle(ctx))
}

// history is what the store has of hooks, and perhaps of one user, oldest first: what, and the detail without the time.
func (h *hookRig) history(user ...string) (out []string) {
	h.t.Helper()
	events, err := h.store.History(h.t.Context(), op.HistoryFilter{User: strings.Join(user, "")})
	must(h.t, err)
	slices.Reverse(events)
	for _, e := range events {
		if !strings.HasPrefix(e.What, "hook ") {
			continue
		}
		head, rest, _ := strings.Cut(e.Detail, ", ")
		_, said, _ := strings.Cut(rest, ": ")
		out = append(out, strings.TrimRight(strings.TrimPrefix(e.What, "hook ")+" "+head+": "+said, ": "))
	}
	return out
}

// same compares, and shows both.
func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("%s\ngot  %s\nwant %s", what, g, w)
	}
}

// shell is a hook whose program is a script.
func shell(name, script string, on ...config.HookEvent) config.Hook {
	return config.Hook{Name: name, On: on, Command: []string{"/bin/sh", "-c", script}, Veto: slices.Contains(on, config.HookBefore)}
}

func aMove() Move {
	return Move{Op: "op-1", User: alice, From: config.Old, To: config.New, Epoch: 4, Wave: "pilot", By: "cli:uid=0"}
}

// TestBeforeHook: what a hook can do ahead of a flip, and what that means.
func TestBeforeHook(t *testing.T) {
	b := config.HookBefore
	shared := newHookRig(t)
	for name, x := range map[string]struct {
		script  string
		lenient bool   // veto: false
		why     string // of the refusal; "" means that the flip goes on
		do      string // a part of it
		counted string
		history string
	}{
		"says nothing":            {script: "exit 0", counted: "done", history: "done before h"},
		"chatters":                {script: "echo nothing to see; echo more >&2", counted: "done", history: "done before h"},
		"exit 3":                  {script: "echo; echo ' he is in at 192.0.2.7 '; echo more; exit 3", why: "hook h says no: he is in at 192.0.2.7", do: "see to that", counted: "vetoed", history: "vetoed before h: he is in at 192.0.2.7"},
		"exit 3 on stderr":        {script: "echo no way >&2; exit 3", why: "hook h says no: no way", do: "see to that", counted: "vetoed", history: "vetoed before h: no way"},
		"exit 3 without a word":   {script: "exit 3", why: "hook h says no: no reason given", do: "see to that", counted: "vetoed", history: "vetoed before h: no reason given"},
		"exit 3 with JSON":        {script: `echo '{"veto":"so"}'; exit 3`, why: "hook h says no: so", do: "see to that", counted: "vetoed", history: "vetoed before h: so"},
		"JSON, exit 0":            {script: `echo '{"veto": "too early", "x": 1}'`, why: "hook h says no: too early", do: "see to that", counted: "vetoed", history: "vetoed before h: too early"},
		"JSON warns":              {script: `echo '{"warn": "slow today"}'`, counted: "warned", history: "warned before h: slow today"},
		"empty JSON":              {script: `echo '{}'`, counted: "done", history: "done before h"},
		"broken JSON":             {script: `echo '{"veto": "too'`, why: "hook h has failed: what it says begins as JSON and is none, or too long, or veto and warn in it are no texts: {\"veto\": \"reason\"}", do: "veto: false", counted: "failed", history: "failed before h: what it says begins as JSON and is none, or too long, or veto and warn in it are no texts: {\"veto\": \"reason\"}"},
		"veto is no text":         {script: `echo '{"veto": true}'`, why: "hook h has failed: what it says begins as JSON and is none, or too long, or veto and warn in it are no texts: {\"veto\": \"reason\"}", do: "mend it", counted: "failed", history: "failed before h: what it says begins as JSON and is none, or too long, or veto and warn in it are no texts: {\"veto\": \"reason\"}"},
		"fails":                   {script: "echo cannot reach OLD >&2; exit 1", why: "hook h has failed: exit status 1: cannot reach OLD", do: "veto: false", counted: "failed", history: "failed before h: exit status 1: cannot reach OLD"},
		"dies":                    {script: "kill -9 $$", why: "hook h has failed: signal: killed", do: "mend it", counted: "failed", history: "failed before h: signal: killed"},
		"does something to a tty": {script: `printf '\033[31mred\302\233\n'; exit 3`, why: "hook h says no: [31mred", do: "see", counted: "vetoed", history: "vetoed before h: [31mred"},
		"fails, lenient":          {script: "exit 1", lenient: true, counted: "failed", history: "failed before h: hook h has failed: exit status 1, and is not heard"},
		"veto, lenient":           {script: "echo no; exit 3", lenient: true, counted: "warned", history: "warned before h: hook h says no: no, and is not heard"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := shell("h", x.script, b)
			h.Veto = !x.lenient
			r := hookRigOn(t, shared.store, shared.store, "", h)
			m := aMove()
			m.User = name
			err := r.Before(t.Context(), m)
			var refusal *Refusal
			switch {
			case x.why == "" && err != nil:
				t.Error(err)
			case x.why != "" && (!errors.As(err, &refusal) || refusal.Why != x.why || !strings.Contains(refusal.Do, x.do)):
				t.Errorf("%#v, want %q and %q", err, x.why, x.do)
			}
			same(t, "history", r.history(name), []string{x.history})
			same(t, "counted", r.runs.n, map[string]int{"before " + x.counted: 1})
		})
	}
}

// TestBeforeHookMissing: a program that is not there is a hook that fails.
func TestBeforeHookMissing(t *testing.T) {
	r := newHookRig(t, config.Hook{Name: "h", On: []config.HookEvent{config.HookBefore}, Command: []string{"/nowhere/h"}, Veto: true})
	var refusal *Refusal
	if err := r.Before(t.Context(), aMove()); !errors.As(err, &refusal) || !strings.Contains(refusal.Why, "no such file") {
		t.Error(err)
	}
}

// TestLateHookIsKilled: with all that it has started.
func TestLateHookIsKilled(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	h := shell("h", "echo $$ >>"+pids+"; (trap '' TERM; sh -c 'echo $$ >>"+pids+"; sleep 600' & wait) & wait", config.HookBefore)
	h.Timeout = 300 * time.Millisecond
	r := newHookRig(t, h)
	begun := time.Now()
	err := r.Before(t.Context(), aMove())
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Why != "hook h has not answered within 300ms" || !errors.Is(err, errHookLate) {
		t.Errorf("%v", err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	same(t, "counted", r.runs.n, map[string]int{"before late": 1})
	same(t, "history", r.history(), []string{"failed before h: it took longer than its timeout and was ended"})
	b, err := os.ReadFile(pids)
	must(t, err)
	list := strings.Fields(string(b))
	if len(list) != 2 {
		t.Fatalf("%q", b)
	}
	for _, text := range list {
		pid, err := strconv.Atoi(text)
		must(t, err)
		if !gone(pid) {
			t.Errorf("process %d of the hook lives", pid)
		}
	}
}

// gone waits a moment for the end of a process: one whose parent has died is taken in by another.
func gone(pid int) bool {
	for range 200 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(b), ") Z ") {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	return false
}

// TestHookEndsWithFlip: who cancels a flip ends the hook that it waits for.
func TestHookEndsWithFlip(t *testing.T) {
	dir := t.TempDir()
	r := newHookRig(t, shell("h", "touch "+dir+"/on; sleep 600", config.HookBefore))
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		for _, err := os.Stat(dir + "/on"); err != nil; _, err = os.Stat(dir + "/on") {
			time.Sleep(time.Millisecond)
		}
		cancel(ErrCancelled)
	}()
	if err := r.Before(ctx, aMove()); !errors.Is(err, ErrCancelled) {
		t.Error(err)
	}
}

// TestHookIsToldAll: JSON and environment say the same, and nothing of the environment of mailgate is in it.
func TestHookIsToldAll(t *testing.T) {
	t.Setenv("HIDDEN", "hunter2")
	dir := t.TempDir()
	r := newHookRig(t, shell("h", "cat >"+dir+"/$MAILGATE_EVENT.json; env >"+dir+"/$MAILGATE_EVENT.env", config.HookEvents()...))
	must(t, r.Start(t.Context()))
	m := aMove()
	m.By = "cli\nuid=0"
	must(t, r.Before(t.Context(), m))
	r.After(m)
	m.Op = "op-2"
	r.Aborted(m, "deadline passed")
	r.told()
	for event, text := range map[string]string{"before": "alice@example.com is about to move from OLD to NEW (op-1, by cli\nuid=0)",
		"after": "alice@example.com is on NEW now (was on OLD; op-1, by cli\nuid=0)",
		"abort": "alice@example.com stays on OLD: the move to NEW was called off: deadline passed (op-2, by cli\nuid=0)"} {
		b, err := os.ReadFile(filepath.Join(dir, event+".json"))
		must(t, err)
		var got map[string]any
		must(t, json.Unmarshal(b, &got))
		if at, err := time.Parse(time.RFC3339, got["time"].(string)); err != nil || time.Since(at) > time.Minute {
			t.Error(got["time"], err)
		}
		delete(got, "time")
		id := map[string]string{"abort": "op-2"}[event]
		if id == "" {
			id = "op-1"
		}
		want := map[string]any{"schema": 1., "id": id + "/" + event + "/h", "hook": "h", "event": event, "text": text, "op": id, "user": alice, "from": "old",
			"to": "new", "epoch": 4., "wave": "pilot", "by": "cli\nuid=0", "now": false, "attempt": 1.,
			"old": map[string]any{"login": "old-" + alice, "hosts": []any{map[string]any{"name": "o1", "imap": "imaps://o1:993"}}},
			"new": map[string]any{"login": "new-" + alice, "hosts": []any{}}}
		if event == "abort" {
			want["why"] = "deadline passed"
		}
		same(t, event, got, want)
		env, err := os.ReadFile(filepath.Join(dir, event+".env"))
		must(t, err)
		for _, line := range []string{"MAILGATE_EVENT=" + event, "MAILGATE_USER=" + alice, "MAILGATE_OLD_LOGIN=old-" + alice, "MAILGATE_FROM=old", "MAILGATE_TO=new",
			"MAILGATE_BY=cli uid=0", "MAILGATE_WAVE=pilot", "MAILGATE_EPOCH=4", "MAILGATE_ATTEMPT=1", "MAILGATE_SCHEMA=1"} {
			if !strings.Contains("\n"+string(env), "\n"+line+"\n") {
				t.Errorf("%s: no line %s in\n%s", event, line, env)
			}
		}
		if strings.Contains(string(env), "hunter2") {
			t.Errorf("the environment of mailgate is in that of the hook:\n%s", env)
		}
	}
}

// TestHookOnlyOfItsWaves: and only what it has asked for.
func TestHookOnlyOfItsWaves(t *testing.T) {
	dir := t.TempDir()
	all := config.HookEvents()
	mine := shell("mine", "echo mine $MAILGATE_EVENT >>"+dir+"/log", all...)
	mine.Waves = []string{"sales", "pilot"}
	other := shell("other", "echo other $MAILGATE_EVENT >>"+dir+"/log", all...)
	other.Waves = []string{"sales"}
	abort := shell("abort", "echo abort $MAILGATE_EVENT >>"+dir+"/log", config.HookAbort)
	r := newHookRig(t, mine, other, abort)
	must(t, r.Start(t.Context()))
	must(t, r.Before(t.Context(), aMove()))
	r.After(aMove())
	m := aMove()
	m.Op, m.User, m.Wave = "op-2", "bob@example.com", ""
	must(t, r.Before(t.Context(), m))
	r.After(m)
	r.told()
	b, err := os.ReadFile(dir + "/log")
	must(t, err)
	same(t, "runs", string(b), "mine before\nmine after\n")
}

// TestFirstVetoEnds: the hooks run as they stand in the file, and behind a veto none does.
func TestFirstVetoEnds(t *testing.T) {
	dir := t.TempDir()
	b := config.HookBefore
	r := newHookRig(t, shell("one", "echo one >>"+dir+"/log", b), shell("two", "echo two >>"+dir+"/log; exit 3", b), shell("three", "echo three >>"+dir+"/log", b),
		shell("late", "", config.HookAfter))
	if r.Before(t.Context(), aMove()) == nil {
		t.Error("no veto")
	}
	log, err := os.ReadFile(dir + "/log")
	must(t, err)
	same(t, "runs", string(log), "one\ntwo\n")
	events, err := r.store.History(t.Context(), op.HistoryFilter{What: []string{hooksPromised}})
	must(t, err)
	same(t, "who hears of the end", events[0].Detail, "after late; epoch 4; wave pilot")
}

// TestNowAsksNobody: a rollback --now waits for no hook, and they hear of it all the same.
func TestNowAsksNobody(t *testing.T) {
	dir := t.TempDir()
	r := newHookRig(t, shell("h", "echo $MAILGATE_EVENT $MAILGATE_NOW >>"+dir+"/log; exit 3", config.HookBefore, config.HookAfter))
	must(t, r.Start(t.Context()))
	m := aMove()
	m.Now = true
	must(t, r.Before(t.Context(), m))
	r.After(m)
	r.told()
	log, err := os.ReadFile(dir + "/log")
	must(t, err)
	same(t, "runs", string(log), "after true\n")
	events, err := r.store.History(t.Context(), op.HistoryFilter{What: []string{hooksPromised}})
	must(t, err)
	same(t, "promises", len(events), 1)
}
