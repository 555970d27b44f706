package main

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// TestControlSocketIsPrivate: who may reach the socket may do all.
func TestControlSocketIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "control.sock")
	for range 2 { // the second replaces what a dead process left
		l, err := listenControl(path)
		if err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", st.Mode(), err)
		}
		if st, err := os.Stat(filepath.Dir(path)); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("directory: %v %v", st.Mode(), err)
		}
		defer l.Close()
	}
	if err := os.WriteFile(path+".txt", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenControl(path + ".txt"); err == nil {
		t.Error("a file that is no socket was replaced")
	}
}

// TestVerbAndServeTakeTurns: serve waits for a verb that has the store, and a verb says so when it waits in vain.
func TestVerbAndServeTakeTurns(t *testing.T) {
	dir := t.TempDir()
	conf := &config.Config{Store: config.Store{Path: filepath.Join(dir, "state.db")}, Control: config.Control{Socket: filepath.Join(dir, "s")}}
	first, err := openStore(t.Context(), conf, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(t.Context(), conf, 60*time.Millisecond); !errors.Is(err, op.ErrInUse) {
		t.Errorf("two have the store: %v", err)
	}
	done := make(chan error, 1)
	go func() {
		s, err := openStore(t.Context(), conf, time.Minute)
		if err == nil {
			err = s.Close()
		}
		done <- err
	}()
	first.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestMetricsOfServe: what a monitor reads from a running gateway.
func TestMetricsOfServe(t *testing.T) {
	addr := port(t)
	g := memoryGate(t, "alice@example.com old wave=pilot\nbob@example.com new\n", "admin: {listen: '"+addr+"'}\n")
	g.start()
	defer g.stop()
	c, err := g.dial("alice@example.com", "a")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	idle := rawDial(t, g.imap, false)
	idle.until(t, "* OK")
	read := func(path string) string {
		t.Helper()
		res, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(res.Status, err)
		}
		return string(b)
	}
	text := read("/metrics")
	_, imaps, _ := strings.Cut(g.imaps, ":")
	for _, want := range []string{
		`mailgate_connections{listener="imaps://` + g.imaps + `",protocol="imap",tls="implicit"} 1`,
		`mailgate_connections{listener="imap+starttls://` + g.imap + `",protocol="imap",tls="starttls"} 1`,
		`mailgate_connections_total{listener="imaps://` + g.imaps + `",protocol="imap",tls="implicit"} 1`,
		`mailgate_sessions{protocol="imap",side="old",wave="pilot"} 1`,
		`mailgate_users{state="OLD",wave="pilot"} 1`,
		`mailgate_users{state="NEW",wave=""} 1`,
		`mailgate_auth_attempts_total{mechanism="LOGIN",protocol="imap",result="ok",side="old",wave="pilot"} 1`,
		`mailgate_backend_login_duration_seconds_count{protocol="imap",side="old"} 1`,
		`port="` + imaps + `"} `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if strings.Contains(text, "example.com") && strings.Contains(text, "alice") {
		t.Error("a user is in the metrics")
	}
	if s := read("/readyz"); s != "ready\n" {
		t.Error(s)
	}
	if s := read("/healthz"); s != "ok\n" {
		t.Error(s)
	}
}
