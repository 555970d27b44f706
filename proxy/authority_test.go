package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/router"
)

// mastered is a backend that knows passwords by name, and "boss", whose password is "bpw", as everybody's master. Each command is answered
// with whose mailbox it is, and by whom it was opened.
func mastered(passwords map[string]string) func(*mailtest.Talk) {
	return func(k *mailtest.Talk) {
		k.Send("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=XOAUTH2 AUTH=OAUTHBEARER] ready\r\n")
		who := ""
		for {
			f := strings.Fields(k.Line())
			switch {
			case len(f) == 4 && f[1] == "AUTHENTICATE":
				b, _ := base64.StdEncoding.DecodeString(f[3])
				p := strings.Split(string(b), "\x00")
				switch {
				case len(p) == 3 && p[0] == "" && p[2] != "" && passwords[p[1]] == p[2]:
					who = p[1] + " himself"
				case len(p) == 3 && p[0] != "" && p[1] == "boss" && p[2] == "bpw":
					who = p[0] + " by boss"
				default:
					k.Send(f[0] + " NO [AUTHENTICATIONFAILED] no\r\n")
					continue
				}
				k.Send(f[0] + " OK [CAPABILITY IMAP4rev1] in\r\n")
			case len(f) > 1 && f[1] == "LOGOUT":
				k.Send("* BYE bye\r\n" + f[0] + " OK out\r\n")
				return
			case len(f) > 1:
				k.Send(f[0] + " OK " + who + "\r\n")
			}
		}
	}
}

// bosses is Options.Master: both sides have the same master, proven at hosts as only says.
func bosses(password string, only func(host string) bool) func(config.Side, config.Protocol, string) (backend.Account, error) {
	return func(_ config.Side, _ config.Protocol, login string) (backend.Account, error) {
		return backend.Account{LoginName: "boss", Authzid: login, Only: only,
			Credentials: &auth.Credentials{Mechanism: "PLAIN", Username: "boss", Password: config.Secret(password)}}, nil
	}
}

func anyHost(string) bool { return true }

// withMasters lets routes name authorities.
func withMasters(c *config.Config) {
	c.Authority.File, c.Authority.LDAP.URL, c.Authority.OAuth.URL = "file", "ldaps://x", "https://x"
	for _, side := range config.Sides {
		c.Backends[side].Sync.MasterUser = "boss"
	}
}

const (
	refusedAnswer = "S: a NO [AUTHENTICATIONFAILED] Authentication failed."
	laterAnswer   = "S: a NO [UNAVAILABLE] The mail server cannot be reached now, try again later"
)

