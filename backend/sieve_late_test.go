package backend

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// TestSieveLateCapabilities: capabilities that come unasked behind TLS, but so late that they were asked for, are not taken for the answer to
// the login: neither does a wrong password let anybody in, nor do answers shift.
func TestSieveLateCapabilities(t *testing.T) {
	t.Parallel()
	cert, _, server, _ := mailtest.Certificate(t, t.TempDir())
	for name, right := range map[string]bool{"wrong": false, "right": true} {
		s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
			k.Dialogue("S: \"IMPLEMENTATION\" \"x\"\nS: \"SASL\" \"\"\nS: \"STARTTLS\"\nS: OK\nC: STARTTLS\nS: OK")
			k.StartTLS(server)
			time.Sleep(unasked + 300*time.Millisecond)
			k.Dialogue(sieveHello + "C: CAPABILITY\n" + sieveHello + "C: AUTHENTICATE ...\nS: " + map[bool]string{true: "OK \"in\"", false: "NO \"no\""}[right])
			k.Silent()
		}).AllowGone()
		c, err := sieveDialer(t, config.StartTLS, cert, s.Port()).DialSieveSession(t.Context(), config.Old, "", sieveUser(t, ""), netip.AddrPort{})
		var e *Error
		if right && (err != nil || len(c.Buffered) > 0) || !right && (!errors.As(err, &e) || e.Kind != AuthFailed) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			c.Close()
		}
	}
}

// TestSieveCapabilitiesBounded: what a server says of itself is compared for every client that comes, and shown to the operator.
func TestSieveCapabilitiesBounded(t *testing.T) {
	t.Parallel()
	many := make([]byte, 0, 1<<16)
	for range 1 << 14 {
		many = append(many, "ab "...)
	}
	if n := len(sieveList(string(many))); n != maxSieveWords {
		t.Errorf("%d words", n)
	}
	if got := sieveList("fileinto \x1b[31mred vacation é"); len(got) != 2 || got[0] != "fileinto" || got[1] != "vacation" {
		t.Errorf("%q", got)
	}
}
