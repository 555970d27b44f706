package main

import (
	"encoding/base64"
	"strings"
	"testing"

	"mailgate/mailtest"
)

// scriptedHost is a side whose servers let everybody in, and from there follow the state of the user who came.
type scriptedHost struct {
	name                          string // in what they say
	imap, pop3, sieve, submission *mailtest.Script
	states                        map[string]*flipState // by user; nil: every command is answered
}

// startScriptedHost runs one server of each protocol until the test ends.
func startScriptedHost(t *testing.T, name string, states map[string]*flipState) *scriptedHost {
	t.Helper()
	h := &scriptedHost{name: name, states: states}
	start := func(serve func(*mailtest.Talk)) *mailtest.Script {
		return mailtest.StartScript(t, nil, serve).AllowGone()
	}
	h.imap, h.pop3, h.sieve, h.submission = start(h.serveIMAP), start(h.servePOP3), start(h.serveSieve), start(h.serveSubmission)
	return h
}

// yaml is the host for a configuration.
func (h *scriptedHost) yaml() string {
	return "{imap: 'imap://" + h.imap.Addr + "', pop3: 'pop3://" + h.pop3.Addr + "', sieve: 'sieve://" + h.sieve.Addr +
		"', submission: 'submission://" + h.submission.Addr + "'}"
}

// plainUser is who an initial response of PLAIN is for.
func plainUser(response string) string {
	b, _ := base64.StdEncoding.DecodeString(strings.Trim(response, `"`))
	parts := strings.Split(string(b), "\x00")
	if len(parts) != 3 {
		return ""
	}
	return parts[1]
}

// in is what happens at and behind a login: the state of the user, or an answer to every command.
func (h *scriptedHost) in(k *mailtest.Talk, user, ok string, obliging func(line string) string) {
	s := h.states[user]
	if s != nil && s.slow { // the answer is on its way when the flip comes
		k.Dialogue("!fire at " + s.user() + "\n!await go " + s.user())
	}
	k.Send(ok + "\r\n")
	if s != nil {
		k.Dialogue(strings.NewReplacer("{at}", "!fire at "+s.user(), "{go}", "!await go "+s.user()).Replace(s.old))
		k.Silent()
	}
	for {
		k.Send(obliging(k.Line()) + "\r\n")
	}
}

func (h *scriptedHost) serveIMAP(k *mailtest.Talk) {
	k.Send("* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ IDLE AUTH=PLAIN] hi\r\n")
	for {
		f := strings.Fields(k.Line())
		switch {
		case len(f) == 4 && f[1] == "AUTHENTICATE":
			h.in(k, plainUser(f[3]), f[0]+" OK [CAPABILITY IMAP4rev1 LITERAL+ IDLE] in on "+h.name, func(line string) string {
				tag, _, _ := strings.Cut(line, " ")
				return tag + " OK done on " + h.name
			})
		case len(f) > 1 && f[1] == "CAPABILITY":
			k.Send("* CAPABILITY IMAP4rev1 SASL-IR LITERAL+ IDLE AUTH=PLAIN\r\n" + f[0] + " OK\r\n")
		case len(f) > 1 && f[1] == "LOGOUT":
			k.Send("* BYE bye\r\n" + f[0] + " OK\r\n")
			return
		case len(f) > 1:
			k.Send(f[0] + " OK\r\n")
		}
	}
}

func (h *scriptedHost) servePOP3(k *mailtest.Talk) {
	k.Send("+OK hi\r\n")
	for {
		switch f := strings.Fields(k.Line()); {
		case len(f) == 3 && f[0] == "AUTH":
			h.in(k, plainUser(f[2]), "+OK in on "+h.name, func(string) string { return "+OK done on " + h.name })
		case len(f) > 0 && f[0] == "CAPA":
			k.Send("+OK\r\nUIDL\r\nTOP\r\nPIPELINING\r\nUSER\r\nSASL PLAIN\r\n.\r\n")
		case len(f) > 0 && f[0] == "QUIT":
			k.Send("+OK bye\r\n")
			return
		default:
			k.Send("-ERR what\r\n")
		}
	}
}

func (h *scriptedHost) serveSieve(k *mailtest.Talk) {
	const capabilities = "\"IMPLEMENTATION\" \"x\"\r\n\"SIEVE\" \"fileinto\"\r\n\"SASL\" \"PLAIN\"\r\n\"VERSION\" \"1.0\"\r\nOK\r\n"
	k.Send(capabilities)
	for {
		switch f := strings.Fields(k.Line()); {
		case len(f) == 3 && f[0] == "AUTHENTICATE":
			h.in(k, plainUser(f[2]), "OK \"in\"", func(string) string { return "OK \"done on " + h.name + "\"" })
		case len(f) > 0 && f[0] == "CAPABILITY":
			k.Send(capabilities)
		case len(f) > 0 && f[0] == "LOGOUT":
			k.Send("OK\r\n")
			return
		default:
			k.Send("NO\r\n")
		}
	}
}

func (h *scriptedHost) serveSubmission(k *mailtest.Talk) {
	k.Send("220 hi\r\n")
	for {
		switch f := strings.Fields(k.Line()); {
		case len(f) == 3 && f[0] == "AUTH":
			h.in(k, plainUser(f[2]), "235 2.7.0 in on "+h.name, func(string) string { return "250 2.0.0 done on " + h.name })
		case len(f) > 0 && f[0] == "EHLO":
			k.Send("250-hi\r\n250-CHUNKING\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n")
		case len(f) > 0 && f[0] == "QUIT":
			k.Send("221 bye\r\n")
			return
		default:
			k.Send("500 what\r\n")
		}
	}
}
