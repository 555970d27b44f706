package backend

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/imapwire"
)

// TestStatusByName: an answer goes to who asked for that mailbox, whatever the order; where the server spells names its own
// way it goes to the oldest without one.
func TestStatusByName(t *testing.T) {
	for _, c := range []struct {
		what, answers string // %[1]s and %[2]s are the tags
		first, second string
	}{
		{"other order", "* STATUS b (MESSAGES 2)\n* STATUS inbox (MESSAGES 1)\n%[1]s OK\n%[2]s OK\n", "inbox 1", "b 2"},
		{"unasked between", "* STATUS other (MESSAGES 9)\n* STATUS INBOX (MESSAGES 1)\n%[1]s OK\n* STATUS b (MESSAGES 2)\n%[2]s OK\n", "INBOX 1", "b 2"},
		{"re-spelled", "* STATUS \"B\" (MESSAGES 2)\n%[2]s OK\n* STATUS INBOX (MESSAGES 1)\n%[1]s OK\n", "INBOX 1", "B 2"},
		{"of another name, alone", "* STATUS INBOX (MESSAGES 1)\n%[1]s OK\n* STATUS INBOX.b (MESSAGES 2)\n%[2]s OK\n", "INBOX 1", "INBOX.b 2"},
		{"guessed, then known", "* STATUS INBOX (MESSAGES 1)\n%[1]s OK\n* STATUS x (MESSAGES 9)\n* STATUS b (MESSAGES 2)\n%[2]s OK\n", "INBOX 1", "b 2"},
		{"no list", "* STATUS INBOX\n* STATUS INBOX (MESSAGES 1)\n%[1]s OK\n* STATUS b (MESSAGES 2)\n%[2]s OK\n", "INBOX 1", "b 2"},
	} {
		t.Run(c.what, func(t *testing.T) {
			x := played(t, "IMAP4rev1", func(p *peer) {
				a, b := p.want(`STATUS "INBOX" (MESSAGES)`), p.want(`STATUS "b" (MESSAGES)`)
				p.say(c.answers, a, b)
			})
			one, two := x.Status("INBOX", "MESSAGES"), x.Status("b", "MESSAGES")
			for i, s := range []*StatusCommand{one, two} {
				got, err := s.Result(ctx(t))
				if text := fmt.Sprint(got.Name, " ", got.Messages); err != nil || text != []string{c.first, c.second}[i] {
					t.Errorf("%d: %q %v", i, text, err)
				}
			}
		})
	}
}

// TestNotifiedStatus: once NOTIFY is on, what nobody has asked for is nobody's answer.
func TestNotifiedStatus(t *testing.T) {
	c := played(t, "IMAP4rev1 NOTIFY", func(p *peer) {
		p.say("%s OK\n", p.want("NOTIFY SET (personal (MessageNew))"))
		p.say("* STATUS other (MESSAGES 9)\n%s NO no\n", p.want(`STATUS "b" (MESSAGES)`))
	})
	var heard string
	c.SetUntagged(Untagged{Status: func(s Status) { heard = s.Name }})
	if err := c.Notify(ctx(t), "SET (personal (MessageNew))"); err != nil {
		t.Fatal(err)
	}
	s := c.Status("b", "MESSAGES")
	if _, err := s.Result(ctx(t)); err == nil || s.got != nil || heard != "other" {
		t.Errorf("%+v %v, heard %q", s.got, err, heard)
	}
}

// sparse writes n UIDs that touch nowhere.
func sparse(from, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(from + 2*i))
	}
	return b.String()
}

// TestLongCodes: thousands of sparse UIDs in a response code come through whole.
func TestLongCodes(t *testing.T) {
	const n = 300_000
	c := played(t, "IMAP4rev1 UIDPLUS CONDSTORE LITERAL+ MULTIAPPEND", func(p *peer) {
		p.say("%s OK [MODIFIED %s] x\n", strings.Split(p.line(), " ")[0], sparse(1, n))
		p.say("%s OK [COPYUID 7 %s %s] x\n", strings.Split(p.line(), " ")[0], sparse(1, n), sparse(100, n))
		p.say("* OK [COPYUID 7 %s %s] x\n%s OK\n", sparse(1, n), sparse(100, n), strings.Split(p.line(), " ")[0])
		tag := strings.Split(p.line(), " ")[0]
		p.line()
		p.say("%s OK [APPENDUID 7 %s] x\n", tag, sparse(1, n))
	})
	got := 0
	if err := c.Store("1:*", StoreOptions{Add: []string{"a"}, UnchangedSince: 3, Modified: func(Range) { got++ }}).Wait(ctx(t)); err != nil || got != n {
		t.Errorf("MODIFIED: %d, %v", got, err)
	}
	for _, what := range []string{"tagged", "untagged"} {
		copied, err := c.Copy("1:*", "x").Result(ctx(t))
		if err != nil || len(copied.From) != n || len(copied.To) != n || copied.To[n-1] != 100+2*(n-1) {
			t.Errorf("COPYUID, %s: %d, %v", what, len(copied.To), err)
		}
	}
	a := c.Append(ctx(t), "x")
	w, err := a.Next(ctx(t), AppendMessage{Size: 1})
	if err == nil {
		_, err = io.WriteString(w, "a")
	}
	done, err2 := a.Finish().Result(ctx(t))
	if err != nil || err2 != nil || len(done.UIDs) != n {
		t.Errorf("APPENDUID: %d, %v %v", len(done.UIDs), err, err2)
	}
}

