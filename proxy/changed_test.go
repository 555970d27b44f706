package proxy

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/mailtest"
	"mailgate/router"
)

// told are the users of whom the server says that something has changed.
type told struct {
	mu   sync.Mutex
	list []string
}

func (c *told) changed(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, user)
}

// of counts the calls, which are to be about one user.
func (c *told) of(t *testing.T, user string) int {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.ContainsFunc(c.list, func(u string) bool { return u != user }) {
		t.Errorf("called for %q, want only %s", c.list, user)
	}
	return len(c.list)
}

// changedOf hears of every protocol.
func changedOf(f func(user string)) func(string, config.Protocol) {
	if f == nil {
		return nil
	}
	return func(user string, _ config.Protocol) { f(user) }
}

// TestChanged: what is heard of sessions in which something changes, step by step, and of those that only read.
func TestChanged(t *testing.T) {
	type step struct {
		text  string
		calls int // so many more
	}
	for name, steps := range map[string][]step{
		"work": {
			{"C: a SELECT INBOX\nS: * 3 EXISTS\nS: a OK", 0},
			{"C: b UID STORE 1 +FLAGS (x)\nS: * 1 FETCH (UID 1 FLAGS (x))\nS: b OK", 1},
			{"C: c APPEND Sent {5}\nS: + go\nC" + `" "hello\r\n"` + "\nS: c OK [APPENDUID 1 1] done", 1},
			{"C: d UID MOVE 1 Trash\nS: * 1 EXPUNGE\nS: d OK", 1},
			{"C: e CREATE x\nS: e NO [LIMIT] it may have been made", 1},
			{"C: f IDLE\nS: + idling", 0},
			{"S: * OK Still here", 0},
			{"S: * 3 EXISTS", 1},
			{"S: * 2 FETCH (FLAGS (x))", 1},
			{"C: DONE\nS: f OK", 0},
			{"C: g NOOP\nS: g OK", 0},
			{"C: h NOOP\nS: * 3 EXPUNGE\nS: h OK", 1},
			{"C: i UID FETCH 1 (UID BODY[])\nS: * 1 FETCH (UID 1 FLAGS (\\Seen) BODY[] \"x\")\nS: i OK", 1},
			{"S: * 4 EXISTS", 1}, // as some servers do without being asked
			{"C: z LOGOUT\nS: * BYE\nS: z OK", 0},
		},
		"reading": {
			{"C: a LIST \"\" * RETURN (STATUS (MESSAGES))\nS: * LIST () \"/\" INBOX\nS: * STATUS INBOX (MESSAGES 1)\nS: a OK", 0},
			{"C: b EXAMINE INBOX\nS: * 3 EXISTS\nS: * OK [UNSEEN 1] x\nS: b OK", 0},
			{"C: c UID FETCH 1:* (FLAGS BODY.PEEK[HEADER])\nS: * 1 FETCH (UID 1 FLAGS () BODY[HEADER] {3}\nS" + `" "ab\n)\r\n"` + "\nS: c OK", 0},
			{"C: d UID SEARCH UNSEEN\nS: * SEARCH 1\nS: d OK", 0},
			{"C: e IDLE\nS: + idling\nS: * OK Still here\nC: DONE\nS: e OK", 0},
			{"C: z LOGOUT\nS: * BYE\nS: z OK", 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var heard told
			r := newRig(t, rigOptions{changed: heard.changed, old: func(k *mailtest.Talk) {
				backendIn(k, "old")
				for i, s := range steps {
					k.Dialogue(s.text)
					if i < len(steps)-1 {
						k.Dialogue("!await " + string(rune('A'+i)))
					}
				}
			}})
			k := r.in()
			want := 0
			for i, s := range steps {
				k.Dialogue(s.text)
				want += s.calls
				r.until("the changes of "+s.text, func() bool { return heard.of(t, user) >= want })
				if n := heard.of(t, user); n > want {
					t.Errorf("%d calls too many after %s", n-want, s.text)
				}
				if i < len(steps)-1 {
					r.old.Fire(string(rune('A' + i)))
				}
			}
			k.Close()
			r.logged("session end")
			if n := heard.of(t, user); n != want {
				t.Errorf("%d calls, want %d", n, want)
			}
		})
	}
}

