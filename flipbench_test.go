package mailgate

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
	"mailgate/proxy"
	"mailgate/router"
	"mailgate/store"
	"mailgate/tlsconf"
)

// patience is how long a test waits for what must happen. Nothing in a test that passes waits for it.
const patience = 10 * time.Second

// bench is the gateway without its command line, between two scripted hosts.
type bench struct {
	t        *testing.T
	old, new *host
	log      *journal
	conf     *config.Config
	router   *router.Router
	manager  *cutover.Manager
	server   *proxy.Server
	addr     string
	states   *watchedStore

	// loggedIn (may be nil) is called when a backend has accepted a login, before it is admitted.
	loggedIn func(side config.Side)
}

// Connected, LoggedIn and Up implement backend.Recorder.
func (b *bench) Connected(config.Side, config.Protocol, time.Duration) {}
func (b *bench) Up(config.Side, config.Protocol, string, bool)         {}
func (b *bench) LoggedIn(s config.Side, _ config.Protocol, _ time.Duration) {
	if b.loggedIn != nil {
		b.loggedIn(s)
	}
}

// watchedStore writes commits into the journal and tells of each state of a row.
type watchedStore struct {
	op.Store
	log *journal

	onAddRows func() // may be nil

	mu   sync.Mutex
	seen map[string]int // "user STATE", how often it was written
	wake chan struct{}  // closed and made anew at each write
}

func (s *watchedStore) AddRows(ctx context.Context, rows []op.Row) error {
	if s.onAddRows != nil {
		s.onAddRows()
	}
	return s.Store.AddRows(ctx, rows)
}

func (s *watchedStore) Swap(ctx context.Context, from int64, next op.Row, o op.Operation, pin *op.Pin, e ...op.Event) error {
	return s.written(next, s.Store.Swap(ctx, from, next, o, pin, e...))
}

func (s *watchedStore) Commit(ctx context.Context, from int64, next op.Row, o op.Operation, pin *op.Pin, c op.Condition, e ...op.Event) error {
	return s.written(next, s.Store.Commit(ctx, from, next, o, pin, c, e...))
}

func (s *watchedStore) written(next op.Row, err error) error {
	if err != nil {
		return err
	}
	if next.State == op.Release {
		s.log.add("", next.User, "commit "+next.Side.String())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[next.User+" "+string(next.State)]++
	close(s.wake)
	s.wake = make(chan struct{})
	return nil
}

// writes is how often a state was written, and a channel that is closed at the next write.
func (s *watchedStore) writes(user string, state op.State) (int, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[user+" "+string(state)], s.wake
}

// moved waits until n rows more are written with a state, at most for d. It widens windows, it orders nothing.
func (s *watchedStore) moved(state op.State, n int, d time.Duration) {
	limit := time.After(d)
	count := func() (all int, next <-chan struct{}) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for k, v := range s.seen {
			if strings.HasSuffix(k, " "+string(state)) {
				all += v
			}
		}
		return all, s.wake
	}
	start, next := count()
	for now := start; now < start+n; now, next = count() {
		select {
		case <-next:
		case <-limit:
			return
		}
	}
}

