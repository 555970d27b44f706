package backend

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailgate/auth"
)

// maxPopLine is the longest AUTH command with an initial response: RFC 5034, section 4 has 255 octets with CRLF.
const maxPopLine = 253

// authenticate logs in, and returns the text of the +OK: by AUTH (RFC 5034), or by USER and PASS where that is all there is.
func (c *popConn) authenticate(who LoginPOP3) (string, error) {
	cr := who.Credentials
	mechanisms, _ := c.parameters("SASL")
	switch {
	case cr.OAuth():
		if !slices.Contains(mechanisms, cr.Mechanism) {
			return "", c.fail(StepLogin, Refused, strings.Join(mechanisms, " "), fmt.Errorf("%w %s", ErrNotOffered, cr.Mechanism))
		}
		return c.sasl(cr.Mechanism, auth.ClientResponse(cr.Mechanism, cr, who.LoginName))
	case c.plain(slices.Contains(mechanisms, "PLAIN")):
		return c.sasl("PLAIN", auth.ClientResponse("PLAIN", cr, who.LoginName))
	}
	if _, user := c.parameters("USER"); c.caps != nil && !user {
		if c.conf.Auth == "login" || slices.Contains(mechanisms, "LOGIN") {
			return c.saslLogin(who)
		}
		return "", c.fail(StepLogin, Refused, strings.Join(c.caps, ", "), errors.New("offers no way to log in with a password (neither SASL PLAIN nor LOGIN nor USER)"))
	}
	line, err := c.reply("USER " + who.LoginName)
	if ok, text := popStatus(line); err != nil || !ok {
		return c.verdict(line, text, nil, err)
	}
	line, err = c.reply("PASS " + cr.Password.Reveal())
	_, text := popStatus(line)
	return c.verdict(line, text, nil, err)
}

// reply sends a command and reads the line that answers it.
func (c *popConn) reply(command string) (string, error) {
	if err := c.send(command + "\r\n"); err != nil {
		return "", err
	}
	return c.line()
}

// sasl runs AUTH with a mechanism of one response.
func (c *popConn) sasl(mechanism string, response []byte) (string, error) {
	command, first := "AUTH "+mechanism, base64.StdEncoding.EncodeToString(response)
	sent := !c.conf.NoInitialResponse && len(command)+1+len(first) <= maxPopLine
	if sent {
		command += " " + first
	}
	line, err := c.reply(command)
	var challenge []byte
	for tries := 0; err == nil && isPopContinue(line) && tries < 3; tries++ {
		answer := "*"
		switch {
		case !sent:
			answer, sent = first, true
		case mechanism != "PLAIN" && challenge == nil: // the server says why it refuses, and wants an answer first
			if challenge, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(line[1:], " ")); err != nil || len(challenge) > 2048 {
				challenge = nil
			}
			if answer = ""; mechanism == "OAUTHBEARER" {
				answer = "AQ=="
			}
		}
		line, err = c.reply(answer)
	}
	_, text := popStatus(line)
	return c.verdict(line, text, challenge, err)
}

// saslLogin runs AUTH LOGIN, which asks for the name, then for the password.
func (c *popConn) saslLogin(who LoginPOP3) (string, error) {
	line, err := c.reply("AUTH LOGIN")
	for _, answer := range []string{who.LoginName, who.Credentials.Password.Reveal(), ""} {
		if err != nil || !isPopContinue(line) {
			break
		}
		if answer == "" { // it asks for more than there is
			answer = "*"
		} else {
			answer = base64.StdEncoding.EncodeToString([]byte(answer))
		}
		line, err = c.reply(answer)
	}
	_, text := popStatus(line)
	return c.verdict(line, text, nil, err)
}

// isPopContinue tells whether the line is a challenge: "+ base64", and not "+OK".
func isPopContinue(line string) bool { return line == "+" || strings.HasPrefix(line, "+ ") }

// verdict reads the answer to a login. What is about the credentials is AuthFailed; everything else passes, or is ours to mend.
func (c *popConn) verdict(line, text string, challenge []byte, err error) (string, error) {
	if err != nil {
		return "", c.fail(StepLogin, Temporary, line, err)
	}
	if ok, _ := popStatus(line); ok {
		return text, nil
	}
	e := c.fail(StepLogin, Temporary, line, errors.New("refuses the login"))
	e.Challenge = challenge
	if !strings.HasPrefix(line, "-ERR") {
		return "", e
	}
	e.Code, text = cutCode(text)
	_, codes := c.parameters("AUTH-RESP-CODE")
	switch e.Code { // RFC 2449, section 8.1; RFC 3206
	case "AUTH":
		e.Kind = AuthFailed
	case "SYS/PERM":
		e.Kind = Refused
	case "":
		// Where AUTH-RESP-CODE is offered, a refusal of the credentials says so (RFC 3206, section 4).
		if !codes && !soundsTemporary(text) && !soundsLocked(text) {
			e.Kind = AuthFailed
		}
	}
	return "", e
}

// soundsLocked tells whether a server without response codes speaks of a mailbox that another session holds (RFC 1939, section 4).
func soundsLocked(text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc([]string{"lock", "in use", "busy", "another session", "already"}, func(word string) bool { return strings.Contains(text, word) })
}
