package backend

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mailgate/auth"
	"mailgate/imapwire"
)

// maxIDArgs is 30 pairs (RFC 2971, section 3.3).
const maxIDArgs = 60

// id passes the client's ID on (RFC 2971), and to a host that trusts us his address and the hops left. Another gateway is told of the hops alone.
func (c *imapConn) id(who LoginIMAP) error {
	if !c.has("ID") {
		return nil
	}
	var pairs []string
	for i := 0; i+1 < len(who.ClientID); i += 2 {
		key, value := who.ClientID[i], who.ClientID[i+1]
		if _, ok := imapwire.Quote(key); !ok || len(key) > 30 || len(value) > 1024 || trustKey(key) {
			continue // RFC 2971, section 3.3; and what only a trusted proxy may say
		}
		pairs = append(pairs, key, value)
	}
	var ours []string
	if c.conf.ClientAddress && who.ClientAddr.IsValid() {
		ours = append(ours, "x-originating-ip", who.ClientAddr.Addr().WithZone("").String(),
			"x-originating-port", strconv.Itoa(int(who.ClientAddr.Port())))
	}
	if (c.conf.ClientAddress || c.gateway) && who.ClientAddr.IsValid() { // not the syncer's: it is no client's
		ours = append(ours, "x-proxy-ttl", strconv.Itoa(hopsLeft(who.Hops)))
	}
	pairs = append(pairs[:min(len(pairs), maxIDArgs-len(ours))], ours...)
	if len(pairs) == 0 {
		return nil
	}
	var b strings.Builder
	for i, p := range pairs {
		q, ok := imapwire.Quote(p)
		if !ok || i%2 == 1 && strings.EqualFold(p, "NIL") {
			q = "NIL" // a value with 8-bit or control characters; such keys were left out
		}
		b.WriteString(" " + q)
	}
	tag := c.nextTag()
	if err := c.send(tag + " ID (" + b.String()[1:] + ")\r\n"); err != nil {
		return c.fail(StepID, Temporary, "", err)
	}
	if _, text, _, err := c.answer(tag); err != nil {
		return c.fail(StepID, Temporary, text, err)
	}
	return nil // a server that refuses ID can be used all the same
}

func trustKey(key string) bool { return len(key) >= 2 && strings.EqualFold(key[:2], "x-") }

// authenticate logs in, and returns the text of the tagged OK.
func (c *imapConn) authenticate(who LoginIMAP) (string, error) {
	cr := who.Credentials
	switch {
	case cr.OAuth():
		if !c.has("AUTH=" + cr.Mechanism) {
			return "", c.fail(StepLogin, Refused, strings.Join(c.caps, " "), fmt.Errorf("%w %s", ErrNotOffered, cr.Mechanism))
		}
		return c.sasl(cr.Mechanism, auth.ClientResponse(cr.Mechanism, cr, who.LoginName))
	case c.plain(c.has("AUTH=PLAIN")), who.Authzid != "" && c.has("AUTH=PLAIN"):
		return c.sasl("PLAIN", append([]byte(who.Authzid), auth.ClientResponse("PLAIN", cr, who.LoginName)...))
	case who.Authzid != "":
		return "", c.fail(StepLogin, Refused, strings.Join(c.caps, " "), errors.New("does not offer PLAIN, which a login for somebody else needs"))
	case !c.has("LOGINDISABLED"):
		return c.loginCommand(who)
	case c.has("AUTH=LOGIN"):
		return c.sasl("LOGIN", []byte(who.LoginName), []byte(cr.Password.Reveal()))
	}
	return "", c.fail(StepLogin, Refused, strings.Join(c.caps, " "),
		errors.New("offers no way to log in with a password (LOGINDISABLED)"))
}

// maxInitial is the longest initial response that goes on the command line: some servers take no more than 8192.
const maxInitial = 6000

