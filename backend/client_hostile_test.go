package backend

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestHostileServer: whatever a server says without end, little of it is held, and what would have to be held is an error
// that says so and ends the connection.
func TestHostileServer(t *testing.T) {
	for _, c := range []struct {
		what, head, again string
		limit             bool  // a *LimitError, not the end of the connection
		most              int64 // bytes allocated in all, 0 for 4 MiB
	}{
		{"lists in a list", "* 1 FETCH (UID 1 X (", "()", false, 0},
		{"spaces in a list", "* 1 FETCH (UID 1 X (", " ", false, 0},
		{"strings in a list", "* 1 FETCH (UID 1 X (", `"abc" {3}` + "\r\nabc ", false, 96 << 20},
		{"depth", "* 1 FETCH (UID 1 X ", "(", true, 0},
		{"other items", "* 1 FETCH (UID 1", " X%d {50000}\r\n" + strings.Repeat("x", 50000), true, 8 << 20},
		{"names of other items", "* 1 FETCH (UID 1", " X" + strings.Repeat("x", 9000) + "%d y", true, 8 << 20},
		{"one item again and again", "* 1 FETCH (UID 1", " X {50000}\r\n" + strings.Repeat("x", 50000), true, 8 << 20},
		{"bodies without a UID", "* 1 FETCH (", "BODY[%d] {4}\r\nabcd ", true, 0},
		{"a body without a UID", "* 1 FETCH (BODY[] {4294967295}\r\n", "x", true, 0},
		{"a literal of 1 TiB", "* 1 FETCH (UID 1 BODY[] {1099511627776}\r\n", "x", true, 0},
		{"a name of 1 TiB", "* LIST () \"/\" {1099511627776}\r\n", "x", true, 0},
		{"a name of 4 GB", "* LIST () \"/\" {4294967295}\r\n", "x", true, 0},
		{"a section of 4 GB", "* 1 FETCH (UID 1 BODY[HEADER.FIELDS ({4294967295}\r\n", "x", true, 0},
		{"sections of many literals", "* 1 FETCH (UID 1 BODY[HEADER.FIELDS (", "{1}\r\nx", true, 0},
		{"an unknown literal of 4 GB", "* XFOO {4294967295}\r\n", "x", false, 0},
		{"a literal of too many digits", "* XFOO {99999999999999999999}\r\n", "x", true, 0},
		{"another item of 4 GB", "* 1 FETCH (UID 1 X {4294967295}\r\n", "x", false, 0},
		{"a code", "* OK [COPYUID 1 1", ",%d", true, 32 << 20},
		{"a text", "* OK ", "x", false, 0},
		{"an unknown line", "* XFOO ", "x\"", false, 0},
		{"flags", "* 1 FETCH (UID 1 FLAGS (a", " abc", true, 0},
		{"the flags of a mailbox", "* FLAGS (a", " abc", true, 0},
		{"an atom", "* 1 FETCH (UID 1 X ", "x", true, 0},
		{"a tag", "x", "x", true, 0},
		{"a quoted string", "* LIST () \"/\" \"", "x", true, 0},
		{"a name with parentheses", "* LIST () \"/\" ", "x(", true, 0},
		{"capabilities", "* CAPABILITY", " X%d", true, 0},
		{"lines of capabilities", "", "* ENABLED X%d\r\n", false, 1 << 30},
		{"namespaces", "* NAMESPACE (", "(\"\" \"/\")", true, 0},
		{"mailboxes", "", "* LIST () \"/\" \"%d" + strings.Repeat("x", 1000) + "\"\r\n", true, 160 << 20},
		{"statuses", "", "* STATUS \"%d" + strings.Repeat("x", 1000) + "\" (MESSAGES 1)\r\n", true, 320 << 20},
		{"empty lines", "", "\r\n", false, 0},
		{"continuations", "", "+ go\r\n", false, 1 << 30},
	} {
		t.Run(c.what, func(t *testing.T) {
			flood := 6 << 20 // bytes that the server says
			if c.limit {
				flood = 48 << 20 // it is not let
			}
			x := played(t, "IMAP4rev1 LIST-STATUS NAMESPACE MOVE", func(p *peer) {
				w := bufio.NewWriterSize(p.conn, 64<<10)
				for range 5 {
					p.line()
				}
				_, err := io.WriteString(w, c.head)
				before, after, counted := strings.Cut(c.again, "%d")
				if !counted {
					before = strings.Repeat(before, max(1, 60000/len(before)))
				}
				var piece []byte // made anew without allocating
				for n, sent := 0, 0; sent < flood && err == nil; n++ {
					piece = append(piece[:0], before...)
					if counted {
						piece = append(strconv.AppendInt(piece, int64(n), 10), after...)
					}
					sent += len(piece)
					_, err = w.Write(piece)
				}
				_ = w.Flush()
				_ = p.conn.Close()
			})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f := x.Fetch("1:*", FetchOptions{Items: []string{"FLAGS"}, Message: func(*Message) error { return nil }, Body: func(_ *Message, _ string, _ int64, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				return err
			}})
			x.Copy("1", "x")
			x.Select("x", SelectOptions{})
			list, spaces := make(chan error, 1), make(chan error, 1)
			go func() {
				list <- x.List(ctx(t), ListOptions{Status: []string{"MESSAGES"}}, func(ListEntry) error { return nil })
			}()
			go func() {
				_, err := x.Namespace(ctx(t))
				spaces <- err
			}()
			<-x.Done()
			runtime.ReadMemStats(&after)
			<-list
			<-spaces
			var limit *LimitError
			if err := f.Wait(ctx(t)); errors.As(err, &limit) != c.limit {
				t.Errorf("it ends with %v", err)
			}
			if c.most == 0 {
				c.most = 4 << 20
			}
			// What was ever allocated has to be little; what is in use in the end is what could pile up.
			if n := int64(after.TotalAlloc - before.TotalAlloc); n > c.most {
				t.Errorf("%d KiB allocated", n>>10)
			}
			if n := int64(after.HeapInuse); n > 200<<20 {
				t.Errorf("%d MiB in use", n>>20)
			}
		})
	}
}

