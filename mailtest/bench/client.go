package main

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// users are in the routes file; the generator logs in as each in turn.
const users = 100

func userName(i int) string { return fmt.Sprintf("user%d@example.com", i%users+1) }

const password = "a-secret-of-the-usual-length"

// patience is how long one session of the generator may take in all.
const patience = 60 * time.Second

// client is a connection of the load generator.
type client struct {
	net.Conn
	r   *bufio.Reader
	tag int
}

// dial connects. TLS is 1.3 with a full handshake each time: there is no session cache.
func dial(addr string, encrypted bool, buffer int) (*client, error) {
	c, err := connect(addr)
	if err != nil {
		return nil, err
	}
	return over(c, encrypted, buffer)
}

func connect(addr string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	return c, nil
}

// over begins TLS on a connection, which it closes when that fails.
func over(c net.Conn, encrypted bool, buffer int) (*client, error) {
	if encrypted {
		t := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
		if err := t.Handshake(); err != nil {
			c.Close()
			return nil, err
		}
		c = t
	}
	return &client{Conn: c, r: bufio.NewReaderSize(c, buffer)}, nil
}

// imap sends a command and reads to its tagged OK; it returns how many bytes came.
func (c *client) imap(command string) (n int64, err error) {
	c.tag++
	tag := "a" + strconv.Itoa(c.tag)
	if _, err := io.WriteString(c, tag+" "+command+"\r\n"); err != nil {
		return 0, err
	}
	for {
		b, err := c.r.ReadSlice('\n')
		n += int64(len(b))
		if err != nil {
			return n, err
		}
		if size, ok := literal(string(b)); ok {
			k, err := c.r.Discard(size)
			n += int64(k)
			if err != nil {
				return n, err
			}
			continue
		}
		if rest, ok := strings.CutPrefix(string(b), tag+" "); ok {
			if !strings.HasPrefix(rest, "OK") {
				return n, fmt.Errorf("%.10s: %s", command, strings.TrimSpace(rest))
			}
			return n, nil
		}
	}
}

// imapLogin connects, logs in and selects the INBOX.
func imapLogin(addr string, encrypted bool, user, buffer int) (*client, error) {
	raw, err := connect(addr)
	if err != nil {
		return nil, err
	}
	return imapOver(raw, encrypted, user, buffer)
}

// imapOver is imapLogin on a connection that stands.
func imapOver(raw net.Conn, encrypted bool, user, buffer int) (*client, error) {
	c, err := over(raw, encrypted, buffer)
	if err != nil {
		return nil, err
	}
	greeting, err := c.r.ReadString('\n')
	if err == nil && !strings.HasPrefix(greeting, "* OK") {
		err = fmt.Errorf("greeting: %q", greeting)
	}
	if err == nil {
		_, err = c.imap("LOGIN " + userName(user) + " " + password)
	}
	if err == nil {
		_, err = c.imap("SELECT INBOX")
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// idle enters IDLE.
func (c *client) idle() error {
	if _, err := io.WriteString(c, "i IDLE\r\n"); err != nil {
		return err
	}
	line, err := c.r.ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "+") {
		err = fmt.Errorf("IDLE: %q", line)
	}
	return err
}

// smtp sends text and reads a reply, which must have the code.
func (c *client) smtp(text, code string) error {
	if text != "" {
		if _, err := io.WriteString(c, text); err != nil {
			return err
		}
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return err
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, code) {
			return fmt.Errorf("%.10q: %s", text, strings.TrimSpace(line))
		}
		return nil
	}
}

// submit is one client who sends one message.
func submit(addr string, encrypted bool, user int, message string) error {
	c, err := dial(addr, encrypted, 1024)
	if err != nil {
		return err
	}
	defer c.Close()
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + userName(user) + "\x00" + password))
	for _, step := range [][2]string{{"", "220"}, {"EHLO client.example.com\r\n", "250"}, {"AUTH PLAIN " + plain + "\r\n", "235"},
		{"MAIL FROM:<" + userName(user) + ">\r\n", "250"}, {"RCPT TO:<somebody@example.com>\r\n", "250"}, {"DATA\r\n", "354"},
		{message + ".\r\n", "250"}, {"QUIT\r\n", "221"}} {
		if err := c.smtp(step[0], step[1]); err != nil {
			return err
		}
	}
	return nil
}
