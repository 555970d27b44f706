package gate_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mailgate/config"
	"mailgate/cutover/gate"
	"mailgate/op"
	"mailgate/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice = "alice@example.com"
	bob   = "bob@example.com"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// rig is a Book on a store in a file, with a clock of its own.
type rig struct {
	*gate.Book
	t     *testing.T
	now   time.Time
	path  string
	store *store.SQLite
	ask   gate.Asker
	lag   map[string]time.Duration
	seen  map[string]gate.Compared
	log   strings.Builder
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, now: noon, path: filepath.Join(t.TempDir(), "mailgate.db"), lag: map[string]time.Duration{}, seen: map[string]gate.Compared{}}
	r.open("gw1")
	t.Cleanup(func() { r.store.Close() })
	return r
}

// open opens the store, anew if it is open, and makes a Book that knows nothing but what is in there.
func (r *rig) open(node string) {
	r.t.Helper()
	if r.store != nil {
		must(r.t, r.store.Close())
	}
	var err error
	r.store, err = store.Open(r.t.Context(), r.path)
	must(r.t, err)
	r.Book = gate.New(gate.Options{Store: r.store, Log: slog.New(slog.NewTextHandler(&r.log, nil)), Node: node,
		Listed: func(string) bool { return true }, Now: func() time.Time { return r.now },
		Lag: func(user string) (time.Duration, error) { return r.lag[user], nil },
		Verified: func(_ context.Context, user string) (gate.Compared, bool, error) {
			c, ok := r.seen[user]
			return c, ok, nil
		},
		Ask: func(ctx context.Context, c gate.Command) (int, []byte, error) { return r.ask(ctx, c) }})
	must(r.t, r.Load(r.t.Context()))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) count(user string, side config.Side, k gate.Kind, n int) {
	for range n {
		r.Count(user, side, k)
	}
}

// wave is one of all gates enforced.
func wave() config.Wave {
	w := (&config.Config{Gates: config.Default().Gates}).Wave("pilot")
	w.Gates.LoginFailures.Mode, w.Gates.Verified.Mode, w.Gates.Lag.Mode = config.Enforce, config.Enforce, config.Enforce
	return w
}

func answer(list []gate.Result, name config.Gate) gate.Result {
	return list[slices.IndexFunc(list, func(r gate.Result) bool { return r.Gate == name })]
}

// TestRestart: baselines, what was counted, and waivers stand behind a restart, also of another node's.
func TestRestart(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.count(alice, config.Old, gate.LoginOK, 40)
	r.count(alice, config.Old, gate.LoginRefused, 10)
	r.now = r.now.Add(3 * time.Hour)
	flip := r.now
	r.Moved(alice, config.New, flip)
	r.count(alice, config.New, gate.LoginOK, 16)
	r.count(alice, config.New, gate.LoginRefused, 4)
	must(t, r.Waive(ctx, op.HoldWave("pilot"), config.GateBounces, "kim", "", "no such thing", r.now.Add(time.Hour)))
	members := []gate.Member{{User: alice, Side: config.New, Since: flip}}
	before := r.Judge(ctx, gate.Soak, wave(), members)
	if a := answer(before, config.GateLoginFailures); a.Why != "login failures 20 % of 20 (limit 2x baseline 20 %)" {
		t.Fatalf("%+v", a)
	}
	must(t, r.Save(ctx))
	for _, node := range []string{"gw1", "gw2"} { // another one knows it from the store, before it hears of the first
		r.open(node)
		after := r.Judge(ctx, gate.Soak, wave(), members)
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", node, after, before)
		}
	}
	if s := r.Last(); len(s) != 1 || s[0].Wave != "pilot" || s[0].Baseline["login_failures"] != 0.2 {
		t.Errorf("%+v", s)
	}
	// The second flip of the same user: what was on NEW before is not counted behind it, nor after another restart.
	r.open("gw1")
	r.Moved(alice, config.Old, r.now)
	r.count(alice, config.Old, gate.LoginOK, 50)
	r.now = r.now.Add(time.Minute)
	r.Moved(alice, config.New, r.now)
	must(t, r.Save(ctx))
	r.open("gw1")
	members[0].Since = r.now
	e := r.Evidence(ctx, wave(), members)
	if e.After != (gate.Counts{}) || e.Before.LoginsOK != 50 { // the first stay on OLD ended with the way back: it began anew there
		t.Errorf("behind the second flip: after %+v, before %+v", e.After, e.Before)
	}
}

