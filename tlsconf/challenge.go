package tlsconf

import (
	"crypto/tls"
	"errors"
	"strings"
	"sync"
)

// ChallengeProtocol is what an authority asks for by ALPN when it looks whether a name is ours (RFC 8737, section 4).
const ChallengeProtocol = "acme-tls/1"

// ErrNoChallenge means that somebody asks as an authority does, and none was asked to.
var ErrNoChallenge = errors.New("no challenge of an authority is under way for this name")

// challenges are the certificates that answer an authority, by name. The zero value is ready; it is safe for concurrent use.
type challenges struct {
	mu     sync.Mutex
	byName map[string]*tls.Certificate
}

// Present answers an authority that asks for a name, on all listeners, until Withdraw.
func (f *Certificates) Present(name string, c *tls.Certificate) {
	f.challenges.mu.Lock()
	defer f.challenges.mu.Unlock()
	if f.challenges.byName == nil {
		f.challenges.byName = map[string]*tls.Certificate{}
	}
	f.challenges.byName[strings.ToLower(name)] = c
}

// Withdraw ends Present.
func (f *Certificates) Withdraw(name string) {
	f.challenges.mu.Lock()
	defer f.challenges.mu.Unlock()
	delete(f.challenges.byName, strings.ToLower(name))
}

// challenge is the tls.Config for an authority that looks whether a name is ours, nil for everybody else.
func (f *Certificates) challenge(h *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(h.SupportedProtos) != 1 || h.SupportedProtos[0] != ChallengeProtocol {
		return nil, nil
	}
	f.challenges.mu.Lock()
	c := f.challenges.byName[strings.ToLower(h.ServerName)]
	f.challenges.mu.Unlock()
	if c == nil {
		return nil, ErrNoChallenge
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*c}, NextProtos: []string{ChallengeProtocol},
		SessionTicketsDisabled: true}, nil
}

// IsChallenge tells whether a connection was an authority's look: it ends with its handshake.
func IsChallenge(s tls.ConnectionState) bool { return s.NegotiatedProtocol == ChallengeProtocol }