// TestOddLines: what is no IMAP, and nobody needs, costs nothing.
func TestOddLines(t *testing.T) {
	for _, odd := range []string{
		"* XFOO \"abc", "* 3 EXISTS \"", "", "* XFOO {x {3}\nabc \"", "* XFOO \"a\\", "* XFOO a{12}b {99", "* 7 XBAR (\"a", "* STATUS x", "* STATUS \"x",
		"* OK [XFOO \"] x", "* OK [XFOO", "* OK", "* NO [", "* CAPABILITY", "* NAMESPACE ((\"\" \"/\")", "* ID (\"", "* QUOTA (", "* 1 XFOO {2}\na\"", "*", "* ",
	} {
		c := played(t, "IMAP4rev1", func(p *peer) {
			p.say("%s\n* XLAST {2}\n\"\"\n%s OK [XDONE] x\n", odd, p.want("NOOP"))
		})
		x := c.Noop()
		if err := x.Wait(ctx(t)); err != nil || x.Code().Name != "XDONE" {
			t.Errorf("%q: %v %+v", odd, err, x.Code())
		}
	}
}

// TestOddFetch: NIL where there has to be something is nothing, and a section may hold literals.
func TestOddFetch(t *testing.T) {
	for answer, want := range map[string]string{
		"INTERNALDATE NIL FLAGS NIL RFC822.SIZE NIL MODSEQ NIL":                            "- 0 ''",
		"FLAGS (a) INTERNALDATE {26}\n17-Jul-1996 02:44:25 -0700 RFC822.SIZE 5 MODSEQ (7)": "a 5 '17-Jul-1996 02:44:25 -0700'",
		"BODY[HEADER.FIELDS ({3}\nFoo)] {2}\nhi FLAGS (b)":                                 "BODY[HEADER.FIELDS (\"Foo\")]=hi b 0 ''",
		"BODY[HEADER.FIELDS ({3+}\nF]\" X)]<0> \"hi\" FLAGS (b)":                           "BODY[HEADER.FIELDS (\"F]\\\"\" X)]<0>=hi b 0 ''",
		"FLAGS (a) FLAGS (b c)": "b c 0 ''",
	} {
		c := played(t, "IMAP4rev1", func(p *peer) {
			tag := strings.Split(p.line(), " ")[0]
			p.say("* 1 FETCH (UID 7 " + strings.ReplaceAll(answer, "%", "%%") + ")\n")
			p.say("%s OK\n", tag)
		})
		got := ""
		err := c.Fetch("7", FetchOptions{Items: []string{"FLAGS"}, Body: func(_ *Message, section string, _ int64, r io.Reader) error {
			b, err := io.ReadAll(r)
			got += section + "=" + string(b) + " "
			return err
		}, Message: func(m *Message) error {
			flags := string(m.Flags)
			if !m.HasFlags {
				flags = "-"
			}
			got += fmt.Sprintf("%s %d '%s'", flags, m.Size, m.DateText)
			return nil
		}}).Wait(ctx(t))
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", answer, got, err, want)
		}
	}
}

// TestWantedAnswerIsOdd: what cannot be understood of an answer that was asked for is an error, but only of that command.
func TestWantedAnswerIsOdd(t *testing.T) {
	c := played(t, "IMAP4rev1 NAMESPACE", func(p *peer) {
		p.say("* NAMESPACE ((\"\" \"/\"\n%s OK\n", p.want("NAMESPACE"))
		p.say("%s OK\n", p.want("NOOP"))
	})
	if _, err := c.Namespace(ctx(t)); !errors.Is(err, imapwire.ErrGrammar) {
		t.Errorf("NAMESPACE: %v", err)
	}
	if err := c.Noop().Wait(ctx(t)); err != nil {
		t.Error(err)
	}
}

// TestByeThenReset: why a server hangs up is told, however it does.
func TestByeThenReset(t *testing.T) {
	for _, how := range []string{"end", "reset", "garbage", "half a line"} {
		c := played(t, "IMAP4rev1", func(p *peer) {
			p.line()
			p.say("* BYE [UNAVAILABLE] going down\n")
			switch how {
			case "reset":
				_ = p.conn.(*net.TCPConn).SetLinger(0)
				time.Sleep(20 * time.Millisecond)
			case "garbage":
				p.say("?\n")
			case "half a line":
				p.say("* OK")
			}
			_ = p.conn.Close()
		})
		err := c.Noop().Wait(ctx(t))
		var s *StatusError
		if !errors.As(err, &s) || s.Status != "BYE" || s.Code.Name != "UNAVAILABLE" || s.Text != "going down" {
			t.Errorf("%s: %v", how, err)
		}
	}
}

