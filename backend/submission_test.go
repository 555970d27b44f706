package backend

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/config"
	"mailgate/mailtest"
)

func submissionDialer(t *testing.T, port int) *Dialer {
	t.Helper()
	var b [2]config.Backend
	for i := range b {
		b[i] = config.Default().Backends[i]
		b[i].ClientAddress = true
		b[i].Hosts = []config.Host{{Name: "host", Submission: config.Endpoint{Protocol: config.Submission, Mode: config.Plain,
			Host: "127.0.0.1", Port: port}}}
	}
	d, err := NewDialer(b, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestXCLIENTAddress is how an address is told: IPv6 with a prefix (Postfix, XCLIENT_README), and no zone.
func TestXCLIENTAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7:99": "ADDR=192.0.2.7 PORT=99", "[2001:db8::7]:99": "ADDR=IPV6:2001:db8::7 PORT=99",
		"[fe80::1%eth0]:99": "ADDR=IPV6:fe80::1 PORT=99",
	} {
		s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
			k.Dialogue("S: 220 hi\nC: EHLO gate\nS: 250-hi\nS: 250-AUTH PLAIN\nS: 250 XCLIENT ADDR PORT HELO\n" +
				"C: XCLIENT " + want + " HELO=[127.0.0.1]\nS: 220 hi\nC: EHLO gate\nS: 250-hi\nS: 250 AUTH PLAIN\n" +
				"C: AUTH PLAIN ...\nS: 235 2.7.0 ok\n!end")
		})
		c, err := submissionDialer(t, s.Port()).DialSubmission(t.Context(), config.Old, "", LoginSubmission{
			Credentials: &auth.Credentials{Mechanism: "PLAIN", Username: "u", Password: "p"}, LoginName: "u",
			ClientAddr: netip.MustParseAddrPort(addr), Helo: "[127.0.0.1]", GatewayName: "gate"})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		s.Close()
	}
}

// TestSpoken: what a backend says unasked is noticed, and not lost.
func TestSpoken(t *testing.T) {
	s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
		k.Dialogue("S: 220 hi\nC: EHLO gate\nS: 250-hi\nS: 250 AUTH PLAIN\nC: AUTH PLAIN ...\n" +
			"S\" \"235 2.7.0 ok\\r\\n250 early\\r\\n\"\n!await read\nS: 250 second\n!await more\n!close")
	})
	c, err := submissionDialer(t, s.Port()).DialSubmission(t.Context(), config.Old, "", LoginSubmission{
		Credentials: &auth.Credentials{Mechanism: "PLAIN", Username: "u", Password: "p"}, LoginName: "u", GatewayName: "gate"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !c.Pending() || !c.Spoken() {
		t.Error("what came behind the reply to AUTH was not noticed")
	}
	if r, err := c.ReadReply(); err != nil || r.Lines[0] != "250 early" {
		t.Error(r, err)
	}
	if c.Pending() || c.Spoken() {
		t.Error("nothing was said, and that was noticed")
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if err := c.Await(); err == nil {
		t.Error("Await returns before anything was said")
	}
	_ = c.SetReadDeadline(time.Time{})
	s.Fire("read")
	if err := c.Await(); err != nil || !c.Spoken() || !c.Pending() {
		t.Error("what was said was not noticed", err)
	}
	if r, err := c.ReadReply(); err != nil || r.Lines[0] != "250 second" {
		t.Error(r, err)
	}
	s.Fire("more")
	if err := c.Await(); err != nil || !c.Spoken() {
		t.Error("the end was not noticed", err)
	}
	if _, err := c.ReadReply(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// TestRunLooksAgain: what clients are offered follows a reload at once, not within a minute.
func TestRunLooksAgain(t *testing.T) {
	serve := func(ext string) *mailtest.Script {
		return mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
			k.Dialogue("S: 220 hi\nC: EHLO gate\nS: 250-hi\nS: 250 " + ext + "\nC: QUIT\nS: 221 bye")
		})
	}
	before, after := serve("DSN"), serve("SMTPUTF8")
	d := submissionDialer(t, before.Port())
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx, "gate") })
	defer wg.Wait()
	defer cancel()
	offers := func(ext string) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			if _, ok := d.Features(config.New).Submission[ext]; ok {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s is not known", ext)
			}
		}
	}
	offers("DSN")
	b := d.sides[config.New].Load().Backend
	b.Hosts = []config.Host{{Name: "host", Submission: config.Endpoint{Protocol: config.Submission, Host: "127.0.0.1", Port: after.Port()}}}
	if err := d.Update([2]config.Backend{b, b}); err != nil {
		t.Fatal(err)
	}
	offers("SMTPUTF8")
}

func readReply(s string, size int) (Reply, error) {
	c := &conn{r: bufio.NewReaderSize(strings.NewReader(s), size), left: maxServerPhase}
	return c.reply()
}

func TestReply(t *testing.T) {
	for in, want := range map[string][]string{
		"250 ok\r\n": {"250 ok"}, "250\r\n": {"250"}, "250 \r\n": {"250 "}, "250-a\r\n250 b\r\n": {"250-a", "250 b"},
		"250-\r\n250\r\n": {"250-", "250"}, "354 go\r\nrest": {"354 go"}, "250 lf\n": {"250 lf"},
		"": nil, "250 ok": nil, "25 ok\r\n": nil, "250ok\r\n": nil, "250-a\r\n251 b\r\n": nil, "199 x\r\n": nil, "600 x\r\n": nil,
		"+25 x\r\n": nil, "250 a\rb\r\n": nil, "250 a\x00\r\n": nil, "\r\n": nil, "250-a\r\n": nil, " 250 a\r\n": nil,
		"250 " + strings.Repeat("x", maxServerLine) + "\r\n": nil, strings.Repeat("250-x\r\n", maxReplyLines+1): nil,
		strings.Repeat("250-"+strings.Repeat("x", 60000)+"\r\n", 5) + "250 x\r\n": nil,
	} {
		r, err := readReply(in, 16)
		if (err == nil) != (want != nil) || err == nil && !slices.Equal(r.Lines, want) {
			t.Errorf("%.60q: %.100q, %v", in, r.Lines, err)
		}
	}
}

var oneReply = regexp.MustCompile(`^(?:([2-5]\d\d)-([^\r\n\x00]*)\r?\n)*([2-5]\d\d)(?: ([^\r\n\x00]*))?\r?\n`)

// FuzzReply holds the reader of replies against an expression that says what a reply is.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n", "250\r\n", "250-a\r\n251 b\r\n", "250 a\rb\r\n", "+25 x\r\n", "250 x\r\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 4000 {
			return
		}
		r, err := readReply(s, 16)
		m := oneReply.FindString(s)
		same := m != ""
		for _, l := range strings.Split(strings.TrimSuffix(m, "\n"), "\n") {
			same = same && l[:3] == m[:3]
		}
		if same && strings.Count(m, "\n") > maxReplyLines {
			same = false
		}
		if same != (err == nil) {
			t.Fatalf("%q: %v, %v", s, r, err)
		}
		if err == nil && strings.Join(r.Lines, "\n") != strings.TrimSuffix(strings.ReplaceAll(m, "\r\n", "\n"), "\n") {
			t.Fatalf("%q: %q, want %q", s, r.Lines, m)
		}
	})
}
