package proxy

import (
	"strings"

	"mailgate/config"
)

// Door is what a client of a listener is shown before he logs in.
type Door struct {
	Greeting   string   // the line that greets, without its end; of ManageSieve the one behind the capabilities
	Clear      []string // what is offered before TLS, on a listener that begins it later; nil on others
	Offers     []string // what is offered where he may log in
	Mechanisms []string // of SASL, there
}

// Door tells what clients of a listener see now: by the same code that serves them, and by what the Dialer knows of both sides.
func (s *Server) Door(e config.Endpoint) Door {
	at := func(tls bool) *client {
		return &client{srv: s, set: s.set.Load(), ln: &listener{Endpoint: e}, tls: tls}
	}
	first, in := at(e.Mode == config.Implicit), at(e.Mode != config.Plain)
	d := Door{Greeting: greeting(first), Offers: offers(in), Mechanisms: s.mechanisms(in.set, e.Protocol)}
	if e.Mode == config.StartTLS {
		d.Clear = offers(first)
	}
	return d
}

// greeting is the line that a client sees first.
func greeting(c *client) string {
	line := ""
	switch c.ln.Protocol {
	case config.IMAP:
		line = (&imapClient{client: c}).greeting()
	case config.POP3:
		line = (&popClient{client: c}).greeting()
	case config.Sieve:
		line = (&sieveClient{client: c}).greeting()
	case config.Submission:
		line = (&submissionClient{client: c}).greeting()
	}
	return strings.TrimSuffix(line, "\r\n")
}

// offers are the capabilities, one a word (IMAP) or a line.
func offers(c *client) []string {
	switch c.ln.Protocol {
	case config.IMAP:
		return strings.Fields((&imapClient{client: c}).capabilities())
	case config.POP3:
		return (&popClient{client: c}).capabilities()
	case config.Sieve:
		text := strings.TrimSuffix((&sieveClient{client: c}).capabilities(), "\r\n")
		lines := strings.Split(strings.ReplaceAll(text, `"`, ""), "\r\n")
		for i := range lines {
			lines[i] = strings.TrimSpace(lines[i])
		}
		return lines
	}
	lines := c.srv.ehlo(c)[1:] // behind our name
	for i, l := range lines {
		lines[i] = l[len("250 "):]
	}
	return lines
}
