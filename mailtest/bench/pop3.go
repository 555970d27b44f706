package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
)

// fakePOP3 serves one connection: it takes any login, and has a mailbox of two messages that nobody reads.
func fakePOP3(c net.Conn) {
	r := bufio.NewReaderSize(c, 512)
	say := func(s string) { fmt.Fprint(c, s+"\r\n") }
	say("+OK ready")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		f := strings.Fields(line)
		if len(f) == 0 {
			say("-ERR what")
			continue
		}
		switch strings.ToUpper(f[0]) {
		case "CAPA":
			say("+OK\r\nUSER\r\nSASL PLAIN LOGIN\r\nTOP\r\nUIDL\r\nPIPELINING\r\nRESP-CODES\r\n.")
		case "AUTH":
			if len(f) < 3 {
				say("+ ")
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
			}
			say("+OK in")
		case "STAT":
			say("+OK 2 2097152")
		case "USER", "PASS", "NOOP":
			say("+OK")
		case "QUIT":
			say("+OK bye")
			return
		default:
			say("-ERR what")
		}
	}
}

// pop sends a command and reads its one line.
func (c *client) pop(command string) error {
	if command != "" {
		if _, err := io.WriteString(c, command+"\r\n"); err != nil {
			return err
		}
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(line), "+OK") {
		return fmt.Errorf("%.10s: %s", command, strings.TrimSpace(string(line)))
	}
	return nil
}

// popLogin connects, logs in and asks what is there.
func popLogin(addr string, encrypted bool, user, buffer int) (*client, error) {
	c, err := dial(addr, encrypted, buffer)
	if err != nil {
		return nil, err
	}
	for _, command := range []string{"", "USER " + userName(user), "PASS " + password, "STAT"} {
		if err := c.pop(command); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// fetchMail is one client who looks for mail by POP3 and leaves.
func (j *job) fetchMail(addr string, user int) error {
	c, err := popLogin(addr, j.TLS, user, 512)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.pop("QUIT")
}