// sasl runs AUTHENTICATE; responses follow each other, the first as initial response where the server takes it
// (RFC 4959).
func (c *imapConn) sasl(mechanism string, responses ...[]byte) (string, error) {
	tag := c.nextTag()
	command := tag + " AUTHENTICATE " + mechanism
	first := base64.StdEncoding.EncodeToString(responses[0])
	if c.has("SASL-IR") && !c.conf.NoInitialResponse && len(first) <= maxInitial && mechanism != "LOGIN" {
		command += " " + first
		responses = responses[1:]
	}
	c.caps = nil // those after the login count
	if err := c.send(command + "\r\n"); err != nil {
		return "", c.fail(StepLogin, Temporary, "", err)
	}
	var challenge []byte
	for {
		status, text, code, err := c.answer(tag)
		if !errors.Is(err, errContinue) {
			return c.verdict(status, text, code, challenge, err)
		}
		c.caps = nil // what was told before the server asked for more is from before the login
		reply := "*"
		if len(responses) > 0 {
			reply = base64.StdEncoding.EncodeToString(responses[0])
			responses = responses[1:]
		} else if mechanism == "XOAUTH2" || mechanism == "OAUTHBEARER" {
			// The server says why it refuses, and wants an answer first (RFC 7628, section 3.2.3).
			if challenge, err = base64.StdEncoding.DecodeString(text); err != nil || len(challenge) > 2048 {
				challenge = nil
			}
			reply = ""
			if mechanism == "OAUTHBEARER" {
				reply = "AQ=="
			}
		}
		if err := c.send(reply + "\r\n"); err != nil {
			return "", c.fail(StepLogin, Temporary, "", err)
		}
	}
}

// loginCommand runs LOGIN, with literals for what quoted strings cannot hold.
func (c *imapConn) loginCommand(who LoginIMAP) (string, error) {
	tag := c.nextTag()
	line := tag + " LOGIN"
	c.caps = nil
	for _, arg := range []string{who.LoginName, who.Credentials.Password.Reveal()} {
		if q, ok := imapwire.Quote(arg); ok {
			line += " " + q
			continue
		}
		if err := c.send(line + " {" + strconv.Itoa(len(arg)) + "}\r\n"); err != nil {
			return "", c.fail(StepLogin, Temporary, "", err)
		}
		if status, text, code, err := c.answer(tag); !errors.Is(err, errContinue) {
			return c.verdict(status, text, code, nil, err)
		}
		c.caps = nil
		line = arg
	}
	if err := c.send(line + "\r\n"); err != nil {
		return "", c.fail(StepLogin, Temporary, "", err)
	}
	status, text, code, err := c.answer(tag)
	return c.verdict(status, text, code, nil, err)
}

// verdict reads the answer to a login. Only a NO that is about the credentials is AuthFailed (RFC 5530).
func (c *imapConn) verdict(status, text, code string, challenge []byte, err error) (string, error) {
	if err != nil {
		e := c.fail(StepLogin, Temporary, text, err)
		if words, ok := strings.CutPrefix(text, "* BYE "); ok && errors.Is(err, errBye) {
			e.Code, _ = cutCode(words)
		}
		return "", e
	}
	if status == "OK" {
		return text, nil
	}
	e := c.fail(StepLogin, Temporary, text, errors.New("answers "+status))
	e.Code, e.Challenge = code, challenge
	if status == "NO" {
		switch code {
		case "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "AUTHFAILED", "WEBALERT":
			e.Kind = AuthFailed
		case "", "ALERT": // either may be about anything
			if !soundsTemporary(text) {
				e.Kind = AuthFailed
			}
		case "PRIVACYREQUIRED":
			e.Kind = Refused
		}
	}
	return "", e
}

// soundsTemporary tells whether a server without response codes speaks of itself rather than of the password, such as
// Courier's "NO Temporary problem, please try again later". Cyrus SASL says "generic failure" when saslauthd is gone, to
// IMAP clients of Cyrus and to SMTP clients of Postfix.
func soundsTemporary(text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc([]string{"temporar", "unavailable", "try again later", "try later", "generic failure",
		"internal error", "internal server error", "too many", "overload", "timed out", "timeout"},
		func(word string) bool { return strings.Contains(text, word) })
}
