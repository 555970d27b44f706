package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/mailtest"
	"mailgate/router"
	"mailgate/tlsconf"
)

// rig is a Server in this process between clients and two backends whose conversations are given.
type rig struct {
	*Server
	t      testing.TB
	old    *mailtest.Script
	new    *mailtest.Script
	cfg    *config.Config
	log    *logBuffer
	rec    *countingRecorder
	client *tls.Config
	addr   map[config.TLSMode]string // of the IMAP listeners
}

// rigOptions are what differs between rigs; zero values will do.
type rigOptions struct {
	old, new func(*mailtest.Talk) // nil: a backend that must not be asked
	routes   string
	tune     func(c *config.Config)
	router   func(o *router.Options)
	server   func(s *Server)
	changed  func(user string)
	deleted  func(user string, side config.Side, session uint64, d imapwire.Deletes)
	gone     bool // backends do not mind when the gateway goes away
	panics   bool // the test injects one
}

const user = "u@example.com"

func newRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	r := &rig{t: t, log: &logBuffer{}, rec: &countingRecorder{}, addr: map[config.TLSMode]string{}}
	cert, key, _, client := mailtest.Certificate(t, t.TempDir())
	r.client = client
	never := func(k *mailtest.Talk) { t.Errorf("backend was asked, and should not"); k.Silent() }
	for _, s := range []struct {
		at   **mailtest.Script
		talk func(*mailtest.Talk)
	}{{&r.old, o.old}, {&r.new, o.new}} {
		if s.talk == nil {
			s.talk = never
		}
		*s.at = mailtest.StartScript(t, nil, s.talk)
		if o.gone {
			(*s.at).AllowGone()
		}
	}
	cfg := config.Default()
	cfg.Hostname = "mail.example.com"
	cfg.TLS.Certificates = []config.Certificate{{Cert: cert, Key: key}}
	cfg.Login.FailDelay = 0
	for _, u := range []string{"imap://127.0.0.1:0", "imap+starttls://127.0.0.1:0", "imaps://127.0.0.1:0"} {
		cfg.Listen = append(cfg.Listen, endpoint(t, u, true))
	}
	for s, script := range []*mailtest.Script{r.old, r.new} {
		b := &cfg.Backends[s]
		b.Hosts = []config.Host{{Name: config.Side(s).String(), IMAP: endpoint(t, "imap://"+script.Addr, false)}}
		b.ConnectTimeout, b.LoginTimeout = 5*time.Second, 5*time.Second
	}
	if o.tune != nil {
		o.tune(&cfg)
	}
	r.cfg = &cfg
	routes, err := config.ParseRoutes("routes", []byte(o.routes), &cfg)
	if err != nil {
		t.Fatal(err)
	}
	ro := router.Options{Hold: 10 * time.Second, SessionsPerUser: cfg.Limits.SessionsPerUser, SessionsPerIP: cfg.Limits.SessionsPerIP}
	if o.router != nil {
		o.router(&ro)
	}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	certs, err := tlsconf.NewCertificates(cfg.TLS, log)
	if err != nil {
		t.Fatal(err)
	}
	dialer, err := backend.NewDialer(cfg.Backends, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Server = NewServer(Options{Config: &cfg, Routes: routes, Dialer: dialer, Certificates: certs, Log: log, Recorder: r.rec,
		Router:  router.New(ro, func(u string) config.Side { return routes.For(u).Side }, nil),
		Limiter: auth.NewLimiter(cfg.Login.FailDelay, nil), Changed: changedOf(o.changed), Deleted: o.deleted})
	if o.server != nil {
		o.server(r.Server)
	}
	if err := r.Listen(); err != nil {
		t.Fatal(err)
	}
	for i, a := range r.Addrs() {
		r.addr[cfg.Listen[i].Mode] = a.String()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Serve(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		limit, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		r.Shutdown(limit)
		if s := r.log.String(); strings.Contains(s, "panic") && !o.panics {
			t.Errorf("log: %s", s)
		}
		if t.Failed() {
			s := r.log.String()
			t.Logf("log:\n%s", s[max(0, len(s)-4000):])
		}
	})
	return r
}

