package proxy

import (
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// ring is gateways of which each one's backend, on both sides, is the next one's listeners, in all protocols.
func ring(t *testing.T, n int, tune func(b *config.Backend)) []*rig {
	t.Helper()
	var out []*rig
	for range n {
		out = append(out, newRig(t, rigOptions{tune: func(c *config.Config) {
			c.Listen = nil
			for _, p := range config.Protocols() {
				c.Listen = append(c.Listen, endpoint(t, string(p)+"://127.0.0.1:0", true))
			}
		}}))
	}
	for i, r := range out {
		h := config.Host{Name: "next"}
		for k, a := range out[(i+1)%n].Addrs() {
			e := endpoint(t, string(config.Protocols()[k])+"://"+a.String(), false)
			*map[config.Protocol]*config.Endpoint{config.IMAP: &h.IMAP, config.POP3: &h.POP3, config.Submission: &h.Submission, config.Sieve: &h.Sieve}[e.Protocol] = e
		}
		b := r.cfg.Backends[config.Old]
		b.Hosts, b.ConnectTimeout, b.LoginTimeout = []config.Host{h}, 30*time.Second, 30*time.Second
		if tune != nil {
			tune(&b)
		}
		if err := r.dialer.Update([2]config.Backend{b, b}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// attempts logs in with each protocol; each is refused for the moment, and nobody is told that his password is wrong.
var attempts = map[config.Protocol]string{
	config.IMAP: "S: * OK ...\nC: a LOGIN " + user + " pw\nS: a NO [UNAVAILABLE] ...",
	config.POP3: "S: +OK ...\nC: USER " + user + "\nS: +OK ...\nC: PASS pw\nS: -ERR [SYS/TEMP] ...",
	config.Submission: "S: 220 ...\nC: EHLO me.example.com\nS~ 250 AUTH...\nC: AUTH PLAIN AHVAZXhhbXBsZS5jb20AcHc=\n" +
		"S: 454 ...",
	config.Sieve: "S~ OK ...\nC: AUTHENTICATE \"PLAIN\" \"AHVAZXhhbXBsZS5jb20AcHc=\"\nS: NO (TRYLATER) ...",
}

// TestLoop: a gateway whose backend is the gateway itself knows it by the greeting, and two in a circle by the hops that they tell each
// other, without any trust between them: each login ends after a bounded number of connections, for the moment only, with the reason in the log.
func TestLoop(t *testing.T) {
	for name, x := range map[string]struct {
		gateways, most int
		trust          bool
	}{"itself": {1, 1, false}, "two": {2, 4, false}, "two that trust each other": {2, 4, true}, "three": {3, 3, false}} {
		t.Run(name, func(t *testing.T) {
			for at, p := range config.Protocols() {
				rigs := ring(t, x.gateways, func(b *config.Backend) { b.ClientAddress = x.trust })
				k := mailtest.Dial(t, rigs[0].Addrs()[at].String(), nil)
				k.Dialogue(attempts[p])
				k.Close()
				found := false
				for _, r := range rigs {
					log := r.log.String()
					found = found || strings.Contains(log, "mail loop: the backend is this gateway")
					if n := strings.Count(log, "login failed"); n < 1 || n > x.most {
						t.Errorf("%s: %d logins failed at one gateway:\n%s", p, n, log)
					}
				}
				if !found {
					t.Errorf("%s: no log tells why", p)
				}
			}
		})
	}
}
