package learned

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// memory is a Store in memory that can be made to fail, or to hang.
type memory struct {
	mu     sync.Mutex
	rows   []Row
	events []op.Event
	fails  error
	writes int
	scrubs int
	left   error         // of a scrub
	hold   chan struct{} // a PutSecret waits for it; nil does not
	inside chan struct{} // told when it does
}

func (m *memory) find(user string, side config.Side) *Row {
	for i := range m.rows {
		if m.rows[i].User == user && m.rows[i].Side == side {
			return &m.rows[i]
		}
	}
	return nil
}

func (m *memory) Secrets(_ context.Context, user string) (out []Row, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.rows {
		if user == "" || r.User == user {
			out = append(out, r)
		}
	}
	return out, m.fails
}

func (m *memory) PutSecret(_ context.Context, r Row) error {
	if m.hold != nil {
		m.inside <- struct{}{}
		<-m.hold
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails != nil {
		return m.fails
	}
	m.writes++
	if old := m.find(r.User, r.Side); old != nil {
		*old = r
		return nil
	}
	m.rows = append(m.rows, r)
	slices.SortFunc(m.rows, func(a, b Row) int { return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Side, b.Side)) })
	return nil
}

func (m *memory) RenewSecret(_ context.Context, r Row) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.find(r.User, r.Side)
	if m.fails != nil || old == nil || !old.Learned.Equal(r.Learned) {
		return false, m.fails
	}
	m.writes++
	old.Seen, old.Expires = r.Seen, r.Expires
	return true, nil
}

func (m *memory) RefuseSecret(_ context.Context, r Row, by config.Side, at time.Time, e op.Event) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.find(r.User, r.Side)
	if m.fails != nil || old == nil || !old.Learned.Equal(r.Learned) || !old.Refused[by].IsZero() {
		return false, m.fails
	}
	old.Refused[by] = at
	m.events = append(m.events, e)
	return true, nil
}

func (m *memory) AllowSecrets(_ context.Context, user string, e op.Event) (n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.rows {
		r := &m.rows[i]
		if m.fails == nil && r.Refused != [2]time.Time{} && (user == "" || r.User == user) {
			r.Refused = [2]time.Time{}
			n++
		}
	}
	if n > 0 {
		m.events = append(m.events, e)
	}
	return n, m.fails
}

func (m *memory) DropSecrets(_ context.Context, user string, e op.Event) (int, error) {
	return m.drop(func(r Row) bool { return user == "" || r.User == user }, e)
}

func (m *memory) ExpireSecrets(_ context.Context, now, unseen time.Time) (int, error) {
	return m.drop(func(r Row) bool { return !r.Expires.After(now) || !r.Seen.After(unseen) }, op.Event{})
}

func (m *memory) drop(f func(Row) bool, e op.Event) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails != nil {
		return 0, m.fails
	}
	before := len(m.rows)
	m.rows = slices.DeleteFunc(m.rows, f)
	if e.What != "" && len(m.rows) < before {
		m.events = append(m.events, e)
	}
	return before - len(m.rows), nil
}

func (m *memory) ScrubSecrets(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scrubs++
	return cmp.Or(m.fails, m.left)
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fails = err
}

// counts is a Recorder, and who is told of changes.
type counts struct {
	mu      sync.Mutex
	results map[string]int
	changed []string
}

func (c *counts) LearnedPassword(result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.results[result]++
}

func (c *counts) note(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = append(c.changed, user)
}

// rig is a Book with a key, over a memory.
type rig struct {
	*Book
	t     *testing.T
	store *memory
	n     *counts
	log   *logged
	key   *Key
}

// logged is a log that may be read while it is written.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// counted are the rows, and how often was scrubbed.
func (m *memory) counted() (rows, scrubs int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.rows), m.scrubs
}

const (
	anna = "anna@example.com"
	bert = "bert@example.com"
)

func newKey(t *testing.T) *Key {
	t.Helper()
	file := t.TempDir() + "/key"
	if _, err := WriteKey(file, time.Now()); err != nil {
		t.Fatal(err)
	}
	k, err := ReadKey(file)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const life = 30 * 24 * time.Hour

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, store: &memory{}, n: &counts{results: map[string]int{}}, log: &logged{}, key: newKey(t)}
	r.again()
	return r
}

// again is the Book of another process.
func (r *rig) again() {
	log := slog.New(slog.NewTextHandler(io.MultiWriter(r.log, r.t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.Book = New(Options{Store: r.store, Log: log, Recorder: r.n, Changed: r.n.note})
	r.Configure(r.key, life)
}

// login is one, written down.
func (r *rig) login(user string, side config.Side, p config.Protocol, password string) {
	r.t.Helper()
	r.Note(user, side, p, config.Secret(password))
	for r.writeNext(r.t.Context()) {
	}
}

// uses tells which passwords are tried at a side; the server takes what it is told to.
func (r *rig) uses(user string, side config.Side, good string) (tried []string, err error) {
	err = r.Use(r.t.Context(), user, side, func(s config.Secret) error {
		tried = append(tried, s.Reveal())
		if s.Reveal() == good {
			return nil
		}
		return errWrong
	}, func(err error) bool { return err == errWrong })
	return tried, err
}

var errWrong = fmt.Errorf("a server says no") //nolint:gochecknoglobals // of tests

// want compares what was tried.
func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("tried %q, want %q", got, want)
	}
}
