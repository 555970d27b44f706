package syncer

import (
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"

	"mailgate/backend"
)

// crowded tells whether a host has refused a connection because there are too many of them: by its response code (RFC 5530), and where
// there is none by its words. It is asked only when we have a connection there already, so that "unavailable" means this one.
func crowded(err error) bool {
	var e *backend.Error
	if !errors.As(err, &e) {
		return false
	}
	cut := errors.Is(e.Err, io.EOF) || errors.Is(e.Err, io.ErrUnexpectedEOF) || errors.Is(e.Err, syscall.ECONNRESET)
	switch e.Step {
	case backend.StepBanner, backend.StepLogin:
	case backend.StepTLS:
		return cut
	default:
		return false
	}
	switch e.Code {
	case "LIMIT", "UNAVAILABLE":
		return true
	case "", "ALERT": // an alert may be about anything
		if e.Reply == "" {
			return cut && e.Step == backend.StepBanner // Courier's MAXPERIP: it closes without a word
		}
		return soundsCrowded(e.Reply)
	}
	return false
}

// soundsCrowded knows what servers say that send no code: Cyrus "Too many open connections (5 of 5 for user33)", Dovecot "Maximum number
// of connections from user+IP exceeded", Gmail "Too many simultaneous connections", Courier "Maximum connection limit reached".
func soundsCrowded(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, "connection") && slices.ContainsFunc([]string{"too many", "maximum", "limit", "exceed"},
		func(word string) bool { return strings.Contains(text, word) })
}

// full tells whether our own cap for a host (max_connections) is reached.
func full(err error) bool { return errors.Is(err, backend.ErrBudget) }
