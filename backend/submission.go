package backend

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailgate/auth"
	"mailgate/config"
)

// LoginSubmission is who logs in at a submission server.
type LoginSubmission struct {
	Credentials *auth.Credentials
	LoginName   string // on this side
	ClientAddr  netip.AddrPort
	Helo        string // what the client said
	GatewayName string // what we say
	Hops        int    // how many were left when the client came; 0 where nobody told
}

// smtpConn is the client's side of SMTP up to AUTH.
type smtpConn struct {
	*conn
	name  string // for EHLO
	ext   map[string]string
	limit time.Time // for the login, from the banner
}

// DialSubmission connects and logs in (RFC 6409, RFC 4954). The error is an *Error.
func (d *Dialer) DialSubmission(ctx context.Context, at config.Side, name string,
	who LoginSubmission) (*SubmissionConn, error) {
	var c *smtpConn
	var start time.Time
	_, err := d.connectAnd(ctx, at, config.Submission, name, forUser(who.ClientAddr).after(who.Hops), func(ctx context.Context, raw *conn) error {
		c, start = &smtpConn{conn: raw, name: who.GatewayName}, time.Now()
		return c.open(ctx)
	})
	if err != nil {
		return nil, err
	}
	done := c.before(ctx, c.limit)
	out, err := c.login(who, d)
	done()
	if err != nil {
		c.leave()
		return nil, err
	}
	d.rec.LoggedIn(at, config.Submission, time.Since(start))
	return out, nil
}

// leave says QUIT before it closes: to hosts that count connections lost after AUTH against their sender, each wrong
// password would be one of ours.
func (c *smtpConn) leave() {
	_ = c.raw.SetDeadline(time.Now().Add(time.Second))
	_ = c.send("QUIT\r\n")
	c.Close()
}

func (c *smtpConn) login(who LoginSubmission, d *Dialer) (*SubmissionConn, error) {
	if err := c.xclient(who, d); err != nil {
		return nil, err
	}
	if c.gateway {
		if r, err := c.ask("NOOP " + hopsNoop(who.Hops)); err != nil || r.Code != 250 {
			return nil, c.badReply(StepXCLIENT, r, err, "refuses NOOP")
		}
	}
	r, err := c.auth(who)
	if err != nil {
		return nil, err
	}
	return newSubmissionConn(c.conn, c.ext, r), nil
}

// open reads the banner, says EHLO, and begins TLS where that is configured.
func (c *smtpConn) open(ctx context.Context) error {
	done := c.within(ctx, c.conf.ConnectTimeout)
	r, err := c.reply()
	done()
	if err != nil || r.Code != 220 {
		return c.badReply(StepBanner, r, err, "does not greet with 220")
	}
	if err := c.greeted(r.text()); err != nil {
		return err
	}
	c.limit = time.Now().Add(c.conf.LoginTimeout)
	defer c.before(ctx, c.limit)()
	if err := c.ehlo(); err != nil {
		return err
	}
	if c.host.Submission.Mode == config.StartTLS {
		return c.startTLS(ctx)
	}
	return nil
}

// startTLS begins TLS (RFC 3207), and asks again what is offered.
func (c *smtpConn) startTLS(ctx context.Context) error {
	if _, ok := c.ext["STARTTLS"]; !ok {
		return c.fail(StepStartTLS, Refused, "", errors.New("does not offer STARTTLS"))
	}
	r, err := c.ask("STARTTLS")
	if err != nil || r.Code != 220 {
		return c.badReply(StepStartTLS, r, err, "refuses STARTTLS")
	}
	if c.r.Buffered() > 0 {
		return c.fail(StepStartTLS, Refused, "", errBuffered)
	}
	if err := c.handshake(ctx); err != nil {
		return err
	}
	return c.ehlo()
}

func (c *smtpConn) ask(line string) (Reply, error) {
	if err := c.send(line + "\r\n"); err != nil {
		return Reply{}, err
	}
	return c.reply()
}

func (c *smtpConn) badReply(step Step, r Reply, err error, what string) *Error {
	kind := Temporary
	if err == nil {
		err = errors.New(what)
		if r.Code/100 == 5 {
			kind = Refused
		}
	}
	e := c.fail(step, kind, strings.Join(r.Lines, " "), err)
	if r.Code > 0 {
		e.Code = strconv.Itoa(r.Code)
	}
	return e
}

func (c *smtpConn) ehlo() error {
	r, err := c.ask("EHLO " + c.name)
	if err != nil || r.Code != 250 {
		return c.badReply(StepCapability, r, err, "refuses EHLO")
	}
	c.ext = map[string]string{}
	for _, l := range r.Lines[1:] {
		if len(l) < 5 {
			continue
		}
		key, params, _ := strings.Cut(l[4:], " ")
		key = strings.ToUpper(key)
		if more, legacy := strings.CutPrefix(key, "AUTH="); legacy { // before RFC 4954 there was "AUTH=LOGIN PLAIN"
			key, params = "AUTH", more+" "+params
		}
		if key == "AUTH" {
			params = strings.ToUpper(c.ext[key] + " " + params)
		}
		c.ext[key] = strings.TrimSpace(params)
	}
	if _, secure := c.Conn.(*tls.Conn); !secure {
		delete(c.ext, "REQUIRETLS") // RFC 8689, section 2: it holds under TLS only
	}
	return nil
}

