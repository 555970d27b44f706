package proxy

import (
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/router"
)

// submissionSession is a client whose backend has taken his credentials: each command goes to the backend, and what it
// answers is what the client hears. One goroutine, in lock step, and a second one that listens to the backend while the
// client is idle; messages stream. It is the session's router.Ender.
//
// submission_command.go has the commands, submission_message.go what follows DATA and BDAT.
type submissionSession struct {
	*client
	front *submissionFront
	back  *backend.SubmissionConn
	sess  *router.Session

	up, down int64
	cut      bool // the backend was gone without a word
	messages int
	reason   string        // of the end, for the log
	away     bool          // the backend is gone or in the middle of a message: it cannot be told QUIT
	tx       transaction   // under way
	watching chan struct{} // closed when the goroutine that listens to the backend has ended; nil without one

	mu       sync.Mutex
	pressure router.Pressure
	text     string
	inTx     bool // between MAIL accepted and its end: not to be ended
	spoke    bool // the backend spoke, or closed, while the client was idle
}

// transaction is what is known of the transaction under way.
type transaction struct {
	utf8, binary bool // SMTPUTF8, BODY=BINARYMIME
	rcpts        int  // accepted recipients
	chunks       bool // BDAT has begun
	failed       bool // a chunk was refused: the rest of the message is not taken (RFC 3030, section 2)
	size         int64
	bare         bareChecker
	filter       *messageFilter // of chunks that become DATA; the backend is in the middle of DATA as long as it is there
}

var (
	// errEnded is the cause of a session that was asked to end.
	errEnded = errors.New("session was asked to end")
	// errSpoke means that the backend spoke, or closed, unasked.
	errSpoke = errors.New("backend spoke unasked")
	// errStep means a reply that does not fit what was asked.
	errStep = errors.New("reply out of step")
)

// idleGrace is how long a client may be silent before somebody listens to the backend for him.
const idleGrace = time.Second

// End implements router.Ender.
func (s *submissionSession) End(p router.Pressure, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pressure, s.text = max(p, s.pressure), text
	if p == router.Cut {
		s.raw.Close()
		s.back.Cut()
	} else if !s.inTx {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// Resume implements router.Ender.
func (s *submissionSession) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pressure = 0
}

// begin marks a transaction, unless the session is to end.
func (s *submissionSession) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pressure > 0 && !s.inTx {
		return errEnded
	}
	s.inTx = true
	return nil
}

func (s *submissionSession) endTx() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inTx, s.tx = false, transaction{}
}

func (s *submissionSession) under() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inTx
}

// await sets the deadline for the next command, or what is left of it, unless the session is to end here.
func (s *submissionSession) await(grace time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.pressure > 0 && !s.inTx:
		return errEnded
	case s.spoke:
		return errSpoke
	}
	d := s.until
	if grace > 0 && time.Now().Add(grace).Before(d) {
		d = time.Now().Add(grace)
	}
	return s.conn.SetReadDeadline(d)
}

// woken looks around when the deadline for a command has passed, or was made to by End or by the backend.
func (s *submissionSession) woken(err error) error {
	if again := s.await(0); again != nil {
		return again
	}
	if !time.Now().Before(s.until) {
		return err
	}
	s.watch()
	return nil
}

// watch begins to listen to the backend: its last words, most often that it has waited long enough, are for a client who
// is idle, and not for his next command.
func (s *submissionSession) watch() {
	if s.watching != nil || s.away {
		return
	}
	_ = s.back.SetReadDeadline(time.Time{})
	ended := make(chan struct{})
	s.watching = ended
	go func() { // unwatch waits for it
		defer close(ended)
		defer s.srv.recoverPanic(s.client)
		if s.back.Await() == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.spoke = true
			_ = s.conn.SetReadDeadline(time.Unix(1, 0))
		}
	}()
}

func (s *submissionSession) unwatch() {
	if s.watching == nil {
		return
	}
	_ = s.back.SetReadDeadline(time.Unix(1, 0))
	<-s.watching
	s.watching = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoke = false // a command came in the meantime: what the backend said is its answer, or out of step
}

// run serves the session to its end, in a goroutine of the server.
func (s *submissionSession) run() {
	defer s.srv.wg.Done()
	defer s.close()
	defer s.srv.recoverPanic(s.client)
	defer s.finish()
	if s.sayBackend(s.back.AuthReply) != nil {
		return
	}
	for s.once() == nil {
	}
}

