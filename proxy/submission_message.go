package proxy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"mailgate/backend"
	"mailgate/config"
)

// data passes one message (RFC 5321, section 4.1.1.4).
func (s *submissionSession) data(line string) error {
	if s.tx.chunks {
		return s.mistake("503 5.5.1 The message has begun with BDAT") // RFC 3030, section 2
	}
	r, err := s.relay(line)
	if err != nil || r.Code != 354 {
		if s.tx.rcpts > 0 { // else it follows from what was refused before
			s.refused(r, err)
		}
		return err
	}
	s.mu.Lock()
	s.inTx = true // also where a backend takes DATA without MAIL
	s.mu.Unlock()
	return s.message(s.stream(), "DATA")
}

// outcome is what became of a message's bytes, or of a chunk's. At most one field is set.
type outcome struct {
	refuse string // our own refusal; the backend does not get the end of the message
	client error  // the client is gone
	back   error  // the backend is gone
	early  bool   // the backend has answered before the end
}

func (o *outcome) clean() bool { return *o == outcome{} }

const sizeRefusal = "552 5.3.4 The message is larger than this server takes"

// stream passes the client's bytes to the end of the message. After a refusal of ours, or without a backend, it reads
// on to that end, so that no byte of the message is taken for a command.
func (s *submissionSession) stream() (o outcome) {
	f := &messageFilter{normalize: s.normalize()}
	for done := false; !done; {
		b, err := s.next(s.r.Size())
		if err != nil {
			return outcome{client: err}
		}
		var out []byte
		var n int
		n, out, done = f.add(b)
		s.up += int64(n)
		s.judge(&o, f)
		if done {
			out = s.end(&o, out)
		}
		s.forward(&o, out)
		_, _ = s.r.Discard(n)
	}
	return o
}

// next waits for bytes of a message and returns what is there, at most n of them. The deadline is by progress.
func (s *submissionSession) next(n int) ([]byte, error) {
	_ = s.conn.SetReadDeadline(time.Now().Add(s.set.cfg.Limits.DataTime))
	if _, err := s.r.Peek(1); err != nil {
		return nil, err
	}
	return s.r.Peek(min(s.r.Buffered(), n))
}

func (s *submissionSession) normalize() bool { return s.set.cfg.Submit.BareNewlines == "normalize" }

// judge looks for our own reasons to refuse.
func (s *submissionSession) judge(o *outcome, f *messageFilter) {
	limit := s.set.cfg.Submit.MaxSize
	switch {
	case !o.clean():
	case f.fault != "":
		o.refuse = f.fault
	case limit > 0 && f.size > limit:
		o.refuse = sizeRefusal
	}
}

// end appends the end of the message, the only place that does, unless something speaks against it. A backend that has
// answered before it could know the message has not accepted this one.
func (s *submissionSession) end(o *outcome, out []byte) []byte {
	if !o.clean() {
		return out
	}
	_ = s.back.SetReadDeadline(time.Time{})
	if s.back.Spoken() {
		o.early = true
		return nil
	}
	return append(out, ".\r\n"...)
}

// forward writes to the backend. Once the message is refused the backend is cut off instead: without the end of the
// message it keeps nothing.
func (s *submissionSession) forward(o *outcome, b []byte) {
	switch {
	case o.refuse != "":
		s.away = true
		s.back.Close()
	case o.clean() && len(b) > 0:
		_ = s.back.SetWriteDeadline(s.front.within(s.set.cfg.Limits.DataTime))
		_, o.back = s.back.Write(b)
	}
}

// message ends a message with the backend's reply, or ours.
func (s *submissionSession) message(o outcome, what string) error {
	defer s.endTx()
	s.away = true // until the backend's reply says that it waits for commands again
	switch {
	case o.client != nil:
		return s.clientLost(what, o.client) // the backend never saw the end; closing discards what it has
	case o.refuse != "":
		s.count(5)
		return s.over(o.refuse, o.refuse, s.closing("4.7.0"))
	}
	limit := finalTime
	if !o.clean() {
		limit = lastWords
	}
	_ = s.back.SetReadDeadline(s.front.within(limit))
	r, err := s.back.ReadReply()
	if err == nil && (r.Code/100 == 3 || !o.clean() && r.Code < 400) {
		err = errStep
	}
	switch {
	case err != nil:
		if err = saying(r, err); o.back != nil {
			err = o.back
		}
		s.count(4)
		s.cut = true
		return s.over("backend lost in "+what+": "+err.Error(), "451 4.4.2 The mail server was lost, please try again",
			s.closing("4.4.2"))
	case !o.clean() && r.Code != 421:
		s.count(r.Code / 100)
		s.refused(r, nil)
		return s.over("backend refused in "+what, strings.Join(r.Lines, "\r\n"), s.closing("4.4.2"))
	}
	s.away = false
	s.count(r.Code / 100)
	s.refused(r, nil)
	if r.Code/100 == 2 {
		s.messages++
		s.srv.happened(s.sess.User, s.sess.Side, config.Submission, MailTaken, nil)
	}
	return s.pass(r)
}

// clientLost ends the session of a client who is gone, or silent, in the middle of a message.
func (s *submissionSession) clientLost(what string, err error) error {
	s.reason = "client lost in " + what + ": " + err.Error()
	if isTimeout(err) {
		_ = s.say("421 4.4.2 " + s.set.cfg.Hostname + " Timeout, closing connection")
	}
	return errOver
}

// refused tells of what the backend has refused for good; err is of a reply that was none, or that the client is gone.
func (s *submissionSession) refused(r backend.Reply, err error) {
	if r.Code/100 == 5 && (err == nil || errors.Is(err, errOver)) {
		s.srv.happened(s.sess.User, s.sess.Side, config.Submission, MailRefused, nil)
	}
}

