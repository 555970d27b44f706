//go:build bench

package keepbench

import (
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// states of NEW.
const (
	well   = "well"
	dead   = "dead"   // nothing listens there
	silent = "silent" // takes connections and says nothing
	slow   = "slow"   // each answer takes a second longer
)

const slowness = time.Second

// relay is a port before NEW that can make it ill. Connections that stand take part.
type relay struct {
	t    testing.TB
	port int
	to   string

	mu    sync.Mutex
	state string
	l     net.Listener
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// newRelay makes one that is well, until the test's end.
func newRelay(t testing.TB, port int) *relay {
	t.Helper()
	r := &relay{t: t, to: "127.0.0.1:" + strconv.Itoa(port), state: well, conns: map[net.Conn]bool{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.l, r.port = l, l.Addr().(*net.TCPAddr).Port
	r.wg.Go(func() { r.accept(l) })
	t.Cleanup(func() {
		r.turn(dead)
		r.wg.Wait()
	})
	return r
}

// turn changes the state. Dead ends what stands.
func (r *relay) turn(state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state = state; state != dead {
		return
	}
	r.l.Close()
	for c := range r.conns {
		c.Close()
	}
}

func (r *relay) is() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// hold notes a connection, which turn may close; false means that it is over already.
func (r *relay) hold(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == dead {
		c.Close()
		return false
	}
	r.conns[c] = true
	return true
}

func (r *relay) drop(list ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range list {
		c.Close()
		delete(r.conns, c)
	}
}

func (r *relay) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				r.t.Error(err)
			}
			return
		}
		if r.hold(c) {
			r.wg.Go(func() { r.serve(c) })
		}
	}
}

func (r *relay) serve(c net.Conn) {
	if r.is() == silent {
		defer r.drop(c)
		_, _ = io.Copy(io.Discard, c)
		return
	}
	s, err := net.Dial("tcp", r.to)
	if err != nil || !r.hold(s) {
		r.drop(c)
		return
	}
	r.wg.Go(func() {
		defer r.drop(c, s)
		r.answers(c, s)
	})
	_, _ = io.Copy(s, c)
	r.drop(c, s)
}

// answers passes on what NEW says, in its state.
func (r *relay) answers(c, s net.Conn) {
	b := make([]byte, 16<<10)
	for {
		n, err := s.Read(b)
		if err != nil {
			return
		}
		switch r.is() {
		case silent:
			continue
		case slow:
			time.Sleep(slowness)
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}
