package people

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"time"

	"mailgate/mailtest/lab"
)

// Desk is a mail program of somebody's: an IMAP session in clear, one command at a time. Its errors are for the caller, since sessions
// break in the course of a week.
type Desk struct {
	conn net.Conn
	r    *bufio.Reader
	n    int
}

// Refusal is a tagged NO or BAD.
type Refusal struct{ command, text string }

func (e *Refusal) Error() string { return e.command + ": " + e.text }

// Sit logs user n in at an address.
func Sit(addr string, n int) (*Desk, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	d := &Desk{conn: c, r: bufio.NewReader(c)}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err = d.r.ReadString('\n'); err == nil {
		_, err = d.Do("LOGIN %s %s", lab.User(n), lab.Password(n))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return d, nil
}

// Do sends a command and gives the lines of the answer. NO and BAD are *Refusal.
func (d *Desk) Do(format string, args ...any) ([]string, error) {
	d.n++
	command := fmt.Sprintf(format, args...)
	_ = d.conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintf(d.conn, "d%d %s\r\n", d.n, command); err != nil {
		return nil, err
	}
	return d.answer(command)
}

func (d *Desk) answer(command string) (lines []string, err error) {
	for {
		line, err := d.r.ReadString('\n')
		if err != nil {
			return lines, fmt.Errorf("%s: %w", command, err)
		}
		line = strings.TrimRight(line, "\r\n")
		if rest, ok := strings.CutPrefix(line, fmt.Sprintf("d%d ", d.n)); ok {
			if !strings.HasPrefix(rest, "OK") {
				return lines, &Refusal{command, rest}
			}
			return lines, nil
		}
		lines = append(lines, line)
	}
}

// Put appends a message.
func (d *Desk) Put(box, flags string, date time.Time, body []byte) error {
	d.n++
	_ = d.conn.SetDeadline(time.Now().Add(time.Minute))
	command := fmt.Sprintf("APPEND %q (%s) %q {%d}", box, flags, date.Format("02-Jan-2006 15:04:05 -0700"), len(body))
	if _, err := fmt.Fprintf(d.conn, "d%d %s\r\n", d.n, command); err != nil {
		return err
	}
	line, err := d.r.ReadString('\n')
	for err == nil && strings.HasPrefix(line, "* ") {
		line, err = d.r.ReadString('\n')
	}
	switch {
	case err != nil:
		return err
	case line[0] != '+':
		return &Refusal{command, line}
	}
	if _, err := d.conn.Write(append(body[:len(body):len(body)], '\r', '\n')); err != nil {
		return err
	}
	_, err = d.answer(command)
	return err
}

// Search gives UIDs of the selected mailbox.
func (d *Desk) Search(format string, args ...any) (uids []string, err error) {
	lines, err := d.Do("UID SEARCH "+format, args...)
	for _, line := range lines {
		if f := strings.Fields(line); len(f) >= 2 && f[1] == "SEARCH" {
			uids = append(uids, f[2:]...)
		}
	}
	return uids, err
}

// Lives tells whether the session is still there.
func (d *Desk) Lives() bool {
	_, err := d.Do("NOOP")
	return err == nil
}

// Leave logs out.
func (d *Desk) Leave() {
	_, _ = d.Do("LOGOUT")
	d.conn.Close()
}
