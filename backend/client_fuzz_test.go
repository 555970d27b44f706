package backend

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"
)

// allocated is how many bytes were ever allocated.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// assail runs a client with all kinds of commands outstanding against what a server says, and waits for their end. Tags are
// s1 to s16, some of them behind each other.
func assail(t testing.TB, answers []byte) {
	client, server := net.Pipe()
	c := newClient(&IMAPConn{Conn: client, Capabilities: strings.Fields("IMAP4rev1 LITERAL+ ESEARCH NAMESPACE ID QUOTA QRESYNC CONDSTORE MOVE UIDPLUS LIST-STATUS IDLE MULTIAPPEND ACL METADATA")})
	c.hurry(2 * time.Second)
	c.SetUntagged(Untagged{Exists: func(uint32) {}, Expunge: func(uint32) {}, Vanished: func(Range) {}, Fetch: func(*Message) {}, Status: func(Status) {}, List: func(ListEntry) {}, Alert: func(string) {}})
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(io.Discard, server) })
	until, cancel := context.WithCancel(context.Background())
	ranges := func(Range) {}
	message := func(*Message) error { return nil }
	wait := []*Command{
		c.Fetch("1:5,9:*", FetchOptions{Items: []string{"FLAGS"}, ChangedSince: 1, Vanished: ranges, Message: message,
			Body: func(m *Message, _ string, size int64, r io.Reader) error {
				if m.UID == 0 || size < 0 {
					t.Errorf("a body of %d bytes of UID %d", size, m.UID)
				}
				_, err := io.Copy(io.Discard, io.LimitReader(r, 10))
				return err
			}}),
		c.Select("x", SelectOptions{QResync: &QResync{Validity: 1, ModSeq: 1}, Vanished: ranges, Fetch: message}).Command,
		c.Search("ALL", func(r Range) {
			if r.First == 0 || r.Last < r.First {
				t.Errorf("found %v", r)
			}
		}),
		c.Status("x", "MESSAGES").Command, c.Status("inbox", "MESSAGES").Command,
		c.Store("1", StoreOptions{Add: []string{"a"}, Modified: ranges}), c.Expunge("1"), c.Unselect(), c.Enable("QRESYNC"),
	}
	copied := c.Copy("1", "x")
	a := c.Append(until, "x")
	if w, err := a.Next(until, AppendMessage{Size: 1}); err == nil {
		_, _ = w.Write([]byte("x"))
	}
	appended := a.Finish()
	for _, f := range []func(){
		func() { _, _ = c.Namespace(until) },
		func() { _, _ = c.ID(until) },
		func() { _, _, _ = c.Quota(until, "x") },
		func() { _, _ = c.ACL(until, "x") },
		func() { _, _ = c.MyRights(until, "x") },
		func() { _, _, _ = c.Metadata(until, "x", MetadataOptions{Deep: true}, "/shared") },
		func() {
			_ = c.List(until, ListOptions{Status: []string{"MESSAGES"}}, func(ListEntry) error { return nil })
		},
	} {
		wg.Go(f)
	}
	_, _ = server.Write(answers)
	wg.Go(func() { _ = c.Idle(until) })
	_ = server.Close()
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatalf("the reader hangs: %q", answers)
	}
	for _, x := range wait {
		_ = x.Wait(until) // has ended with the connection
	}
	if got, err := copied.Result(until); err == nil && len(got.From) != len(got.To) {
		t.Errorf("copied %+v", got)
	}
	_, _ = appended.Result(until)
	cancel()
	_ = c.Close()
	wg.Wait()
}

// FuzzClient lets a server say anything while all kinds of commands are outstanding: no panic, no hang, nobody left waiting,
// and no more memory than the limits allow.
func FuzzClient(f *testing.F) {
	for _, s := range []string{"* 1 FETCH (UID 1 FLAGS (\\Seen) BODY[] {3}\r\nabc)\r\ns1 OK\r\n", "* LIST () \"/\" {3}\r\nabc\r\n* STATUS x (MESSAGES 1)\r\n", "+ go\r\ns2 NO [X \"]\"] y\r\n",
		"* ESEARCH (TAG \"s3\") UID ALL 1:3,7\r\n* SEARCH 1 2\r\n* VANISHED (EARLIER) 1:9\r\n", "* OK [COPYUID 1 1:2 3:4]\r\n* 1 FETCH (BODY[] {2}\r\nab UID 1)\r\n",
		"* NAMESPACE NIL NIL NIL\r\n* ID (\"a\" NIL)\r\n* QUOTA \"\" (STORAGE 1 2)\r\n* BYE x\r\n", "* 1 FETCH ((((((((((", "s1 OK [UIDVALIDITY 99999999999999999999]\r\n",
		"* OK [COPYUID 1 1:1048576 1:1048576]\r\n* OK [COPYUID 1 1:1048576 1:1048576]\r\ns10 OK\r\n", "* 1 FETCH (UID 1 X {65536}\r\nabc", "s11 OK [APPENDUID 1 1:4294967295]\r\n"} {
		f.Add([]byte(s))
	}
	for _, name := range []string{"dovecot", "cyrus", "courier", "sharing-dovecot", "sharing-cyrus", "sharing-courier"} {
		all, _ := readDialogue(f, filepath.Join("testdata", "dialogues", name+".txt"))
		for _, s := range all {
			if s.by == 'S' && len(s.text) < 3000 {
				f.Add(s.text)
			}
		}
	}
	f.Fuzz(func(t *testing.T, answers []byte) {
		before := allocated()
		assail(t, answers)
		if n := allocated() - before; n > 96<<20+1000*uint64(len(answers)) {
			t.Errorf("%d MiB for %d bytes", n>>20, len(answers))
		}
	})
}