// newBench starts it. configure (may be nil) changes the settings before.
func newBench(t *testing.T, configure func(*config.Config)) *bench {
	t.Helper()
	j := &journal{}
	b := &bench{t: t, log: j, old: newHost(t, "old", j), new: newHost(t, "new", j)}
	dir := t.TempDir()
	file := filepath.Join(dir, "mailgate.yaml")
	text := fmt.Sprintf("hostname: mail.example.com\nlisten: ['imap://127.0.0.1:1143']\nbackends:\n  old: {imap: 'imap://%s'}\n  new: {imap: 'imap://%s'}\n",
		b.old.addr, b.new.addr)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "routes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	conf, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	conf.Listen[0].Port = 0 // any
	conf.Login.FailDelay = time.Millisecond
	if configure != nil {
		configure(conf)
	}
	b.conf = conf
	logs := slog.New(slog.NewTextHandler(io.Discard, nil))
	if testing.Verbose() {
		logs = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ctx := context.Background()
	st, err := store.Open(ctx, conf.Store.Path)
	if err != nil {
		t.Fatal(err)
	}
	b.states = &watchedStore{Store: st, log: j, seen: map[string]int{}, wake: make(chan struct{})}
	b.router = router.New(router.Options{Hold: conf.Flip.Hold}, func(u string) config.Side { return b.manager.Side(u) },
		func(u string, p router.Place) { b.manager.Seen(u, p) })
	dialer, err := backend.NewDialer(conf.Backends, logs, b)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := tlsconf.NewCertificates(conf.TLS, logs)
	if err != nil {
		t.Fatal(err)
	}
	b.manager = cutover.New(cutover.Options{Store: b.states, Router: b.router, Flip: conf.Flip, Routes: conf.Routes, Log: logs,
		Nodes: []cutover.Node{&cutover.LocalNode{ID: "bench", Router: b.router}}})
	if err := b.manager.Start(ctx); err != nil {
		t.Fatal(err)
	}
	rf := b.routes("default old\n")
	if _, err := b.manager.Import(ctx, rf, "start", ""); err != nil { // the very first import moves nobody
		t.Fatal(err)
	}
	b.server = proxy.NewServer(proxy.Options{Config: conf, Routes: rf, Router: b.router, Dialer: dialer,
		Limiter: auth.NewLimiter(conf.Login.FailDelay, nil), Certificates: certs, Log: logs})
	if err := b.server.Listen(); err != nil {
		t.Fatal(err)
	}
	b.addr = b.server.Addrs()[0].String()
	serve, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { b.server.Serve(serve) })
	t.Cleanup(func() {
		stop()
		wg.Wait()
		now, cancel := context.WithCancel(ctx)
		cancel() // sessions are cut
		b.old.close()
		b.new.close()
		b.server.Shutdown(now)
		b.manager.Stop()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) routes(text string) *config.RouteFile {
	b.t.Helper()
	rf, err := config.ParseRoutes("routes", []byte(text), b.conf)
	if err != nil {
		b.t.Fatal(err)
	}
	return rf
}

// reload takes over a routes file, as the program does, and returns the flips that it asked for.
func (b *bench) reload(text string) []op.Operation {
	b.t.Helper()
	rf := b.routes(text)
	im, err := b.manager.Import(context.Background(), rf, "test", "")
	if err != nil {
		b.t.Fatal(err)
	}
	b.server.Configure(b.conf, rf)
	return im.Operations
}

// flip reloads with one user on a side, and waits for the end of the flip.
func (b *bench) flip(user, side string) op.Operation {
	b.t.Helper()
	return b.wait(b.reload(user + " " + side + "\n"))
}

// wait waits for a flip.
func (b *bench) wait(ops []op.Operation) op.Operation {
	b.t.Helper()
	if len(ops) != 1 {
		b.t.Fatalf("%d flips were asked for, want 1", len(ops))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	o, err := b.manager.Wait(ctx, ops[0].ID)
	if err != nil {
		b.t.Fatal(err)
	}
	return o
}

// reached waits until a user's row was written with a state for the nth time.
func (b *bench) reached(user string, state op.State, n int) {
	b.t.Helper()
	limit := time.After(patience)
	for {
		have, next := b.states.writes(user, state)
		if have >= n {
			return
		}
		select {
		case <-next:
		case <-limit:
			b.t.Fatalf("%s did not reach %s; the journal: %v", user, state, b.log.list())
		}
	}
}

// eventually waits for something that gives no sign of its own.
func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) { // a look, not an order of events
		if time.Now().After(end) {
			b.t.Fatalf("%s did not happen; the journal: %v", what, b.log.list())
		}
	}
}

// imapLines is a client that speaks lines.
type imapLines struct {
	net.Conn
	r *bufio.Reader
}

func (b *bench) connect() *imapLines {
	b.t.Helper()
	c, err := dialLines(b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

func dialLines(addr string) (*imapLines, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	l := &imapLines{c, bufio.NewReader(c)}
	if _, err := l.line(); err != nil {
		c.Close()
		return nil, err
	}
	return l, nil
}

func (c *imapLines) line() (string, error) {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	s, err := c.r.ReadString('\n')
	return strings.TrimRight(s, "\r\n"), err
}

// login logs in and returns the session when it runs.
func (b *bench) login(user string) *imapLines {
	b.t.Helper()
	c := b.connect()
	c.send(b.t, "a LOGIN "+user+" secret\r\n")
	if s := c.until(b.t, "a "); !strings.HasPrefix(s, "a OK") {
		b.t.Fatalf("login: %s", s)
	}
	return c
}

func (c *imapLines) send(t *testing.T, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

// until reads up to the line with a prefix and returns it.
func (c *imapLines) until(t *testing.T, prefix string) string {
	t.Helper()
	seen := ""
	for {
		s, err := c.line()
		if err != nil {
			t.Fatalf("waiting for %q: %v; seen:\n%s", prefix, err, seen)
		}
		if strings.HasPrefix(s, prefix) {
			return s
		}
		seen += s + "\n"
	}
}

// rest reads to the end of the connection.
func (c *imapLines) rest(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(&b, c.r); err != nil {
		t.Fatalf("reading to the end: %v after %q", err, b.String())
	}
	return b.String()
}

// onTheRightSide checks the journal: no command of a user is carried out on the side that he has left (I1, I2).
func (b *bench) onTheRightSide() {
	b.t.Helper()
	at := map[string]string{}
	for i, e := range b.log.list() {
		switch {
		case e.side == "":
			at[e.user] = strings.TrimPrefix(e.what, "commit ")
		case e.what != "login" && at[e.user] != "" && e.side != at[e.user]:
			b.t.Errorf("event %d: %.40q of %s was carried out on %s after the commit to %s", i, e.what, e.user, e.side, at[e.user])
		}
	}
}
