package cutover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// moveN is a user's flip of a number; odd ones go to NEW.
func moveN(user string, n int) Move {
	m := Move{Op: fmt.Sprintf("op-%d", n), User: user, To: config.New, Epoch: int64(n), By: "test"}
	if n%2 == 0 {
		m.From, m.To = config.New, config.Old
	}
	return m
}

// lines are those of a file, none when it is not there.
func lines(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// quick has hooks rest for a moment only.
func (h *hookRig) quick() *hookRig {
	h.rest = func(int) time.Duration { return time.Millisecond }
	return h
}

// TestHooksKeepOrder: each user's flips are told in their order to each hook, however often a run fails, and users do not wait for one another.
func TestHooksKeepOrder(t *testing.T) {
	dir := t.TempDir()
	// every first attempt fails
	h := shell("h", `[ "$MAILGATE_ATTEMPT" = 1 ] && exit 1; echo $MAILGATE_OP >>`+dir+`/$MAILGATE_USER`, config.HookAfter, config.HookAbort)
	h.Retries = 1
	r := newHookRig(t, h).quick()
	must(t, r.Start(t.Context()))
	want := map[string][]string{}
	for n := 1; n <= 6; n++ {
		for _, user := range []string{"a@x", "b@x", "c@x"} {
			m := moveN(user, n)
			m.Op += user
			if n%3 == 0 {
				r.Aborted(m, "why")
			} else {
				r.After(m)
			}
			want[user] = append(want[user], m.Op)
		}
	}
	r.told()
	for user, list := range want {
		same(t, user, lines(t, filepath.Join(dir, user)), list)
	}
	same(t, "counted", r.runs.n, map[string]int{"after done": 12, "after failed": 12, "abort done": 6, "abort failed": 6})
	if len(r.lanes) > 0 || len(r.known) > 0 {
		t.Errorf("left: %d lanes, %d jobs", len(r.lanes), len(r.known))
	}
}

// TestHookIsGivenUp: after its retries, and that is told, with what it said.
func TestHookIsGivenUp(t *testing.T) {
	h := shell("h", "echo OLD is down >&2; exit 1", config.HookAfter)
	h.Retries = 2
	r := newHookRig(t, h, shell("well", "echo no; exit 3", config.HookAfter)).quick()
	must(t, r.Start(t.Context()))
	r.After(aMove())
	r.told()
	got := r.history()
	slices.Sort(got)
	same(t, "history", got, []string{"failed after h: exit status 1: OLD is down", "given up after h: exit status 1: OLD is down",
		"warned after well: it says no, which comes too late: no"})
	same(t, "counted", r.runs.n, map[string]int{"after failed": 3, "after given_up": 1, "after warned": 1})
}

// TestHooksInParallel: no more than so many at once.
func TestHooksInParallel(t *testing.T) {
	dir := t.TempDir()
	r := newHookRig(t, shell("h", `: >`+dir+`/$MAILGATE_OP; set -- `+dir+`/op*; echo $# >>`+dir+`/most; sleep 0.05; rm `+dir+`/$MAILGATE_OP`, config.HookAfter))
	r.o.Parallel = 3
	for n := 1; n <= 12; n++ {
		r.After(moveN(fmt.Sprintf("u%d@x", n), n))
	}
	must(t, r.Start(t.Context()))
	r.told()
	most := slices.Max(lines(t, dir+"/most"))
	if most != "3" {
		t.Errorf("%s at once, want 3", most)
	}
}

// TestBeforeHearsFirst: what a hook has not heard of an earlier flip it hears ahead of the next one, so that a door that is to be opened for
// a rollback is not closed behind that.
func TestBeforeHearsFirst(t *testing.T) {
	dir := t.TempDir()
	h := shell("h", `[ -e `+dir+`/fail-$MAILGATE_OP ] && exit 1; echo $MAILGATE_OP $MAILGATE_EVENT >>`+dir+`/log`, config.HookBefore, config.HookAfter)
	h.Retries = 50
	r := newHookRig(t, h)
	r.rest = func(int) time.Duration { return time.Hour }
	must(t, os.WriteFile(dir+"/fail-op-1", nil, 0o600))
	must(t, os.WriteFile(dir+"/fail-op-3", nil, 0o600))
	must(t, r.Start(t.Context()))
	for n := 1; n <= 3; n++ {
		r.After(moveN(alice, n))
	}
	for len(r.history()) == 0 { // the first has failed, and rests
		time.Sleep(time.Millisecond)
	}
	must(t, os.Remove(dir+"/fail-op-1"))
	must(t, r.Before(t.Context(), moveN(alice, 4)))
	r.told()
	same(t, "told", lines(t, dir+"/log"), []string{"op-1 after", "op-2 after", "op-4 before"})
	same(t, "history", r.history(), []string{"failed after h: exit status 1", "done after h", "done after h",
		"given up after h: overtaken by the next flip; exit status 1", "done before h"})
}

// TestBeforeWaitsForRun: nobody runs a hook for a user while another run of it for him is under way.
func TestBeforeWaitsForRun(t *testing.T) {
	dir := t.TempDir()
	h := shell("h", `echo $MAILGATE_EVENT begins >>`+dir+`/log; sleep 0.3; echo $MAILGATE_EVENT ends >>`+dir+`/log`, config.HookBefore, config.HookAfter)
	r := newHookRig(t, h)
	must(t, r.Start(t.Context()))
	r.After(moveN(alice, 1))
	for lines(t, dir+"/log")[0] == "" {
		time.Sleep(time.Millisecond)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.Before(short, moveN(alice, 2)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who waits for a run cannot be cancelled: %v", err)
	}
	must(t, r.Before(t.Context(), moveN(alice, 2)))
	same(t, "told", lines(t, dir+"/log"), []string{"after begins", "after ends", "before begins", "before ends"})
}

// TestBeforeTakesOver: a job that waits for its turn, and is told ahead of the next flip, is not told again when its turn comes meanwhile.
func TestBeforeTakesOver(t *testing.T) {
	dir := t.TempDir()
	h := shell("h", `echo $MAILGATE_EVENT begins >>`+dir+`/$MAILGATE_USER; [ $MAILGATE_USER = b@x ] && sleep 0.1 || sleep 0.5; echo $MAILGATE_EVENT ends >>`+dir+
		`/$MAILGATE_USER`, config.HookBefore, config.HookAfter)
	r := newHookRig(t, h)
	r.o.Parallel = 1
	must(t, r.Start(t.Context()))
	r.After(moveN("b@x", 1))
	for lines(t, dir+"/b@x")[0] == "" {
		time.Sleep(time.Millisecond)
	}
	r.After(moveN("a@x", 2)) // waits for b's
	must(t, r.Before(t.Context(), moveN("a@x", 3)))
	r.told()
	same(t, "told", lines(t, dir+"/a@x"), []string{"after begins", "after ends", "before begins", "before ends"})
}

// TestHookTakenOut: what waits for a hook that is in the configuration no more is given up, and others take its place at once.
func TestHookTakenOut(t *testing.T) {
	dir := t.TempDir()
	r := newHookRig(t, shell("h", "exit 1", config.HookAfter)).quick()
	r.After(moveN(alice, 1))
	r.Configure([]config.Hook{{Name: "g", On: []config.HookEvent{config.HookAfter}, Command: []string{"/bin/sh", "-c", "touch " + dir + "/g"}, Timeout: time.Minute}})
	r.After(moveN(alice, 2))
	must(t, r.Start(t.Context()))
	r.told()
	got := r.history()
	slices.Sort(got)
	same(t, "history", got, []string{"done after g", "given up after h: it is in the configuration no more"})
	if _, err := os.Stat(dir + "/g"); err != nil {
		t.Error(err)
	}
}

// ended records an operation as the manager does.
func (h *hookRig) ended(m Move, status op.Status, reason string) {
	h.t.Helper()
	must(h.t, h.store.SaveOperation(h.t.Context(), op.Operation{ID: m.Op, Kind: op.Flip, User: m.User, Target: m.To, Status: status, Reason: reason, By: m.By, Now: m.Now,
		Changed: time.Now()}))
}

// asked records the request of one, and is its move.
func (h *hookRig) asked(m Move) Move {
	h.t.Helper()
	o, err := h.store.NewOperation(h.t.Context(), op.Operation{Kind: op.Flip, User: m.User, Target: m.To, Status: op.Running, By: m.By, Created: time.Now()})
	must(h.t, err)
	m.Op = o.ID
	return m
}

// TestHooksSurviveCrash: of each flip whose process has died between its end and the run of its hook, the next process tells the hook, once;
// of others it does not.
func TestHooksSurviveCrash(t *testing.T) {
	dir := t.TempDir()
	hooks := []config.Hook{shell("a", `echo $MAILGATE_USER $MAILGATE_EVENT $MAILGATE_FROM $MAILGATE_TO $MAILGATE_EPOCH $MAILGATE_WAVE $MAILGATE_BY $MAILGATE_WHY >>`+dir+`/log`,
		config.HookAfter, config.HookAbort), shell("b", "exit 1", config.HookAfter)}
	hooks[1].Retries = 0
	r := newHookRig(t, hooks...)
	must(t, r.Start(t.Context()))
	moves := map[string]Move{}
	for i, user := range []string{"told", "committed", "failed", "cancelled", "open", "unasked"} {
		m := moveN(user, i)
		m.Wave = "pilot"
		m = r.asked(m)
		if moves[user] = m; user == "unasked" { // a hold stood in the way, so hooks have never heard of it
			r.ended(m, op.Failed, "held")
			continue
		}
		must(t, r.Before(t.Context(), m))
	}
	must(t, r.Before(t.Context(), moves["committed"])) // began anew
	r.ended(moves["told"], op.Done, "")
	r.After(moves["told"])
	r.told()
	r.ended(moves["committed"], op.Done, "")
	r.ended(moves["failed"], op.Failed, "deadline passed")
	r.ended(moves["cancelled"], op.Cancelled, "cancelled")
	r.Close(t.Context())
	r.After(moves["committed"]) // comes to nothing: it dies
	must(t, os.Remove(dir+"/log"))

	for range 2 { // the second process has nothing to do any more
		r = hookRigOn(t, r.store, r.store, r.dir, hooks...)
		must(t, r.Start(t.Context()))
		r.told()
		got := lines(t, dir+"/log")
		slices.Sort(got)
		same(t, "told after the crash", got, []string{"cancelled abort old new 3 pilot test cancelled", "committed after old new 1 pilot test",
			"failed abort new old 2 pilot test deadline passed"})
	}
	r.ended(moves["open"], op.Done, "")
	r.After(moves["open"])
	r.told()
	if got := lines(t, dir+"/log"); len(got) != 4 || got[3] != "open after new old 4 pilot test" {
		t.Errorf("%q", got)
	}
}

// TestHooksHearOfEachAbort: a flip that was called off by a restart begins anew; how it ends then is told as well, though the hook has heard of an
// abort of the same operation.
func TestHooksHearOfEachAbort(t *testing.T) {
	r := newHookRig(t, shell("a", "", config.HookAbort))
	must(t, r.Start(t.Context()))
	m := r.asked(aMove())
	must(t, r.Before(t.Context(), m))
	r.Aborted(m, "begins anew after the restart")
	r.told()
	must(t, r.Before(t.Context(), m))
	r.ended(m, op.Failed, "deadline passed")
	r.Close(t.Context())
	next := hookRigOn(t, r.store, r.store, r.dir, shell("a", "", config.HookAbort))
	must(t, next.Start(t.Context()))
	next.told()
	same(t, "history", next.history(), []string{"done abort a", "done abort a"})
}

// TestHookWaitsOnce: what waits already does not wait twice, whoever tells of it.
func TestHookWaitsOnce(t *testing.T) {
	r := newHookRig(t, shell("a", "", config.HookAbort))
	m := r.asked(aMove())
	must(t, r.Before(t.Context(), m))
	r.ended(m, op.Failed, "deadline passed")
	r.Aborted(m, "deadline passed")
	_, err := r.owed(t.Context()) // as Start does
	must(t, err)
	r.mu.Lock()
	same(t, "jobs", len(r.lanes[laneKey{"a", alice}].jobs), 1)
	r.mu.Unlock()
	must(t, r.Start(t.Context()))
	r.told()
}

// TestHooksOfFlipFinishedLate: a commit that a crash has cut off is finished by the next process only once the store takes that.
func TestHooksOfFlipFinishedLate(t *testing.T) {
	r := newHookRig(t, shell("a", "", config.HookAfter))
	m := r.asked(aMove())
	must(t, r.Before(t.Context(), m))
	r.Close(t.Context())
	next := hookRigOn(t, r.store, r.store, r.dir, shell("a", "", config.HookAfter))
	next.look = 10 * time.Millisecond
	must(t, next.Start(t.Context()))
	next.told()
	same(t, "history of a flip that has not ended", len(next.history()), 0)
	next.ended(m, op.Done, "")
	for len(next.history()) == 0 {
		time.Sleep(time.Millisecond)
	}
	same(t, "history", next.history(), []string{"done after a"})
}

// TestHooksNotToldOfOldFlips: a hook that comes into the configuration is not told of flips that were before.
func TestHooksNotToldOfOldFlips(t *testing.T) {
	r := newHookRig(t, shell("a", "", config.HookAfter))
	must(t, r.Start(t.Context()))
	m := r.asked(aMove())
	must(t, r.Before(t.Context(), m))
	r.ended(m, op.Done, "")
	r.Close(t.Context())
	next := hookRigOn(t, r.store, r.store, r.dir, shell("a", "", config.HookAfter), shell("b", "", config.HookAfter))
	must(t, next.Start(t.Context()))
	next.told()
	same(t, "history", next.history(), []string{"done after a"})
}

// failing is a store that takes no events while bad is set.
type failing struct {
	HookStore
	mu  sync.Mutex
	bad bool
	n   int
}

func (f *failing) set(bad bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bad = bad
}

func (f *failing) refuses() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	return f.bad
}

func (f *failing) AddEvents(ctx context.Context, e ...op.Event) error {
	if f.refuses() {
		return errDisk
	}
	return f.HookStore.AddEvents(ctx, e...)
}

func (f *failing) History(ctx context.Context, h op.HistoryFilter) ([]op.Event, error) {
	if f.refuses() {
		return nil, errDisk
	}
	return f.HookStore.History(ctx, h)
}

// TestHooksWithoutStore: a flip does not begin while nobody can record whom to tell of its end; a run that cannot be recorded is not run again
// by the same process; and a process that cannot read what is owed reads it later.
func TestHooksWithoutStore(t *testing.T) {
	dir := t.TempDir()
	hooks := []config.Hook{shell("a", "echo $MAILGATE_OP >>"+dir+"/log", config.HookAfter)}
	first := newHookRig(t, hooks...)
	bad := &failing{HookStore: first.store}
	r := hookRigOn(t, first.store, bad, first.dir, hooks...)
	must(t, r.Start(t.Context()))
	m := r.asked(aMove())
	bad.set(true)
	if err := r.Before(t.Context(), m); !errors.Is(err, op.ErrUnavailable) {
		t.Error(err)
	}
	bad.set(false)
	must(t, r.Before(t.Context(), m))
	r.ended(m, op.Done, "")
	bad.set(true)
	r.After(m)
	for lines(t, dir+"/log")[0] == "" {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond) // the record is tried again meanwhile
	bad.set(false)
	r.told()
	same(t, "runs", lines(t, dir+"/log"), []string{m.Op})

	m = r.asked(aMove())
	must(t, r.Before(t.Context(), m))
	r.ended(m, op.Done, "")
	r.Close(t.Context())
	bad.set(true)
	next := hookRigOn(t, first.store, bad, first.dir, hooks...)
	must(t, next.Start(t.Context()))
	bad.set(false)
	for len(lines(t, dir+"/log")) < 2 {
		time.Sleep(time.Millisecond)
	}
}

// TestHooksBounded: what does not fit into memory is found in the store.
func TestHooksBounded(t *testing.T) {
	r := newHookRig(t, shell("a", "", config.HookAfter))
	r.mu.Lock()
	for n := range maxHookJobs {
		r.known[fmt.Sprint(n)] = true
	}
	r.mu.Unlock()
	m := r.asked(aMove())
	must(t, r.Before(t.Context(), m))
	r.ended(m, op.Done, "")
	r.After(m)
	must(t, r.Start(t.Context()))
	same(t, "waiting", len(r.known), maxHookJobs)
	r.mu.Lock()
	clear(r.known)
	r.dispatch()
	r.mu.Unlock()
	for len(r.history()) == 0 {
		time.Sleep(time.Millisecond)
	}
	same(t, "history", r.history(), []string{"done after a"})
}

// TestHooksClose: it waits for what runs, ends what takes too long, and begins nothing more; what was ended runs again at the next start.
func TestHooksClose(t *testing.T) {
	dir := t.TempDir()
	long := shell("long", "touch "+dir+"/on; sleep 600", config.HookAfter)
	long.Timeout = 10 * time.Minute
	short := shell("short", "sleep 0.2; touch "+dir+"/short", config.HookAfter)
	r := newHookRig(t, long, short)
	r.o.Parallel = 2
	must(t, r.Start(t.Context()))
	m := r.asked(aMove())
	must(t, r.Before(t.Context(), m))
	r.ended(m, op.Done, "")
	r.After(m)
	for _, err := os.Stat(dir + "/on"); err != nil; _, err = os.Stat(dir + "/on") {
		time.Sleep(time.Millisecond)
	}
	for left := 2; left > 1; { // the short one is through
		time.Sleep(time.Millisecond)
		r.mu.Lock()
		left = len(r.known)
		r.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Idle(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "1 runs of hooks are left") {
		t.Error(err)
	}
	r.Close(ctx)
	same(t, "history", r.history(), []string{"done after short"})
	next := hookRigOn(t, r.store, r.store, r.dir, shell("long", "touch "+dir+"/again", config.HookAfter), short)
	must(t, next.Start(t.Context()))
	next.told()
	same(t, "history", next.history(), []string{"done after short", "done after long"})
}

// TestHookBackOff: it doubles, to five minutes.
func TestHookBackOff(t *testing.T) {
	for tries, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 8: 128 * time.Second, 9: 5 * time.Minute, 100: 5 * time.Minute} {
		for range 50 {
			if d := hookBackOff(tries); d < want*4/5 || d > want*6/5 {
				t.Errorf("%d: %s, want about %s", tries, d, want)
			}
		}
	}
}
