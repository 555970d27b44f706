package proxy

import (
	"fmt"
	"io"
	"strings"
	"time"

	"mailgate/backend"
)

// How long a backend may take for its reply (RFC 5321, section 4.5.3.2).
const (
	replyTime = 5 * time.Minute  // to a command
	dataTime  = 2 * time.Minute  // to DATA
	finalTime = 10 * time.Minute // to the end of a message
	quitTime  = 5 * time.Second
	lastWords = time.Second // for what a backend said before it was lost
)

// grace is idleGrace, or what a test sets.
func (f *submissionFront) grace() time.Duration {
	if f.idleGrace > 0 {
		return f.idleGrace
	}
	return idleGrace
}

// within is d, or less when a test says so.
func (f *submissionFront) within(d time.Duration) time.Time {
	if f.mostWait > 0 {
		d = min(d, f.mostWait)
	}
	return time.Now().Add(d)
}

// command answers one command; an error ends the session.
func (s *submissionSession) command(line string) error {
	name, args := verb(line)
	if refusal := s.foreign(name, line); refusal != "" {
		if name == "MAIL" || name == "RCPT" {
			return s.say(refusal) // many recipients may be of that kind
		}
		return s.mistake(refusal)
	}
	if s.tx.filter != nil && name != "BDAT" {
		return s.betweenChunks(name)
	}
	switch name {
	case "MAIL":
		return s.mail(line)
	case "RCPT":
		return s.rcpt(line)
	case "DATA":
		return s.data(line)
	case "BDAT":
		return s.bdat(args)
	case "RSET":
		r, err := s.relay(line)
		if err == nil && r.Code/100 == 2 {
			s.endTx()
		}
		return err
	case "EHLO", "HELO":
		return s.hello(name, args)
	case "NOOP", "VRFY", "EXPN", "HELP":
		_, err := s.relay(line)
		return err
	case "QUIT":
		return s.quit()
	case "AUTH":
		return s.say("503 5.5.1 Already authenticated")
	case "STARTTLS":
		return s.say("503 5.5.1 Not after AUTH")
	}
	return s.mistake("500 5.5.2 Unknown command") // XCLIENT and the like are not a client's to say
}

// foreign refuses bytes beyond ASCII where SMTPUTF8 was not asked for (RFC 6531, section 3.1).
func (s *submissionSession) foreign(name, line string) string {
	yes, valid := ascii(line)
	switch {
	case yes:
	case !valid:
		return "500 5.5.2 The command is neither ASCII nor UTF-8"
	case name == "MAIL" && hasParameter(line, "SMTPUTF8"), name == "RCPT" && s.tx.utf8,
		(name == "VRFY" || name == "EXPN") && strings.HasSuffix(upper(line), " SMTPUTF8"):
	case name == "MAIL" || name == "RCPT":
		return "553 5.6.7 Such an address takes SMTPUTF8"
	default:
		return "500 5.5.2 The command is not ASCII"
	}
	return ""
}

// quit answers QUIT, whatever the backend has to say.
func (s *submissionSession) quit() error {
	s.away = true
	_ = s.back.Conn.SetDeadline(s.front.within(quitTime))
	reply := "221 2.0.0 Bye"
	if _, err := io.WriteString(s.back.Conn, "QUIT\r\n"); err == nil {
		if r, err := s.back.ReadReply(); err == nil {
			reply = strings.Join(r.Lines, "\r\n")
		}
	}
	return s.over("client said QUIT", reply)
}

// hello answers a second EHLO, which also ends a transaction (RFC 5321, section 4.1.4). The backend hears RSET: what it
// offered on its own EHLO holds.
func (s *submissionSession) hello(name, args string) error {
	if !validHelo(args) {
		return s.mistake("501 5.5.4 " + name + " takes a domain or an address literal")
	}
	r, err := s.ask("RSET")
	if err != nil {
		return err
	}
	if r.Code/100 != 2 {
		return s.pass(r)
	}
	s.endTx()
	if name == "HELO" {
		return s.say("250 " + s.set.cfg.Hostname)
	}
	return s.say(s.srv.ehlo(s.client)...)
}

