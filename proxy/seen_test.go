package proxy

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// witness collects what Options.Seen is told.
type witness struct {
	mu   sync.Mutex
	said []string
}

func (w *witness) seen(user string, side config.Side, p config.Protocol, what Happening, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := [...]string{"in", "refused", "failed", "over", "broken", "taken", "bounced"}[what]
	if (err != nil) != (what == LoginRefused || what == LoginFailed) {
		name += fmt.Sprintf("(%v)", err)
	}
	w.said = append(w.said, fmt.Sprintf("%s %s %s %s", strings.TrimSuffix(user, "@example.com"), side, p, name))
}

// want waits until that has been told, and nothing else.
func (w *witness) want(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		w.mu.Lock()
		got = slices.Clone(w.said)
		w.mu.Unlock()
		if len(got) >= len(want) {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	w.mu.Lock()
	w.said = nil
	w.mu.Unlock()
}

// TestSeenLogins: what is told of logins, by what the host did, on the side where he is; of strangers nothing.
func TestSeenLogins(t *testing.T) {
	const greeting = "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\nC: $l AUTHENTICATE PLAIN ...\n"
	for _, x := range []struct {
		name, host, answer, want string
	}{
		{"let in", greeting + "S: $l OK [CAPABILITY IMAP4rev1] in\n!silent", "OK ...", "in"},
		{"refused", greeting + "S: $l NO [AUTHENTICATIONFAILED] no\n!silent", "NO [AUTHENTICATIONFAILED] ...", "refused"},
		{"temporary", greeting + "S: $l NO [UNAVAILABLE] no\n!silent", "NO [UNAVAILABLE] ...", "failed"},
		{"gone at once", "!close", "NO [UNAVAILABLE] ...", "failed"},
		{"gone at the login", greeting + "!close", "NO [UNAVAILABLE] ...", "failed"},
	} {
		for routes, told := range map[string]bool{user + " new\n": true, "*@example.com new\n": false} {
			t.Run(fmt.Sprint(x.name, told), func(t *testing.T) {
				var w witness
				r := newRig(t, rigOptions{routes: routes, gone: true, new: func(k *mailtest.Talk) { k.Dialogue(x.host) },
					tune: func(c *config.Config) { c.Backends[config.New].LoginWait = 0 }, server: func(s *Server) { s.seen = w.seen }})
				r.plain().Dialogue("S: * OK ...\nC: a LOGIN " + user + " pw\nS: a " + x.answer)
				if told {
					w.want(t, "u new imap "+x.want)
				} else {
					w.want(t)
				}
			})
		}
	}
}

// TestSeenSessions: a session is broken when its host was gone without a word, and not when either side said goodbye.
func TestSeenSessions(t *testing.T) {
	for _, x := range []struct {
		name, host, client, want string
	}{
		{"logout", "C: z LOGOUT\nS: * BYE bye\nS: z OK out\n!close", "C: z LOGOUT\nS: * BYE bye\nS: z OK out\n!end", "over"},
		{"the client leaves", "!end", "!close", "over"},
		{"idle for too long", "S: * BYE idle for too long\n!close", "S: * BYE idle for too long\n!end", "over"},
		{"gone while idle", "!close", "S: * BYE ...\n!end", "broken"},
		{"reset while idle", "!reset", "S: * BYE ...\n!end", "broken"},
		{"gone within a command", "C: a NOOP\n!close", "C: a NOOP\nS: * BYE ...\n!end", "broken"},
		{"gone within an answer", "C: a FETCH 1 X\nS\" \"* 1 FETCH (X {10}\\r\\nabc\"\n!close", "C: a FETCH 1 X\nS: * 1 FETCH (X {10}\nS\" \"abc\"\n!end", "broken"},
		{"goodbye within a command", "C: a NOOP\nS: * BYE going down\n!close", "C: a NOOP\nS: * BYE going down\n!end", "broken"},
	} {
		t.Run(x.name, func(t *testing.T) {
			var w witness
			r := newRig(t, rigOptions{routes: user + " old\n", gone: true, old: ends("old", x.host), server: func(s *Server) { s.seen = w.seen }})
			k := r.in()
			w.want(t, "u old imap in")
			k.Dialogue(x.client)
			w.want(t, "u old imap "+x.want)
		})
	}
}

// TestSeenEnded: a session that the gateway ends is not broken.
func TestSeenEnded(t *testing.T) {
	var w witness
	r := newRig(t, rigOptions{routes: user + " old\n", gone: true, old: ends("old", "C: ... LOGOUT\n!close"), server: func(s *Server) { s.seen = w.seen }})
	k := r.in()
	w.want(t, "u old imap in")
	<-r.fence(1)
	k.Dialogue("S: * BYE ...\n!end")
	w.want(t, "u old imap over")
}

// TestSeenMail: messages count by what the host says for good, and sessions by whether it stays.
func TestSeenMail(t *testing.T) {
	var w witness
	step := func(k *mailtest.Talk) {
		for {
			switch line := k.Line(); {
			case strings.Contains(line, "BAD"):
				k.Send("550 5.1.1 no\r\n")
			case strings.Contains(line, "LATER"):
				k.Send("450 4.2.0 later\r\n")
			case strings.Contains(line, "GONE"):
				return
			case line == "DATA":
				k.Send("354 go\r\n")
				for line = k.Line(); line != "."; line = k.Line() {
					if line == "spam" {
						k.Until(".")
						k.Send("554 5.7.1 spam\r\n")
						break
					}
				}
				if line == "." {
					k.Send("250 2.0.0 queued\r\n")
				}
			case line == "QUIT":
				k.Send("221 2.0.0 bye\r\n")
				return
			default:
				k.Send("250 2.0.0 ok\r\n")
			}
		}
	}
	r := newSMTPRig(t, smtpRigOptions{}, smtpBackend(nil, step), idleBackend())
	routes, err := config.ParseRoutes("routes", []byte(smtpUser+" old\n"), r.conf)
	if err != nil {
		t.Fatal(err)
	}
	r.srv.seen = w.seen
	r.srv.Configure(r.conf, routes)
	for _, x := range []struct {
		name, dialogue string
		want           []string
	}{
		{"taken", "C: MAIL FROM:<a@b.c>\nS: 250 ...\nC: RCPT TO:<a@b.c>\nS: 250 ...\nC: DATA\nS: 354 ...\nC: hello\nC: .\nS: 250 ...\n", []string{"taken"}},
		{"sender", "C: MAIL FROM:<BAD@b.c>\nS: 550 ...\n", []string{"bounced"}},
		{"recipient", "C: MAIL FROM:<a@b.c>\nS: 250 ...\nC: RCPT TO:<BAD@b.c>\nS: 550 ...\nC: RCPT TO:<LATER@b.c>\nS: 450 ...\n", []string{"bounced"}},
		{"content", "C: MAIL FROM:<a@b.c>\nS: 250 ...\nC: RCPT TO:<a@b.c>\nS: 250 ...\nC: DATA\nS: 354 ...\nC: spam\nC: .\nS: 554 ...\n", []string{"bounced"}},
	} {
		k := r.login()
		k.Dialogue(x.dialogue + "C: QUIT\nS: 221 ...\n")
		want := []string{"user old submission in"}
		for _, s := range append(x.want, "over") {
			want = append(want, "user old submission "+s)
		}
		w.want(t, want...)
	}
	k := r.login()
	k.Dialogue("C: MAIL FROM:<GONE@b.c>\nS: 421 ...\n")
	w.want(t, "user old submission in", "user old submission broken")
}
