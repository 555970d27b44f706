package proxy

import (
	"testing"

	"mailgate/mailtest"
)

// TestClientIsNoProxy: what only a trusted proxy may say does not reach a backend as it was said, whether a client says it before the login,
// behind the login in one packet, or later. TestClientID has what a client says in IMAP's ID before the login; behind it no server heeds that.
func TestClientIsNoProxy(t *testing.T) {
	t.Parallel()
	t.Run("POP3", func(t *testing.T) {
		t.Parallel()
		r := popRig(t, rigOptions{old: popEnds("old", "C: XCLIENX ADDR=6.6.6.6\nS: -ERR what\nC: xclienX ADDR=6.6.6.6 TTL=1\nS: -ERR what\nC: QUIT\nS: +OK bye")})
		k := r.secure()
		k.Dialogue("S: +OK ...\nC: XCLIENT ADDR=6.6.6.6\nS: -ERR ...\nC: XFORWARD ADDR=6.6.6.6\nS: -ERR ...")
		k.Send("USER u@example.com\r\nPASS pw\r\nXCLIENT ADDR=6.6.6.6\r\n")
		k.Dialogue("S: +OK ...\nS: +OK in on old\nS: -ERR what\nC: xclient ADDR=6.6.6.6 TTL=1\nS: -ERR what\nC: QUIT\nS: +OK bye\n!end")
	})
	t.Run("sieve", func(t *testing.T) {
		t.Parallel()
		r := sieveRig(t, rigOptions{gone: true, old: sieveEnds("C: XCLIENX \"ADDR=6.6.6.6\"\nS: NO \"what\"\nC: XclienX {12+}\nC: ADDR=6.6.6.6\nS: NO \"what\"\nC: LOGOUT\nS: OK\n!close")})
		k := r.secure()
		k.Dialogue("S~ OK ...\nC: XCLIENT \"ADDR=6.6.6.6\"\nS: NO ...")
		k.Send("AUTHENTICATE \"PLAIN\" \"AHVAZXhhbXBsZS5jb20AcHc=\"\r\nXCLIENT \"ADDR=6.6.6.6\"\r\n")
		k.Dialogue("S: OK ...\nS: NO \"what\"\nC: Xclient {12+}\nC: ADDR=6.6.6.6\nS: NO \"what\"\nC: LOGOUT\nS: OK\n!end")
	})
}

// TestSubmissionClientIsNoProxy is the same for submission, where nothing of it reaches a backend at all.
func TestSubmissionClientIsNoProxy(t *testing.T) {
	r := newSMTPRig(t, smtpRigOptions{noProbe: true}, smtpBackend(nil, func(k *mailtest.Talk) { k.Dialogue("C: NOOP\nS: 250 ok\nC: QUIT\nS: 221 bye") }), idleBackend())
	k := r.dial()
	k.Dialogue("C: EHLO pc\nS~ 250 ...\nC: XCLIENT ADDR=6.6.6.6\nS: 500 ...\nC: XFORWARD ADDR=6.6.6.6\nS: 500 ...")
	k.Send("AUTH PLAIN " + smtpPlain + "\r\nXCLIENT ADDR=6.6.6.6\r\nXFORWARD ADDR=6.6.6.6\r\nNOOP\r\n")
	k.Dialogue("S: 235 ...\nS: 500 ...\nS: 500 ...\nS: 250 ok\nC: xclient LOGIN=boss\nS: 500 ...\nC: QUIT\nS: 221 bye\n!end")
}
