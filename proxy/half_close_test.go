package proxy

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// TestHalfCloseOverTLS: a client's end is handed on to a server behind TLS only when it has answered what came before: Dovecot and Courier
// take it for the end of both directions. A client who has said all and heard all hears nothing more.
func TestHalfCloseOverTLS(t *testing.T) {
	for _, d := range doors[:3] { // submission answers each command before it reads the next
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			cert, _, server, _ := mailtest.Certificate(t, t.TempDir())
			r := d.rig(t, rigOptions{tune: func(c *config.Config) {
				c.Backends[config.Old].CA = cert
				d.endpoint(&c.Backends[config.Old].Hosts[0]).Mode = config.Implicit
			}, old: func(k *mailtest.Talk) {
				k.StartTLS(server)
				d.letIn(k)
				k.Expect(d.behind)
				k.Expect(d.behind)
				k.Send(d.was + "\r\n")
				_ = k.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
				if n, err := k.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("before the last answer came %d bytes, %v", n, err)
				}
				k.Send(d.was + "\r\n")
				k.Dialogue("!end")
			}})
			k := d.dial(r, config.Plain)
			k.Dialogue(d.fill("{login}"))
			k.Send(d.behind + "\r\n" + d.behind + "\r\n")
			k.CloseWrite()
			if said, want := k.ExpectEnd(), strings.Repeat(d.was+"\r\n", 2); said != want {
				t.Errorf("the client hears %q, want %q", said, want)
			}
			r.logged("session end", "client closed")
		})
	}
}
