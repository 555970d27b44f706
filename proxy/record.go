package proxy

import (
	"time"

	"mailgate/config"
)

// Recorder counts what happens; package admin implements it. Methods must not block.
type Recorder interface {
	// Connection counts an accepted connection.
	Connection(p config.Protocol, listener string, mode config.TLSMode)
	// Auth counts a login attempt: ok, backend_rejected, backend_error, rate_limited, held, malformed; of relayed exchanges also
	// not_relayable (the names do not fit) and abandoned (by the client, in the middle). user is "" when it is nobody's.
	Auth(p config.Protocol, side config.Side, user, mechanism, result string)
	// SessionEnd observes a session: how long it lived and what was relayed from and to the client.
	SessionEnd(p config.Protocol, side config.Side, lived time.Duration, up, down int64)
	// Message counts a submitted message by the class of its final reply: 2xx, 4xx, 5xx.
	Message(side config.Side, class string)
	// Violation counts what must not happen.
	Violation(invariant string)
}

type noRecorder struct{}

func (noRecorder) Connection(config.Protocol, string, config.TLSMode)                   {}
func (noRecorder) Auth(config.Protocol, config.Side, string, string, string)            {}
func (noRecorder) SessionEnd(config.Protocol, config.Side, time.Duration, int64, int64) {}
func (noRecorder) Message(config.Side, string)                                          {}
func (noRecorder) Violation(string)                                                     {}

// Connections are those of one listener.
type Connections struct {
	config.Endpoint
	N int
}

// Connections counts the open connections of each listener: clients who have not logged in, and sessions.
func (s *Server) Connections() []Connections {
	n := map[string]int{}
	s.pre.mu.Lock()
	for e := s.pre.all.Front(); e != nil; e = e.Next() {
		n[e.Value.(*client).ln.URL]++
	}
	s.pre.mu.Unlock()
	for _, sess := range s.router.Sessions("") {
		n[sess.Listener]++
	}
	var out []Connections
	for _, l := range s.listeners {
		out = append(out, Connections{l.Endpoint, n[l.URL]})
	}
	return out
}