// TestByeBeforeWriting: a command that cannot be written any more fails with what the server has said.
func TestByeBeforeWriting(t *testing.T) {
	client, server := net.Pipe()
	c := newClient(&IMAPConn{Conn: noWrite{client}})
	defer c.Close()
	x := c.Noop()
	_, _ = io.WriteString(server, "* BYE enough\r\n")
	_ = server.Close()
	var s *StatusError
	if err := x.Wait(ctx(t)); !errors.As(err, &s) || s.Text != "enough" {
		t.Error(err)
	}
	// And when it has said nothing, with why it could not be written.
	client, server = net.Pipe()
	defer server.Close()
	c = newClient(&IMAPConn{Conn: noWrite{client}})
	defer c.Close()
	if err := c.Noop().Wait(ctx(t)); !errors.Is(err, errNoWrite) {
		t.Error(err)
	}
}

// TestByeAmidAppend: why a server hangs up in the middle of a message is what its writer is told, and who waits.
func TestByeAmidAppend(t *testing.T) {
	for _, abandon := range []bool{false, true} {
		c := played(t, "IMAP4rev1 LITERAL+", func(p *peer) {
			p.line()
			p.say("* BYE [OVERQUOTA] no more\n")
			time.Sleep(20 * time.Millisecond)
			_ = p.conn.(*net.TCPConn).SetLinger(0)
			_ = p.conn.Close()
		})
		bye := func(what string, err error) {
			t.Helper()
			var s *StatusError
			if !errors.As(err, &s) || s.Status != "BYE" || s.Code.Name != "OVERQUOTA" {
				t.Errorf("%s: %v", what, err)
			}
		}
		a := c.Append(ctx(t), "x")
		w, err := a.Next(ctx(t), AppendMessage{Size: 1 << 40})
		for piece := make([]byte, 1<<20); err == nil; {
			_, err = w.Write(piece)
		}
		bye("Write", err)
		if abandon {
			a.Abandon(err)
		} else {
			_, err := a.Finish().Result(ctx(t))
			bye("Finish", err)
		}
		bye("the next command", c.Noop().Wait(ctx(t)))
	}
}

var errNoWrite = errors.New("cannot be written")

type noWrite struct{ net.Conn }

func (noWrite) Write([]byte) (int, error) { return 0, errNoWrite }

// TestSlowHandler: the time that a handler takes is not the server's silence, neither for what is read nor for a command that
// the server does not take because nobody reads what it has to say.
func TestSlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		c := newClient(&IMAPConn{Conn: client, Capabilities: []string{"IMAP4REV1"}})
		c.hurry(time.Second)
		done := make(chan struct{})
		go func() {
			defer close(done)
			p := &peer{t: t, conn: server}
			line := make([]byte, 100)
			n, _ := server.Read(line)
			tag, _, _ := strings.Cut(string(line[:n]), " ")
			p.say("* 1 FETCH (UID 1 FLAGS ())\n")
			p.say("* 2 FETCH (UID 2 FLAGS ())\n%s OK\n", tag) // is not read before the handler has returned
			n, _ = server.Read(line)
			tag, _, _ = strings.Cut(string(line[:n]), " ")
			p.say("%s OK\n", tag)
			_, _ = server.Read(line) // and then it is silent
			_, _ = io.Copy(io.Discard, server)
		}()
		seen := 0
		x := c.Fetch("1:*", FetchOptions{Items: []string{"FLAGS"}, Message: func(m *Message) error {
			if seen++; seen == 1 {
				time.Sleep(3 * time.Second)
			}
			return nil
		}})
		time.Sleep(time.Millisecond)
		y := c.Noop() // its Write lasts as long as the handler
		if err := x.Wait(t.Context()); err != nil || seen != 2 {
			t.Errorf("%d messages, %v", seen, err)
		}
		if err := y.Wait(t.Context()); err != nil {
			t.Errorf("the command behind it: %v", err)
		}
		began := time.Now()
		var e net.Error
		if err := c.Noop().Wait(t.Context()); !errors.As(err, &e) || !e.Timeout() || time.Since(began) > 2*time.Second {
			t.Errorf("silence: %v after %v", err, time.Since(began))
		}
		_ = c.Close()
		_ = server.Close()
		<-done
	})
}

// TestUnselectWithout leaves by a mailbox that is not there.
func TestUnselectWithout(t *testing.T) {
	c := played(t, "IMAP4rev1", func(p *peer) {
		p.say("%s NO no such mailbox\n", p.want(`EXAMINE "mailgate-no-such-mailbox"`))
		p.want(`EXAMINE "mailgate-no-such-mailbox"`)
		p.say("* BYE x\n")
		_ = p.conn.Close()
	})
	before := runtime.NumGoroutine()
	x := c.Unselect()
	if err := x.Wait(ctx(t)); err != nil {
		t.Error(err)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines more", n-before)
	}
	var s *StatusError
	if err := c.Unselect().Wait(ctx(t)); !errors.As(err, &s) || s.Status != "BYE" {
		t.Errorf("BYE: %v", err)
	}
}
