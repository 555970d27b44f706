package acme

import (
	"context"
	"time"
)

// advice is what the authority says about renewing a certificate (RFC 9773): when it has to take certificates back, it says: earlier.
type advice struct {
	at   time.Time // zero for none
	next time.Time // when to ask again
}

// adviceEvery is how often to ask where the authority does not say.
const (
	adviceEvery = 6 * time.Hour
	adviceTime  = 20 * time.Second
)

// advise asks the authority when the certificate of a name is to be renewed. An authority that does not tell is no trouble.
func (m *Manager) advise(ctx context.Context, name string) {
	m.mu.Lock()
	s := m.state[name]
	if s == nil || s.cert == nil || s.err != nil || time.Now().Before(s.advised.next) {
		m.mu.Unlock()
		return
	}
	leaf, a := s.cert.Leaf, advice{at: s.advised.at, next: time.Now().Add(adviceEvery)}
	m.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, adviceTime)
	defer cancel()
	info, err := m.issuer.client().GetRenewalInfo(limited, leaf)
	if err != nil {
		m.log.Debug("the authority does not advise about renewal", "name", name, "err", err)
	} else {
		a.at = info.SelectedTime
		if info.RetryAfter != nil && info.RetryAfter.After(time.Now().Add(time.Minute)) && info.RetryAfter.Before(a.next) {
			a.next = *info.RetryAfter
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.state[name]; s != nil && s.cert != nil && s.cert.Leaf.Equal(leaf) {
		if a.at.Before(s.advised.at) {
			m.log.Info("the authority asks for an earlier renewal", "name", name, "at", a.at, "why", info.ExplanationURL)
		}
		s.advised = a
	}
}
