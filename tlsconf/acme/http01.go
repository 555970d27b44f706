package acme

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// httpSolver answers http-01 (RFC 8555, section 8.3) on a listener that is open while challenges are under way, and serves nothing
// else. It implements acmez.Solver and is safe for concurrent use.
type httpSolver struct {
	address string

	mu     sync.Mutex
	tokens map[string]string // path to answer
	server *http.Server
	done   chan struct{} // closed when server has ended
}

// Present implements acmez.Solver.
func (s *httpSolver) Present(ctx context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.address)
		if err != nil {
			return fmt.Errorf("tls.acme.http_listen: %w", err)
		}
		server, done := &http.Server{Handler: s, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
			ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}, make(chan struct{})
		server.SetKeepAlivesEnabled(false)
		s.server, s.done, s.tokens = server, done, map[string]string{}
		go func() {
			defer close(done)
			_ = server.Serve(l) // it ends when CleanUp closes it
		}()
	}
	s.tokens[c.HTTP01ResourcePath()] = c.KeyAuthorization
	return nil
}

// CleanUp implements acmez.Solver.
func (s *httpSolver) CleanUp(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil
	}
	delete(s.tokens, c.HTTP01ResourcePath())
	if len(s.tokens) > 0 {
		return nil
	}
	server, done := s.server, s.done
	s.server, s.done = nil, nil
	err := server.Close()
	<-done
	return err
}

// ServeHTTP gives the answer to a challenge that is under way, and 404 to everything else.
func (s *httpSolver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	answer, ok := s.tokens[r.URL.Path]
	s.mu.Unlock()
	if !ok || r.Method != http.MethodGet || !strings.HasPrefix(r.URL.Path, "/.well-known/acme-challenge/") {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.WriteString(w, answer)
}