// TestManyRanges: finding who asked for a message does not slow down with the number of ranges, nor LIST with the mailboxes.
func TestManyRanges(t *testing.T) {
	const n = 200_000
	f := &fetching{}
	for i := range uint32(n) {
		f.uids = append(f.uids, Range{2*n + 1 - 2*i, 2*n + 1 - 2*i}, Range{2, 2})
	}
	began := time.Now()
	f.order()
	for i := range uint32(2 * n) {
		if f.has(i+1) != ((i+1)%2 == 1 && i > 0 || i == 1) {
			t.Fatalf("%d: %v", i+1, f.has(i+1))
		}
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("%v", d)
	}
	for _, c := range []struct {
		set    string
		in, no []uint32
	}{
		{"5,1:3,2:4", []uint32{1, 4, 5}, []uint32{6}}, {"*", []uint32{1, 99}, nil}, {"9:*,3", []uint32{3, 9, 1 << 31}, []uint32{1, 4, 8}}, {"7:5", []uint32{5, 6, 7}, []uint32{4, 8}},
	} {
		x := (&Client{err: errNoWrite}).Fetch(c.set, FetchOptions{})
		for _, u := range c.in {
			if !x.fetch.has(u) {
				t.Errorf("%s has %d", c.set, u)
			}
		}
		for _, u := range c.no {
			if x.fetch.has(u) {
				t.Errorf("%s has not %d", c.set, u)
			}
		}
	}
}

// TestManyMailboxes lists more than a search of each among all would do in time, each told twice.
func TestManyMailboxes(t *testing.T) {
	const n = 100_000 // a search of each among all would take longer than ctx
	c := played(t, "IMAP4rev1", func(p *peer) {
		w := bufio.NewWriter(p.conn)
		tag := p.want(`LIST "" "*"`)
		for i := range 2 * n {
			fmt.Fprintf(w, "* LIST () \"/\" f%d\r\n", i%n)
		}
		fmt.Fprintf(w, "%s OK\r\n", tag)
		_ = w.Flush()
	})
	seen := 0
	if err := c.List(ctx(t), ListOptions{}, func(e ListEntry) error {
		if e.Name != fmt.Sprint("f", seen) {
			t.Errorf("%s at %d", e.Name, seen)
		}
		seen++
		return nil
	}); err != nil || seen != n {
		t.Errorf("%d %v", seen, err)
	}
}

// TestStatusWindow: where LIST has no status, STATUS is asked for some mailboxes ahead, not for all.
func TestStatusWindow(t *testing.T) {
	const n = statusWindow + 50
	c := played(t, "IMAP4rev1", func(p *peer) {
		tag := p.want(`LIST "" "*"`)
		for i := range n {
			p.say("* LIST () \"/\" f%d\n", i)
		}
		p.say("* LIST (\\Noselect) \"/\" none\n%s OK\n", tag)
		tags := make([]string, n)
		for i := range statusWindow {
			tags[i] = p.want(fmt.Sprintf(`STATUS "f%d" (MESSAGES)`, i))
		}
		_ = p.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if b, err := p.r.Peek(1); err == nil {
			t.Errorf("more than %d at once: %q", statusWindow, b)
		}
		_ = p.conn.SetReadDeadline(time.Time{})
		for i := range n {
			if i >= statusWindow {
				tags[i] = p.want(fmt.Sprintf(`STATUS "f%d" (MESSAGES)`, i))
			}
			if i == 7 {
				p.say("%s NO no\n", tags[i])
				continue
			}
			p.say("* STATUS f%d (MESSAGES %d)\n%s OK\n", i, i, tags[i])
		}
	})
	i := 0
	if err := c.List(ctx(t), ListOptions{Status: []string{"MESSAGES"}}, func(e ListEntry) error {
		if wrong := e.Status == nil || e.Status.Messages != uint32(i); wrong != (i == 7 || i == n) {
			t.Errorf("%s: %+v", e.Name, e.Status)
		}
		i++
		return nil
	}); err != nil || i != n+1 {
		t.Errorf("%d %v", i, err)
	}
}