func (s *submissionSession) mail(line string) error {
	line, refusal := s.fit("MAIL", line)
	if refusal != "" {
		return s.say(refusal)
	}
	nested := s.under()
	if err := s.begin(); err != nil {
		return s.complain(err)
	}
	r, err := s.relay(line)
	switch {
	case err == nil && r.Code/100 == 2:
		s.tx = transaction{utf8: hasParameter(line, "SMTPUTF8"), binary: hasParameter(line, "BODY=BINARYMIME")}
	case !nested:
		s.endTx()
	}
	s.refused(r, err)
	return err
}

func (s *submissionSession) rcpt(line string) error {
	line, refusal := s.fit("RCPT", line)
	if refusal != "" {
		return s.say(refusal)
	}
	r, err := s.relay(line)
	if err == nil && r.Code/100 == 2 {
		s.tx.rcpts++
	}
	s.refused(r, err)
	return err
}

// ask sends a command to the backend and reads its reply, which is 2xx, 4xx or 5xx, or 354 to DATA. A backend that is
// lost, or that says something else, ends the session with 421.
func (s *submissionSession) ask(line string) (backend.Reply, error) {
	step, _ := verb(line)
	limit := replyTime
	if step == "DATA" {
		limit = dataTime
	}
	_ = s.back.Conn.SetDeadline(s.front.within(limit))
	if s.back.Pending() { // it has spoken unasked: whose answer would that be?
		r, err := s.back.ReadReply()
		if err == nil && r.Code != 421 {
			err = errStep
		}
		if err != nil {
			return r, s.lost(step, saying(r, err))
		}
		return r, nil
	}
	_, werr := io.WriteString(s.back.Conn, line+"\r\n")
	return s.reply(step, werr)
}

// reply reads the backend's reply; werr is a write that failed before: the backend may have said why.
func (s *submissionSession) reply(step string, werr error) (backend.Reply, error) {
	if werr != nil {
		s.away = true
		_ = s.back.Conn.SetReadDeadline(s.front.within(lastWords))
	}
	r, err := s.back.ReadReply()
	switch {
	case err != nil && werr != nil:
		err = werr
	case err == nil && werr != nil && r.Code < 400:
		err = werr
	case err == nil && r.Code/100 == 3 && (r.Code != 354 || step != "DATA"),
		err == nil && r.Code/100 == 2 && step == "DATA":
		err = errStep
	}
	if err != nil {
		return r, s.lost(step, saying(r, err))
	}
	return r, nil
}

// saying adds to an error what the backend said last, for the log.
func saying(r backend.Reply, err error) error {
	if len(r.Lines) == 0 {
		return err
	}
	last := r.Lines[len(r.Lines)-1]
	return fmt.Errorf("%w, it said %q", err, last[:min(len(last), 200)])
}

// lost ends the session over a backend that was lost between messages.
func (s *submissionSession) lost(step string, err error) error {
	s.away, s.cut = true, true
	return s.over("backend lost at "+step+": "+err.Error(), s.lostReply())
}

func (s *submissionSession) lostReply() string {
	return "421 4.4.2 " + s.set.cfg.Hostname + " The mail server was lost, please try again"
}

// relay is ask, with the reply passed on.
func (s *submissionSession) relay(line string) (backend.Reply, error) {
	r, err := s.ask(line)
	if err != nil {
		return r, err
	}
	return r, s.pass(r)
}

// pass passes a reply on. A 421 of the backend ends the session.
func (s *submissionSession) pass(r backend.Reply) error {
	if err := s.sayBackend(r); err != nil {
		s.reason = "client lost: " + err.Error()
		return errOver
	}
	if r.Code == 421 {
		s.reason, s.away = "backend said 421", true
		return errOver
	}
	return nil
}
