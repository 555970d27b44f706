package tlsconf

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailgate/config"
)

// The policy towards backends: what is taken, what is refused, and what the operator is told.
func TestClientPolicy(t *testing.T) {
	ca, other := issue(t, nil, soon()), issue(t, nil, soon())
	good := issue(t, ca, soon(), "mail.example.net", "127.0.0.1")
	stranger := issue(t, other, soon(), "mail.example.net")
	expired := issue(t, ca, time.Now().Add(-time.Hour), "mail.example.net")
	nameless := issue(t, ca, soon(), "")
	intermediate := issue(t, ca, soon())
	below := issue(t, intermediate, soon(), "mail.example.net")
	self := issue(t, nil, soon(), "other.example.net")
	dir := t.TempDir()
	caFile := filepath.Join(dir, "ca.pem")
	replaceFile(t, caFile, ca.pem())
	for _, x := range []struct {
		name   string
		b      config.Backend
		host   string
		server tls.Certificate
		want   string // what Explain says; "" when the handshake goes through
	}{
		{"ca", config.Backend{CA: caFile}, "mail.example.net", good.tls(), ""},
		{"address", config.Backend{CA: caFile}, "127.0.0.1", good.tls(), ""},
		{"server name", config.Backend{CA: caFile, ServerName: "mail.example.net"}, "10.0.0.1", good.tls(), ""},
		{"chain", config.Backend{CA: caFile}, "mail.example.net", below.tls(intermediate), ""},
		{"incomplete chain", config.Backend{CA: caFile}, "mail.example.net", below.tls(), "signed by nobody we trust"},
		{"wrong name", config.Backend{CA: caFile}, "mail2.example.net", good.tls(), "is for mail.example.net, 127.0.0.1, not for mail2.example.net; set tls.server_name"},
		{"wrong server name", config.Backend{CA: caFile, ServerName: "x"}, "mail.example.net", good.tls(), "not for x"},
		{"no name", config.Backend{CA: caFile}, "mail.example.net", nameless.tls(), "for no name at all"},
		{"expired", config.Backend{CA: caFile}, "mail.example.net", expired.tls(), "valid from " + expired.cert.NotBefore.Format(time.DateOnly) + " to " + expired.cert.NotAfter.Format(time.DateOnly) + " only"},
		{"another CA", config.Backend{CA: caFile}, "mail.example.net", stranger.tls(), "signed by nobody we trust; set tls.ca or tls.pins"},
		{"system roots", config.Backend{}, "mail.example.net", good.tls(), "signed by nobody we trust"},
		{"pin", config.Backend{Pins: []string{Pin(self.cert)}}, "mail.example.net", self.tls(), ""},
		{"one of two pins", config.Backend{Pins: []string{Pin(good.cert), Pin(self.cert)}}, "mail.example.net", self.tls(), ""},
		{"wrong pin", config.Backend{Pins: []string{Pin(good.cert)}}, "mail.example.net", self.tls(), "is not one of the pinned keys; it is " + Pin(self.cert)},
		{"pin of one sent along", config.Backend{Pins: []string{Pin(good.cert)}}, "mail.example.net", self.tls(good), "is not one of the pinned keys"},
		{"ca and pin of the leaf", config.Backend{CA: caFile, Pins: []string{Pin(good.cert)}}, "mail.example.net", good.tls(), ""},
		{"ca and pin of the intermediate", config.Backend{CA: caFile, Pins: []string{Pin(intermediate.cert)}}, "mail.example.net", below.tls(intermediate), ""},
		{"ca and pin of the root", config.Backend{CA: caFile, Pins: []string{Pin(ca.cert)}}, "mail.example.net", good.tls(), ""},
		{"ca and wrong pin", config.Backend{CA: caFile, Pins: []string{Pin(self.cert)}}, "mail.example.net", good.tls(), "is not one of the pinned keys"},
		// Another good certificate of the same CA, with the pinned one sent along: it proves nothing.
		{"ca and pin of one sent along", config.Backend{CA: caFile, Pins: []string{Pin(below.cert)}}, "mail.example.net", good.tls(below), "is not one of the pinned keys"},
		{"ca and pin, wrong name", config.Backend{CA: caFile, Pins: []string{Pin(good.cert)}}, "mail2.example.net", good.tls(), "not for mail2.example.net"},
		{"ca and pin, another CA", config.Backend{CA: caFile, Pins: []string{Pin(stranger.cert)}}, "mail.example.net", stranger.tls(), "signed by nobody we trust"},
	} {
		t.Run(x.name, func(t *testing.T) {
			client, err := Client(x.b, config.Endpoint{Host: x.host})
			if err != nil {
				t.Fatal(err)
			}
			server := &tls.Config{Certificates: []tls.Certificate{x.server}}
			_, err = shake(t, client, server)
			if x.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				s, err := shake(t, client, server) // the policy holds for resumed sessions too
				if err != nil || !s.DidResume {
					t.Errorf("resumed %v, %v", s.DidResume, err)
				}
				return
			}
			if err == nil {
				t.Fatal("taken")
			}
			contains(t, Explain(fmt.Errorf("handshake: %w", err)), x.want)
		})
	}
	replaceFile(t, caFile, "no certificate")
	for _, file := range []string{caFile, filepath.Join(dir, "missing")} {
		if _, err := Client(config.Backend{CA: file}, config.Endpoint{}); err == nil {
			t.Errorf("%s is taken", file)
		}
	}
}

// What is not about certificates is explained too.
func TestExplain(t *testing.T) {
	client, err := Client(config.Backend{}, config.Endpoint{Host: "mail.example.net"})
	if err != nil {
		t.Fatal(err)
	}
	answer := func(f func(net.Conn)) error {
		a, b := pair(t)
		done := make(chan struct{})
		go func() { defer close(done); f(b); b.Close() }()
		err := tls.Client(a, client).Handshake()
		a.Close()
		<-done
		return err
	}
	plain := answer(func(c net.Conn) { _, _ = io.WriteString(c, "* OK IMAP4rev1 ready\r\n"); _, _ = io.Copy(io.Discard, c) })
	contains(t, Explain(plain), "does not speak TLS on this port", "+starttls")
	contains(t, Explain(answer(func(c net.Conn) { _, _ = c.Read(make([]byte, 2000)) })), "closed the connection within the handshake")
	ancient := answer(func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{issue(t, nil, soon(), "m").tls()}, MinVersion: tls.VersionTLS10,
			MaxVersion: tls.VersionTLS11})
		_ = s.Handshake()
	})
	contains(t, Explain(ancient), "TLS 1.1 or older")
	if got := Explain(os.ErrDeadlineExceeded); got != os.ErrDeadlineExceeded.Error() {
		t.Error(got)
	}
	contains(t, Explain(fmt.Errorf("%w; it is x", ErrPin)), "pinned")
	if !errors.Is(fmt.Errorf("%w", ErrPin), ErrPin) {
		t.Error("ErrPin is lost")
	}
}
