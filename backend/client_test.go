package backend

import (
	"bufio"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// peer is the server's end of a connection, played by a test.
type peer struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// played runs a test's server beside a client with these capabilities.
func played(t *testing.T, capabilities string, server func(*peer)) *Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		server(&peer{t, s, bufio.NewReader(s)})
	}()
	c := newClient(&IMAPConn{Conn: conn, Capabilities: strings.Fields(capabilities), Host: "played"})
	c.hurry(5 * time.Second)
	t.Cleanup(func() {
		_ = c.Close()
		_ = s.Close()
		<-done
	})
	return c
}

// line reads one from the client.
func (p *peer) line() string {
	s, err := p.r.ReadString('\n')
	if err != nil {
		return ""
	}
	return strings.TrimRight(s, "\r\n")
}

// want reads a line, whose tag is returned, and compares the rest.
func (p *peer) want(text string) (tag string) {
	tag, rest, _ := strings.Cut(p.line(), " ")
	if rest != text {
		p.t.Errorf("the client says %q, want %q", rest, text)
	}
	return tag
}

func (p *peer) say(format string, args ...any) {
	_, _ = fmt.Fprintf(p.conn, strings.ReplaceAll(format, "\n", "\r\n"), args...)
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return c
}

// TestFetchAnswers are legal answers that a client of the simple kind stumbles over (uid-stable.md, section 7, C1 to C7).
func TestFetchAnswers(t *testing.T) {
	for _, c := range []struct{ what, answer, want string }{
		{"plain", "* 1 FETCH (UID 7 FLAGS (\\Seen) BODY[] {5}\nhello)\n", "body 7 BODY[] hello; 7 \\Seen"},
		{"UID behind the body", "* 1 FETCH (FLAGS (\\Seen) BODY[] {5}\nhello UID 7)\n", "body 7 BODY[] hello; 7 \\Seen"},
		{"flags told before, unasked", "* 1 FETCH (UID 7 FLAGS (a))\n* 1 FETCH (UID 7 BODY[] {5}\nhello)\n", "7 a; body 7 BODY[] hello; 7 -"},
		{"unknown items", "* 1 FETCH (UID 7 X-GM-LABELS (a \"b c\" {1}\nd) SAVEDATE NIL EMAILID (M1) THREADID NIL BODY[] \"q\\\"uoted\" FLAGS ())\n", "body 7 BODY[] q\"uoted; 7 "},
		{"unknown responses", "* VANISHED 3:4\n* X-THING (a {3}\nb c) d\n* LSUB () \".\" R&D\n* OK [XCODE \"]\"] x\n* 1 FETCH (UID 7 FLAGS (a]b $x))\n", "7 a]b $x"},
		{"odd date", "* 1 FETCH (UID 7 FLAGS () INTERNALDATE \"01-Jan-1970 00:00:00\")\n", "7 "},
		{"section with brackets", "* 1 FETCH (UID 7 BODY[HEADER.FIELDS (\"X]Y\" UID)] {3}\nabc FLAGS ())\n", "body 7 BODY[HEADER.FIELDS (\"X]Y\" UID)] abc; 7 "},
		{"literal8 and NUL", "* 1 FETCH (UID 7 BODY[] ~{3}\na\x00b FLAGS ())\n", "body 7 BODY[] a\x00b; 7 "},
		{"NIL body", "* 1 FETCH (UID 7 BODY[] NIL FLAGS ())\n", "7 "},
		{"two commands answered at once", "* 2 FETCH (UID 9 FLAGS (other))\n* 1 FETCH (UID 7 FLAGS (mine))\n", "7 mine"},
		{"envelope", "* 1 FETCH (UID 7 ENVELOPE (\"d\" {2}\nab ((NIL NIL \"a\" \"b\")) NIL NIL NIL NIL NIL NIL \"<i>\") FLAGS ())\n", "7 "},
	} {
		t.Run(c.what, func(t *testing.T) {
			x := played(t, "IMAP4rev1", func(p *peer) {
				tag := p.want("UID FETCH 7 (UID FLAGS BODY.PEEK[])")
				p.say("%s", strings.ReplaceAll(c.answer, "\n", "\r\n"))
				p.say("%s OK done\n", tag)
			})
			var got []string
			err := x.Fetch("7", FetchOptions{Items: []string{"FLAGS", "BODY.PEEK[]"},
				Body: func(m *Message, section string, size int64, r io.Reader) error {
					b, err := io.ReadAll(r)
					if int64(len(b)) != size {
						t.Errorf("%d bytes, size %d", len(b), size)
					}
					got = append(got, fmt.Sprintf("body %d %s %s", m.UID, section, b))
					return err
				},
				Message: func(m *Message) error {
					flags := string(m.Flags)
					if !m.HasFlags {
						flags = "-"
					}
					got = append(got, fmt.Sprintf("%d %s", m.UID, flags))
					return nil
				}}).Wait(ctx(t))
			if s := strings.Join(got, "; "); err != nil || s != c.want {
				t.Errorf("%q, %v; want %q", s, err, c.want)
			}
		})
	}
}

