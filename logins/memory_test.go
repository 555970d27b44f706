package logins

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/op"
)

const (
	anna = "anna@example.com"
	bert = "bert@example.com"
	life = 100 * time.Hour
)

// memory is a Store in memory that can be made to fail.
type memory struct {
	mu sync.Mutex
	state
	fails error
}

// state is what a memory holds.
type state struct {
	logins   []Login
	kept     []Kept
	refusals []Refusal
	events   []op.Event
	saves    int // of logins
	writes   int // of what is kept
	scrubs   int
}

// snap is what it holds now.
func (m *memory) snap() state {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state
	s.logins, s.kept, s.refusals, s.events = slices.Clone(s.logins), slices.Clone(s.kept), slices.Clone(s.refusals), slices.Clone(s.events)
	return s
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fails = err
}

func of[T any](list []T, user string, name func(T) string) (out []T) {
	for _, x := range list {
		if user == "" || name(x) == user {
			out = append(out, x)
		}
	}
	return out
}

func (m *memory) Logins(_ context.Context, user string) ([]Login, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return of(m.logins, user, func(x Login) string { return x.User }), m.fails
}

func (m *memory) SaveLogins(_ context.Context, list []Login) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails != nil {
		return m.fails
	}
	m.saves++
next:
	for _, x := range list {
		for i := range m.logins {
			if o := &m.logins[i]; o.User == x.User && o.Side == x.Side && o.Protocol == x.Protocol {
				if x.Last.After(o.Last) {
					o.Last = x.Last
				}
				continue next
			}
		}
		m.logins = append(m.logins, x)
	}
	slices.SortFunc(m.logins, func(a, b Login) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Side, b.Side), cmp.Compare(a.Protocol, b.Protocol))
	})
	return nil
}

func (m *memory) Kept(_ context.Context, user string) ([]Kept, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return of(m.kept, user, func(x Kept) string { return x.User }), m.fails
}

func (m *memory) find(user string) *Kept {
	for i := range m.kept {
		if m.kept[i].User == user {
			return &m.kept[i]
		}
	}
	return nil
}

func (m *memory) PutKept(_ context.Context, k Kept) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails != nil {
		return m.fails
	}
	m.writes++
	if o := m.find(k.User); o != nil {
		*o = k
		return nil
	}
	m.kept = append(m.kept, k)
	return nil
}

func (m *memory) change(k Kept, f func(*Kept), events ...op.Event) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.find(k.User)
	if m.fails != nil || o == nil || !o.Learned.Equal(k.Learned) {
		return false, m.fails
	}
	m.writes++
	f(o)
	m.events = append(m.events, events...)
	return true, nil
}

func (m *memory) RenewKept(_ context.Context, k Kept) (bool, error) {
	return m.change(k, func(o *Kept) { o.Side, o.Seen, o.Expires = k.Side, k.Seen, k.Expires })
}

func (m *memory) SetHook(_ context.Context, k Kept, events ...op.Event) (bool, error) {
	return m.change(k, func(o *Kept) { o.Hook = k.Hook }, events...)
}

func (m *memory) ClaimHook(_ context.Context, k Kept, now, until time.Time) (is Kept, mine bool, err error) {
	_, err = m.change(k, func(o *Kept) {
		if is = *o; o.Hook.Done.IsZero() && !o.Hook.Next.After(now) {
			o.Hook.Next, mine = until, true
		}
	})
	return is, mine, err
}

func (m *memory) DropKept(_ context.Context, user string, e op.Event) (int, error) {
	return m.drop(func(k Kept) bool { return user == "" || k.User == user }, e)
}

func (m *memory) ExpireKept(_ context.Context, now, unseen time.Time) (int, error) {
	return m.drop(func(k Kept) bool { return !k.Expires.After(now) || !k.Seen.After(unseen) })
}

func (m *memory) drop(f func(Kept) bool, events ...op.Event) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails != nil {
		return 0, m.fails
	}
	before := len(m.kept)
	if m.kept = slices.DeleteFunc(m.kept, f); len(m.kept) < before {
		m.events = append(m.events, events...)
	}
	return before - len(m.kept), nil
}

func (m *memory) ScrubSecrets(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scrubs++
	return m.fails
}

func (m *memory) Refusals(_ context.Context, user string) ([]Refusal, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return of(m.refusals, user, func(x Refusal) string { return x.User }), m.fails
}

