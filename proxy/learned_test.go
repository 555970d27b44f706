package proxy

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/mailtest"
)

// heard collects what Options.Judged is told.
type heard struct {
	mu   sync.Mutex
	said []string
}

func (h *heard) judged(user string, side config.Side, p config.Protocol, password config.Secret, refused error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := fmt.Sprintf("%s %s %s %s", user, side, p, password.Reveal())
	var said *backend.Error
	switch {
	case errors.As(refused, &said) && said.Kind == backend.AuthFailed:
		text += " refused"
	case refused != nil:
		text += " " + refused.Error()
	}
	h.said = append(h.said, text)
}

func (h *heard) want(t *testing.T, want ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.said, want) {
		t.Errorf("told of %q, want %q", h.said, want)
	}
	h.said = nil
}

// TestLearned: a password is told of when a side's server has let in, or refused, with it somebody who stands in the routes file, under his
// address and with that side; not that of somebody who stands there by a pattern only; a login with a token, without the token.
func TestLearned(t *testing.T) {
	var h heard
	tokens := func(k *mailtest.Talk) {
		k.Send("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=XOAUTH2 AUTH=OAUTHBEARER] ready\r\n")
		for {
			f := strings.Fields(k.Line())
			switch {
			case len(f) == 4 && f[2] == "PLAIN":
				b, _ := base64.StdEncoding.DecodeString(f[3])
				if strings.HasSuffix(string(b), "\x00wrong") {
					k.Send(f[0] + " NO [AUTHENTICATIONFAILED] no\r\n")
					continue
				}
				fallthrough
			case len(f) == 4:
				k.Send(f[0] + " OK [CAPABILITY IMAP4rev1] in\r\n")
			case len(f) > 1 && f[1] == "LOGOUT":
				k.Send("* BYE bye\r\n" + f[0] + " OK out\r\n")
				return
			default:
				k.Send(f[0] + " OK\r\n")
			}
		}
	}
	r := newRig(t, rigOptions{old: tokens, new: tokens, gone: true, server: func(s *Server) { s.judged = h.judged },
		routes: user + " old\nnew@example.com new new=other\n*@sales.example.com old\n"})
	if !r.dialer.Refresh(t.Context(), "x") { // or OAuth is not offered
		t.Fatal("backends were not seen")
	}
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	login := func(dialogue string) {
		t.Helper()
		k := mailtest.Dial(t, r.addr[config.Implicit], r.client)
		k.Dialogue("S: * OK ...\n" + dialogue + "\nC: z LOGOUT\nS: * BYE ...\nS: z OK ...\n!end")
	}
	login("C: a LOGIN U+tag@EXAMPLE.com \"pw 1\"\nS: a OK ...")
	h.want(t, user+" old imap pw 1")
	login("C: a AUTHENTICATE PLAIN " + b64("\x00new@example.com\x00pw2") + "\nS: a OK ...")
	h.want(t, "new@example.com new imap pw2")
	login("C: a AUTHENTICATE LOGIN\nS: + ...\nC: " + b64(user) + "\nS: + ...\nC: " + b64("pw3") + "\nS: a OK ...")
	h.want(t, user+" old imap pw3")
	login("C: a LOGIN " + user + " wrong\nS: a NO ...\nC: b LOGIN " + user + " right\nS: b OK ...")
	h.want(t, user+" old imap wrong refused", user+" old imap right")
	login("C: a LOGIN stranger@example.com pw\nS: a OK ...")
	login("C: a LOGIN bob@sales.example.com pw\nS: a OK ...")
	login("C: a AUTHENTICATE XOAUTH2 " + b64("user="+user+"\x01auth=Bearer token\x01\x01") + "\nS: a OK ...")
	login("C: a AUTHENTICATE OAUTHBEARER " + b64("n,a="+user+",\x01auth=Bearer token\x01\x01") + "\nS: a OK ...")
	login("C: a AUTHENTICATE SCRAM-SHA-256 " + b64("n,,n="+user+",r=nonce") + "\nS: a NO ...")
	h.want(t, user+" old imap ", user+" old imap ") // the tokens
	if s := r.log.String(); strings.Contains(s, "pw3") || strings.Contains(s, "right") {
		t.Errorf("log: %s", s)
	}
}

// TestLearnedBySubmission: the same for AUTH of submission.
func TestLearnedBySubmission(t *testing.T) {
	var h heard
	r := newSMTPRig(t, smtpRigOptions{}, smtpBackend(nil, func(k *mailtest.Talk) { obliging(k, nil) }), idleBackend())
	r.srv.judged = h.judged
	r.login().Dialogue("C: QUIT\nS: 221 ...\n!end")
	h.want(t) // he does not stand in the routes file
	r.srv.Configure(r.conf, &config.RouteFile{Users: map[string]*config.Route{smtpUser: {Address: smtpUser}}})
	r.login().Dialogue("C: QUIT\nS: 221 ...\n!end")
	h.want(t, smtpUser+" old submission "+smtpPassword)
}
