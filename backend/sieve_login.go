package backend

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// sieveString writes a string: in quotes where that is possible (RFC 5804, section 4, has 1024 bytes and no line ends), as a literal
// that is not waited for otherwise. What is not ASCII goes as a literal: Cyrus knows no such name in quotes.
func sieveString(s string) string {
	plain := !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f })
	if len(s) <= 1000 && plain {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	}
	return "{" + strconv.Itoa(len(s)) + "+}\r\n" + s
}

// authenticate runs AUTHENTICATE with an initial response (RFC 5804, section 2.1).
func (c *sieveConn) authenticate(mechanism string, first []byte) error {
	command, response := `AUTHENTICATE "`+mechanism+`"`, sieveString(base64.StdEncoding.EncodeToString(first))
	sent := !c.conf.NoInitialResponse
	if sent {
		command += " " + response
	}
	err := c.send(command + "\r\n")
	if err != nil {
		return c.fail(StepLogin, Temporary, "", err)
	}
	var challenge []byte
	told := false
	for rounds := 0; ; rounds++ {
		a, err := c.behind(func(l sieveLine) bool { _, is := l.string(0); return is && len(l.tokens) == 1 })
		if err == nil && a.status == "" && rounds > 2 {
			err = errors.New("asks again and again")
		}
		if err != nil {
			return c.fail(StepLogin, Temporary, "", err)
		}
		if a.status != "" {
			return c.verdict(a, challenge)
		}
		if !sent {
			sent = true
			if err := c.send(response + "\r\n"); err != nil {
				return c.fail(StepLogin, Temporary, "", err)
			}
			continue
		}
		reply := "*" // nothing more to say: RFC 5804, section 2.1, calls it off
		if mechanism != "PLAIN" && !told {
			told = true
			// The server says why it refuses, and wants an answer first (RFC 7628, section 3.2.3).
			text, _ := a.lines[len(a.lines)-1].string(0)
			if challenge, err = base64.StdEncoding.DecodeString(text); err != nil || len(challenge) > 2048 {
				challenge = nil
			}
			if reply = ""; mechanism == "OAUTHBEARER" {
				reply = "AQ=="
			}
		}
		if err := c.send(sieveString(reply) + "\r\n"); err != nil {
			return c.fail(StepLogin, Temporary, "", err)
		}
	}
}

// verdict reads the answer to AUTHENTICATE. Only a NO that is about the credentials is AuthFailed (RFC 5804, section 1.3).
func (c *sieveConn) verdict(a sieveAnswer, challenge []byte) error {
	if a.status == "OK" {
		return nil
	}
	e := c.fail(StepLogin, Temporary, sieveWords(a.text), fmt.Errorf("answers %s", a.status))
	e.Code, e.Challenge = a.code, challenge
	switch {
	case a.status == "BYE":
		e.Err = errBye
	case slices.Contains([]string{"ENCRYPT-NEEDED", "AUTH-TOO-WEAK", "TRANSITION-NEEDED"}, a.code):
		e.Kind = Refused
	case a.code == "TRYLATER" || soundsTemporary(a.text):
	default:
		e.Kind = AuthFailed
	}
	return e
}