// TestDeleted: what a client asks to be deleted is heard of before the change is, of each session by itself; what just goes is not.
func TestDeleted(t *testing.T) {
	var mu sync.Mutex
	var list []string
	heard := func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(list, "; ")
	}
	add := func(format string, a ...any) {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, fmt.Sprintf(format, a...))
	}
	text := "C: a SELECT Trash\nS: * 3 EXISTS\nS: * OK [UIDVALIDITY 9] x\nS: * OK [UIDNEXT 8] x\nS: a OK\n" +
		"C: b IDLE\nS: + idling\nS: * 1 EXPUNGE\nC: DONE\nS: b OK\n" +
		"C: c UID STORE 3:4 +FLAGS.SILENT (\\Deleted)\nS: c OK\n" +
		"C: d UID EXPUNGE 3:4\nS: * 1 EXPUNGE\nS: * 1 EXPUNGE\nS: d OK\n"
	sessions := map[uint64]bool{}
	r := newRig(t, rigOptions{changed: func(string) { add("changed") },
		deleted: func(u string, side config.Side, session uint64, d imapwire.Deletes) {
			if u != user || d.Mailbox != imapwire.NameHash("Trash") {
				t.Errorf("%s: %v", u, d)
			}
			mu.Lock()
			sessions[session] = true
			mu.Unlock()
			add("%s %d %v %d", side, d.Validity, d.UIDs, d.Most)
		}, old: func(k *mailtest.Talk) {
			backendIn(k, "old")
			k.Dialogue(text)
		}})
	for range 2 {
		k := r.in()
		k.Dialogue(text)
		k.Close()
	}
	const want = "changed; changed; old 9 [{3 4}] 2; changed"
	r.until("both sessions", func() bool { return strings.Count(heard(), "changed") == 6 })
	if got := heard(); got != want+"; "+want || len(sessions) != 2 {
		t.Errorf("heard %q of %d sessions", got, len(sessions))
	}
}

// TestChangedUnanswered: of a command whose answer nobody gets it is not known whether it was done.
func TestChangedUnanswered(t *testing.T) {
	for command, want := range map[string]int{"STORE 1 +FLAGS (x)": 1, "FETCH 1 FLAGS": 0} {
		var heard told
		r := newRig(t, rigOptions{gone: true, changed: heard.changed, old: ends("old", "C: a "+command+"\n!silent")})
		k := r.in()
		k.Dialogue("C: a " + command)
		r.until("the backend has the command", func() bool { return strings.Contains(r.old.Received()[0], command) })
		r.router.Sessions(user)[0].Press(router.Cut, "Now")
		r.logged("session end")
		k.Close()
		if n := heard.of(t, user); n != want {
			t.Errorf("%s: %d calls, want %d", command, n, want)
		}
	}
}

// TestChangedSubmission: the end of a session that has submitted is heard of, that of another one is not.
func TestChangedSubmission(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want int
	}{
		"nothing":   {"C: NOOP\nS: 250 ...\n", 0},
		"a message": {"C: MAIL FROM:<a@example.com>\nS: 250 ...\nC: RCPT TO:<b@example.com>\nS: 250 ...\nC: DATA\nS: 354 ...\nC: x\nC: .\nS: 250 ...\n", 1},
	} {
		t.Run(name, func(t *testing.T) {
			var heard told
			r := newSMTPRig(t, smtpRigOptions{changed: heard.changed}, smtpBackend(nil, func(k *mailtest.Talk) { obliging(k, nil) }), idleBackend())
			k := r.login()
			k.Dialogue(c.text + "C: QUIT\nS: 221 ...")
			k.Close()
			r.until("the session's end", func() bool { return strings.Contains(r.log.String(), "session end") })
			if n := heard.of(t, smtpUser); n != c.want {
				t.Errorf("%d calls, want %d", n, c.want)
			}
		})
	}
}
