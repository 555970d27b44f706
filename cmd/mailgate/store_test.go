package main

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
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

// memoryGate is a gate before two hosts in memory, for IMAP.
func memoryGate(t *testing.T, routes, extra string) *gate {
	t.Helper()
	var hosts [2]*mailtest.Memory
	for i, name := range []string{"old", "new"} {
		var err error
		hosts[i], err = mailtest.StartMemory(name, map[string]string{"alice@example.com": "a", "bob@example.com": "b"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(hosts[i].Close)
	}
	g := newGate(t, "{imap: 'imap://"+hosts[0].IMAP+"'}", "{imap: 'imap://"+hosts[1].IMAP+"'}", routes, extra)
	yaml, err := os.ReadFile(g.file)
	if err != nil {
		t.Fatal(err)
	}
	g.write(g.file, strings.Replace(string(yaml), `, "submissions://`+g.smtps+`", "submission://`+g.smtp+`"`, "", 1)+
		"store: {path: state.db}\ncontrol: {socket: control.sock}\n")
	return g
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

// TestLockedStore: while the store is locked, logins of new users go on, flips and reloads wait, and all of it happens
// by itself when the lock is gone.
func TestLockedStore(t *testing.T) {
	g := memoryGate(t, "alice@example.com old\n", "")
	g.start()
	defer g.stop()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(g.dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	lock, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.ExecContext(t.Context(), "BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for user, password := range map[string]string{"alice@example.com": "a", "bob@example.com": "b"} { // bob is new
		c, err := g.dial(user, password)
		if err != nil {
			t.Fatalf("%s cannot log in while the store is locked: %v", user, err)
		}
		c.Close()
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("two logins took %v", d)
	}
	g.write(g.routes, "alice@example.com new\n")
	for !strings.Contains(g.log.String(), "reload refused") {
		if time.Since(start) > 20*time.Second {
			t.Fatal("the reload was not refused")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if out := g.run(0, "status"); !strings.Contains(out, "cannot be written, so no user can be moved; mail goes on") ||
		!strings.Contains(out, "1 new users are not in the store yet") {
		t.Errorf("status:\n%s", out)
	}
	if _, err := lock.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		out := g.run(0, "status", "alice@example.com")
		if strings.Contains(out, "on new since") {
			break
		}
		if time.Since(start) > 20*time.Second {
			t.Fatalf("the file is not taken over:\n%s", out)
		}
	}
	if out := g.run(0, "status"); strings.Contains(out, "not in the store yet") || !strings.Contains(out, "1 on old, 1 on new") {
		t.Errorf("status:\n%s", out)
	}
}