// TestAuthorities: who verifies, who is asked, as whom the session runs, what the client hears, and whose password is learned.
func TestAuthorities(t *testing.T) {
	t.Parallel()
	down := func(k *mailtest.Talk) { k.Send("* BYE not now\r\n") }
	refused := &auth.RefusedError{By: config.ByFile, Why: "the password is another one"}
	for _, x := range []struct {
		name, route    string
		old, new       func(*mailtest.Talk) // nil: must not be asked
		verify         error
		login          string // LOGIN's arguments
		bossPassword   string
		only           func(string) bool
		want           string // the session, or the answer to the login
		learned        string
		asksVerifier   bool
		result         string
		connectionsOld int32
	}{
		{name: "route", route: "old", old: mastered(map[string]string{user: "pw"}), want: user + " himself", learned: user + " old imap pw"},
		{name: "old on old: one login", route: "old authority=old", old: mastered(map[string]string{user: "pw"}), want: user + " himself",
			learned: user + " old imap pw", connectionsOld: 1},
		{name: "old on new", route: "new authority=old", old: mastered(map[string]string{user: "pw"}), new: mastered(nil), want: user + " by boss",
			learned: user + " old imap pw\x00" + user + " new imap ", connectionsOld: 1},
		{name: "new on old", route: "old authority=new", old: mastered(nil), new: mastered(map[string]string{user: "pw"}), want: user + " by boss",
			learned: user + " new imap pw\x00" + user + " old imap "},
		{name: "old on new, other login names", route: "new authority=old old=o new=n@x", old: mastered(map[string]string{"o": "pw"}), new: mastered(nil),
			want: "n@x by boss", learned: user + " old imap pw\x00" + user + " new imap "},
		{name: "wrong at old", route: "new authority=old", old: mastered(map[string]string{user: "other"}), want: refusedAnswer, result: "backend_rejected",
			learned: user + " old imap pw refused"},
		{name: "NEW's password where old verifies", route: "new authority=old", old: mastered(map[string]string{user: "other"}), want: refusedAnswer, result: "backend_rejected",
			learned: user + " old imap pw refused"},
		{name: "old is down", route: "new authority=old", old: down, want: laterAnswer, result: "backend_error"},
		{name: "the master is refused", route: "new authority=old", old: mastered(map[string]string{user: "pw"}), new: mastered(nil), bossPassword: "wrong",
			want: laterAnswer, result: "backend_error"},
		{name: "the master is not proven", route: "new authority=old", old: mastered(map[string]string{user: "pw"}), only: func(string) bool { return false },
			want: laterAnswer, result: "backend_error"},
		{name: "file", route: "old authority=file", old: mastered(nil), want: user + " by boss", asksVerifier: true, learned: user + " old imap "},
		{name: "file on new", route: "new authority=file", new: mastered(nil), want: user + " by boss", asksVerifier: true, learned: user + " new imap "},
		{name: "wrong in the file", route: "old authority=file", verify: refused, want: refusedAnswer, asksVerifier: true, result: "backend_rejected"},
		{name: "a line of the file is broken", route: "old authority=file", verify: fmt.Errorf("authority.file: x:3: %w", auth.ErrMalformed), want: laterAnswer,
			asksVerifier: true, result: "backend_error"},
		{name: "the file cannot be read", route: "old authority=file", verify: errors.New("no such file"), want: laterAnswer, asksVerifier: true, result: "backend_error"},
		{name: "one name in two domains", route: "old authority=file old_host=old", old: mastered(nil), want: "u by boss", asksVerifier: true, learned: user + " old imap "},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			var h heard
			var asked atomic.Int32
			if x.only == nil {
				x.only = anyHost
			}
			if x.bossPassword == "" {
				x.bossPassword = "bpw"
			}
			tune := withMasters
			if strings.Contains(x.name, "two domains") {
				tune = func(c *config.Config) { withMasters(c); c.Backends[config.Old].Login = "{local}" }
			}
			r := newRig(t, rigOptions{old: x.old, new: x.new, routes: user + " " + x.route + "\n", gone: true, tune: tune, server: func(s *Server) {
				s.judged = h.judged
				s.master = bosses(x.bossPassword, x.only)
				s.verifier = func(_ context.Context, by config.Authority, who string, c *auth.Credentials) error {
					if asked.Add(1); by != config.ByFile || who != user || c.Password.Reveal() != "pw" {
						t.Errorf("%s is asked about %s with %v", by, who, c)
					}
					return x.verify
				}
			}})
			k := r.plain()
			if strings.HasPrefix(x.want, "S: ") {
				k.Dialogue("S: * OK ...\nC: a LOGIN " + user + " pw\n" + x.want)
				h.want(t, strings.FieldsFunc(x.learned, func(r rune) bool { return r == 0 })...)
				if got := r.rec.results(); got != "map["+x.result+":1]" {
					t.Errorf("results %s, want %s", got, x.result)
				}
			} else {
				k.Dialogue("S: * OK ...\nC: a LOGIN " + user + " pw\nS: a OK ...\nC: b NOOP\nS: b OK " + x.want)
				h.want(t, strings.FieldsFunc(x.learned, func(r rune) bool { return r == 0 })...)
			}
			if got := asked.Load() > 0; got != x.asksVerifier {
				t.Errorf("the verifier was asked %d times", asked.Load())
			}
			if n := r.old.Count(); x.connectionsOld > 0 && int32(n) != x.connectionsOld {
				t.Errorf("%d connections to OLD", n)
			}
		})
	}
}

