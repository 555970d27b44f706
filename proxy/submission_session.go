package proxy

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/router"
)

// submissionSession is a client whose backend has taken his credentials: each command goes to the backend, and what it
// answers is what the client hears. One goroutine, in lock step; messages stream. It is the session's router.Ender.
type submissionSession struct {
	*client
	back *backend.SubmissionConn
	sess *router.Session

	up, down int64
	messages int
	reason   string
	binary   bool        // the transaction is BODY=BINARYMIME
	bare     bareChecker // over the chunks of this transaction

	mu       sync.Mutex
	pressure router.Pressure
	text     string
	inTx     bool // between MAIL accepted and its end: not to be ended
}

// replyTime is the longest wait for a backend's reply: RFC 5321, section 4.5.3.2.6 gives ten minutes for the end of
// DATA, the longest of all.
const replyTime = 10 * time.Minute

// errEnded is the cause of a session that was asked to end.
var errEnded = errors.New("session was asked to end")

// End implements router.Ender.
func (s *submissionSession) End(p router.Pressure, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pressure, s.text = max(p, s.pressure), text
	if p == router.Cut {
		s.raw.Close()
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
	if s.pressure > 0 {
		return errEnded
	}
	s.inTx = true
	return nil
}

func (s *submissionSession) endTx() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inTx, s.binary, s.bare = false, false, bareChecker{}
}

// await sets the deadline for the next command, unless the session is to end here.
func (s *submissionSession) await() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pressure > 0 && !s.inTx {
		return errEnded
	}
	return s.conn.SetReadDeadline(time.Now().Add(s.set.cfg.Limits.DataTime))
}

// woken tells a deadline that End set from one that has passed.
func (s *submissionSession) woken(err error) error {
	s.mu.Lock()
	pressed, inTx := s.pressure > 0, s.inTx
	s.mu.Unlock()
	if pressed && !inTx {
		return errEnded
	}
	if time.Now().Before(s.until) {
		return s.conn.SetReadDeadline(s.until)
	}
	return err
}

// serve runs the session to its end.
func (s *submissionSession) serve() {
	defer s.finish()
	if err := s.sayBackend(s.back.AuthReply); err != nil {
		return
	}
	for {
		s.until = time.Now().Add(s.set.cfg.Limits.DataTime)
		err := s.await()
		var line string
		if err == nil {
			line, err = readCommand(s.r, s.woken)
		}
		if err == nil {
			s.up += int64(len(line) + 2)
			err = s.command(line)
		} else {
			err = s.complain(err)
		}
		if err != nil {
			if s.reason == "" && !errors.Is(err, errOver) {
				s.reason = err.Error()
			}
			return
		}
	}
}

// finish ends both sides and reports.
func (s *submissionSession) finish() {
	s.back.Close()
	s.sess.Done()
	lived := time.Since(s.sess.Started)
	s.srv.rec.SessionEnd(config.Submission, s.sess.Side, lived, s.up, s.down)
	if s.reason == "" {
		s.reason = "client closed"
	}
	s.srv.log.Info("session end", "protocol", config.Submission, "session", s.sess.ID, "user", s.sess.User,
		"side", s.sess.Side.String(), "epoch", s.sess.Epoch, "host", s.sess.Host, "client", s.addr.String(),
		"bytes_up", s.up, "bytes_down", s.down, "messages", s.messages, "seconds", lived.Seconds(), "reason", s.reason)
}

func (s *submissionSession) say(reply string) error {
	s.down += int64(len(reply) + 2)
	return s.write(reply + "\r\n")
}

// sayBackend passes a backend's reply on, to the letter.
func (s *submissionSession) sayBackend(r backend.Reply) error {
	return s.say(strings.Join(r.Lines, "\r\n"))
}

// complain ends the session over a line that could not be read.
func (s *submissionSession) complain(err error) error {
	switch {
	case errors.Is(err, errEnded):
		s.mu.Lock()
		text := s.text
		s.mu.Unlock()
		s.reason = text
		_ = s.say("421 4.3.2 " + s.set.cfg.Hostname + " " + text)
	case errors.Is(err, errLineForm):
		if s.mistakes++; s.mistakes < maxMistakes {
			return s.say("500 5.5.2 Lines end in CRLF and hold no other CR, LF or NUL")
		}
		_ = s.say("421 4.7.0 " + s.set.cfg.Hostname + " Too many errors, closing connection")
	case errors.Is(err, errLineLength):
		_ = s.say("500 5.5.6 Line too long\r\n421 4.7.0 " + s.set.cfg.Hostname + " closing connection")
	case isTimeout(err):
		s.reason = "idle too long"
		_ = s.say("421 4.4.2 " + s.set.cfg.Hostname + " Timeout, closing connection")
	}
	return errOver
}