// once reads and answers one command; an error ends the session.
func (s *submissionSession) once() error {
	// RFC 5321, section 4.5.3.2.7 wants five minutes for the next command, as long as data may pause.
	s.until = time.Now().Add(s.set.cfg.Limits.DataTime)
	err := s.await(s.front.grace())
	var line string
	if err == nil {
		line, err = readCommand(s.r, s.woken)
		if !errors.Is(err, errSpoke) {
			s.unwatch()
		}
	}
	if err != nil {
		return s.complain(err)
	}
	s.up += int64(len(line) + 2)
	return s.command(line)
}

// finish ends the backend's side and reports.
func (s *submissionSession) finish() {
	s.unwatch()
	if !s.away {
		_ = s.back.SetDeadline(time.Now().Add(leaveTime))
		if _, err := io.WriteString(s.back, "QUIT\r\n"); err == nil {
			_, _ = s.back.ReadReply()
		}
	}
	s.back.Close()
	s.sess.Done()
	if s.messages > 0 {
		s.srv.changed(s.sess.User, s.sess.Protocol)
	}
	lived := time.Since(s.sess.Started)
	s.srv.rec.SessionEnd(config.Submission, s.sess.Side, lived, s.up, s.down)
	s.srv.over(s.sess.User, s.sess.Side, config.Submission, s.cut)
	if s.reason == "" {
		s.reason = "client closed"
	}
	s.srv.log.Info("session end", "protocol", config.Submission, "session", s.sess.ID, "user", s.sess.User,
		"side", s.sess.Side.String(), "epoch", s.sess.Epoch, "host", s.sess.Host, "client", s.addr.String(),
		"bytes_up", s.up, "bytes_down", s.down, "messages", s.messages, "seconds", lived.Seconds(), "reason", s.reason)
}

// say answers the client with one or more lines.
func (s *submissionSession) say(lines ...string) error {
	text := strings.Join(lines, "\r\n") + "\r\n"
	s.down += int64(len(text))
	return s.write(text)
}

// sayBackend passes a backend's reply on, to the letter.
func (s *submissionSession) sayBackend(r backend.Reply) error { return s.say(r.Lines...) }

// closing is the line that ends a session, for the lines above it.
func (s *submissionSession) closing(code string) string {
	return "421 " + code + " " + s.set.cfg.Hostname + " closing connection"
}

// over ends the session with last words for the client and the reason for the log.
func (s *submissionSession) over(reason string, lines ...string) error {
	s.reason = reason
	_ = s.say(lines...)
	return errOver
}

// complain answers what kept a command from being read.
func (s *submissionSession) complain(err error) error {
	switch {
	case errors.Is(err, errEnded):
		s.mu.Lock()
		text := s.text
		s.mu.Unlock()
		return s.over(text, "421 4.3.2 "+s.set.cfg.Hostname+" "+text)
	case errors.Is(err, errSpoke):
		s.away = true
		_ = s.back.SetReadDeadline(time.Now().Add(lastWords))
		if r, err := s.back.ReadReply(); err == nil && r.Code == 421 {
			return s.over("backend said 421 while the client was idle", r.Lines...)
		}
		s.cut = true
		return s.over("backend closed while the client was idle", s.lostReply())
	case errors.Is(err, errLineForm):
		return s.mistake("500 5.5.2 Lines hold no CR, LF or NUL but the CRLF at their end")
	case errors.Is(err, errLineEnd):
		return s.over("bare LF", "500 5.5.2 Lines end in CRLF, this one has a bare LF", s.closing("4.7.0"))
	case errors.Is(err, errLineLength):
		return s.over("line too long", "500 5.5.6 Line too long", s.closing("4.7.0"))
	case isTimeout(err):
		return s.over("idle too long", "421 4.4.2 "+s.set.cfg.Hostname+" Timeout, closing connection")
	case !errors.Is(err, io.EOF):
		s.reason = "client lost: " + err.Error()
	}
	return errOver
}

// mistake answers a command that makes no sense, and ends the session of a client who makes nothing else.
func (s *submissionSession) mistake(reply string) error {
	if s.mistakes++; s.mistakes >= maxMistakes {
		return s.over("too many errors", "421 4.7.0 "+s.set.cfg.Hostname+" Too many errors, closing connection")
	}
	return s.say(reply)
}