// TestIndistinct: where users of one name in two domains have one login name, none is logged in by a master.
func TestIndistinct(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{old: nil, routes: "* old authority=file\n", gone: true, tune: func(c *config.Config) {
		withMasters(c)
		c.Backends[config.Old].Login, c.Routes.DefaultDomain = "{local}", "example.com"
	}, server: func(s *Server) {
		s.master = bosses("bpw", anyHost)
		s.verifier = func(context.Context, config.Authority, string, *auth.Credentials) error { return nil }
	}})
	k := r.plain()
	k.Dialogue("S: * OK ...\nC: a LOGIN u@example.net pw\n" + laterAnswer)
	r.logged("login failed", "u@example.net", "two domains")
}

// TestVerifiedWhileMoved: a user who is moved while he is verified ends where he is then, and was verified for it.
func TestVerifiedWhileMoved(t *testing.T) {
	t.Parallel()
	began := make(chan struct{}, 8)
	var asked atomic.Int32
	r := newRig(t, rigOptions{new: mastered(nil), routes: user + " old authority=file\n", gone: true, tune: withMasters, server: func(s *Server) {
		s.master = bosses("bpw", anyHost)
		s.verifier = func(ctx context.Context, _ config.Authority, _ string, _ *auth.Credentials) error {
			if asked.Add(1) > 1 {
				return nil
			}
			began <- struct{}{}
			<-ctx.Done() // the fence calls it off
			return &auth.RefusedError{By: config.ByFile, Why: "what is said now does not count"}
		}
	}})
	k := r.plain()
	k.Dialogue("S: * OK ...\nC: a LOGIN " + user + " pw")
	<-began
	done := r.fence(1)
	drained(t, done)
	r.release(config.New, 1, 1)
	k.Dialogue("S: a OK ...\nC: b NOOP\nS: b OK " + user + " by boss")
	if n := asked.Load(); n != 2 {
		t.Errorf("verified %d times", n)
	}
	if p, _ := r.router.Lookup(user); p != (router.Place{Side: config.New, Epoch: 1, Generation: 1}) {
		t.Errorf("he is at %v", p)
	}
}

// TestTokensIntrospected: tokens are taken here though the sides have none, and the refusal is told as RFC 7628 has it.
func TestTokensIntrospected(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{old: mastered(nil), routes: user + " old authority=oauth\n", gone: true, tune: withMasters, server: func(s *Server) {
		s.master = bosses("bpw", anyHost)
		s.verifier = func(_ context.Context, by config.Authority, who string, c *auth.Credentials) error {
			if by == config.ByOAuth && who == user && c.Token == "good" {
				return nil
			}
			return &auth.RefusedError{By: by, Why: "the token is not active"}
		}
	}})
	token := func(s string) string {
		return base64.StdEncoding.EncodeToString([]byte("user=" + user + "\x01auth=Bearer " + s + "\x01\x01"))
	}
	k := r.plain()
	k.Dialogue("S: * OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2 AUTH=OAUTHBEARER] ...\n" +
		"C: a AUTHENTICATE XOAUTH2 " + token("bad") + "\nS: + " + base64.StdEncoding.EncodeToString([]byte(`{"status":"invalid_token","schemes":"bearer"}`)) +
		"\nC: \nS: a NO [AUTHENTICATIONFAILED] ...\nC: b AUTHENTICATE XOAUTH2 " + token("good") + "\nS: b OK ...\nC: c NOOP\nS: c OK " + user + " by boss")
}

