package syncer_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// uidls asks a host of the rig by POP3.
func (r *rig) uidls(ctx context.Context, side config.Side, user string) ([]string, error) {
	var b [2]config.Backend
	for side, h := range r.hosts {
		b[side] = config.Backend{Hosts: []config.Host{{Name: h.Name, POP3: config.Endpoint{Protocol: config.POP3, Host: "127.0.0.1", Port: h.POP3}}},
			ConnectTimeout: 10 * time.Second, LoginTimeout: 30 * time.Second}
	}
	d, err := backend.NewDialer(b, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return nil, err
	}
	creds, err := auth.Password("PLAIN", user, lab.Password(r.n))
	if err != nil {
		return nil, err
	}
	c, err := d.DialPOP3(ctx, side, "", backend.LoginPOP3{Credentials: creds, LoginName: user})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c.UIDLs()
}

// forecast looks, and logs what people read.
func (r *rig) forecast(t testing.TB, to config.Side) (*syncer.Forecast, string) {
	t.Helper()
	f, err := r.Forecast(t.Context(), lab.User(r.n), to, syncer.ForecastOptions{UIDLs: r.uidls})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := f.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", b.String())
	return f, b.String()
}

func wants(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("no %q in\n%s", p, text)
		}
	}
}

// TestForecastHosts: what clients would download again between real products, by IMAP and by POP3, before the first pass, behind it, and
// with news on both sides.
func TestForecastHosts(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	cyrus, courier := lab.StartCyrus(t).Host, lab.StartCourier(t).Host
	for _, x := range []struct {
		name     string
		old, new lab.Host
		n        int
		blind    string
	}{
		{"Dovecot to Cyrus", l.Old, cyrus, 1, ""},
		{"Courier to Dovecot", courier, l.New, 2, "OLD"},
		{"Dovecot to Courier", l.New, courier, 3, "NEW"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, x.old, x.new, x.n, nil)
			old := lab.Dial(t, x.old, x.n)
			bytes := int64(0)
			for i := range 30 {
				old.Append("INBOX", "", letter(i))
				bytes += int64(len(letter(i)))
			}
			old.Do("SELECT INBOX")
			old.Do("STORE 3,7 +FLAGS (\\Deleted)")
			old.Do("EXPUNGE") // so that numbers and UIDs are not the same
			bytes -= int64(len(letter(2)) + len(letter(6)))
			work := x.old.Prefix + "Work"
			old.Do("CREATE %q", work)
			old.Append(work, "", letter(50))
			old.Do("CLOSE")
			bytes += int64(len(letter(50)))

			f, text := r.forecast(t, config.New) // nothing is known
			if c := f.Carry[config.New]; !f.Never || c.Messages != 29 || c.Folders != 2 || c.Bytes != bytes || c.NoBytes != "" {
				t.Errorf("to carry: %+v, want %d bytes", f.Carry, bytes)
			}
			if f.POP3.Known || f.IMAP.Messages != 29 || f.IMAP.Bytes != bytes || f.Gap.Known != (x.blind == "") {
				t.Errorf("%+v", f)
			}
			wants(t, text, "at most 29 messages (", "no pass has been over his INBOX yet")

			r.pass(t)
			if f, _ = r.forecast(t, config.New); f.Carry != [2]syncer.Amount{} { // what a pass itself has made is nothing new
				t.Errorf("behind one pass: %+v", f.Carry)
			}
			r.pass(t)
			f, text = r.forecast(t, config.New)
			if f.Carry != [2]syncer.Amount{} || f.Changed != 0 || f.Never || len(f.InWay) > 0 || len(f.Unknown) > 0 {
				t.Errorf("behind two passes: %+v", f)
			}
			if f.IMAP.Messages != 29 || f.IMAP.Folders != 2 || f.IMAP.Bytes < bytes || len(f.IMAP.Mixed) > 0 {
				t.Errorf("IMAP: %+v", f.IMAP)
			}
			if !f.POP3.Known || f.POP3.Of != 28 || f.POP3.Messages != 28 {
				t.Errorf("POP3: %+v", f.POP3)
			}
			wants(t, text, "clients download again 29 messages (", "clients that leave mail on the server download again 28 of 28 messages", "to carry       nothing")
			if !f.Gap.Known || x.blind == "" && !strings.Contains(f.Gap.Why, "both hosts tell") || x.blind != "" && !strings.HasPrefix(f.Gap.Why, x.blind+" cannot tell") {
				t.Errorf("gap: %+v", f.Gap)
			}
			if len(f.Lost)+len(f.Gained) == 0 {
				t.Error("both products offer the same?")
			}

			old.Append("INBOX", "", letter(60))
			old.Append("INBOX", "", letter(61))
			lab.Dial(t, x.new, x.n).Append("INBOX", "", letter(70))
			f, text = r.forecast(t, config.New)
			if c := f.Carry; c[config.New].Messages != 2 || c[config.New].Bytes != int64(len(letter(60))+len(letter(61))) || c[config.Old].Messages != 1 {
				t.Errorf("news: %+v", c)
			}
			if f.POP3.Of != 30 || f.POP3.Messages != 30 {
				t.Errorf("POP3: %+v", f.POP3)
			}
			wants(t, text, "2 messages (258 B) in 1 folder to NEW; 1 message (129 B) in 1 folder to OLD")

			back, err := r.Forecast(t.Context(), lab.User(x.n), config.Old, syncer.ForecastOptions{})
			if err != nil || !back.There {
				t.Errorf("%+v, %v", back, err)
			}
		})
	}
}