// TestCrash: a process that dies before it has written what it counted loses minutes, and a baseline that was not written is made of what
// was counted on OLD.
func TestCrash(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.count(alice, config.Old, gate.LoginOK, 30)
	must(t, r.Flush(ctx))
	r.now = r.now.Add(time.Hour)
	r.Moved(alice, config.New, r.now) // and here it dies
	r.open("gw1")
	e := r.Evidence(ctx, wave(), []gate.Member{{User: alice, Side: config.New, Since: r.now}, {User: bob, Side: config.New, Since: r.now}})
	if e.Before.LoginsOK != 30 || !slices.Equal(e.Unrecorded, []string{bob}) {
		t.Errorf("%+v", e)
	}
	must(t, r.Save(ctx))
	list, err := r.store.Baselines(ctx)
	must(t, err)
	if len(list) != 1 || list[0].User != alice || !list[0].At.Equal(r.now) || list[0].Week.LoginsOK != 30 {
		t.Errorf("%+v", list)
	}
	// He goes back and comes again: his second stay was too short to tell by itself, so the first counts too.
	r.Moved(alice, config.Old, r.now)
	r.count(alice, config.Old, gate.LoginRefused, 7)
	must(t, r.Save(ctx))
	r.now = r.now.Add(time.Hour)
	r.Moved(alice, config.New, r.now) // and here it dies again
	r.open("gw1")
	if e := r.Evidence(ctx, wave(), []gate.Member{{User: alice, Side: config.New, Since: r.now}}); e.Before != (gate.Counts{LoginsOK: 30, LoginsRefused: 7}) {
		t.Errorf("%+v", e.Before)
	}
}

