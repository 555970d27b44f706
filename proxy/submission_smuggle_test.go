package proxy

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// sink is a backend that keeps each byte it gets in DATA, up to a strict end of message.
type sink struct {
	mu   sync.Mutex
	data []string // without the end
	kept []string // messages that ended
	more []string // commands behind an end
}

func (s *sink) serve(k *mailtest.Talk) {
	for {
		line := k.Line()
		switch name, _ := verb(line); name {
		case "QUIT":
			k.Send("221 bye\r\n")
			return
		case "DATA":
			k.Send("354 go\r\n")
			s.message(k)
			k.Send("250 queued\r\n")
		case "MAIL", "RCPT":
			s.mu.Lock()
			s.more = append(s.more, line)
			s.mu.Unlock()
			k.Send("250 ok\r\n")
		default:
			k.Send("500 what\r\n")
		}
	}
}

// message reads a byte at a time, so that what came is known whenever the gateway leaves.
func (s *sink) message(k *mailtest.Talk) {
	s.mu.Lock()
	i := len(s.data)
	s.data = append(s.data, "")
	s.mu.Unlock()
	for b := ""; ; {
		b += k.ReadN(1)
		s.mu.Lock()
		s.data[i] = b
		if _, _, ok := receive(b); ok {
			s.data[i] = strings.TrimSuffix(b, ".\r\n")
			s.kept = append(s.kept, b)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

// check looks at all that was forwarded.
func (s *sink) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.data {
		if who := laxEnd(d); who != "" {
			t.Errorf("%q was forwarded: %s sees an end of message in it", d, who)
		}
		if strings.ContainsAny(strings.ReplaceAll(strings.TrimSuffix(d, "\r"), "\r\n", ""), "\r\n") {
			t.Errorf("%q was forwarded", d)
		}
	}
	for _, m := range s.more {
		if strings.Contains(m, "smuggled") {
			t.Errorf("a command out of a message: %q", m)
		}
	}
}

const smuggled = "MAIL FROM:<smuggled@example.com>\r\nRCPT TO:<smuggled@example.com>\r\nDATA\r\nsmuggled\r\n.\r\n"

// TestNoSmuggling sends each form, split at each byte into TLS records or TCP segments, in DATA and in chunks that become
// DATA, refusing and normalizing, to a backend whose bytes are examined as lax servers would read them.
func TestNoSmuggling(t *testing.T) {
	var forms []string
	for _, s := range smuggling {
		form, _, _ := strings.Cut(s, "MAIL")
		if _, _, ends := receive(form); !ends && strings.HasPrefix(s, "a") {
			forms = append(forms, form)
		}
	}
	for _, bare := range []string{"refuse", "normalize"} {
		for _, front := range []config.TLSMode{config.Plain, config.Implicit} {
			t.Run(fmt.Sprintf("%s %d", bare, front), func(t *testing.T) {
				s := &sink{}
				r := newSubmissionRig(t, rigOptions{frontTLS: front, configure: func(c *config.Config) {
					c.Submit.BareNewlines, c.Limits.SessionsPerUser = bare, 0
				}}, smtpBackend(nil, s.serve), idleBackend())
				for _, form := range forms {
					for cut := 1; cut < len(form); cut++ {
						if front == config.Plain && cut%3 != 1 {
							continue // a segment need not arrive as one, so fewer of these
						}
						what := fmt.Sprintf("%q cut at %d", form, cut)
						k := r.login()
						k.Send("MAIL FROM:<user@example.com>\r\nRCPT TO:<a@example.net>\r\nDATA\r\n")
						k.Until("354 ...")
						k.Send(form[:cut])
						if front == config.Plain {
							time.Sleep(time.Millisecond) // makes two segments of it; nothing depends on that
						}
						k.Send(form[cut:] + smuggled)
						r.outcome(t, k, bare, what)
					}
					k := r.login()
					what := fmt.Sprintf("%q in chunks", form)
					k.Send("MAIL FROM:<user@example.com>\r\nRCPT TO:<a@example.net>\r\n")
					for i := range len(form) {
						k.Send(fmt.Sprintf("BDAT 1\r\n%c", form[i]))
					}
					k.Send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(smuggled), smuggled))
					k.Until("250 ok")
					r.outcome(t, k, bare, what)
				}
				r.old.Close() // all that was forwarded has been read
				s.check(t)
				for _, m := range s.kept {
					if bare == "refuse" && !strings.Contains(m, "\x00") {
						t.Errorf("%q was accepted", m)
					}
				}
			})
		}
	}
}

// outcome reads to the end of a session that has sent a form: it is refused, or is one message.
func (r *submissionRig) outcome(t *testing.T, k *mailtest.Talk, bare, what string) {
	t.Helper()
	k.CloseWrite()
	got := k.ExpectEnd()
	k.Close()
	ok := strings.Contains(got, "250 queued\r\n") && strings.Count(got, "queued") == 1
	if refused := strings.Contains(got, "550 5.6.0"); !refused && !ok {
		t.Errorf("%s: %q", what, got)
	} else if bare == "refuse" && !refused && !strings.Contains(what, `\x00`) {
		t.Errorf("%s: taken: %q", what, got)
	}
}