// TestBodyBeforeUID has a body come before its UID that is too long for memory.
func TestBodyBeforeUID(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 20000)
	c := played(t, "IMAP4rev1", func(p *peer) {
		tag, _, _ := strings.Cut(p.line(), " ")
		p.say("* 1 FETCH (BODY[] {%d}\n%s UID 3)\n%s OK\n", len(long), long, tag)
	})
	ok := false
	err := c.Fetch("1:*", FetchOptions{Items: []string{"BODY.PEEK[]"}, Body: func(m *Message, _ string, _ int64, r io.Reader) error {
		b, err := io.ReadAll(r)
		ok = m.UID == 3 && string(b) == long
		return err
	}}).Wait(ctx(t))
	if err != nil || !ok {
		t.Errorf("%v %v", ok, err)
	}
}

// TestHandlerError ends the connection, and is what Wait says.
func TestHandlerError(t *testing.T) {
	c := played(t, "IMAP4rev1", func(p *peer) {
		p.line()
		p.say("* 1 FETCH (UID 1 FLAGS ())\n")
		_, _ = io.Copy(io.Discard, p.conn)
	})
	mine := errors.New("mine")
	if err := c.Fetch("1:*", FetchOptions{Items: []string{"FLAGS"}, Message: func(*Message) error { return mine }}).Wait(ctx(t)); !errors.Is(err, mine) {
		t.Error(err)
	}
	<-c.Done()
	if err := c.Noop().Wait(ctx(t)); !errors.Is(err, mine) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestAppendForms: what goes over the wire for each kind of literal that a server takes.
func TestAppendForms(t *testing.T) {
	date := time.Date(1996, 7, 17, 2, 44, 25, 0, time.FixedZone("", -7*3600))
	for _, c := range []struct {
		capabilities string
		want         string // "|" stands for a wait
	}{
		{"IMAP4rev1 LITERAL+ MULTIAPPEND", "APPEND \"x\" (\\Seen) \"17-Jul-1996 02:44:25 -0700\" {3+}\r\nabc () {5000+}\r\n"},
		{"IMAP4rev1 LITERAL- MULTIAPPEND", "APPEND \"x\" (\\Seen) \"17-Jul-1996 02:44:25 -0700\" {3+}\r\nabc () {5000}\r\n|"},
		{"IMAP4rev1 MULTIAPPEND", "APPEND \"x\" (\\Seen) \"17-Jul-1996 02:44:25 -0700\" {3}\r\n|abc () {5000}\r\n|"},
	} {
		big := strings.Repeat("x", 5000)
		x := played(t, c.capabilities, func(p *peer) {
			tag, err := p.r.ReadString(' ')
			if err != nil {
				t.Error(err)
				return
			}
			for _, part := range strings.SplitAfter(c.want, "|") {
				text := strings.TrimSuffix(part, "|")
				b := make([]byte, len(text))
				if _, err := io.ReadFull(p.r, b); err != nil || string(b) != text {
					t.Errorf("%s: %q, %v; want %q", c.capabilities, b, err, text)
				}
				if strings.HasSuffix(part, "|") {
					p.say("+ go\n")
				}
			}
			b := make([]byte, 5002)
			if _, err := io.ReadFull(p.r, b); err != nil || string(b) != big+"\r\n" {
				t.Errorf("%s: the second message: %v", c.capabilities, err)
			}
			p.say("%sOK [appenduid 38 4:5] done\n", tag)
		})
		a := x.Append(ctx(t), "x")
		for _, m := range []struct {
			AppendMessage
			body string
		}{{AppendMessage{Flags: []string{`\Seen`}, Date: date, Size: 3}, "abc"}, {AppendMessage{Size: 5000}, big}} {
			w, err := a.Next(ctx(t), m.AppendMessage)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, m.body); err != nil {
				t.Fatal(err)
			}
		}
		got, err := a.Finish().Result(ctx(t))
		if err != nil || got.Validity != 38 || len(got.UIDs) != 2 || got.UIDs[1] != 5 {
			t.Errorf("%s: %+v %v", c.capabilities, got, err)
		}
	}
}