// TestForecastKept: a user whose mail was copied with its UIDs keeps all of it, also by POP3.
func TestForecastKept(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newRig(t, l.Old, l.Old, 4, nil) // the host beside itself: everything is the same
	x := lab.Dial(t, l.Old, 4)
	for i := range 5 {
		x.Append("INBOX", "", letter(i))
	}
	r.pass(t)
	f, text := r.forecast(t, config.New)
	if f.IMAP.Messages != 0 || f.IMAP.Kept.Messages != 5 || !f.POP3.Known || f.POP3.Of != 5 || f.POP3.Messages != 0 || len(f.Lost)+len(f.Gained) != 0 {
		t.Errorf("%+v", f)
	}
	wants(t, text, "clients keep what they have: 5 messages in 1 folder", "keep what they have: 5 messages")

	for _, x := range []struct {
		name     string
		ids      [2]string
		err      error
		known    bool
		messages int64
		mixed    int64
		text     string
	}{
		{"others", [2]string{"a b c d e", "v w x y z"}, nil, true, 5, 0, "download again 5 of 5 messages"},
		{"some others", [2]string{"a b c d e", "a b c y z"}, nil, true, 2, 0, "download again 2 of 5 messages"},
		{"moved up", [2]string{"1 2 3 4 5", "2 3 4 5 6"}, nil, true, 5, 4, "careful: 4 messages have the UIDL that another message had"},
		{"not all of it", [2]string{"a b c d e", "a b c d"}, nil, false, 0, 0, "there are 4 messages by POP3 and 5 by IMAP"},
		{"no POP3", [2]string{"a b c d e", ""}, backend.ErrNoHost, true, 0, 0, "NEW has no POP3, so that who uses it on OLD cannot go on"},
		{"refused", [2]string{"a b c d e", ""}, errors.New("locked"), false, 0, 0, "download again: NEW: locked"},
	} {
		f, err := r.Forecast(t.Context(), lab.User(4), config.New, syncer.ForecastOptions{UIDLs: func(_ context.Context, side config.Side, _ string) ([]string, error) {
			if side == config.New && x.err != nil {
				return nil, x.err
			}
			return strings.Fields(x.ids[side]), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		_ = f.WriteText(&b)
		if g := f.POP3; g.Known != x.known || g.Messages != x.messages || g.Mixed != x.mixed || !strings.Contains(b.String(), x.text) {
			t.Errorf("%s: %+v\n%s", x.name, g, b.String())
		}
	}
}