func endpoint(t testing.TB, u string, listener bool) config.Endpoint {
	t.Helper()
	e, err := config.ParseEndpoint(u, listener)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// plain, secure and starttls connect a client.
func (r *rig) plain() *mailtest.Talk    { return mailtest.Dial(r.t, r.addr[config.Plain], nil) }
func (r *rig) secure() *mailtest.Talk   { return mailtest.Dial(r.t, r.addr[config.Implicit], r.client) }
func (r *rig) starttls() *mailtest.Talk { return mailtest.Dial(r.t, r.addr[config.StartTLS], nil) }

// in logs a client in, in clear.
func (r *rig) in() *mailtest.Talk {
	r.t.Helper()
	k := r.plain()
	k.Dialogue("S: * OK ...\nC: in LOGIN " + user + " pw\nS: in OK ...")
	return k
}

// logged waits for a line in the log that holds all words.
func (r *rig) logged(words ...string) string {
	r.t.Helper()
	return r.log.wait(r.t, words...)
}

// fence begins a flip of the user: what the manager of cutover does.
func (r *rig) fence(generation int64) <-chan struct{} {
	r.t.Helper()
	done, err := r.router.Fence(user, generation, "Your mailbox is being moved, please reconnect")
	if err != nil {
		r.t.Fatal(err)
	}
	return done
}

// release ends the flip with the user on a side.
func (r *rig) release(at config.Side, epoch, generation int64) {
	r.t.Helper()
	if err := r.router.Release(user, router.Place{Side: at, Epoch: epoch, Generation: generation}); err != nil {
		r.t.Fatal(err)
	}
}

// until waits for a condition that gives no event.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("it does not come to this: %s", what)
		}
	}
}

func drained(t testing.TB, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		t.Fatal("not drained")
	}
}

// logBuffer keeps the log and tells of news.
type logBuffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	news chan struct{}
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.news != nil {
		close(l.news)
		l.news = nil
	}
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) wait(t testing.TB, words ...string) string {
	t.Helper()
	limit := time.After(15 * time.Second)
	for {
		l.mu.Lock()
		text := l.b.String()
		if l.news == nil {
			l.news = make(chan struct{})
		}
		news := l.news
		l.mu.Unlock()
		for _, line := range strings.Split(text, "\n") {
			all := true
			for _, w := range words {
				all = all && strings.Contains(line, w)
			}
			if all {
				return line
			}
		}
		select {
		case <-news:
		case <-limit:
			t.Fatalf("no line with %q in the log:\n%s", words, text)
		}
	}
}

// countingRecorder counts.
type countingRecorder struct {
	noRecorder
	mu       sync.Mutex
	auth     map[string]int
	violated []string
}

func (c *countingRecorder) Auth(_ config.Protocol, _ config.Side, _, _, result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.auth == nil {
		c.auth = map[string]int{}
	}
	c.auth[result]++
}

func (c *countingRecorder) Violation(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.violated = append(c.violated, what)
}

func (c *countingRecorder) results() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.auth)
}

// backendIn is the usual conversation of a backend up to the login; name is in the text of its OK.
func backendIn(k *mailtest.Talk, name string) {
	k.Dialogue(`
		S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready
		C: $l AUTHENTICATE PLAIN ...
		S: $l OK [CAPABILITY IMAP4rev1 IDLE LITERAL+ UIDPLUS COMPRESS=DEFLATE] in on ` + name)
}

// ends is a backend that follows a dialogue behind the login.
func ends(name, text string) func(*mailtest.Talk) {
	return func(k *mailtest.Talk) {
		backendIn(k, name)
		k.Dialogue(text)
	}
}
