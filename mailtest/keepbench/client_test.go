//go:build bench

package keepbench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// patience is how long an answer may take.
const patience = time.Minute

// client is a mail client on a connection in clear, one command at a time. It is not safe for concurrent use.
type client struct {
	conn net.Conn
	r    *bufio.Reader
	n    int
}

// login connects to a port of this machine and logs user n in.
func login(port, n int) (*client, error) {
	c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return nil, err
	}
	x := &client{conn: c, r: bufio.NewReaderSize(c, 2048)}
	_ = c.SetDeadline(time.Now().Add(patience))
	greeting, err := x.line()
	if err == nil && !strings.HasPrefix(greeting, "* OK") {
		err = fmt.Errorf("greeting: %q", greeting)
	}
	if err == nil {
		_, err = x.do("LOGIN %s %s", user(n), password(n))
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("%s: %w", user(n), err)
	}
	return x, nil
}

// line reads a line without its end. A literal's bytes are its next lines: messages here hold no line that looks like an answer.
func (x *client) line() (string, error) {
	line, err := x.r.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// do sends a command and gives the untagged lines; the answer has to be OK.
func (x *client) do(format string, args ...any) (lines []string, err error) {
	x.n++
	tag := "k" + strconv.Itoa(x.n)
	command := fmt.Sprintf(format, args...)
	_ = x.conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(x.conn, tag+" "+command+"\r\n"); err != nil {
		return nil, err
	}
	return x.answer(tag, command)
}

func (x *client) answer(tag, command string) (lines []string, err error) {
	for {
		line, err := x.line()
		if err != nil {
			return nil, fmt.Errorf("%.20s: %w", command, err)
		}
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			if !strings.HasPrefix(rest, "OK") {
				return nil, fmt.Errorf("%.20s: %s", command, rest)
			}
			return lines, nil
		}
		lines = append(lines, line)
	}
}

// append puts a message into a mailbox.
func (x *client) append(box string, message []byte) error {
	x.n++
	tag := "k" + strconv.Itoa(x.n)
	_ = x.conn.SetDeadline(time.Now().Add(patience))
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s APPEND %q {%d+}\r\n%s\r\n", tag, box, len(message), message)
	if _, err := x.conn.Write(b.Bytes()); err != nil {
		return err
	}
	_, err := x.answer(tag, "APPEND")
	return err
}

// seen is a message as a client sees it.
type seen struct {
	uid     string
	flagged bool
}

// content gives what the selected mailbox holds, by the key in each Subject. What comes or goes while it is read is read too.
func (x *client) content() (map[string]seen, error) {
	for {
		lines, err := x.do("UID FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
		if err != nil {
			return nil, err
		}
		out, news := map[string]seen{}, false
		var m seen
		for _, line := range lines {
			switch {
			case strings.HasSuffix(line, " EXPUNGE"), strings.HasSuffix(line, " EXISTS"):
				news = true
			case strings.HasPrefix(line, "* ") && strings.Contains(line, " FETCH ("):
				if _, rest, ok := strings.Cut(line, "UID "); ok {
					m.uid, _, _ = strings.Cut(rest, " ")
				}
				m.flagged = strings.Contains(line, `\Flagged`)
			case strings.HasPrefix(line, "Subject: "):
				out[line[9:]] = m
			}
		}
		if !news {
			return out, nil
		}
	}
}

func (x *client) close() {
	_, _ = x.do("LOGOUT")
	x.conn.Close()
}
