package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// login gives a connection of a user's own, or of the master on his behalf.
func (r *rig) login(ctx context.Context, side config.Side, user string, master bool) (*backend.Client, error) {
	name, password := user, lab.Password(r.n)
	who := backend.Account{}
	if master {
		name, password, who.Authzid = lab.MasterUser, lab.MasterPassword, user
	}
	c, err := auth.Password("PLAIN", name, password)
	if err != nil {
		return nil, err
	}
	who.Credentials, who.LoginName = c, name
	return r.dialer.DialClient(ctx, side, "", who)
}

// scratch lists what probes have left in an account.
func (r *rig) scratch(t *testing.T, side config.Side) (left []string) {
	t.Helper()
	c, err := r.login(t.Context(), side, lab.User(r.n), false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.List(t.Context(), backend.ListOptions{}, func(e backend.ListEntry) error {
		if strings.Contains(e.Name, "mailgate-probe-") {
			left = append(left, e.Name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// TestProbe holds what the probe says of real products against what is known of them.
func TestProbe(t *testing.T) {
	l := lab.Start(t, lab.MailboxesOnly())
	cyrus := lab.StartCyrus(t)
	r := newRig(t, l.Old, l.New, 3, nil)
	dovecot := r.probe(t)
	for side, p := range dovecot {
		if !p.MultiAppend || !p.Ascending || !p.KeepsDates || p.KeepsZones || !p.ExactSizes || !p.CopyKeeps || !p.RenameKeeps || !p.CondStore || p.CaseFolds {
			t.Errorf("Dovecot: %+v", p)
		}
		if p.MaxKeywords != 0 || !p.KeywordFolds || p.UnknownFlags != "BAD" || p.MaxName != 250 || !strings.HasPrefix(p.Product, "Dovecot") {
			t.Errorf("Dovecot: %+v", p)
		}
		if p.Alters["bare LF"] != "a bare LF becomes CRLF" || p.Refuses["empty message"] == "" || p.Alters["bare CR"] != "" || p.Refuses["8-bit headers"] != "" {
			t.Errorf("Dovecot alters %q, refuses %q", p.Alters, p.Refuses)
		}
		if p.Took > 30*time.Second { // it waits for nothing
			t.Errorf("it took %s", p.Took)
		}
		if left := r.scratch(t, config.Sides[side]); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
	if dovecot[config.Old].BadNames != "/.8" || dovecot[config.New].BadNames != "/8" {
		t.Errorf("folder names: %q, %q", dovecot[config.Old].BadNames, dovecot[config.New].BadNames)
	}

	c := newRig(t, l.Old, cyrus.Host, 3, nil)
	p, err := c.Probe(t.Context(), config.New, lab.User(3))
	if err != nil {
		t.Fatal(err)
	}
	if p.MaxKeywords != 100 || !p.KeywordFolds || !p.RenameKeeps || !p.MultiAppend || !p.CondStore || !p.KeepsDates || p.KeepsZones || p.UnknownFlags != "BAD" {
		t.Errorf("Cyrus: %+v", p)
	}
	for _, m := range []string{"empty message", "NUL", "bare LF", "text without headers", "date of 1969"} {
		if p.Refuses[m] == "" {
			t.Errorf("Cyrus takes %s", m)
		}
	}
	if p.Alters["date of 1 Jan 1970, 00:00 UTC"] == "" || p.Alters["8-bit headers"] != "8-bit characters of the header become X" {
		t.Errorf("Cyrus alters %q", p.Alters)
	}
	if left := c.scratch(t, config.New); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}

	t.Run("master", func(t *testing.T) {
		for _, side := range config.Sides {
			err := syncer.ProveMaster(t.Context(), func(ctx context.Context, user string) (*backend.Client, error) {
				return c.login(ctx, side, user, true)
			}, lab.User(3), lab.User(4))
			if err != nil {
				t.Errorf("%s: %v", side, err)
			}
		}
	})
	t.Run("a login that opens the wrong mailbox", func(t *testing.T) {
		err := syncer.ProveMaster(t.Context(), func(ctx context.Context, _ string) (*backend.Client, error) {
			return r.login(ctx, config.Old, lab.User(3), false) // as Courier does
		}, lab.User(3), lab.User(4))
		if wrong := (*syncer.WrongMailboxError)(nil); !errors.As(err, &wrong) {
			t.Errorf("got %v", err)
		}
		if left := r.scratch(t, config.Old); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
	t.Run("what a killed probe left", func(t *testing.T) {
		old := "INBOX.mailgate-probe-1000000000-aa"
		young := fmt.Sprintf("INBOX.mailgate-probe-%d-bb", time.Now().Add(-30*time.Minute).Unix()) // another probe may be at work there
		k, err := r.login(t.Context(), config.Old, lab.User(3), false)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		for _, name := range []string{old, old + ".child", young} {
			if err := k.Create(name, "").Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Probe(t.Context(), config.Old, lab.User(3)); err != nil {
			t.Fatal(err)
		}
		if left := r.scratch(t, config.Old); len(left) != 1 || left[0] != young {
			t.Errorf("left behind: %q", left)
		}
		if err := k.Delete(young).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("given up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g := newRig(t, l.Old, l.New, 3, func(o *syncer.Options) {
			open, n := o.Open, 0
			o.Open = func(ctx context.Context, side config.Side, user string) (*backend.Client, error) {
				c, err := open(ctx, side, user)
				if n++; n == 2 { // the first one asks for the host's name only
					time.AfterFunc(40*time.Millisecond, cancel)
				}
				return c, err
			}
		})
		if _, err := g.Probe(ctx, config.New, lab.User(3)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if left := g.scratch(t, config.New); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
	t.Run("a server that hangs up", func(t *testing.T) {
		touchy := l.New
		touchy.IMAP = hangsUpAt(t, l.New.IMAP, "one\x00two")
		p, err := newRig(t, l.Old, touchy, 3, nil).Probe(t.Context(), config.New, lab.User(3))
		if err != nil {
			t.Fatal(err)
		}
		if p.Refuses["NUL"] != "it ends the connection" || p.Refuses["NUL by literal8"] != "it ends the connection" || len(p.Refuses) != 3 {
			t.Errorf("refuses %q", p.Refuses)
		}
		if !p.RenameKeeps || !p.CopyKeeps || !strings.HasPrefix(p.Notes[0], "APPEND, NUL: the server ended the connection") {
			t.Errorf("%+v", p)
		}
		if left := r.scratch(t, config.New); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
	t.Run("table", func(t *testing.T) {
		var b strings.Builder
		if err := syncer.WriteProfiles(&b, dovecot[0], nil); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"OLD", "NEW", "not probed", "message: bare LF ", "altered: a bare LF becomes CRLF", "Notes OLD:"} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("no %q in\n%s", want, &b)
			}
		}
		if err := dovecot[1].WriteTable(failing{}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v", err)
		}
	})
}

// hangsUpAt stands before a port, and ends a connection when the client sends a text.
func hangsUpAt(t *testing.T, port int, text string) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			front, err := l.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("tcp", lab.Addr(port))
			if err != nil {
				front.Close()
				continue
			}
			wg.Go(func() {
				_, _ = io.Copy(front, back)
				front.Close()
			})
			wg.Go(func() {
				defer back.Close()
				defer front.Close()
				var tail string // of what was sent: the text may come in pieces
				b := make([]byte, 32<<10)
				for {
					n, err := front.Read(b)
					if tail += string(b[:n]); err != nil || strings.Contains(tail, text) {
						return
					}
					tail = tail[max(0, len(tail)-len(text)):]
					if _, err := back.Write(b[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	return l.Addr().(*net.TCPAddr).Port
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
