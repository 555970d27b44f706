package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"mailgate/mailtest/lab"
)

// desk is a mail program of somebody's: an IMAP session in clear, one command at a time. Its errors are for the caller, since sessions
// break in the course of a week.
type desk struct {
	conn net.Conn
	r    *bufio.Reader
	n    int
}

// refusal is a tagged NO or BAD.
type refusal struct{ command, text string }

func (e *refusal) Error() string { return e.command + ": " + e.text }

// sit logs user n in at an address.
func sit(addr string, n int) (*desk, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	d := &desk{conn: c, r: bufio.NewReader(c)}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err = d.r.ReadString('\n'); err == nil {
		_, err = d.do("LOGIN %s %s", lab.User(n), lab.Password(n))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return d, nil
}

// do sends a command and gives the lines of the answer. NO and BAD are *refusal.
func (d *desk) do(format string, args ...any) ([]string, error) {
	d.n++
	command := fmt.Sprintf(format, args...)
	_ = d.conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintf(d.conn, "d%d %s\r\n", d.n, command); err != nil {
		return nil, err
	}
	return d.answer(command)
}

func (d *desk) answer(command string) (lines []string, err error) {
	for {
		line, err := d.r.ReadString('\n')
		if err != nil {
			return lines, fmt.Errorf("%s: %w", command, err)
		}
		line = strings.TrimRight(line, "\r\n")
		if rest, ok := strings.CutPrefix(line, fmt.Sprintf("d%d ", d.n)); ok {
			if !strings.HasPrefix(rest, "OK") {
				return lines, &refusal{command, rest}
			}
			return lines, nil
		}
		lines = append(lines, line)
	}
}

// put appends a message.
func (d *desk) put(box, flags string, date time.Time, body []byte) error {
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
		return &refusal{command, line}
	}
	if _, err := d.conn.Write(append(body[:len(body):len(body)], '\r', '\n')); err != nil {
		return err
	}
	_, err = d.answer(command)
	return err
}

// search gives UIDs of the selected mailbox.
func (d *desk) search(format string, args ...any) (uids []string, err error) {
	lines, err := d.do("UID SEARCH "+format, args...)
	for _, line := range lines {
		if f := strings.Fields(line); len(f) >= 2 && f[1] == "SEARCH" {
			uids = append(uids, f[2:]...)
		}
	}
	return uids, err
}

// lives tells whether the session is still there.
func (d *desk) lives() bool {
	_, err := d.do("NOOP")
	return err == nil
}

func (d *desk) leave() {
	_, _ = d.do("LOGOUT")
	d.conn.Close()
}

// broken tells whether an error is of the connection, rather than an answer.
func broken(err error) bool {
	var no *refusal
	var netErr net.Error
	return err != nil && !errors.As(err, &no) && (errors.Is(err, io.EOF) || errors.As(err, &netErr))
}