// TestEarlyNo: a server that refuses before the literal costs nothing but the message, and the line that some send for the
// command's end is nobody's answer.
func TestEarlyNo(t *testing.T) {
	c := played(t, "IMAP4rev1", func(p *peer) {
		tag, _, _ := strings.Cut(p.line(), " ")
		p.say("%s NO [OVERQUOTA] full\n* BAD Invalid tag\n", tag)
		tag = p.want("NOOP")
		p.say("%s OK\n", tag)
	})
	a := c.Append(ctx(t), "x")
	var s *StatusError
	if _, err := a.Next(ctx(t), AppendMessage{Size: 10}); !errors.As(err, &s) || s.Code.Name != "OVERQUOTA" {
		t.Fatalf("Next: %v", err)
	}
	if _, err := a.Finish().Result(ctx(t)); !errors.As(err, &s) || s.Text != "full" {
		t.Errorf("Finish: %v", err)
	}
	if err := c.Noop().Wait(ctx(t)); err != nil {
		t.Errorf("the connection: %v", err)
	}
}

// TestMailboxNames: names that are no atoms go as strings, odd ones as literals, and come back raw.
func TestMailboxNames(t *testing.T) {
	c := played(t, "IMAP4rev1 LITERAL+", func(p *peer) {
		tag, _, _ := strings.Cut(p.line(), " ") // LIST
		p.say("* LIST (\\HasNoChildren) \".\" \"say \\\"hi\\\"\"\n* LIST () \"/\" R&D\n* LIST () NIL {4}\na\"\\b\n* list (\\noselect) \"/\" ~x\n* LIST () \"/\" a(b)c\n%s OK\n", tag)
		tag = p.want(`DELETE "say \"hi\""`)
		p.say("%s OK\n", tag)
		tag = p.want("DELETE {5+}")
		if p.line() != "caf\xc3\xa9" {
			t.Error("the literal")
		}
		p.say("%s NO [NONEXISTENT] no\n", tag)
	})
	var names []string
	if err := c.List(ctx(t), ListOptions{}, func(e ListEntry) error {
		names = append(names, e.Name)
		return nil
	}); err != nil || strings.Join(names, "|") != `say "hi"|R&D|a"\b|~x|a(b)c` {
		t.Errorf("%q %v", names, err)
	}
	if err := c.Delete(names[0]).Wait(ctx(t)); err != nil {
		t.Error(err)
	}
	var s *StatusError
	if err := c.Delete("caf\xc3\xa9").Wait(ctx(t)); !errors.As(err, &s) || s.Code.Name != "NONEXISTENT" || s.Command != "DELETE" {
		t.Error(err)
	}
}

// TestSelect reads all that SELECT may say, in any letter case.
func TestSelect(t *testing.T) {
	c := played(t, "IMAP4rev1 CONDSTORE QRESYNC ENABLE", func(p *peer) {
		tag := p.want(`EXAMINE "x" (QRESYNC (7 20 1:9))`)
		p.say("* OK [CLOSED] x\n* FLAGS (\\Seen a)\n* OK [PERMANENTFLAGS (\\Seen \\*)] x\n* 9 EXISTS\n* 0 RECENT\n* ok [uidvalidity 7]\n* OK [UIDNEXT 12] x\n"+
			"* OK [HIGHESTMODSEQ 33]\n* OK [MAILBOXID (F1)]\n* VANISHED (EARLIER) 2:3,5\n* 4 FETCH (UID 6 FLAGS (b) MODSEQ (31))\n%s OK [read-only] done\n", tag)
	})
	var gone []Range
	var changed []uint32
	s, err := c.Select("x", SelectOptions{ReadOnly: true, QResync: &QResync{Validity: 7, ModSeq: 20, Known: "1:9"},
		Vanished: func(r Range) { gone = append(gone, r) }, Fetch: func(m *Message) error {
			changed = append(changed, m.UID, uint32(m.ModSeq))
			return nil
		}}).Result(ctx(t))
	if err != nil || s.Exists != 9 || s.Validity != 7 || s.UIDNext != 12 || s.HighestModSeq != 33 || s.MailboxID != "F1" || !s.ReadOnly ||
		!s.CanKeep("new") || !s.CanKeep(`\seen`) || s.CanKeep(`\Flagged`) {
		t.Errorf("%+v %v", s, err)
	}
	if fmt.Sprint(gone, changed) != "[{2 3} {5 5}] [6 31]" {
		t.Errorf("%v %v", gone, changed)
	}
}