// maxXCLIENT is what Postfix takes of it (XCLIENT_README): a name in HELO that does not fit is left out.
const maxXCLIENT = 512

// xclient tells a host that trusts us who the client is (Postfix's XCLIENT_README), and how many hops are left (Dovecot). A refusal is no
// reason to fail: the login follows on this very connection, and is tried nowhere else.
func (c *smtpConn) xclient(who LoginSubmission, d *Dialer) error {
	offered, ok := c.ext["XCLIENT"]
	if !ok || !c.conf.ClientAddress || !who.ClientAddr.IsValid() {
		return nil
	}
	values := map[string]string{"ADDR": who.ClientAddr.Addr().WithZone("").String(), "PROTO": "ESMTP", "HELO": who.Helo,
		"PORT": strconv.Itoa(int(who.ClientAddr.Port())), "TTL": strconv.Itoa(hopsLeft(who.Hops))}
	if who.ClientAddr.Addr().Is6() {
		values["ADDR"] = "IPV6:" + values["ADDR"]
	}
	command := "XCLIENT"
	for _, key := range []string{"ADDR", "PORT", "PROTO", "TTL", "HELO"} {
		word := " " + key + "=" + xtext(values[key])
		if slices.Contains(strings.Fields(strings.ToUpper(offered)), key) && values[key] != "" && len(command)+len(word) <= maxXCLIENT-len("\r\n") {
			command += word
		}
	}
	if command == "XCLIENT" {
		return nil // it takes none of what we know
	}
	r, err := c.ask(command)
	if err != nil || r.Code == 421 {
		return c.badReply(StepXCLIENT, r, err, "closes on XCLIENT")
	}
	if r.Code != 220 {
		d.log.Warn("backend refuses XCLIENT; going on without", "host", c.host.Name, "reply", printable(r.text()))
		return nil
	}
	before := c.ext
	err = c.ehlo() // the server has begun anew
	var refused *Error
	if errors.As(err, &refused) && refused.Kind == Refused { // some take one EHLO only: what they said to it holds
		c.ext, err = before, nil
	}
	return err
}

// xtext encodes as RFC 3461, section 4 has it.
func xtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '+' || c == '=' {
			fmt.Fprintf(&b, "+%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// lies tells whether a 535 speaks of the server all the same: Postfix says it of whatever its SASL library reports, such
// as Cyrus SASL's "generic failure" when saslauthd is gone. Its "(reason unavailable)" is a wrong password.
func lies(text string) bool {
	return soundsTemporary(strings.ReplaceAll(text, "(reason unavailable)", ""))
}

// maxAuthLine is the longest AUTH command with an initial response: RFC 5321, section 4.5.3.1.4.
const maxAuthLine = 500

// auth logs in (RFC 4954, section 4).
func (c *smtpConn) auth(who LoginSubmission) (Reply, error) {
	cr := who.Credentials
	offered := strings.Fields(c.ext["AUTH"])
	has := func(m string) bool { return slices.Contains(offered, m) }
	mechanism := cr.Mechanism
	responses := [][]byte{nil}
	switch {
	case cr.OAuth() && has(mechanism):
	case !cr.OAuth() && c.plain(has("PLAIN")):
		mechanism = "PLAIN"
	case !cr.OAuth() && (c.conf.Auth == "login" || has("LOGIN")):
		mechanism = "LOGIN"
		responses = append(responses, []byte(cr.Password.Reveal()))
	default:
		return Reply{}, c.fail(StepLogin, Refused, "AUTH "+c.ext["AUTH"], errors.New("offers no mechanism for these credentials"))
	}
	responses[0] = auth.ClientResponse(mechanism, cr, who.LoginName)
	command := "AUTH " + mechanism
	if first := base64.StdEncoding.EncodeToString(responses[0]); mechanism != "LOGIN" && !c.conf.NoInitialResponse && len(command)+len(first) < maxAuthLine {
		command += " " + first
		responses = responses[1:]
	}
	r, err := c.ask(command)
	var challenge []byte
	cancelled := false
	for err == nil && r.Code == 334 && !cancelled {
		reply := "*"
		if len(responses) > 0 {
			reply = base64.StdEncoding.EncodeToString(responses[0])
			responses = responses[1:]
		} else if cr.OAuth() && challenge == nil {
			challenge, _ = base64.StdEncoding.DecodeString(r.text())
			reply = ""
			if mechanism == "OAUTHBEARER" {
				reply = "AQ=="
			}
		}
		cancelled = reply == "*"
		r, err = c.ask(reply)
	}
	if err == nil && r.Code == 235 {
		return r, nil
	}
	e := c.badReply(StepLogin, r, err, "refuses AUTH")
	e.Challenge = challenge
	if err == nil && r.Code == 535 && !cancelled && !strings.HasPrefix(r.text(), "4.") && !lies(r.text()) {
		// No other code says that the credentials are wrong: 530, 534 and 538 speak of the connection or the mechanism,
		// 432 of a transition, 454 and an enhanced code 4.x.x of a failure that passes (RFC 4954, section 6).
		e.Kind = AuthFailed
	}
	return r, e
}