// command answers one command; an error ends the session.
func (s *submissionSession) command(line string) error {
	name, args := verb(line)
	switch name {
	case "MAIL":
		return s.mail(line)
	case "RCPT":
		if reply := missing(line, s.back); reply != "" {
			return s.say(reply)
		}
		_, err := s.relay(line)
		return err
	case "DATA":
		return s.data(line)
	case "BDAT":
		return s.bdat(args)
	case "RSET":
		_, err := s.relay(line)
		s.endTx()
		return err
	case "EHLO", "HELO":
		return s.hello(name, args)
	case "NOOP", "VRFY", "EXPN", "HELP":
		_, err := s.relay(line)
		return err
	case "QUIT":
		_, _ = s.relay("QUIT")
		s.reason = "client said QUIT"
		return errOver
	case "AUTH":
		return s.say("503 5.5.1 Already authenticated")
	case "STARTTLS":
		return s.say("503 5.5.1 Not after AUTH")
	}
	if s.mistakes++; s.mistakes >= maxMistakes {
		_ = s.say("421 4.7.0 " + s.set.cfg.Hostname + " Too many errors, closing connection")
		return errOver
	}
	return s.say("500 5.5.2 Unknown command") // XCLIENT and the like are not a client's to say
}

// hello answers a second EHLO, which also ends a transaction (RFC 5321, section 4.1.4).
func (s *submissionSession) hello(name, args string) error {
	if !validHelo(args) {
		return s.say("501 5.5.4 " + name + " takes a domain or an address literal")
	}
	r, err := s.ask("RSET")
	if err != nil {
		return err
	}
	s.endTx()
	if r.Code/100 != 2 {
		return s.sayBackend(r)
	}
	if name == "HELO" {
		return s.say("250 " + s.set.cfg.Hostname)
	}
	return s.say(strings.Join(s.srv.ehlo(s.client), "\r\n"))
}

func (s *submissionSession) mail(line string) error {
	if reply := missing(line, s.back); reply != "" {
		return s.say(reply)
	}
	if _, ok := s.back.Extensions["SIZE"]; !ok {
		line = stripSize(line)
	}
	s.mu.Lock()
	nested := s.inTx
	s.mu.Unlock()
	if !nested {
		if err := s.begin(); err != nil {
			return s.complain(err)
		}
	}
	r, err := s.relay(line)
	if err == nil && r.Code/100 == 2 {
		s.binary = strings.Contains(strings.ToUpper(line), "BODY=BINARYMIME")
	} else if !nested {
		s.endTx()
	}
	return err
}

// stripSize takes the SIZE hint off a MAIL command for a backend that does not know it.
func stripSize(line string) string {
	i := strings.LastIndexByte(line, '>')
	out := line[:i+1]
	for _, p := range strings.Fields(line[i+1:]) {
		if len(p) < 5 || !strings.EqualFold(p[:5], "SIZE=") {
			out += " " + p
		}
	}
	return out
}

// ask sends a command to the backend and reads its reply. A backend that is lost ends the session with 421.
func (s *submissionSession) ask(line string) (backend.Reply, error) {
	_ = s.back.Conn.SetDeadline(time.Now().Add(replyTime))
	if _, err := io.WriteString(s.back.Conn, line+"\r\n"); err != nil {
		return s.reply(err)
	}
	return s.reply(nil)
}

// reply reads the backend's reply; werr is a write that failed before: the backend may have said why.
func (s *submissionSession) reply(werr error) (backend.Reply, error) {
	if werr != nil {
		_ = s.back.Conn.SetReadDeadline(time.Now().Add(time.Second))
	}
	r, err := s.back.ReadReply()
	if err == nil && (werr == nil || r.Code >= 400) {
		return r, nil
	}
	s.reason = "backend lost: " + errText(err, werr)
	_ = s.say("421 4.4.2 " + s.set.cfg.Hostname + " The mail server was lost, please try again")
	return r, errOver
}

func errText(errs ...error) string {
	for _, err := range errs {
		if err != nil {
			return err.Error()
		}
	}
	return "closed"
}

// relay is ask, with the reply passed on. A 421 of the backend ends the session.
func (s *submissionSession) relay(line string) (backend.Reply, error) {
	r, err := s.ask(line)
	if err != nil {
		return r, err
	}
	return r, s.pass(r)
}

func (s *submissionSession) pass(r backend.Reply) error {
	if err := s.sayBackend(r); err != nil {
		return err
	}
	if r.Code == 421 {
		s.reason = "backend said 421"
		return errOver
	}
	return nil
}

// data passes one message (RFC 5321, section 4.1.1.4).
func (s *submissionSession) data(line string) error {
	r, err := s.relay(line)
	if err != nil || r.Code != 354 {
		return err
	}
	return s.message(s.stream(), "DATA")
}

// outcome is what became of a message's bytes.
type outcome struct {
	refuse string // our own refusal: the backend was cut off before the end of the message
	client error  // the client is gone
	back   error  // the backend is gone
}