// TestBaselineBehindRollback: a wave that went back and moves again soon is measured by what its users met before the first move; one that was back
// for long enough by that stay alone, and what is a month old says nothing any more.
func TestBaselineBehindRollback(t *testing.T) {
	for name, c := range map[string]struct {
		back   int // logins while he was back
		away   time.Duration
		before gate.Counts
	}{
		"soon":       {2, time.Hour, gate.Counts{LoginsOK: 40, LoginsRefused: 12}},
		"at once":    {0, time.Hour, gate.Counts{LoginsOK: 40, LoginsRefused: 10}},
		"well known": {60, time.Hour, gate.Counts{LoginsRefused: 60}},
		"long ago":   {2, 29 * 24 * time.Hour, gate.Counts{LoginsRefused: 2}},
	} {
		r := newRig(t)
		r.count(alice, config.Old, gate.LoginOK, 40)
		r.count(alice, config.Old, gate.LoginRefused, 10)
		r.now = r.now.Add(time.Hour)
		r.Moved(alice, config.New, r.now)
		r.now = r.now.Add(c.away)
		r.Moved(alice, config.Old, r.now)
		if c.back > 0 {
			r.count(alice, config.Old, gate.LoginRefused, c.back)
		}
		must(t, r.Save(t.Context()))
		r.open("gw1")
		r.now = r.now.Add(time.Hour)
		r.Moved(alice, config.New, r.now)
		r.count(alice, config.New, gate.LoginOK, 16)
		r.count(alice, config.New, gate.LoginRefused, 4)
		members := []gate.Member{{User: alice, Side: config.New, Since: r.now}}
		if e := r.Evidence(t.Context(), wave(), members); e.Before != c.before {
			t.Errorf("%s: %+v", name, e.Before)
		}
		if a := answer(r.Judge(t.Context(), gate.Soak, wave(), members), config.GateLoginFailures); (a.Verdict == gate.Unknown) == (name != "long ago") {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// TestNodes: what one node has written another one does not take for its own: nothing is counted twice.
func TestNodes(t *testing.T) {
	r := newRig(t)
	r.count(alice, config.Old, gate.LoginOK, 20)
	must(t, r.Save(t.Context()))
	for _, node := range []string{"gw2", "gw1", "gw2"} {
		r.open(node)
		r.count(alice, config.Old, gate.LoginOK, 1)
		must(t, r.Save(t.Context()))
	}
	r.open("gw3")
	if got := r.Since(alice, config.Old, r.now.Add(-24*time.Hour)).LoginsOK; got != 23 {
		t.Errorf("%d logins", got)
	}
}

// TestBeforeAfter: the trap: behind the flip nobody is on OLD. What is compared is the same users before.
func TestBeforeAfter(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	members := []gate.Member{{User: alice}, {User: bob}}
	for _, m := range members {
		r.count(m.User, config.Old, gate.LoginOK, 100)
	}
	r.count("carol@example.com", config.Old, gate.LoginRefused, 1000) // of no wave: she says nothing about it
	if a := answer(r.Judge(ctx, gate.Start, wave(), members), config.GateLoginFailures); a.Why != "nobody has moved yet; login failures were 0 % of 200 in the last 7 days" {
		t.Errorf("%+v", a)
	}
	r.now = r.now.Add(10 * 24 * time.Hour) // long before the flip does not count
	for _, m := range members {
		r.count(m.User, config.Old, gate.LoginOK, 50)
	}
	for i := range members {
		r.Moved(members[i].User, config.New, r.now)
		members[i].Side, members[i].Since = config.New, r.now
	}
	r.count(alice, config.New, gate.LoginOK, 18)
	r.count(bob, config.New, gate.LoginRefused, 2)
	a := answer(r.Judge(ctx, gate.Soak, wave(), members), config.GateLoginFailures)
	if a.Verdict != gate.Fail || a.Why != "login failures 10 % of 20 (limit 2 %)" {
		t.Errorf("%+v", a)
	}
	if e := r.Evidence(ctx, wave(), members); e.Before.LoginsOK != 100 || e.Moved != 2 || e.After.LoginsOK != 18 {
		t.Errorf("%+v", e)
	}
	a = answer(r.JudgeUser(ctx, gate.Soak, wave(), members[0]), config.GateLoginFailures)
	if a.Verdict != gate.Pass || a.Why != "no login failures in 18" {
		t.Errorf("alice: %+v", a)
	}
}

// TestSources: lag and comparisons of each member, waivers of a wave and of a user, with what the history says.
func TestSources(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	members := []gate.Member{{User: alice}, {User: bob}}
	r.lag[bob] = 10 * time.Minute
	r.seen[alice] = gate.Compared{User: alice, At: r.now, Equal: true}
	list := r.Judge(ctx, gate.Start, wave(), members)
	if a := answer(list, config.GateVerified); !a.Holds || a.Why != "never compared: bob@example.com; mailgate verify does it" {
		t.Errorf("%+v", a)
	}
	if a := answer(list, config.GateLag); !a.Holds || a.Verdict != gate.Fail {
		t.Errorf("%+v", a)
	}
	if a := answer(list, config.GateAuthRegressions); a.Holds || a.Verdict != gate.Unknown { // observed
		t.Errorf("%+v", a)
	}
	until := r.now.Add(time.Hour)
	must(t, r.Waive(ctx, op.HoldWave("pilot"), config.GateLag, "kim", "a desk", "a big folder", until))
	must(t, r.Waive(ctx, op.HoldUser(bob), config.GateVerified, "kim", "", "looked at by hand", until))
	if list = r.Judge(ctx, gate.Start, wave(), members); gate.Holding(list) != "" || answer(list, config.GateLag).Waiver.By != "kim" {
		t.Errorf("%+v", list)
	}
	if list = r.JudgeUser(ctx, gate.Start, wave(), members[1]); gate.Holding(list) != "" {
		t.Errorf("%+v", list)
	}
	for _, x := range []error{r.Waive(ctx, op.HoldWave("pilot"), config.GateLag, "", "", "why", until), r.Waive(ctx, op.HoldWave("pilot"), config.GateLag, "kim", "", " ", until),
		r.Waive(ctx, op.HoldWave("pilot"), config.GateLag, "kim", "", "why", r.now), r.Waive(ctx, op.HoldAll, config.GateLag, "kim", "", "why", until)} {
		if !errors.Is(x, gate.ErrWaiver) {
			t.Errorf("got %v", x)
		}
	}
	changed, err := r.Unwaive(ctx, op.HoldUser(bob), config.GateVerified, "lee", "")
	if again, err2 := r.Unwaive(ctx, op.HoldUser(bob), config.GateVerified, "lee", ""); !changed || again || err != nil || err2 != nil {
		t.Errorf("%v %v %v %v", changed, again, err, err2)
	}
	if w, err := r.Waivers(ctx); err != nil || len(w) != 1 || w[0].What() != "wave pilot" {
		t.Errorf("%+v %v", w, err)
	}
	r.now = until
	if w, err := r.Waivers(ctx); err != nil || len(w) != 0 {
		t.Errorf("over, and yet %+v %v", w, err)
	}
	if a := answer(r.Judge(ctx, gate.Start, wave(), members), config.GateLag); !a.Holds {
		t.Errorf("the waiver is over: %+v", a)
	}
	events, err := r.store.History(ctx, op.HistoryFilter{})
	must(t, err)
	var said []string
	for _, e := range events {
		by := e.By
		if e.From != "" {
			by += ", " + e.From
		}
		said = append(said, strings.TrimSpace(fmt.Sprintf("%s %s by %s: %s", e.User, e.What, by, e.Detail)))
	}
	if want := []string{"bob@example.com gate no longer waived by lee: verified, bob@example.com",
		"bob@example.com gate waived by kim: verified, bob@example.com until 2026-11-26T13:00:00Z: looked at by hand",
		"wave:pilot gate waived by kim, a desk: lag, wave pilot until 2026-11-26T13:00:00Z: a big folder"}; !slices.Equal(said, want) {
		t.Errorf("history %q", said)
	}
}

// TestCommands: what the operator's own checks may answer; they are asked once in a minute, with the members.
func TestCommands(t *testing.T) {
	for _, x := range []struct {
		status         int
		said           string
		err            error
		bounces, queue gate.Answer
	}{
		{0, `{"samples": 100, "failures": 2}`, nil, gate.Answer{Verdict: gate.Pass, Why: "bounces 2 % of 100 (limit 5 %)"}, gate.Answer{Verdict: gate.Pass, Why: `{"samples": 100, "failures": 2}`}},
		{0, `{"samples": 100, "failures": 50}`, nil, gate.Answer{Verdict: gate.Fail, Why: "bounces 50 % of 100 (limit 5 %)"}, gate.Answer{Verdict: gate.Pass, Why: `{"samples": 100, "failures": 50}`}},
		{0, `{"samples": 1, "failures": 50}`, nil, gate.Answer{Verdict: gate.Unknown, Why: `gates.bounces.command did not say {"samples": N, "failures": N} but "{\"samples\": 1, \"failures\": 50}"`},
			gate.Answer{Verdict: gate.Pass, Why: `{"samples": 1, "failures": 50}`}},
		{0, `{"samples": 100}`, nil, gate.Answer{Verdict: gate.Unknown, Why: `gates.bounces.command did not say {"samples": N, "failures": N} but "{\"samples\": 100}"`},
			gate.Answer{Verdict: gate.Pass, Why: `{"samples": 100}`}},
		{1, "17 wait\x1b[31m\nmore", nil, gate.Answer{Verdict: gate.Unknown, Why: "gates.bounces.command ended with exit status 1: 17 wait [31m"}, gate.Answer{Verdict: gate.Fail, Why: "17 wait [31m"}},
		{1, "", nil, gate.Answer{Verdict: gate.Unknown, Why: "gates.bounces.command ended with exit status 1"},
			gate.Answer{Verdict: gate.Fail, Why: "its command ended with exit status 1 and said nothing"}},
		{2, "no", nil, gate.Answer{Verdict: gate.Unknown, Why: "gates.bounces.command ended with exit status 2: no"}, gate.Answer{Verdict: gate.Unknown, Why: "its command ended with exit status 2: no"}},
		{0, "", errors.New("gone"), gate.Answer{Verdict: gate.Unknown, Why: "gates.bounces.command failed: gone"}, gate.Answer{Verdict: gate.Unknown, Why: "its command failed: gone"}},
	} {
		t.Run(fmt.Sprint(x.status, x.said), func(t *testing.T) {
			r := newRig(t)
			var asked atomic.Int64
			r.ask = func(_ context.Context, c gate.Command) (int, []byte, error) {
				asked.Add(1)
				if c.Wave != "pilot" || !slices.Equal(c.Users, []string{alice, bob}) || !c.Since.Equal(noon) {
					t.Errorf("%+v", c)
				}
				return x.status, []byte(x.said), x.err
			}
			w := wave()
			w.Gates.Bounces.Command = []string{"bounces"}
			w.Gates.Custom = []config.CustomGate{{Name: "queue", Command: "queue", Timeout: time.Second, Mode: config.Observe}, {Name: "idle", Mode: config.GateOff}}
			members := []gate.Member{{User: alice, Side: config.New, Since: noon}, {User: bob, Side: config.New, Since: noon.Add(time.Hour)}}
			for range 3 {
				list := r.Judge(t.Context(), gate.Soak, w, members)
				for name, want := range map[config.Gate]gate.Answer{config.GateBounces: x.bounces, "queue": x.queue} {
					if a := answer(list, name); a.Verdict != want.Verdict || a.Why != want.Why {
						t.Errorf("%s: got %s %q, want %s %q", name, a.Verdict, a.Why, want.Verdict, want.Why)
					}
				}
			}
			if asked.Load() != 2 {
				t.Errorf("asked %d times", asked.Load())
			}
			r.now = r.now.Add(time.Minute)
			if r.Judge(t.Context(), gate.Soak, w, members); asked.Load() != 4 {
				t.Errorf("asked %d times in a minute more", asked.Load())
			}
		})
	}
}

// TestRunCommand: a real program, what it is told, and its end when it takes too long.
func TestRunCommand(t *testing.T) {
	t.Setenv("SECRET", "hidden")
	c := gate.Command{Argv: []string{"/bin/sh", "-c", `cat; echo "$MAILGATE_WAVE $MAILGATE_SINCE $SECRET$#"; exit 3`}, Wave: "pilot", Since: noon, Users: []string{alice, bob}}
	status, said, err := gate.RunCommand(t.Context(), c)
	if want := "alice@example.com\nbob@example.com\npilot 2026-11-26T12:00:00Z 0\n"; status != 3 || string(said) != want || err != nil {
		t.Errorf("%d %q %v", status, said, err)
	}
	c = gate.Command{Argv: []string{"/bin/sh", "-c", "echo ok"}, Users: make([]string, 100000)} // does not read
	if status, said, err = gate.RunCommand(t.Context(), c); status != 0 || string(said) != "ok\n" || err != nil {
		t.Errorf("%d %q %v", status, said, err)
	}
	left := filepath.Join(t.TempDir(), "left")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, errors.New("too slow"))
	defer cancel()
	c.Argv = []string{"/bin/sh", "-c", "(sleep 1; touch " + left + ") & sleep 20"}
	if _, _, err = gate.RunCommand(ctx, c); err == nil || err.Error() != "too slow" {
		t.Errorf("got %v", err)
	}
	time.Sleep(1200 * time.Millisecond)
	if _, err := os.Stat(left); err == nil {
		t.Error("what it had started ran on")
	}
	if _, _, err = gate.RunCommand(t.Context(), gate.Command{Argv: []string{"/nowhere/x"}}); err == nil {
		t.Error("no error")
	}
	c.Argv = []string{"/bin/sh", "-c", "kill -9 $$"}
	if _, _, err = gate.RunCommand(t.Context(), c); err == nil {
		t.Error("a killed program has an exit status")
	}
}

// memory is a Store that fails when it is told to.
type memory struct {
	gate.Store // what is not used
	fails      atomic.Bool
	tries      atomic.Int64
	rows       chan []gate.Row
	bases      chan []gate.Baseline
	during     func() // called once, while baselines are not taken; may be nil
}

func (m *memory) trouble() error {
	m.tries.Add(1)
	if m.fails.Load() {
		return op.ErrUnavailable
	}
	return nil
}

func (m *memory) SaveSignals(_ context.Context, rows []gate.Row) error {
	if err := m.trouble(); err != nil {
		return err
	}
	m.rows <- rows
	return nil
}

func (m *memory) SaveBaselines(_ context.Context, list []gate.Baseline) error {
	if err := m.trouble(); err != nil {
		if m.during != nil {
			m.during()
			m.during = nil
		}
		return err
	}
	m.bases <- list
	return nil
}

// TestRun: signals are written every few minutes and at the end, not with each login; baselines soon; what a store does not take is
// written when it does.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{rows: make(chan []gate.Row, 9), bases: make(chan []gate.Baseline, 9)}
		var log strings.Builder
		b := gate.New(gate.Options{Store: m, Log: slog.New(slog.NewTextHandler(&log, nil)), Node: "gw1", Listed: func(string) bool { return true }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); b.Run(ctx) }()
		for range 1000 {
			b.Count(alice, config.Old, gate.LoginOK)
		}
		time.Sleep(4 * time.Minute)
		if m.tries.Load() != 0 {
			t.Error("written with the logins")
		}
		time.Sleep(2 * time.Minute)
		if rows := <-m.rows; len(rows) != 1 || rows[0].Counts.LoginsOK != 1000 || m.tries.Load() != 1 {
			t.Errorf("%+v in %d writes", rows, m.tries.Load())
		}
		m.fails.Store(true)
		var again time.Time
		m.during = func() { // he went back and came again meanwhile
			again = time.Now()
			b.Moved(alice, config.New, again)
		}
		b.Moved(alice, config.New, time.Now())
		b.Moved(bob, config.New, time.Now())
		b.Count(bob, config.New, gate.LoginOK)
		b.Count(alice, config.New, gate.LoginOK)
		time.Sleep(20 * time.Minute)
		if n := m.tries.Load(); n < 50 || n > 200 || strings.Count(log.String(), "\n") > 4 {
			t.Errorf("%d tries, log %s", n, log.String())
		}
		m.fails.Store(false)
		b.Moved("carol@example.com", config.New, time.Now())
		time.Sleep(15 * time.Second)
		if list := <-m.bases; len(list) != 3 || list[0].User != alice || !list[0].At.Equal(again) || list[0].Week.LoginsOK != 1000 || list[1].User != bob {
			t.Errorf("%+v", list)
		}
		b.Count(bob, config.New, gate.LoginOK)
		cancel()
		<-done
		if rows := <-m.rows; len(rows) != 2 || rows[0].User != alice || rows[1].User != bob || rows[1].Counts.LoginsOK != 2 {
			t.Errorf("at the end %+v", rows)
		}
	})
}
