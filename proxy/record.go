package proxy

import (
	"time"

	"mailgate/config"
)

// Recorder counts what happens; package admin implements it. Methods must not block.
type Recorder interface {
	// Connection counts an accepted connection.
	Connection(p config.Protocol, listener string, mode config.TLSMode)
	// Auth counts a login attempt: ok, backend_rejected, backend_error, rate_limited, held, malformed.
	Auth(p config.Protocol, side config.Side, mechanism, result string)
	// SessionEnd observes a session: how long it lived and what was relayed from and to the client.
	SessionEnd(p config.Protocol, side config.Side, lived time.Duration, up, down int64)
	// Message counts a submitted message by the class of its final reply: 2xx, 4xx, 5xx.
	Message(side config.Side, class string)
	// Violation counts what must not happen.
	Violation(invariant string)
}

type noRecorder struct{}

func (noRecorder) Connection(config.Protocol, string, config.TLSMode)                   {}
func (noRecorder) Auth(config.Protocol, config.Side, string, string)                    {}
func (noRecorder) SessionEnd(config.Protocol, config.Side, time.Duration, int64, int64) {}
func (noRecorder) Message(config.Side, string)                                          {}
func (noRecorder) Violation(string)                                                     {}