// TestLongLines: numbers are handed on one by one, however long the line is.
func TestLongLines(t *testing.T) {
	const n = 1 << 20
	c := played(t, "IMAP4rev1", func(p *peer) {
		tag := p.want("UID SEARCH ALL")
		w := bufio.NewWriter(p.conn)
		_, _ = w.WriteString("* SEARCH")
		for i := range n {
			fmt.Fprintf(w, " %d", i+1)
		}
		fmt.Fprintf(w, " (MODSEQ 5)\r\n%s OK\r\n", tag)
		_ = w.Flush()
	})
	count := uint32(0)
	if err := c.Search("ALL", func(r Range) {
		if count++; r.First != count {
			t.Errorf("%d at %d", r.First, count)
		}
	}).Wait(t.Context()); err != nil || count != n { // however long the machine takes: it is about the line
		t.Errorf("%d %v", count, err)
	}
}

// TestCopyForms: COPYUID in the tagged answer, and in an untagged one.
func TestCopyForms(t *testing.T) {
	for _, answer := range []string{"%s OK [COPYUID 5 1:2,9 20:22] done\n", "* OK [COPYUID 5 1:2,9 20:22]\n* 1 EXPUNGE\n%s OK done\n"} {
		c := played(t, "IMAP4rev1 MOVE", func(p *peer) { p.say(answer, p.want(`UID MOVE 1:2,9 "to"`)) })
		got, err := c.Move("1:2,9", "to").Result(ctx(t))
		if err != nil || got.Validity != 5 || fmt.Sprint(got.From, got.To) != "[1 2 9] [20 21 22]" {
			t.Errorf("%+v %v", got, err)
		}
	}
}

// TestStore gives what was not changed because it has changed meanwhile.
func TestStore(t *testing.T) {
	c := played(t, "IMAP4rev1 CONDSTORE", func(p *peer) {
		p.say("%s OK [MODIFIED 7,9] x\n", p.want(`UID STORE 1:9 (UNCHANGEDSINCE 4) +FLAGS.SILENT (\Seen a)`))
	})
	var not []Range
	if err := c.Store("1:9", StoreOptions{Add: []string{`\Seen`, "a"}, UnchangedSince: 4, Modified: func(r Range) { not = append(not, r) }}).Wait(ctx(t)); err != nil || len(not) != 2 {
		t.Error(not, err)
	}
}

// TestEnd: BYE, silence, garbage and the end of the connection fail what is outstanding, with the reason.
func TestEnd(t *testing.T) {
	for what, answer := range map[string]string{"BYE": "* BYE [UNAVAILABLE] going down\n", "garbage": "\x00\x01 what\n", "end": "", "flood": "* 1 FETCH (UID " + strings.Repeat("9", 100) + ")\n"} {
		c := played(t, "IMAP4rev1", func(p *peer) {
			p.line()
			p.say("%s", answer)
			_ = p.conn.Close()
		})
		err := c.Noop().Wait(ctx(t))
		var s *StatusError
		if err == nil || (what == "BYE") != errors.As(err, &s) {
			t.Errorf("%s: %v", what, err)
		}
	}
	c := played(t, "IMAP4rev1", func(p *peer) { _, _ = io.Copy(io.Discard, p.conn) })
	c.hurry(50 * time.Millisecond)
	var e net.Error
	if err := c.Noop().Wait(ctx(t)); !errors.As(err, &e) || !e.Timeout() {
		t.Errorf("silence: %v", err)
	}
}

// TestCloseAmidAppend: who waits to append is not left waiting.
func TestCloseAmidAppend(t *testing.T) {
	c := played(t, "IMAP4rev1", func(p *peer) { _, _ = io.Copy(io.Discard, p.conn) })
	a := c.Append(ctx(t), "x")
	time.AfterFunc(20*time.Millisecond, func() { _ = c.Close() })
	if _, err := a.Next(ctx(t), AppendMessage{Size: 5}); err == nil {
		t.Error("no error")
	}
	if _, err := a.Finish().Result(ctx(t)); err == nil {
		t.Error("no error at the end")
	}
}

