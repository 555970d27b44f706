package proxy

import "mailgate/config"

// Happening is what a user's side has done for him, as far as that says how well it serves him.
type Happening uint8

const (
	LoggedIn      Happening = iota // he is in
	LoginRefused                   // by his credentials, or so the host said: err has its words
	LoginFailed                    // for the host's sake, or the authority's: he is told to try again
	SessionOver                    // in any way but the next
	SessionBroken                  // the host was gone, without a word, while the client was there or waited for an answer
	MailTaken                      // a message, by the host
	MailRefused                    // the host said 5xx to MAIL, RCPT, DATA or the message; what the gateway refuses by itself is none
)

// happened tells whoever asks of somebody in the routes file.
func (s *Server) happened(user string, side config.Side, p config.Protocol, what Happening, err error) {
	if s.set.Load().routes.Users[user] == nil || s.seen == nil {
		return
	}
	s.seen(user, side, p, what, err)
}

// loginFailed tells of a failed login, unless the client or the gateway itself is the cause.
func (c *client) loginFailed(user string, side config.Side, le *loginError, gone bool) {
	switch {
	case le.rejected():
		c.srv.happened(user, side, c.ln.Protocol, LoginRefused, le.err)
	case le.result == "backend_error" && !gone:
		c.srv.happened(user, side, c.ln.Protocol, LoginFailed, le.err)
	}
}

// over tells of a session's end.
func (s *Server) over(user string, side config.Side, p config.Protocol, broken bool) {
	what := SessionOver
	if broken {
		what = SessionBroken
	}
	s.happened(user, side, p, what, nil)
}

// noteBroken notes that the host has gone by itself, if it has: it said no goodbye and the client had not left, or it owes an answer.
func (l *link) noteBroken() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended && (l.clientIn || l.lost.back) && (l.track.Answering() || l.track.ByeLine("gone") != "") {
		l.cut = true
	}
}
