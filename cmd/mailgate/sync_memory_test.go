package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailgate/mailtest"
)

// memory is two hosts in memory, with a configuration that syncs them. What goes to OLD passes a relay.
type memory struct {
	t     *testing.T
	dir   string
	hosts [2]*mailtest.Memory
	relay *gatedRelay
}

// newMemory makes hosts for users, whose passwords are their first letters.
func newMemory(t *testing.T, users ...string) *memory {
	t.Helper()
	m := &memory{t: t, dir: t.TempDir()}
	passwords := map[string]string{}
	var routes, secrets strings.Builder
	for _, u := range users {
		passwords[u] = u[:1]
		fmt.Fprintf(&routes, "%s old wave=pilot\n", u)
		fmt.Fprintf(&secrets, "%s %s\n", u, u[:1])
	}
	for i, name := range []string{"old", "new"} {
		var err error
		if m.hosts[i], err = mailtest.StartMemory(name, passwords); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.hosts[i].Close)
	}
	var err error
	if m.relay, err = newGatedRelay(m.hosts[0].IMAP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.relay.close)
	m.write("routes", routes.String())
	m.write("secrets", secrets.String())
	m.write("mailgate.yaml", fmt.Sprintf(`hostname: mail.example.com
listen: ["imap://%s"]
backends:
  old: {imap: 'imap://%s', sync: {secrets: secrets}}
  new: {imap: 'imap://%s', sync: {secrets: secrets}}
routes: {file: routes, watch: 0s, approve_min: 100}
store: {path: state.db}
control: {socket: control.sock}
sync: {settle: 50ms}
shutdown: 1s
log: {level: error}
`, port(t), m.relay.addr(), m.hosts[1].IMAP))
	return m
}

func (m *memory) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *memory) deliver(side int, user string, n int) {
	m.t.Helper()
	for i := range n {
		text := fmt.Sprintf("From: x@example.com\r\nSubject: %d of %s\r\n\r\n%s\r\n", i, user, strings.Repeat("x", 500))
		if err := m.hosts[side].Deliver(user, []byte(text)); err != nil {
			m.t.Fatal(err)
		}
	}
}

// serve runs mailgate serve in this process until the end of the test.
func (m *memory) serve() *gateway {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan *gateway, 1), make(chan error, 1)
	log := &syncBuffer{}
	p := &program{in: strings.NewReader(""), out: log, err: log, file: filepath.Join(m.dir, "mailgate.yaml")}
	go func() { done <- p.serve(ctx, func(g *gateway) { ready <- g }) }()
	m.t.Cleanup(func() {
		cancel()
		<-done
	})
	select {
	case g := <-ready:
		return g
	case err := <-done:
		done <- err
		m.t.Fatalf("serve: %v\n%s", err, log)
	}
	return nil
}

// gatedRelay is a way to a host that can be blocked: what is under way stands still then, and goes on afterwards.
type gatedRelay struct {
	l    net.Listener
	to   string
	wg   sync.WaitGroup
	mu   sync.Mutex
	gate chan struct{} // closed while all may pass
	end  chan struct{}
}

func newGatedRelay(to string) (*gatedRelay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &gatedRelay{l: l, to: to, gate: make(chan struct{}), end: make(chan struct{})}
	close(r.gate)
	r.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.carry(c) })
		}
	})
	return r, nil
}

func (r *gatedRelay) addr() string { return r.l.Addr().String() }

func (r *gatedRelay) carry(c net.Conn) {
	d, err := net.Dial("tcp", r.to)
	if err != nil {
		c.Close()
		return
	}
	over := make(chan struct{})
	defer close(over)
	r.wg.Go(func() {
		select {
		case <-r.end:
		case <-over:
		}
		c.Close()
		d.Close()
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(d, c)
		d.Close()
	})
	buf := make([]byte, 2048)
	for {
		n, err := d.Read(buf)
		if err != nil {
			break
		}
		r.mu.Lock()
		gate := r.gate
		r.mu.Unlock()
		select {
		case <-gate:
		case <-r.end:
		}
		if _, err := c.Write(buf[:n]); err != nil {
			break
		}
	}
	c.Close()
	d.Close()
	wg.Wait()
}

// block lets nothing through that the host says, until unblock.
func (r *gatedRelay) block() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gate = make(chan struct{})
}

func (r *gatedRelay) unblock() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.gate)
}

func (r *gatedRelay) close() {
	close(r.end)
	r.l.Close()
	r.wg.Wait()
}

// inboxSubjects are those of the messages in a user's INBOX, in order, read with a client that is not ours.
func inboxSubjects(t *testing.T, addr, user string) (out []string) {
	t.Helper()
	c, err := imapclient.DialInsecure(addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(user, user[:1]).Wait(); err != nil {
		t.Fatal(err)
	}
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if box.NumMessages == 0 {
		return nil
	}
	all := imap.SeqSet{}
	all.AddRange(1, 0)
	list, err := c.Fetch(all, &imap.FetchOptions{Envelope: true}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range list {
		out = append(out, x.Envelope.Subject)
	}
	slices.Sort(out)
	return out
}
