package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"mailgate/mailtest"
)

// What the backend of the measurements offers: iterations as servers have them by default.
const (
	scramMechanism  = "SCRAM-SHA-256"
	scramIterations = 4096
)

// fakeScram is the backend's end of an exchange; first is the client's first message.
func fakeScram(r *bufio.Reader, w io.Writer, first string, s *mailtest.ScramServer) error {
	message, err := base64.StdEncoding.DecodeString(first)
	if err != nil {
		return err
	}
	challenge, err := s.First(string(message))
	for _, answer := range []func(string) (string, error){s.Last, func(string) (string, error) { return "", nil }} {
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "+ %s\r\n", base64.StdEncoding.EncodeToString([]byte(challenge))); err != nil {
			return err
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if message, err = base64.StdEncoding.DecodeString(strings.TrimSpace(line)); err != nil {
			return err
		}
		if challenge, err = answer(string(message)); err != nil {
			return err
		}
	}
	return nil
}

// scramLogin is one client who looks in and leaves, as login is, and who shows no password.
func (j *job) scramLogin(addr string, user int) error {
	c, err := dial(addr, j.TLS, 1024)
	if err != nil {
		return err
	}
	defer c.Close()
	x := mailtest.NewScramClient(scramMechanism, "n,,", userName(user), password)
	line, err := c.r.ReadString('\n')
	send := "s AUTHENTICATE " + scramMechanism + " " + base64.StdEncoding.EncodeToString([]byte(x.First()))
	for err == nil && !strings.HasPrefix(line, "s ") {
		if _, err = io.WriteString(c, send+"\r\n"); err != nil {
			break
		}
		if line, err = c.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "+ ") {
			break
		}
		var challenge []byte
		if challenge, err = base64.StdEncoding.DecodeString(strings.TrimSpace(line[2:])); err == nil {
			var answer string
			answer, err = x.Next(string(challenge))
			send = base64.StdEncoding.EncodeToString([]byte(answer))
		}
	}
	if err == nil && (!strings.HasPrefix(line, "s OK") || !x.Verified()) {
		err = fmt.Errorf("SCRAM: %s", strings.TrimSpace(line))
	}
	if err == nil {
		_, err = c.imap("SELECT INBOX")
	}
	if err == nil {
		_, err = c.imap("LOGOUT")
	}
	return err
}