// TestCompress turns compression on in the middle of a session.
func TestCompress(t *testing.T) {
	c := played(t, "IMAP4rev1 COMPRESS=DEFLATE", func(p *peer) {
		tag := p.want("COMPRESS DEFLATE")
		p.say("%s OK\n", tag)
		p.r = bufio.NewReader(flate.NewReader(p.r))
		w, _ := flate.NewWriter(p.conn, flate.BestSpeed)
		for range 2 {
			tag = p.want("NOOP")
			fmt.Fprintf(w, "* 3 EXISTS\r\n%s OK\r\n", tag)
			_ = w.Flush()
		}
	})
	if err := c.Compress(ctx(t)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Noop().Wait(ctx(t)); err != nil {
			t.Error(err)
		}
	}
}

// TestIdle hears of new mail, and ends IDLE when it is told to.
func TestIdle(t *testing.T) {
	c := played(t, "IMAP4rev1 IDLE", func(p *peer) {
		tag := p.want("IDLE")
		p.say("+ idling\n* 5 EXISTS\n* 2 EXPUNGE\n")
		if p.line() != "DONE" {
			t.Error("no DONE")
		}
		p.say("%s OK\n", tag)
	})
	c.hurry(30 * time.Millisecond) // it does not count while idling
	idle, stop := context.WithCancel(t.Context())
	var heard []string
	c.SetUntagged(Untagged{Exists: func(n uint32) { heard = append(heard, fmt.Sprint("exists ", n)) }, Expunge: func(n uint32) {
		heard = append(heard, fmt.Sprint("expunge ", n))
		time.AfterFunc(100*time.Millisecond, stop)
	}})
	if err := c.Idle(idle); err != nil || strings.Join(heard, ", ") != "exists 5, expunge 2" {
		t.Errorf("%v %v", heard, err)
	}
}

// TestAccount asks for namespaces, ID and quota.
func TestAccount(t *testing.T) {
	c := played(t, "IMAP4rev1 NAMESPACE ID QUOTA", func(p *peer) {
		p.say("* NAMESPACE ((\"INBOX.\" \".\")) NIL ((\"#shared.\" \".\" \"X\" (\"a\"))(\"s/\" \"/\"))\n%s OK\n", p.want("NAMESPACE"))
		p.say("* ID (\"name\" \"Thing\" \"version\" NIL)\n%s OK\n", p.want(`ID ("name" "mailgate")`))
		p.say("* QUOTAROOT \"x\" \"\" \"b\"\n* QUOTA \"\" (STORAGE 10 100 MESSAGE 3 50)\n* QUOTA \"b\" (STORAGE 10 20)\n%s OK\n", p.want(`GETQUOTAROOT "x"`))
		p.say("* QUOTAROOT \"x\" \"ROOT\"\n* QUOTA \"ROOT\"\n%s OK\n", p.want(`GETQUOTAROOT "x"`))
	})
	n, err := c.Namespace(ctx(t))
	if err != nil || len(n.Personal) != 1 || n.Personal[0] != (Namespace{"INBOX.", '.'}) || len(n.Shared) != 2 || n.Shared[1].Separator != '/' {
		t.Errorf("%+v %v", n, err)
	}
	if id, err := c.ID(ctx(t), "name", "mailgate"); err != nil || id["name"] != "Thing" {
		t.Errorf("%v %v", id, err)
	}
	q, ok, err := c.Quota(ctx(t), "x")
	if err != nil || !ok || q != (Quota{Storage: 10240, StorageLimit: 20480, Messages: 3, MessageLimit: 50}) {
		t.Errorf("%+v %v %v", q, ok, err)
	}
	if q, ok, err := c.Quota(ctx(t), "x"); err != nil || ok || q != (Quota{}) { // Courier without limits
		t.Errorf("%+v %v %v", q, ok, err)
	}
}

// TestStatusOfMany: several STATUS commands under way, answered one behind the other.
func TestStatusOfMany(t *testing.T) {
	c := played(t, "IMAP4rev1", func(p *peer) {
		a, b := p.want(`STATUS "a" (MESSAGES)`), p.want(`STATUS "b c" (MESSAGES)`)
		p.say("* STATUS a (MESSAGES 1)\n%s OK\n* STATUS \"b c\" (MESSAGES 2 UIDNEXT 9)\n%s OK\n", a, b)
	})
	x, y := c.Status("a", "MESSAGES"), c.Status("b c", "MESSAGES", "HIGHESTMODSEQ")
	s, err := x.Result(ctx(t))
	u, err2 := y.Result(ctx(t))
	if err != nil || err2 != nil || s.Messages != 1 || u.Messages != 2 || u.UIDNext != 9 || u.Name != "b c" {
		t.Errorf("%+v %v %+v %v", s, err, u, err2)
	}
}

// hurry takes d for the silence that is put up with.
func (c *Client) hurry(d time.Duration) { c.SetSilence(d) }
