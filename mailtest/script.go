package mailtest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// TB is what a script needs of a *testing.T.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Script is a server for tests whose conversations are given: each connection is a Talk with the script's func. It
// listens on loopback until the test ends. What went otherwise than the script says is an error of the test.
//
//	s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
//		k.Dialogue(`
//			S: * OK ready
//			C: $t CAPABILITY
//			!silent
//		`)
//	})
//
// See Talk.Dialogue for the language, Talk for the faults.
type Script struct {
	Addr string

	tb     TB
	l      net.Listener
	serve  func(*Talk)
	tls    *tls.Config // nil: in clear from the first byte
	wg     sync.WaitGroup
	mu     sync.Mutex
	conns  map[*Talk]bool
	count  int
	events map[string]chan struct{}
	log    []*transcript
	closed bool
	gone   atomic.Bool
}

// transcript is what was said on one connection.
type transcript struct {
	mu sync.Mutex
	in bytes.Buffer // what the peer sent, as far as it was read
}

// StartScript starts a server on 127.0.0.1. With a TLS config it begins with a handshake; Talk.StartTLS makes one
// later. Certificate makes a config.
func StartScript(tb TB, t *tls.Config, serve func(*Talk)) *Script {
	tb.Helper()
	return StartScriptAt(tb, "127.0.0.1:0", t, serve)
}

// StartScriptAt is StartScript on an address.
func StartScriptAt(tb TB, addr string, t *tls.Config, serve func(*Talk)) *Script {
	tb.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		tb.Fatalf("script: %v", err)
	}
	s := &Script{Addr: l.Addr().String(), tb: tb, l: l, serve: serve, tls: t}
	s.conns, s.events = map[*Talk]bool{}, map[string]chan struct{}{}
	s.wg.Go(s.accept)
	tb.Cleanup(s.Close)
	return s
}

// AllowGone makes it no error when a peer goes away where the script expects a line of his.
func (s *Script) AllowGone() *Script {
	s.gone.Store(true)
	return s
}

// Port is the number of the port.
func (s *Script) Port() int { return s.l.Addr().(*net.TCPAddr).Port }

func (s *Script) accept() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		k := newTalk(c, true)
		k.script, k.said = s, &transcript{}
		k.fail = func(format string, args ...any) {
			s.tb.Errorf("script %s: "+format, append([]any{s.Addr}, args...)...)
			runtime.Goexit()
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			c.Close()
			return
		}
		s.count++
		k.N = s.count
		s.conns[k] = true
		s.log = append(s.log, k.said)
		s.wg.Add(1)
		s.mu.Unlock()
		s.Fire(fmt.Sprintf("accept %d", k.N))
		go s.talk(k)
	}
}

// talk runs one connection; the script may end it at any point by runtime.Goexit.
func (s *Script) talk(k *Talk) {
	defer s.wg.Done()
	defer func() {
		k.Close()
		s.mu.Lock()
		delete(s.conns, k)
		s.mu.Unlock()
		s.Fire(fmt.Sprintf("end %d", k.N))
	}()
	if s.tls != nil {
		k.StartTLS(s.tls)
	}
	s.serve(k)
}

// Close ends all conversations and waits for them.
func (s *Script) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	for k := range s.conns {
		k.over.Store(true)
		k.raw.Close()
	}
	for _, e := range s.events {
		select {
		case <-e:
		default:
			close(e)
		}
	}
	s.mu.Unlock()
	s.l.Close()
	s.wg.Wait()
}

// StopListening closes the listening socket: new connections are refused, those that are there go on.
func (s *Script) StopListening() { s.l.Close() }

// Count is the number of connections accepted so far.
func (s *Script) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Open is the number of connections that are open on this side.
func (s *Script) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Received is what the peers have sent, connection by connection, as far as the script has read it.
func (s *Script) Received() []string {
	s.mu.Lock()
	list := s.log
	s.mu.Unlock()
	var out []string
	for _, t := range list {
		t.mu.Lock()
		out = append(out, t.in.String())
		t.mu.Unlock()
	}
	return out
}

// Said tells how often a text stands in what the peers have sent.
func (s *Script) Said(text string) int { return strings.Count(strings.Join(s.Received(), "\n"), text) }

// event is a named channel, made when it is first asked for.
func (s *Script) event(name string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.events[name]
	if e == nil {
		e = make(chan struct{})
		s.events[name] = e
		if s.closed {
			close(e)
		}
	}
	return e
}

// Fire makes an event happen, once. "accept N" and "end N" are fired for the Nth connection.
func (s *Script) Fire(name string) {
	e := s.event(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-e:
	default:
		close(e)
	}
}

// Await waits for an event; past the time it is the end of the test.
func (s *Script) Await(name string) {
	s.tb.Helper()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-s.event(name):
	case <-t.C:
		s.tb.Fatalf("script %s: %q did not happen within %v", s.Addr, name, patience)
	}
}

// patience is how long a script waits for its peer or an event.
const patience = time.Minute

func gone(err error) bool { return !errors.Is(err, errTooSlow) }
