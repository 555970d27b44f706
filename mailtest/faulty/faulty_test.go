package faulty

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSound works on each product with a client that is not ours.
func TestSound(t *testing.T) {
	for _, p := range []Product{Dovecot(), DovecotPrefixed(), Cyrus(), Courier(), Plain()} {
		t.Run(p.Name, func(t *testing.T) {
			h := Start(t, p)
			c, err := imapclient.DialInsecure(h.Addr, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			check := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			check(c.Login("anna", Password).Wait())
			name := h.Account.Name("Work", "2026")
			check(c.Create(name, nil).Wait())
			list, err := c.List("", "*", nil).Collect()
			check(err)
			if len(list) != 3 {
				t.Errorf("%d mailboxes", len(list))
			}
			date := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			for i := range 3 {
				body := fmt.Sprintf("Subject: %d\r\n\r\n%d\r\n", i, i)
				a := c.Append(name, int64(len(body)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen}, Time: date})
				_, err := a.Write([]byte(body))
				check(err)
				check(a.Close())
				_, err = a.Wait()
				check(err)
			}
			sel, err := c.Select(name, nil).Wait()
			check(err)
			if sel.NumMessages != 3 || sel.UIDNext != 4 {
				t.Errorf("%+v", sel)
			}
			uids := imap.UIDSetNum(2)
			check(c.Store(uids, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close())
			_, err = c.Copy(imap.UIDSetNum(1), "INBOX").Wait()
			check(err)
			if c.Caps().Has(imap.CapUIDPlus) {
				check(c.UIDExpunge(uids).Close())
			} else {
				check(c.Expunge().Close())
			}
			messages, err := c.Fetch(imap.UIDSet{imap.UIDRange{Start: 1, Stop: 0}}, &imap.FetchOptions{UID: true, Flags: true, InternalDate: true, RFC822Size: true,
				BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
			check(err)
			if len(messages) != 2 || messages[1].UID != 3 || !messages[0].InternalDate.Equal(date) || string(messages[1].BodySection[0].Bytes) != "Subject: 2\r\n\r\n2\r\n" {
				t.Errorf("%+v", messages)
			}
			before := h.Account.Contents()[name][0].Validity
			to := h.Account.Name("Work", "2027")
			check(c.Unselect().Wait())
			check(c.Rename(name, to, nil).Wait())
			if after := h.Account.Contents()[to][0].Validity; (after != before) != p.RenameRenumber {
				t.Errorf("UIDVALIDITY was %d and is %d", before, after)
			}
			if n := h.Account.Count("INBOX"); n != 1 {
				t.Errorf("%d in INBOX", n)
			}
			check(c.Logout().Wait())
		})
	}
}

// TestKinds: each fault does what it says.
func TestKinds(t *testing.T) {
	for kind := Cut; kind < kinds; kind++ {
		t.Run(kind.String(), func(t *testing.T) {
			h := Start(t, Dovecot())
			h.Account.Append("INBOX", nil, time.Now(), []byte("x"))
			for range 20 {
				h.Account.Append("INBOX", nil, time.Now(), []byte("y"))
			}
			c, err := net.Dial("tcp", h.Addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			r := bufio.NewReader(c)
			// say sends a command and reads to its end, or that of the connection.
			say := func(format string, args ...any) (answer string) {
				fmt.Fprintf(c, "a "+format+"\r\n", args...)
				for {
					line, err := r.ReadString('\n')
					if answer += line; err != nil || strings.HasPrefix(line, "a ") {
						return answer
					}
				}
			}
			if got := say("LOGIN anna " + Password); !strings.Contains(got, "a OK") {
				t.Fatal(got)
			}
			say("SELECT INBOX")
			h.Fail(&Faults{Seed: 2, Rate: 1, Kinds: []Kind{kind}, Wait: 5 * time.Millisecond})
			var got string
			switch kind {
			case Half, Lies:
				got = say("UID FETCH 1:* (FLAGS)")
			case Some:
				got = say(`UID STORE 1:* +FLAGS (\Seen)`)
			default:
				got = say("APPEND INBOX {3+}\r\nabc")
			}
			h.Sound() // what is late has happened
			stored := h.Account.Count("INBOX") == 22
			last := strings.Split(strings.TrimSuffix(got, "\r\n"), "\r\n")
			ended := !strings.HasSuffix(got, "\r\n") || !strings.HasPrefix(last[len(last)-1], "a ")
			type outcome struct{ stored, ended bool }
			want, known := map[Kind]outcome{Cut: {false, true}, Lost: {true, true}, Inside: {true, true}, Upload: {false, true}, Late: {true, true}, Bye: {false, true},
				Refuse: {false, false}, Bad: {false, false}, Noise: {true, false}, Slow: {true, false}}[kind]
			if known && (stored != want.stored || ended != want.ended) {
				t.Errorf("stored %v, ended %v: %q", stored, ended, got)
			}
			lines, no := strings.Count(got, "FETCH ("), strings.Contains(got, "a NO")
			switch kind {
			case Half, Lies:
				if lines == 21 || lines == 0 || no != (kind == Half) {
					t.Errorf("%d messages, NO is %v", lines, no)
				}
			case Some:
				if lines == 21 || !no {
					t.Errorf("%d messages, NO is %v", lines, no)
				}
			}
		})
	}
}
