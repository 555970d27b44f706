package backend

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"

	"mailgate/tlsconf"
)

// SubmissionConn is a connection whose AUTH was accepted. It belongs to one goroutine; Await may run in another while
// that one does nothing with it but set deadlines.
type SubmissionConn struct {
	net.Conn
	c          *conn
	src        *source
	Extensions map[string]string // keyword, upper case, to its parameters
	AuthReply  Reply
	Host       string
}

func newSubmissionConn(c *conn, ext map[string]string, authReply Reply) *SubmissionConn {
	s := &SubmissionConn{Conn: c.Conn, c: c, src: &source{Conn: c.Conn, early: c.buffered()}, Extensions: ext,
		AuthReply: authReply, Host: c.host.Name}
	c.r.Reset(s.src)
	return s
}

// source is what a SubmissionConn's buffer reads from: with stream set, only what is there.
type source struct {
	net.Conn
	early  []byte // what the server said behind its answer to AUTH
	stream *tlsconf.Stream
}

// Read implements io.Reader.
func (s *source) Read(b []byte) (int, error) {
	switch {
	case len(s.early) > 0:
		n := copy(b, s.early)
		s.early = s.early[n:]
		return n, nil
	case s.stream != nil:
		return s.stream.ReadNow(b)
	}
	return s.Conn.Read(b)
}

// ReadReply reads the server's next reply. The caller sets the deadline.
func (s *SubmissionConn) ReadReply() (Reply, error) {
	s.c.left = maxServerPhase
	return s.c.reply()
}

// Cut closes the connection without a word, not even of TLS, so that it does not wait for anything.
func (s *SubmissionConn) Cut() { s.c.raw.Close() }

// Await returns nil when the server has said something, or has closed: ReadReply tells which. The error is that of the
// read deadline.
func (s *SubmissionConn) Await() error {
	st, ok := tlsconf.NewStream(s.Conn)
	if !ok {
		return errors.New("connection cannot be waited for")
	}
	for {
		spoke, err := s.look(&st)
		if spoke || err != nil {
			return err
		}
		if err := st.Wait(); errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

// Spoken tells, without waiting, whether the server has said something that was not read, or has closed. The read
// deadline must not have passed.
func (s *SubmissionConn) Spoken() bool {
	st, ok := tlsconf.NewStream(s.Conn)
	if !ok {
		return false
	}
	spoke, _ := s.look(&st)
	return spoke
}

// Pending tells whether something that the server said stands in the buffer.
func (s *SubmissionConn) Pending() bool { return s.c.r.Buffered() > 0 || len(s.src.early) > 0 }

func (s *SubmissionConn) look(st *tlsconf.Stream) (spoke bool, err error) {
	s.src.stream = st
	defer func() { s.src.stream = nil }()
	_, err = s.c.r.Peek(1)
	switch {
	case errors.Is(err, tlsconf.ErrWouldBlock):
		return false, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, err
	}
	return true, nil
}

// Reply is an SMTP reply to the letter: the lines without CRLF, codes included (RFC 5321, section 4.2).
type Reply struct {
	Code  int
	Lines []string
}

// text is the reply without codes.
func (r Reply) text() string {
	var out []string
	for _, l := range r.Lines {
		out = append(out, strings.TrimSpace(l[min(len(l), 4):]))
	}
	return strings.Join(out, " ")
}

var errReply = errors.New("not an SMTP reply")

// maxReplyLines bounds a multi-line reply.
const maxReplyLines = 200

// reply reads one reply. A bare CR or a NUL in it would be the end of a line to some clients, and is refused.
func (c *conn) reply() (Reply, error) {
	var r Reply
	for {
		line, err := c.line()
		if err != nil {
			return r, err
		}
		code, ok := replyCode(line)
		if !ok || r.Code != 0 && r.Code != code || len(r.Lines) >= maxReplyLines || strings.ContainsAny(line, "\r\x00") {
			return Reply{Lines: []string{printable(line)}}, errReply
		}
		r.Code = code
		r.Lines = append(r.Lines, line)
		if len(line) == 3 || line[3] == ' ' {
			return r, nil
		}
	}
}

// replyCode reads the code of a reply's line.
func replyCode(line string) (code int, ok bool) {
	if len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return 0, false
	}
	n, err := strconv.ParseUint(line[:3], 10, 16)
	return int(n), err == nil && n >= 200 && n <= 599
}