// TestMasterOfEachProtocol: each front hands the user on as the master's authorization identity.
func TestMasterOfEachProtocol(t *testing.T) {
	t.Parallel()
	plain := base64.StdEncoding.EncodeToString([]byte(user + "\x00boss\x00bpw"))
	own := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00pw"))
	for _, x := range []struct {
		p              config.Protocol
		backend, login string
	}{
		{config.POP3, "S: +OK ready\nC: CAPA\nS: +OK\nS: SASL PLAIN\nS: USER\nS: .\nC: AUTH PLAIN " + plain + "\nS: +OK in\nC: STAT\nS: +OK 0 0\nC: QUIT\nS: +OK bye",
			"S: +OK ...\nC: USER " + user + "\nS: +OK ...\nC: PASS pw\nS: +OK in\nC: STAT\nS: +OK 0 0\nC: QUIT\nS: +OK bye"},
		{config.Submission, "S: 220 ready\nC: EHLO mail.example.com\nS: 250-x\nS: 250 AUTH PLAIN\nC: AUTH PLAIN " + plain + "\nS: 235 in\nC: QUIT\nS: 221 bye",
			"S: 220 ...\nC: EHLO me\nS~ 250 AUTH...\nC: AUTH PLAIN " + own + "\nS: 235 ...\nC: QUIT\nS: 221 ..."},
		{config.Sieve, "S: \"SASL\" \"PLAIN\"\nS: \"SIEVE\" \"fileinto\"\nS: OK\nC: AUTHENTICATE \"PLAIN\" \"" + plain + "\"\nS: OK in\nC: LOGOUT\nS: OK bye",
			"S~ OK...\nC: AUTHENTICATE \"PLAIN\" \"" + own + "\"\nS: OK ...\nC: LOGOUT\nS: OK bye"},
	} {
		t.Run(string(x.p), func(t *testing.T) {
			t.Parallel()
			script := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { k.Dialogue(x.backend) })
			script.AllowGone()
			name := string(x.p)
			r := newRig(t, rigOptions{routes: user + " new authority=file\n", gone: true, tune: func(c *config.Config) {
				withMasters(c)
				for _, side := range config.Sides {
					h := &c.Backends[side].Hosts[0]
					e := endpoint(t, name+"://"+script.Addr, false)
					switch x.p {
					case config.POP3:
						h.POP3 = e
					case config.Sieve:
						h.Sieve = e
					default:
						h.Submission = e
					}
				}
				c.Listen = append(c.Listen, endpoint(t, name+"://127.0.0.1:0", true))
			}, server: func(s *Server) {
				s.master = bosses("bpw", anyHost)
				s.verifier = func(context.Context, config.Authority, string, *auth.Credentials) error { return nil }
			}})
			addrs := r.Addrs()
			k := mailtest.Dial(t, addrs[len(addrs)-1].String(), nil)
			k.Dialogue(x.login)
			if got := fmt.Sprint(r.rec.results()); got != "map[ok:1]" {
				t.Error(got)
			}
		})
	}
}

// TestNoSecretToVerify: what holds no secret is for the user's side alone; nobody is asked about it, and no master goes in for it.
func TestNoSecretToVerify(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{routes: user + " old authority=file\n", gone: true, tune: withMasters, server: func(s *Server) {
		s.master = bosses("bpw", anyHost)
		s.verifier = func(context.Context, config.Authority, string, *auth.Credentials) error { return nil }
	}})
	c := &client{srv: r.Server, set: r.set.Load(), ln: r.listeners[0]}
	place, _ := r.router.Lookup(user)
	at, err := c.admit(t.Context(), c.target(user, place), &trial{creds: &auth.Credentials{Mechanism: "SCRAM-SHA-256", Username: user}})
	if !errors.Is(err, errNoSecret) || at.creds != nil || verdict(err).rejected() {
		t.Errorf("%+v, %v", at, err)
	}
}
