package syncer_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestPeek: a look says no behind a pass that found nothing, and yes behind each thing that somebody does, on either side; what it
// costs is a login and one command a side.
func TestPeek(t *testing.T) {
	t.Parallel()
	for _, products := range [][2]faulty.Product{{faulty.DovecotPrefixed(), faulty.Cyrus()}, {faulty.Courier(), faulty.Dovecot()}, {faulty.Dovecot(), faulty.Courier()}} {
		t.Run(products[0].Name+" to "+products[1].Name, func(t *testing.T) {
			w := newFaultyWorld(t, products[0], products[1], 1, func(o *syncer.Options) {
				o.Rules.Exclude = []string{"Secret*"}
				o.Grace = time.Hour
			})
			whole := strings.Contains(products[0].Capabilities, "LIST-STATUS")
			peek := func(what string, want bool) {
				t.Helper()
				got, err := w.Peek(t.Context(), "user")
				if err != nil || got != want {
					t.Errorf("%s: changed %v, %v", what, got, err)
				}
			}
			pass := func() {
				t.Helper()
				if rep, err := w.pass(t); err != nil || len(rep.Errors) > 0 {
					t.Fatal(err, rep)
				}
			}
			old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
			peek("nothing known", true)
			old.Append("INBOX", nil, time.Now(), []byte("Subject: 1\r\n\r\n1\r\n"))
			old.Append("INBOX", nil, time.Now(), []byte("Subject: 2\r\n\r\n2\r\n"))
			work := old.Name("Work")
			old.Create(work)
			old.Create(old.Name("Secret"))
			pass()
			pass()
			peek("the first time it is asked of what a rule leaves out", true)
			peek("nothing", false)
			for _, c := range []struct {
				what string
				do   func()
				want bool
			}{
				{"new mail", func() { old.Append("INBOX", nil, time.Now(), []byte("Subject: 3\r\n\r\n3\r\n")) }, true},
				{"new mail on NEW", func() { now.Append("INBOX", nil, time.Now(), []byte("Subject: 4\r\n\r\n4\r\n")) }, true},
				{"read", func() { old.Flag("INBOX", 0, []string{`\Seen`}, nil) }, true},
				{"flagged", func() { old.Flag("INBOX", 0, []string{`\Flagged`}, nil) }, true},
				{"flagged on NEW", func() { now.Flag("INBOX", 0, []string{`\Answered`}, nil) }, true},
				{"a flag taken off on NEW", func() { now.Flag("INBOX", 0, nil, []string{`\Answered`}) }, true},
				{"expunged", func() { old.Expunge("INBOX", 0) }, true},
				{"mail elsewhere", func() { old.Append(work, nil, time.Now(), []byte("Subject: 5\r\n\r\n5\r\n")) }, true},
				{"a new folder", func() { old.Create(old.Name("Play")) }, true},
				{"renamed", func() { old.Rename(old.Name("Play"), old.Name("Toys")) }, true},
				{"reset", func() { old.Reset("INBOX") }, true},
				{"reset again", func() { old.Reset("INBOX") }, true},
				{"an empty folder on NEW, which is left out", func() { now.Create("Empty") }, true},
				{"its first mail", func() { now.Append("Empty", nil, time.Now(), []byte("Subject: 6\r\n\r\n6\r\n")) }, true},
				{"another folder that a rule leaves out", func() { old.Create(old.Name("Secret", "More")) }, true},
			} {
				c.do()
				peek(c.what, c.want)
				pass()
				pass()
				pass()
				peek("behind "+c.what, false)
			}
			old.Delete(old.Name("Toys"))
			peek("deleted", true)
			for range 2 { // nobody has said that it is meant
				if rep, err := w.Run(t.Context(), "user", syncer.RunOptions{}); err != nil || len(rep.Held) != 1 {
					t.Fatal(err, rep)
				}
			}
			peek("deleted, and it waits", false)
			w.clock.Add(int64(2 * time.Hour))
			peek("deleted, and it need not wait any more", true)
			before := len(w.hosts[config.Old].Trace())
			peek("as before", true)
			if n := len(w.hosts[config.Old].Trace()) - before; whole && n > 4 { // LOGIN, CAPABILITY, LIST, LOGOUT
				t.Errorf("%d commands: %q", n, w.hosts[config.Old].Trace()[before:])
			}
			w.hosts[config.New].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Cut}})
			_, err := w.Peek(t.Context(), "user")
			if side := (*syncer.SideError)(nil); !errors.As(err, &side) || side.Side != config.New {
				t.Errorf("a side that is cut: %v", err)
			}
		})
	}
}