// message ends a message: with the backend's reply, or ours.
func (s *submissionSession) message(o outcome, what string) error {
	defer s.endTx()
	switch {
	case o.client != nil:
		s.reason = "client lost in " + what + ": " + o.client.Error()
		return errOver // the backend never saw the end; closing discards what it has
	case o.refuse != "":
		s.count(5)
		s.reason = o.refuse
		_ = s.say(o.refuse + "\r\n421 4.7.0 " + s.set.cfg.Hostname + " closing connection")
		return errOver
	}
	_ = s.back.Conn.SetReadDeadline(time.Now().Add(replyTime))
	if o.back != nil {
		_ = s.back.Conn.SetReadDeadline(time.Now().Add(time.Second))
	}
	r, err := s.back.ReadReply()
	if err != nil || o.back != nil && r.Code < 400 {
		s.count(4)
		s.reason = "backend lost in " + what + ": " + errText(o.back, err)
		_ = s.say("451 4.4.2 The mail server was lost, please try again\r\n421 4.4.2 " + s.set.cfg.Hostname +
			" closing connection")
		return errOver
	}
	s.count(r.Code / 100)
	if r.Code/100 == 2 {
		s.messages++
	}
	if err := s.pass(r); err != nil {
		return err
	}
	if o.back != nil {
		return errOver
	}
	return nil
}

func (s *submissionSession) count(class int) {
	s.srv.rec.Message(s.sess.Side, fmt.Sprint(class)+"xx")
}

const (
	bareRefusal = "550 5.6.0 The message holds a bare CR or LF; lines end in CRLF (RFC 5321, section 2.3.8)"
	sizeRefusal = "552 5.3.4 The message is larger than this server takes"
)

// stream passes the client's bytes to the end of the message. After a refusal of ours, or without a backend, it reads
// on to that end, so that no byte of the message is taken for a command.
func (s *submissionSession) stream() (o outcome) {
	var d dataScanner
	var z *normalizer
	if s.set.cfg.Submit.BareNewlines == "normalize" {
		z = newNormalizer()
	}
	var total int64
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(s.set.cfg.Limits.DataTime))
		if _, err := s.r.Peek(1); err != nil {
			o.client = err
			return o
		}
		b, _ := s.r.Peek(s.r.Buffered())
		out := b
		n, done := 0, false
		if z != nil {
			n, out, done = z.add(b)
		} else {
			n, done = d.scan(b)
			out = b[:n]
		}
		total += int64(n)
		s.up += int64(n)
		if d.bare && o.refuse == "" {
			o.refuse = bareRefusal
		}
		if limit := s.set.cfg.Submit.MaxSize; limit > 0 && total > limit+5 && o.refuse == "" {
			o.refuse = sizeRefusal
		}
		switch {
		case o.refuse != "":
			s.back.Close() // without the end of the message the backend keeps nothing
		case o.back == nil:
			_ = s.back.Conn.SetWriteDeadline(time.Now().Add(s.set.cfg.Limits.DataTime))
			_, o.back = s.back.Conn.Write(out)
		}
		_, _ = s.r.Discard(n)
		if done {
			return o
		}
	}
}

// bdat passes one chunk (RFC 3030, section 2).
func (s *submissionSession) bdat(args string) error {
	f := strings.Fields(args)
	size, err := int64(-1), error(nil)
	if len(f) > 0 {
		size, err = strconv.ParseInt(f[0], 10, 62)
	}
	last := len(f) == 2 && strings.EqualFold(f[1], "LAST")
	if err != nil || size < 0 || len(f) > 2 || len(f) == 2 && !last {
		_ = s.say("501 5.5.4 BDAT takes a size and perhaps LAST\r\n421 4.7.0 " + s.set.cfg.Hostname + " closing connection")
		return errOver // how many bytes follow is anybody's guess
	}
	_, chunking := s.back.Extensions["CHUNKING"]
	if !chunking {
		if o := s.chunk(size, false); o.client != nil {
			return s.message(o, "BDAT")
		}
		return s.say("502 5.5.1 BDAT is not supported by the mail server")
	}
	command := "BDAT " + strconv.FormatInt(size, 10)
	if last {
		command += " LAST"
	}
	_ = s.back.Conn.SetDeadline(time.Now().Add(replyTime))
	_, werr := io.WriteString(s.back.Conn, command+"\r\n")
	o := s.chunk(size, werr == nil)
	if werr != nil {
		o.back = werr
	}
	if last || o != (outcome{}) {
		return s.message(o, "BDAT")
	}
	r, err := s.reply(nil)
	if err != nil {
		return err
	}
	return s.pass(r)
}

// chunk passes size bytes, or drops them.
func (s *submissionSession) chunk(size int64, forward bool) (o outcome) {
	for size > 0 {
		_ = s.conn.SetReadDeadline(time.Now().Add(s.set.cfg.Limits.DataTime))
		if _, err := s.r.Peek(1); err != nil {
			o.client = err
			return o
		}
		b, _ := s.r.Peek(int(min(int64(s.r.Buffered()), size)))
		s.up += int64(len(b))
		if forward && !s.binary && s.bare.add(b) && o.refuse == "" {
			o.refuse = bareRefusal
		}
		switch {
		case o.refuse != "":
			s.back.Close()
		case forward && o.back == nil:
			_ = s.back.Conn.SetWriteDeadline(time.Now().Add(s.set.cfg.Limits.DataTime))
			_, o.back = s.back.Conn.Write(b)
		}
		size -= int64(len(b))
		_, _ = s.r.Discard(len(b))
	}
	return o
}
