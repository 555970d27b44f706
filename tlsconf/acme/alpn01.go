package acme

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"mailgate/tlsconf"
)

// alpnSolver answers tls-alpn-01 (RFC 8737) on the gateway's listeners, and on one of its own, open while challenges are under way,
// when address is not "". It implements acmez.Solver and is safe for concurrent use.
type alpnSolver struct {
	address string
	certs   *tlsconf.Certificates

	mu       sync.Mutex
	names    map[string]bool
	listener net.Listener
	wg       sync.WaitGroup
}

// Present implements acmez.Solver.
func (s *alpnSolver) Present(ctx context.Context, c acme.Challenge) error {
	answer, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil && s.address != "" {
		if s.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.address); err != nil {
			return fmt.Errorf("tls.acme.tls_listen: %w", err)
		}
		l := s.listener
		s.wg.Go(func() { s.accept(l) })
	}
	if s.names == nil {
		s.names = map[string]bool{}
	}
	s.names[c.Identifier.Value] = true
	s.certs.Present(c.Identifier.Value, answer)
	return nil
}

// CleanUp implements acmez.Solver.
func (s *alpnSolver) CleanUp(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certs.Withdraw(c.Identifier.Value)
	delete(s.names, c.Identifier.Value)
	if s.listener == nil || len(s.names) > 0 {
		return nil
	}
	err := s.listener.Close()
	s.listener = nil
	s.wg.Wait()
	return err
}

// looks is how many may look at once, and lookTime how long each may take.
const (
	looks    = 64
	lookTime = 5 * time.Second
)

// accept shakes hands with whoever comes, and says nothing more, until l is closed.
func (s *alpnSolver) accept(l net.Listener) {
	room := make(chan struct{}, looks)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		room <- struct{}{}
		s.wg.Go(func() {
			defer func() { <-room }()
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(lookTime))
			_ = tls.Server(c, s.certs.Config()).Handshake()
		})
	}
}