// TestPeekFlags: where a side's numbers do not tell of flags they are read, in INBOX and where something was done lately; the others are
// for whole passes. Flags that a pass has carried are no news.
func TestPeekFlags(t *testing.T) {
	t.Parallel()
	for _, dumb := range config.Sides {
		t.Run(dumb.String(), func(t *testing.T) {
			products := [2]faulty.Product{faulty.Dovecot(), faulty.Dovecot()}
			products[dumb] = faulty.Courier()
			w := newFaultyWorld(t, products[0], products[1], 1, func(o *syncer.Options) { o.Keep = time.Minute })
			accounts := [2]*faulty.Account{w.hosts[0].Account, w.hosts[1].Account}
			letter := func(n int) []byte { return fmt.Appendf(nil, "Subject: %d\r\n\r\n%d\r\n", n, n) }
			for _, name := range []string{"Cold", "Warm"} {
				accounts[0].Create(accounts[0].Name(name))
				accounts[0].Append(accounts[0].Name(name), []string{"label"}, time.Now(), letter(len(name)))
			}
			accounts[0].Append("INBOX", []string{"label"}, time.Now(), letter(1))
			pass := func() {
				t.Helper()
				if rep, err := w.pass(t); err != nil || len(rep.Errors) > 0 {
					t.Fatal(err, rep)
				}
			}
			for range 3 {
				pass()
			}
			peek := func(what string, want bool) {
				t.Helper()
				if got, err := w.Peek(t.Context(), "user"); err != nil || got != want {
					t.Errorf("%s: changed %v, %v", what, got, err)
				}
			}
			_, _ = w.Peek(t.Context(), "user") // what nothing is known of is told once
			peek("nothing", false)
			x := accounts[dumb]
			x.Flag(x.Name("Cold"), 0, []string{`\Flagged`}, nil)
			peek("where nothing was done lately", false)
			x.Flag("INBOX", 0, []string{`\Flagged`}, nil)
			peek("in INBOX", true)
			pass()
			pass()
			peek("carried", false)
			x.Append(x.Name("Warm"), nil, time.Now(), letter(9))
			pass()
			pass()
			peek("carried", false)
			x.Flag(x.Name("Warm"), 1, []string{`\Flagged`}, nil)
			peek("where mail came", true)
			pass()
			pass()
			peek("carried", false)
		})
	}
}

// TestPeekKept: a connection that is kept for the next pass is used, and is there for it afterwards; one that has died is replaced.
func TestPeekKept(t *testing.T) {
	w := newFaultyWorld(t, faulty.Dovecot(), faulty.Dovecot(), 1, func(o *syncer.Options) { o.Keep = time.Minute })
	h := w.hosts[config.Old]
	logins := func() int { return strings.Count(strings.Join(h.Trace(), "\n"), " LOGIN ") }
	for range 3 {
		if _, err := w.pass(t); err != nil {
			t.Fatal(err)
		}
	}
	was := logins()
	for range 3 {
		if changed, err := w.Peek(t.Context(), "user"); changed || err != nil {
			t.Errorf("%v %v", changed, err)
		}
	}
	if _, err := w.pass(t); err != nil {
		t.Fatal(err)
	}
	if n := logins(); n != was {
		t.Errorf("%d logins more", n-was)
	}
	h.Sound() // cuts
	if changed, err := w.Peek(t.Context(), "user"); changed || err != nil {
		t.Errorf("behind a cut: %v %v", changed, err)
	}
}

// TestPeekHosts: real hosts tell the same twice while nothing happens, and something else when mail comes.
func TestPeekHosts(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	cyrus, courier := lab.StartCyrus(t), lab.StartCourier(t)
	for i, hosts := range [][2]lab.Host{{l.Old, cyrus.Host}, {courier.Host, l.New}} {
		t.Run(hosts[0].Name+" to "+hosts[1].Name, func(t *testing.T) {
			r := newRig(t, hosts[0], hosts[1], 4+i, nil)
			var x [2]*lab.Talk
			for side, h := range hosts {
				x[side] = lab.Dial(t, h, 4+i)
				x[side].Append("INBOX", `\Flagged`, letter(side))
			}
			x[0].Do(`CREATE "%sWork"`, hosts[0].Prefix)
			x[0].Append(hosts[0].Prefix+"Work", "", letter(2))
			for range 3 {
				r.pass(t)
			}
			peek := func(what string, want bool) {
				t.Helper()
				if got, err := r.Peek(t.Context(), lab.User(4+i)); err != nil || got != want {
					t.Errorf("%s: %v %v", what, got, err)
				}
			}
			// The first look may say yes: of Sent, Drafts and Trash, which are there on NEW only, nothing was known.
			if _, err := r.Peek(t.Context(), lab.User(4+i)); err != nil {
				t.Error(err)
			}
			peek("nothing", false)
			for side := range hosts {
				x[side].Append("INBOX", "", letter(10+side))
				peek("new mail on "+config.Side(side).String(), true)
				for range 3 {
					r.pass(t)
				}
				peek("carried", false)
				x[side].Close()
			}
		})
	}
}
