package backend

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailgate/auth"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/mailtest"
)

// dialed logs the engine in at a server in clear on loopback.
func dialed(t testing.TB, addr, user, password string) *Client {
	t.Helper()
	host, p, err := net.SplitHostPort(addr)
	port, err2 := strconv.Atoi(p)
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	b := config.Backend{Hosts: []config.Host{{Name: "host", IMAP: config.Endpoint{Protocol: config.IMAP, Host: host, Port: port}}},
		ConnectTimeout: 10 * time.Second, LoginTimeout: 30 * time.Second}
	d, err := NewDialer([2]config.Backend{b, b}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	cr, err := auth.Password("PLAIN", user, password)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.DialClient(t.Context(), config.Old, "", Account{Credentials: cr, LoginName: user})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// oracle is go-imap's client on a connection of its own. It shares no code with the engine.
type oracle struct {
	t testing.TB
	*imapclient.Client
}

func newOracle(t testing.TB, addr, user, password string) *oracle {
	t.Helper()
	c, err := imapclient.DialInsecure(addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Login(user, password).Wait(); err != nil {
		t.Fatal(err)
	}
	return &oracle{t, c}
}

// seen is a message, as either of them tells of it; and by UID all of a mailbox.
type (
	seen  struct{ Flags, Date, Body string }
	boxes map[string]map[uint32]seen
)

func (o *oracle) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatalf("the oracle: %v", err)
	}
}

func hash(b []byte) string { return fmt.Sprintf("%d:%x", len(b), sha256.Sum256(b)) }

func sorted(list []string) string {
	for i, s := range list {
		list[i] = strings.ToLower(s)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// all tells everything of an account: as text, for comparing, and the messages.
func (o *oracle) all() (string, boxes) {
	o.t.Helper()
	var b strings.Builder
	out := boxes{}
	list, err := o.List("", "*", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{NumMessages: true, UIDNext: true, UIDValidity: true, NumUnseen: true}}).Collect()
	o.must(err)
	for _, e := range list {
		raw := imapwire.EncodeName(e.Mailbox)
		if strings.EqualFold(raw, "INBOX") {
			raw = "INBOX"
		}
		fmt.Fprintf(&b, "%s %c %d %d %d %d\n", raw, e.Delim, *e.Status.NumMessages, e.Status.UIDNext, e.Status.UIDValidity, *e.Status.NumUnseen)
		box, err := o.Select(e.Mailbox, &imap.SelectOptions{ReadOnly: true}).Wait()
		o.must(err)
		fmt.Fprintf(&b, " %d %d %d\n", box.NumMessages, box.UIDNext, box.UIDValidity)
		m := map[uint32]seen{}
		out[raw] = m
		if box.NumMessages > 0 {
			got, err := o.Fetch(imap.UIDSet{{Start: 1}}, &imap.FetchOptions{UID: true, Flags: true, InternalDate: true, RFC822Size: true,
				BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
			o.must(err)
			for _, g := range got {
				var flags []string
				for _, f := range g.Flags {
					flags = append(flags, string(f))
				}
				m[uint32(g.UID)] = seen{sorted(flags), g.InternalDate.UTC().String(), hash(g.BodySection[0].Bytes)}
				fmt.Fprintf(&b, " %d %d %d %v\n", g.SeqNum, g.UID, g.RFC822Size, m[uint32(g.UID)])
			}
		}
		for _, c := range []*imap.SearchCriteria{{Flag: []imap.Flag{imap.FlagDeleted}}, {NotFlag: []imap.Flag{imap.FlagSeen}}, {Larger: 1000}} {
			got, err := o.UIDSearch(c, nil).Wait()
			o.must(err)
			fmt.Fprintf(&b, " %v", got.AllUIDs())
		}
		fmt.Fprintln(&b)
	}
	return b.String(), out
}

// everything is oracle.all by the engine.
func everything(ctx context.Context, c *Client) (string, error) {
	var b strings.Builder
	items := []string{"MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN"}
	var list []ListEntry
	if err := c.List(ctx, ListOptions{Status: items}, func(e ListEntry) error {
		list = append(list, e)
		return nil
	}); err != nil {
		return "", err
	}
	for _, e := range list {
		one, err := c.Status(e.Name, items...).Result(ctx) // says the same as LIST
		if err != nil || e.Status == nil || one != *e.Status {
			return "", fmt.Errorf("STATUS %+v, LIST %+v, %w", one, e.Status, err)
		}
		fmt.Fprintf(&b, "%s %c %d %d %d %d\n", e.Name, e.Separator, one.Messages, one.UIDNext, one.Validity, one.Unseen)
		box, err := c.Select(e.Name, SelectOptions{ReadOnly: true}).Result(ctx)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, " %d %d %d\n", box.Exists, box.UIDNext, box.Validity)
		body := ""
		var commands []*Command
		if box.Exists > 0 {
			commands = append(commands, c.Fetch("1:*", FetchOptions{Items: []string{"FLAGS", "INTERNALDATE", "RFC822.SIZE", "BODY.PEEK[]"},
				Body: func(_ *Message, _ string, _ int64, r io.Reader) error {
					all, err := io.ReadAll(r)
					body = hash(all)
					return err
				}, Message: func(m *Message) error {
					fmt.Fprintf(&b, " %d %d %d %v\n", m.Seq, m.UID, m.Size, seen{sorted(strings.Fields(string(m.Flags))), m.InternalDate.UTC().String(), body})
					return nil
				}}))
		}
		for _, c := range commands {
			if err := c.Wait(ctx); err != nil {
				return "", err
			}
		}
		for _, what := range []string{"DELETED", "UNSEEN", "LARGER 1000"} {
			uids := []imap.UID{}
			if err := c.Search(what, func(r Range) {
				for u := r.First; u <= r.Last; u++ {
					uids = append(uids, imap.UID(u))
				}
			}).Wait(ctx); err != nil {
				return "", err
			}
			fmt.Fprintf(&b, " %v", uids)
		}
		fmt.Fprintln(&b)
	}
	return b.String(), nil
}

// differ shows the first lines in which two texts differ.
func differ(t testing.TB, what, engine, oracle string) {
	t.Helper()
	a, b := strings.Split(engine, "\n"), strings.Split(oracle, "\n")
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			t.Fatalf("%s: from line %d on\nthe engine says\n%s\nthe oracle says\n%s", what, i, strings.Join(a[min(i, len(a)):], "\n"), strings.Join(b[min(i, len(b)):], "\n"))
		}
	}
}

// memory starts go-imap's server, and both clients at it.
func memory(t testing.TB) (*Client, *oracle) {
	t.Helper()
	m, err := mailtest.StartMemory("memory", map[string]string{"u@example.com": "pw"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return dialed(t, m.IMAP, "u@example.com", "pw"), newOracle(t, m.IMAP, "u@example.com", "pw")
}

// TestOracleIdle: what another client does is heard while idling, in order.
func TestOracleIdle(t *testing.T) {
	c, o := memory(t)
	if _, err := c.Select("INBOX", SelectOptions{}).Result(ctx(t)); err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 100)
	c.SetUntagged(Untagged{Exists: func(n uint32) { heard <- fmt.Sprint("exists ", n) }, Expunge: func(n uint32) { heard <- fmt.Sprint("expunge ", n) },
		Fetch: func(m *Message) { heard <- fmt.Sprintf("fetch %d %s", m.Seq, strings.ToLower(string(m.Flags))) }})
	idle, stop := context.WithCancel(ctx(t))
	ended := make(chan error, 1)
	go func() { ended <- c.Idle(idle) }()
	_, err := o.Select("INBOX", nil).Wait()
	o.must(err)
	appended := func() {
		a := o.Append("INBOX", 5, nil)
		_, _ = io.WriteString(a, "a\r\n\r\n")
		o.must(a.Close())
		_, err := a.Wait()
		o.must(err)
	}
	marked := func(n uint32, flag imap.Flag) {
		o.must(o.Store(imap.SeqSetNum(n), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{flag}, Silent: true}, nil).Close())
	}
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-heard:
			if got != want {
				t.Errorf("%q, want %q", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%q was not heard", want)
		}
	}
	// The server tells nothing of what happened between its "+ idling" and its listening, until something more happens.
	appended()
	for awake := false; !awake; {
		select {
		case got := <-heard:
			if awake = true; got != "exists 1" {
				t.Errorf("%q, want \"exists 1\"", got)
			}
		case <-time.After(50 * time.Millisecond):
			if idle.Err() != nil {
				t.Fatal("nothing was heard")
			}
			marked(1, imap.FlagSeen)
		}
	}
	marked(1, imap.FlagAnswered)
	for got := ""; !strings.Contains(got, "answered"); {
		select {
		case got = <-heard:
			if !strings.HasPrefix(got, "fetch 1 \\seen") && !strings.HasPrefix(got, "fetch 1 \\answered") {
				t.Errorf("%q, want flags of message 1", got)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("flags of message 1 were not heard")
		}
	}
	appended()
	appended()
	marked(3, imap.FlagDeleted)
	o.must(o.Expunge().Close())
	for _, want := range []string{"exists 2", "exists 3", "fetch 3 \\deleted", "expunge 3"} {
		expect(want)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := c.Logout(ctx(t)); err != nil {
		t.Error(err)
	}
}