func (s *submissionSession) count(class int) {
	s.srv.rec.Message(s.sess.Side, fmt.Sprint(class)+"xx")
}

// bdat takes one chunk (RFC 3030, section 2). It is for us to say that there is no transaction: the bytes travel with
// the command, and a backend that refuses it without reading them would take them for commands.
func (s *submissionSession) bdat(args string) error {
	size, last, ok := chunkSize(args)
	if !ok { // how many bytes follow is anybody's guess
		return s.over("BDAT without a size", "501 5.5.4 BDAT takes a size and perhaps LAST", s.closing("4.7.0"))
	}
	limit := s.set.cfg.Submit.MaxSize
	switch {
	case !s.under() || s.tx.failed:
		return s.drop(size, "503 5.5.1 MAIL and RCPT first")
	case s.tx.rcpts == 0:
		return s.drop(size, "554 5.5.1 No valid recipients")
	case limit > 0 && size > limit-s.tx.size:
		s.tx.failed = true
		return s.drop(size, sizeRefusal)
	}
	s.tx.chunks = true
	if _, chunking := s.back.Extensions["CHUNKING"]; !chunking || s.normalize() && !s.tx.binary {
		return s.chunkToData(size, last)
	}
	s.tx.size += size
	return s.chunkToChunk(size, last)
}

func chunkSize(args string) (size int64, last, ok bool) {
	f := strings.Fields(args)
	if len(f) == 0 || len(f) > 2 {
		return 0, false, false
	}
	n, err := strconv.ParseUint(f[0], 10, 62)
	last = len(f) == 2 && upper(f[1]) == "LAST"
	return int64(n), last, err == nil && (last || len(f) == 1)
}

// drop reads a chunk that is not wanted, and answers it.
func (s *submissionSession) drop(size int64, reply ...string) error {
	if err := s.chunk(size, func([]byte) {}); err != nil {
		return s.clientLost("BDAT", err)
	}
	return s.say(reply...)
}

// chunk takes a chunk's bytes; the error is the client's.
func (s *submissionSession) chunk(size int64, take func([]byte)) error {
	for size > 0 {
		b, err := s.next(int(min(size, int64(s.r.Size()))))
		if err != nil {
			return err
		}
		take(b)
		n := len(b)
		s.up += int64(n)
		size -= int64(n)
		_, _ = s.r.Discard(n)
	}
	return nil
}

// chunkToChunk passes a chunk to a backend that takes chunks.
func (s *submissionSession) chunkToChunk(size int64, last bool) error {
	command := "BDAT " + strconv.FormatInt(size, 10)
	if last {
		command += " LAST"
	}
	var o outcome
	if last && size == 0 && s.tx.bare.cr && !s.tx.binary {
		o.refuse = bareRefusal
		s.forward(&o, nil)
		return s.message(o, "BDAT")
	}
	if s.back.Pending() {
		o.early = true
	}
	s.forward(&o, []byte(command+"\r\n"))
	left := size
	if err := s.chunk(size, func(b []byte) {
		left -= int64(len(b))
		if o.clean() && !s.tx.binary && (s.tx.bare.add(b) || last && left == 0 && s.tx.bare.cr) {
			o.refuse = bareRefusal
		}
		s.forward(&o, b)
	}); err != nil {
		o = outcome{client: err}
	}
	if last || !o.clean() {
		return s.message(o, "BDAT")
	}
	_ = s.back.SetReadDeadline(s.front.within(finalTime))
	r, err := s.reply("BDAT", nil)
	if err != nil {
		return err
	}
	s.tx.failed = r.Code/100 != 2
	s.refused(r, nil)
	return s.pass(r)
}

// chunkToData passes a chunk to a backend that takes no chunks, or not as they are: the first one begins DATA there, the
// last one ends it. What we say to those in between is that they were passed on; nothing is accepted by that.
func (s *submissionSession) chunkToData(size int64, last bool) error {
	if s.tx.filter == nil {
		r, err := s.ask("DATA")
		if err != nil {
			return err
		}
		if r.Code != 354 {
			s.tx.failed = true
			if err := s.drop(size, r.Lines...); err != nil || r.Code != 421 {
				return err
			}
			s.reason, s.away = "backend said 421", true
			return errOver
		}
		s.tx.filter = &messageFilter{chunks: true, normalize: s.normalize()}
		s.away = true
	}
	f := s.tx.filter
	var o outcome
	if err := s.chunk(size, func(b []byte) {
		_, out, _ := f.add(b)
		s.judge(&o, f)
		s.forward(&o, out)
	}); err != nil {
		o = outcome{client: err}
	}
	s.tx.size = f.size
	if last && o.clean() {
		out := f.end()
		s.judge(&o, f)
		s.forward(&o, s.end(&o, out))
	}
	if last || !o.clean() {
		return s.message(o, "BDAT")
	}
	return s.say(fmt.Sprintf("250 2.0.0 %d octets taken", size))
}

// betweenChunks answers what is not BDAT while the backend is in the middle of DATA. It can only be cut off, so that it
// keeps nothing, and then there is nobody to go on with: the session ends.
func (s *submissionSession) betweenChunks(name string) error {
	switch name {
	case "NOOP":
		return s.say("250 2.0.0 OK")
	case "RSET":
		s.back.Close()
		return s.over("RSET between chunks", "250 2.0.0 The message is dropped", s.closing("4.3.2"))
	case "QUIT":
		s.back.Close()
		return s.over("QUIT between chunks", "221 2.0.0 Bye, the message is dropped")
	case "EHLO", "HELO":
		s.back.Close()
		return s.over(name+" between chunks", s.closing("4.3.2"))
	}
	return s.mistake("503 5.5.1 A message is under way: BDAT, RSET or QUIT")
}
