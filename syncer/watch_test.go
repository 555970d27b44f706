package syncer_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// watchRig is a Watcher at work, and what it hints at.
type watchRig struct {
	*syncer.Watcher
	t      testing.TB
	dialer *backend.Dialer
	log    *lines

	mu     sync.Mutex
	hints  map[string]int
	opened map[string]int
	under  int // logins under way
	most   int
	wrong  map[string]bool // whose password is wrong
	end    func()
}

// lines is a log.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(word string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), word)
}

// newWatchRig starts one over two ports. At the end nothing may be left running.
func newWatchRig(t testing.TB, ports [2]int, change func(*syncer.WatcherOptions)) *watchRig {
	t.Helper()
	var b [2]config.Backend
	for side, port := range ports {
		b[side] = config.Backend{Hosts: []config.Host{{Name: fmt.Sprintf("host%d", side), IMAP: config.Endpoint{Protocol: config.IMAP, Host: "127.0.0.1", Port: port}}},
			ConnectTimeout: 5 * time.Second, LoginTimeout: 5 * time.Second}
	}
	r := &watchRig{t: t, log: &lines{}, hints: map[string]int{}, opened: map[string]int{}, wrong: map[string]bool{}}
	var err error
	if r.dialer, err = backend.NewDialer(b, slog.New(slog.DiscardHandler), nil); err != nil {
		t.Fatal(err)
	}
	o := syncer.WatcherOptions{Open: r.open, Pause: 10 * time.Millisecond, Longest: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(r.log, nil)),
		Hint: func(user string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.hints[user]++
		}}
	if change != nil {
		change(&o)
	}
	r.Watcher = syncer.NewWatcher(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	r.end = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(r.end)
	return r
}

// open logs in; lab users by their own passwords, all others by that of the faulty hosts.
func (r *watchRig) open(ctx context.Context, side config.Side, user string) (*backend.Client, error) {
	r.mu.Lock()
	r.opened[user]++
	r.under++
	r.most = max(r.most, r.under)
	password := faulty.Password
	if r.wrong[user] {
		password = "wrong"
	}
	for n := 1; n <= lab.Users; n++ {
		if lab.User(n) == user {
			password = lab.Password(n)
		}
	}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.under--
	}()
	c, err := auth.Password("PLAIN", user, password)
	if err != nil {
		return nil, err
	}
	return r.dialer.DialClient(ctx, side, "", backend.Account{Credentials: c, LoginName: user})
}

func (r *watchRig) count(of map[string]int, user string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return of[user]
}

// until waits for a condition that gives no event.
func (r *watchRig) until(what string, limit time.Duration, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("not within %v: %s; watched %q, log:\n%s", limit, what, r.Watched(), r.log.b.String())
		}
	}
}

// stands waits until exactly these are watched.
func (r *watchRig) stands(users ...string) {
	r.t.Helper()
	r.until(fmt.Sprintf("watched are %q", users), 10*time.Second, func() bool { return slices.Equal(r.Watched(), users) })
}

// hinted does something that has to lead to a hint, soon.
func (r *watchRig) hinted(user, what string, do func()) {
	r.t.Helper()
	before := r.count(r.hints, user)
	do()
	r.until("a hint of "+what, 2*time.Second, func() bool { return r.count(r.hints, user) > before })
}

// events are all that NOTIFY may be asked for.
const events = "MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange"

func notifying(events string) faulty.Product {
	p := faulty.Dovecot()
	p.Capabilities += " NOTIFY"
	p.Events = events
	return p
}

// TestWatch: what others do is told of, by NOTIFY in all mailboxes, by IDLE in INBOX, and the server is asked in the way it knows.
func TestWatch(t *testing.T) {
	for _, c := range []struct {
		name    string
		product faulty.Product
		asked   string // what the watch stands on
		all     bool   // it hears of all mailboxes
	}{
		{"NOTIFY", notifying(events), "SubscriptionChange", true},
		{"NOTIFY with few events", notifying("MessageNew MessageExpunge FlagChange"), "FlagChange", true},
		{"NOTIFY in name only", notifying(""), "IDLE", false},
		{"IDLE", faulty.Courier(), "IDLE", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			leavesNothing(t)
			h := faulty.Start(t, c.product)
			a := h.Account
			work := a.Name("Work")
			a.Create(work)
			r := newWatchRig(t, [2]int{h.Port(), 1}, nil)
			defer r.end()
			r.Set(map[string]config.Side{"anna": config.Old})
			r.stands("anna")
			r.until("the hint at the beginning", 2*time.Second, func() bool { return r.count(r.hints, "anna") == 1 })
			r.until("it idles, or is told", 2*time.Second, func() bool {
				s := strings.Join(h.Trace(), "\n")
				return c.all && strings.Contains(s, c.asked) || !c.all && strings.Contains(s, "EXAMINE")
			})
			time.Sleep(50 * time.Millisecond)
			if n := r.count(r.hints, "anna"); n != 1 {
				t.Errorf("%d hints, and nothing has changed", n)
			}
			r.hinted("anna", "new mail", func() { a.Append("INBOX", nil, time.Now(), []byte("x")) })
			r.hinted("anna", "flags", func() { a.Flag("INBOX", 0, []string{`\Seen`}, nil) })
			r.hinted("anna", "an expunge", func() { a.Expunge("INBOX", 0) })
			if c.all {
				r.hinted("anna", "mail elsewhere", func() { a.Append(work, nil, time.Now(), []byte("x")) })
				r.hinted("anna", "a new mailbox", func() { a.Create(a.Name("New")) })
				r.hinted("anna", "a rename", func() { a.Rename(work, a.Name("Play")) })
			}
		})
	}
}

// TestWatchReconnects: a connection that is lost comes back, and what happened meanwhile is hinted at.
func TestWatchReconnects(t *testing.T) {
	for _, p := range []faulty.Product{faulty.Dovecot(), notifying(events)} {
		h := faulty.Start(t, p)
		r := newWatchRig(t, [2]int{h.Port(), 1}, nil)
		r.Set(map[string]config.Side{"anna": config.Old})
		r.stands("anna")
		for range 3 {
			r.hinted("anna", "a connection that is back", h.Sound)
			r.stands("anna")
		}
		r.hinted("anna", "new mail", func() { h.Account.Append("INBOX", nil, time.Now(), []byte("x")) })
		h.Fail(&faulty.Faults{Seed: 1, Rate: 1, Kinds: []faulty.Kind{faulty.Cut, faulty.Bye, faulty.Refuse, faulty.Bad, faulty.Inside, faulty.Lost}})
		h.Account.Append("INBOX", nil, time.Now(), []byte("x"))
		time.Sleep(200 * time.Millisecond)
		h.Sound()
		r.stands("anna")
		r.hinted("anna", "new mail", func() { h.Account.Append("INBOX", nil, time.Now(), []byte("x")) })
		r.end()
	}
}

// leavesNothing sees to it that no goroutine is left that is not there now. It is called first: cleanups run backwards.
func leavesNothing(t testing.TB) {
	was := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, was) })
}