func at(r Refusal) func(Refusal) bool {
	return func(o Refusal) bool { return o.User == r.User && o.Side == r.Side && o.Protocol == r.Protocol }
}

func (m *memory) PutRefusal(_ context.Context, r Refusal, events ...op.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails != nil {
		return m.fails
	}
	m.events = append(m.events, events...)
	if i := slices.IndexFunc(m.refusals, at(r)); i >= 0 {
		m.refusals[i] = r
		return nil
	}
	m.refusals = append(m.refusals, r)
	return nil
}

func (m *memory) DropRefusal(_ context.Context, r Refusal, e op.Event) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.refusals, at(r))
	if m.fails != nil || i < 0 {
		return false, m.fails
	}
	m.refusals = slices.Delete(m.refusals, i, i+1)
	m.events = append(m.events, e)
	return true, nil
}

// what is the history, the oldest first.
func (m *memory) what() (out []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.events {
		out = append(out, e.User+": "+e.What)
	}
	return out
}

// counts is a Recorder.
type counts struct {
	mu        sync.Mutex
	n         map[string]int
	regressed [2]int
}

func (c *counts) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[what]++
}

func (c *counts) get(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[what]
}

func (c *counts) LearnedHash(r string)          { c.add("hash " + r) }
func (c *counts) LoginHook(r string)            { c.add("hook " + r) }
func (c *counts) LoginRegression(s config.Side) { c.add("regression " + s.String()) }
func (c *counts) LoginsRegressed(s config.Side, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.regressed[s] = n
}

// users are those that a side refuses, as last told, by side.
func (c *counts) users() [2]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.regressed
}

// rig is a Ledger on a memory, which runs within a bubble of synctest.
type rig struct {
	*Ledger
	t      *testing.T
	store  *memory
	shared bool
	n      *counts
	log    *strings.Builder
	stop   func()

	mu    sync.Mutex
	calls []Call                            // of the hook
	hook  func(context.Context, Call) error // what it does; nil does nothing
	known map[string]string                 // user and side, and the password that Worked knows
	asked int                               // Worked
}

// newRig makes one whose settings are those of set, with Expire filled in.
func newRig(t *testing.T, set Settings) *rig {
	t.Helper()
	r := &rig{t: t, store: &memory{}, known: map[string]string{}}
	r.begin(set)
	return r
}

// begin begins, or begins anew as another process on the same store.
func (r *rig) begin(set Settings) {
	set.Expire, set.HookTime = cmp.Or(set.Expire, life), cmp.Or(set.HookTime, time.Minute)
	set.Hooks = cmp.Or(set.Hooks, 2)
	r.n, r.log = &counts{n: map[string]int{}}, &strings.Builder{}
	r.Ledger = New(Options{Store: r.store, Shared: r.shared, Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Recorder: r.n,
		Worked: func(_ context.Context, user string, side config.Side, password config.Secret) bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.asked++
			return r.known[user+" "+side.String()] == password.Reveal()
		},
		Run: func(ctx context.Context, c Call) error {
			r.mu.Lock()
			r.calls = append(r.calls, c)
			hook := r.hook
			r.mu.Unlock()
			if hook == nil {
				return nil
			}
			return hook(ctx, c)
		}})
	r.hash = cheap
	r.Configure(set)
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	r.stop = sync.OnceFunc(func() { cancel(); <-done })
	synctest.Wait()
}

// settle lets what waits behind logins be done.
func (r *rig) settle() {
	time.Sleep(2 * gather)
	synctest.Wait()
}

// login is one that a side lets in.
func (r *rig) login(user string, side config.Side, p config.Protocol, password string) {
	r.Note(user, side, p, config.Secret(password), true)
	synctest.Wait()
}

func (r *rig) refusal(user string, side config.Side, p config.Protocol, password string) {
	r.Note(user, side, p, config.Secret(password), false)
	synctest.Wait()
}

// bubble runs a test in a bubble, and ends the rig.
func bubble(t *testing.T, set Settings, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, set)
		defer func() { r.stop() }()
		f(t, r)
		if strings.Contains(r.log.String(), "hunter") {
			t.Errorf("a password is in the log: %s", r.log)
		}
		for _, e := range r.store.snap().events {
			if strings.Contains(e.Detail, "hunter") {
				t.Errorf("a password is in the history: %s", e.Detail)
			}
		}
	})
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// pass lets a time pass, and what comes due in it be done.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// cheap is Hash at a cost that tests can pay often.
func cheap(password config.Secret) string { return hashWith(password, 64, 1) }
