package proxy

import (
	"slices"
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest"
)

// door is a front as who attacks it sees it. Its texts are steps and lines of mailtest.Talk.Dialogue.
type door struct {
	name        string // the scheme of its listeners
	greeting    string // the last line of it
	noop, ok    string // a command that needs no login, and its answer
	quit, bye   string // the last command before the login, and the last line of its answer
	tls, tlsOK  string // what begins TLS, and its answer
	login       string // the steps of a login
	refused     string // the answer to a wrong password
	gone        string // the last words to a client who is sent away
	mistake     string // how the answer to what makes no sense begins
	behind, was string // a command behind the login, and the answer of its backend
}

// doors are all fronts. Their backends let everybody in, and are fools: they would take a second login too.
var doors = []door{
	{name: "imap", greeting: "* OK ...", noop: "n NOOP", ok: "n OK ...", quit: "q LOGOUT", bye: "q OK ...", tls: "s STARTTLS", tlsOK: "s OK ...",
		login: "C: in LOGIN u@example.com pw\nS: in OK ...", refused: "a NO [AUTHENTICATIONFAILED] ...", gone: "* BYE ...", mistake: " BAD ",
		behind: "b NOOP", was: "b OK still here"},
	{name: "pop3", greeting: "+OK ...", noop: "NOOP", ok: "+OK ...", quit: "QUIT", bye: "+OK Bye", tls: "STLS", tlsOK: "+OK ...",
		login: "C: USER u@example.com\nS: +OK ...\nC: PASS pw\nS: +OK ...", refused: "-ERR [AUTH] ...", gone: "-ERR ...", mistake: "-ERR ",
		behind: "NOOP", was: "+OK still here"},
	{name: "sieve", greeting: "OK ...", noop: "NOOP", ok: "OK ...", quit: "LOGOUT", bye: "OK \"Logout...", tls: "STARTTLS", tlsOK: "OK ...",
		login: `C: AUTHENTICATE "PLAIN" "AHVAZXhhbXBsZS5jb20AcHc="` + "\nS: OK ...", refused: "NO \"...", gone: "BYE ...", mistake: "NO ",
		behind: "NOOP", was: "OK \"still here\""},
	{name: "submission", greeting: "220 ...", noop: "NOOP", ok: "250 ...", quit: "QUIT", bye: "221 ...", tls: "STARTTLS", tlsOK: "220 ...",
		login: "C: EHLO client.example.org\nS~ 250 ...\nC: AUTH PLAIN AHVAZXhhbXBsZS5jb20AcHc=\nS: 235 ...", refused: "535 5.7.8 ...", gone: "421 ...", mistake: "500 ",
		behind: "NOOP", was: "250 still here"},
}

// fill puts a door's own texts in for {noop}, {login} and {behind} of a dialogue.
func (d *door) fill(text string) string {
	return strings.NewReplacer("{noop}", "C: "+d.noop+"\nS: "+d.ok, "{login}", d.login, "{behind}", "C: "+d.behind+"\nS: "+d.was,
		"{gone}", "S: "+d.gone+"\n!end", "{refused}", d.refused, "{half}", "C: "+d.noop+"\n!eof\nS: "+d.ok+"\n!end",
		"{behind half}", "C: "+d.behind+"\n!eof\nS: "+d.was).Replace(text)
}

// rig is a rig whose listeners and backends speak the door's protocol.
func (d *door) rig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	tune := o.tune
	o.tune = func(c *config.Config) {
		c.Listen = nil
		for _, mode := range []string{"://", "+starttls://", "s://"} {
			c.Listen = append(c.Listen, endpoint(t, d.name+mode+"127.0.0.1:0", true))
		}
		c.Login.MaxFailures = 100
		for s := range c.Backends {
			h := &c.Backends[s].Hosts[0]
			e := endpoint(t, strings.Replace(h.IMAP.URL, "imap", d.name, 1), false)
			h.IMAP = config.Endpoint{}
			*d.endpoint(h) = e
		}
		if tune != nil {
			tune(c)
		}
	}
	if o.old == nil {
		o.old, o.gone = d.backend, true
	}
	return newRig(t, o)
}

// endpoint is where a host has the door's protocol.
func (d *door) endpoint(h *config.Host) *config.Endpoint {
	return map[string]*config.Endpoint{"imap": &h.IMAP, "pop3": &h.POP3, "sieve": &h.Sieve, "submission": &h.Submission}[d.name]
}

// letIn is a backend's conversation up to the login; false is one that was only looked at.
func (d *door) letIn(k *mailtest.Talk) bool {
	switch d.name {
	case "imap":
		backendIn(k, "old")
	case "pop3":
		k.Dialogue(popIn + "old")
	case "sieve":
		k.Dialogue(sieveIn)
	case "submission":
		return smtpLogin(k, nil)
	}
	return true
}

// backend lets everybody in, and answers each command.
func (d *door) backend(k *mailtest.Talk) {
	if !d.letIn(k) {
		return
	}
	again := map[string][]string{"imap": {"LOGIN", "AUTHENTICATE"}, "pop3": {"USER", "PASS", "AUTH", "APOP"}, "sieve": {"AUTHENTICATE"}, "submission": {"AUTH"}}[d.name]
	for {
		line, tag := k.Line(), ""
		if d.name == "imap" {
			tag, line, _ = strings.Cut(line, " ")
		}
		name, _ := verb(line)
		ok, answer := true, "welcome again"
		switch {
		case name == "NOOP":
			answer = "still here"
		case !slices.Contains(again, name):
			ok, answer = false, "what is that"
		}
		k.Send(strings.TrimPrefix(tag+" ", " ") + d.status(ok, answer) + "\r\n")
	}
}

// status is a backend's answer.
func (d *door) status(ok bool, text string) string {
	words := map[string][2]string{"imap": {"BAD ", "OK "}, "pop3": {"-ERR ", "+OK "}, "sieve": {"NO \"", "OK \""}, "submission": {"500 ", "250 "}}[d.name]
	word := words[0]
	if ok {
		word = words[1]
	}
	if d.name == "sieve" {
		text += "\""
	}
	return word + text
}

// dial connects a client to one of the door's listeners and reads the greeting.
func (d *door) dial(r *rig, mode config.TLSMode) *mailtest.Talk {
	r.t.Helper()
	k := mailtest.Dial(r.t, r.addr[mode], nil)
	k.Until(d.greeting)
	return k
}
