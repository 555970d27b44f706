package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/router"
	"mailgate/tlsconf"
)

// smtpRig is a gateway in this process with two scripted backends.
type smtpRig struct {
	t      *testing.T
	srv    *Server
	router *router.Router
	dialer *backend.Dialer
	conf   *config.Config
	log    *smtpLog
	addr   string
	client *tls.Config // for clients that begin with TLS; nil means in clear
	trust  *tls.Config
	server *tls.Config // for backends that begin TLS by themselves
	old    *mailtest.Script
	new    *mailtest.Script
	end    func()
}

// smtpRigOptions vary a rig. The zero value is in clear on all sides.
type smtpRigOptions struct {
	frontTLS  config.TLSMode
	backTLS   config.TLSMode
	idleGrace time.Duration
	mostWait  time.Duration
	configure func(*config.Config)
	noProbe   bool // backends are not looked at, so nothing of them is known
	changed   func(user string)
	strict    bool // it is an error when the gateway leaves where a backend expects a line
}

type smtpLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *smtpLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *smtpLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newSMTPRig starts a gateway before the two servers. Users are on OLD unless the router says otherwise. When the
// test ends nothing may be left running.
func newSMTPRig(t *testing.T, o smtpRigOptions, old, new func(*mailtest.Talk)) *smtpRig {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	cert, key, server, trust := mailtest.Certificate(t, t.TempDir())
	r := &smtpRig{t: t, log: &smtpLog{}, trust: trust, server: server}
	conf := config.Default()
	conf.Hostname = "mail.example.com"
	conf.Login.FailDelay = time.Millisecond
	conf.TLS.Certificates = []config.Certificate{{Cert: cert, Key: key}}
	conf.Listen = []config.Endpoint{{URL: "submission", Protocol: config.Submission, Mode: o.frontTLS, Host: "127.0.0.1"}}
	var script *tls.Config
	if o.backTLS == config.Implicit {
		script = server
	}
	for i, serve := range []func(*mailtest.Talk){old, new} {
		s := mailtest.StartScript(t, script, serve)
		if !o.strict {
			s.AllowGone()
		}
		*[]**mailtest.Script{&r.old, &r.new}[i] = s
		conf.Backends[i].CA = cert
		conf.Backends[i].Hosts = []config.Host{{Name: "host", Submission: config.Endpoint{URL: "submission",
			Protocol: config.Submission, Mode: o.backTLS, Host: "127.0.0.1", Port: s.Port()}}}
	}
	if o.configure != nil {
		o.configure(&conf)
	}
	r.conf = &conf
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.router = router.New(router.Options{Hold: conf.Flip.Hold}, func(string) config.Side { return config.Old }, nil)
	certs, err := tlsconf.NewCertificates(conf.TLS, log)
	if err != nil {
		t.Fatal(err)
	}
	if r.dialer, err = backend.NewDialer(conf.Backends, log, nil); err != nil {
		t.Fatal(err)
	}
	r.srv = NewServer(Options{Config: &conf, Routes: &config.RouteFile{}, Router: r.router, Dialer: r.dialer,
		Limiter: auth.NewLimiter(conf.Login.FailDelay, nil), Certificates: certs, Log: log, Changed: changedOf(o.changed)})
	if err := r.srv.Listen(); err != nil {
		t.Fatal(err)
	}
	r.srv.listeners[0].protocol = &submissionFront{idleGrace: o.idleGrace, mostWait: o.mostWait}
	r.addr = r.srv.Addrs()[0].String()
	if o.frontTLS == config.Implicit {
		r.client = trust
	}
	if !o.noProbe {
		r.dialer.Refresh(t.Context(), conf.Hostname)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.srv.Serve(ctx) })
	r.end = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		last, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		r.srv.Shutdown(last)
	})
	t.Cleanup(func() {
		r.end()
		if s := r.log.String(); strings.Contains(s, "panic") {
			t.Error("panic: " + s)
		} else if t.Failed() {
			t.Log(s)
		}
	})
	return r
}

const (
	smtpUser     = "user@example.com"
	smtpPassword = "open sesame"
	smtpGreeting = "220 mail.example.com ESMTP ready (mailgate/..."
	smtpAuthOK   = "235 2.7.0 Authentication successful"
)

var smtpPlain = base64.StdEncoding.EncodeToString([]byte("\x00" + smtpUser + "\x00" + smtpPassword))

// dial connects a client.
func (r *smtpRig) dial() *mailtest.Talk {
	r.t.Helper()
	k := mailtest.Dial(r.t, r.addr, r.client)
	k.Expect(smtpGreeting)
	return k
}

// login connects a client and logs in.
func (r *smtpRig) login() *mailtest.Talk {
	r.t.Helper()
	k := r.dial()
	clientLogin(k)
	return k
}

func clientLogin(k *mailtest.Talk) {
	k.Send("EHLO client.example.org\r\n")
	k.Until("250 ...")
	k.Send("AUTH PLAIN " + smtpPlain + "\r\n")
	k.Expect(smtpAuthOK)
}

// smtpBackend is a backend that greets, offers extensions, takes any password, and goes on as then says. A look from
// the gateway's probe is answered and is no session.
func smtpBackend(extensions []string, then func(k *mailtest.Talk)) func(*mailtest.Talk) {
	return func(k *mailtest.Talk) {
		if smtpLogin(k, extensions) {
			then(k)
		}
	}
}

func smtpLogin(k *mailtest.Talk, extensions []string) bool {
	k.Send("220 backend.example.com ESMTP\r\n")
	k.Expect("EHLO ...")
	k.Send("250-backend.example.com\r\n250-" + strings.Join(append(extensions, "AUTH PLAIN LOGIN"), "\r\n250-") +
		"\r\n250 ENHANCEDSTATUSCODES\r\n")
	if line := k.Line(); line == "QUIT" {
		k.Send("221 2.0.0 Bye\r\n")
		return false
	} else if !strings.HasPrefix(line, "AUTH ") {
		k.Send("503 5.5.1 What?\r\n")
		return false
	}
	k.Send(smtpAuthOK + "\r\n")
	return true
}

// idleBackend is one that nobody should log in to.
func idleBackend(extensions ...string) func(*mailtest.Talk) {
	return smtpBackend(extensions, func(k *mailtest.Talk) { k.Silent() })
}

// obliging answers every command as a server does that takes everything, and each message by the outcome that done
// gives (nil means 250). It is lax where laxLines is set: LF ends a line for it, with or without CR.
func obliging(k *mailtest.Talk, done func(message string) string) {
	for {
		line := k.Line()
		switch name, _ := verb(line); name {
		case "DATA":
			k.Send("354 Go ahead\r\n")
			var m strings.Builder
			for {
				l := k.Line()
				if l == "." {
					break
				}
				m.WriteString(strings.TrimPrefix(l, ".") + "\r\n")
			}
			reply := "250 2.0.0 Queued"
			if done != nil {
				reply = done(m.String())
			}
			k.Send(reply + "\r\n")
		case "QUIT":
			k.Send("221 2.0.0 Bye\r\n")
			return
		case "MAIL", "RCPT", "RSET", "NOOP":
			k.Send("250 2.1.0 Ok\r\n")
		default:
			k.Send("502 5.5.2 Not here\r\n")
		}
	}
}

// plainClient is a client without a test to fail: for loads.
func plainClient(addr string) (net.Conn, *bufio.Reader, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, nil, err
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c, bufio.NewReader(c), nil
}

func shortContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}
