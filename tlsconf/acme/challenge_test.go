package acme

import (
	"crypto/tls"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mholt/acmez/v3/acme"

	"mailgate/config"
)

// By http-01: two names are had, the listener is closed when nobody is asked, what is kept is for nobody else's eyes; behind a restart
// the certificates are in use at once, without the authority.
func TestHTTP01(t *testing.T) {
	t.Parallel()
	const a, b = "mail.example.test", "smtp.example.test"
	r := newRig(t, config.HTTP01, 0, a, b)
	r.run()
	r.has(a, b)
	r.until("both are told", func() bool { return r.count("obtained") == 2 })
	if c, err := net.Dial("tcp", r.conf.HTTPListen); err == nil {
		c.Close()
		t.Error("the listener of challenges is open")
	}
	s := r.status(a)
	if s.Error != "" || !s.NotAfter.Equal(r.leaf(a).NotAfter) || !s.RenewAt.Before(s.NotAfter) {
		t.Errorf("status: %+v", s)
	}
	modes(t, r.conf.Storage)
	first := r.leaf(a)
	r.stop()
	r.ca.Kill()
	r.make()
	if x := r.leaf(a); x == nil || !x.Equal(first) {
		t.Error("what was kept is not in use behind a restart")
	}
	if got, err := Stored(r.conf, a); err != nil || !got.Leaf.Equal(first) {
		t.Errorf("stored: %v", err)
	}
}

// modes looks whether a folder is its owner's alone.
func modes(t *testing.T, dir string) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		if st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %04o", path, st.Mode().Perm())
		}
		n++
		return nil
	})
	if err != nil || n < 5 {
		t.Errorf("%d files, %v", n, err)
	}
}

// The listener of http-01 answers challenges that are under way and nothing else.
func TestHTTP01ServesNothingElse(t *testing.T) {
	t.Parallel()
	s := &httpSolver{address: "127.0.0.1:0"}
	c := acme.Challenge{Type: "http-01", Token: "token", KeyAuthorization: "token.print"}
	if err := s.Present(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	get := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		b, _ := io.ReadAll(w.Body)
		return w.Code, string(b)
	}
	if code, text := get("GET", "/.well-known/acme-challenge/token"); code != 200 || text != "token.print" {
		t.Errorf("%d %q", code, text)
	}
	for _, x := range [][2]string{{"POST", "/.well-known/acme-challenge/token"}, {"GET", "/.well-known/acme-challenge/"}, {"GET", "/"},
		{"GET", "/.well-known/acme-challenge/other"}} {
		if code, text := get(x[0], x[1]); code != http.StatusNotFound || strings.Contains(text, "print") {
			t.Errorf("%v: %d %q", x, code, text)
		}
	}
	if err := s.CleanUp(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if code, _ := get("GET", "/.well-known/acme-challenge/token"); code != http.StatusNotFound {
		t.Error("answered behind the challenge")
	}
}

// By tls-alpn-01 on a listener of its own.
func TestTLSALPN01(t *testing.T) {
	t.Parallel()
	const name = "mail.example.test"
	r := newRig(t, config.TLSALPN01, 0, name)
	r.run()
	r.has(name)
	r.until("the listener is closed", func() bool {
		c, err := net.Dial("tcp", r.conf.TLSListen)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

// By tls-alpn-01 on the gateway's own listener, which serves its clients meanwhile.
func TestTLSALPN01OnOurListener(t *testing.T) {
	t.Parallel()
	const name = "mail.example.test"
	r := newRig(t, config.TLSALPN01, 0, name)
	address := r.conf.TLSListen
	r.conf.TLSListen = ""
	r.make()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = tls.Server(c, r.certs.Config()).Handshake()
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	r.goOn()
	r.has(name)
}
