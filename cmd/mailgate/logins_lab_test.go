package main

import (
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailgate/admin"
	"mailgate/mailtest/lab"
)

// setPassword gives a user of a Dovecot another password, in the form {SCHEME}....
func setPassword(t *testing.T, h lab.Host, user, password string) {
	t.Helper()
	path := filepath.Join(h.Dir, "users")
	var out strings.Builder
	for line := range strings.Lines(mustRead(t, path)) {
		if strings.HasPrefix(line, user+":") {
			line = user + ":" + password + "\n"
		}
		out.WriteString(line)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

// TestReadyForNew goes the way of a company whose passwords nobody knows: people log in on OLD, the hook runs, hashes are kept; NEW, where
// one of them has another password, refuses him behind the flip, which is told of; his hash is put into NEW's user database, and NEW
// takes the password that he has always had. The secret is in no log, environment, argument, answer or file of ours.
func TestReadyForNew(t *testing.T) {
	const secret = "Zwölf-Boxkämpfer_4711" // of user 1; beyond ASCII
	l := lab.Start(t)
	health := port(t)
	g := labGate(t, l, lab.User(1)+" old wave=pilot\n"+lab.User(2)+" old wave=pilot\n",
		"login: {fail_delay: 0s, learn: {hash: true, hook: [./hook, its-argument]}}\nadmin: {listen: '"+health+"'}\n")
	hook := filepath.Join(g.dir, "hook")
	g.write(g.file, strings.ReplaceAll(mustRead(t, g.file), "./hook", hook))
	g.write(hook, `#!/bin/sh
cd "$(dirname "$0")" || exit 1
read -r password
tr '\0' '\n' </proc/$$/cmdline >>seen
env >>seen
tr '\0' '\n' </proc/$PPID/environ >>seen
tr '\0' '\n' </proc/$PPID/cmdline >>seen
printf '%s %s %s\n' "$MAILGATE_USER" "$MAILGATE_SIDE" "$password" >>ran
while [ -e block ]; do sleep 0.05; done
`)
	if err := os.Chmod(hook, 0o700); err != nil {
		t.Fatal(err)
	}
	setPassword(t, l.Old, lab.User(1), "{PLAIN}"+secret)
	ran := func() string {
		b, _ := os.ReadFile(filepath.Join(g.dir, "ran"))
		return string(b)
	}
	login := func(n int, password string) error {
		c, err := g.dial(lab.User(n), password)
		if err == nil {
			_ = c.Logout().Wait()
		}
		return err
	}
	var said strings.Builder
	verb := func(want int, args ...string) string {
		t.Helper()
		code, out, errOut := g.verb(args...)
		said.WriteString(out + errOut)
		if code != want {
			t.Fatalf("%v: exit %d, want %d\n%s%s", args, code, want, out, errOut)
		}
		return strings.Join(strings.FieldsFunc(out+errOut, func(r rune) bool { return r == ' ' }), " ")
	}
	g.write(filepath.Join(g.dir, "block"), "")
	g.start()
	if out := verb(2, "status", "--not-ready", "--wave", "pilot"); !strings.Contains(out, "2 users, 0 ready, 2 never") {
		t.Errorf("not ready: %s", out)
	}

	// The process dies while the hook runs: it runs again at the next login, and then not any more.
	if err := login(1, secret); err != nil {
		t.Fatal(err)
	}
	once := lab.User(1) + " old " + secret + "\n"
	until(t, "the hook", func() bool { return ran() == once })
	g.kill()
	if err := os.Remove(filepath.Join(g.dir, "block")); err != nil {
		t.Fatal(err)
	}
	log := g.log.String()
	g.start()
	if err := login(1, secret); err != nil {
		t.Fatal(err)
	}
	seen := func() *admin.LoginStatus {
		u, err := g.user(lab.User(1))
		if err != nil {
			t.Fatal(err)
		}
		return u.Seen
	}
	until(t, "the hook is done", func() bool { s := seen(); return s.Hash != nil && !s.Hash.Hook.IsZero() })
	g.submit(t, lab.User(1), secret)
	if err := login(1, secret); err != nil {
		t.Fatal(err)
	}
	until(t, "both logins", func() bool { return len(seen().Last) == 2 })
	if out := verb(2, "status", "--not-ready"); !strings.Contains(out, "2 users, 1 ready, 1 never") || strings.Contains(out, lab.User(1)) {
		t.Errorf("not ready: %s", out)
	}
	if ran() != once+once {
		t.Errorf("the hook ran for\n%s", ran())
	}

	// NEW has another password for him.
	verb(0, "flip", lab.User(1), "new", "--yes")
	if err := login(1, secret); err == nil {
		t.Fatal("NEW has another password, and lets him in")
	}
	until(t, "the refusal", func() bool { return len(seen().Refused) == 1 })
	if out := verb(0, "status"); !strings.Contains(out, "1 users are refused with a password that worked") {
		t.Errorf("status: %s", out)
	}
	if out := verb(0, "status", lab.User(1)); !strings.Contains(out, lab.User(1)+" by NEW (imap), 1 times since") || !strings.Contains(out, "mailgate rollback "+lab.User(1)) {
		t.Errorf("status: %s", out)
	}
	if out := verb(2, "status", "--not-ready"); !strings.Contains(out, "1 refused") {
		t.Errorf("not ready: %s", out)
	}
	metrics := func() string {
		t.Helper()
		res, err := http.Get("http://" + health + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if m := metrics(); !strings.Contains(m, `mailgate_auth_regressions_total{side="new"} 1`) || !strings.Contains(m, `mailgate_auth_regressed_users{side="new"} 1`) ||
		!strings.Contains(m, `mailgate_auth_regressed_users{side="old"} 0`) || strings.Contains(m, "user1@") {
		t.Errorf("metrics: %s", m)
	}

	// The hash goes into NEW's database.
	verb(0, "secrets", "export", filepath.Join(g.dir, "hashes"), "--user", lab.User(1))
	user, hash, _ := strings.Cut(strings.TrimSpace(mustRead(t, filepath.Join(g.dir, "hashes"))), ":")
	if user != lab.User(1) || !strings.HasPrefix(hash, "{ARGON2ID}$argon2id$") {
		t.Fatalf("exported %s %s", user, hash)
	}
	setPassword(t, l.New, user, hash)
	until(t, "NEW takes the password", func() bool { return login(1, secret) == nil })
	until(t, "that this is over", func() bool { return len(seen().Refused) == 0 })
	if m := metrics(); !strings.Contains(m, `mailgate_auth_regressed_users{side="new"} 0`) {
		t.Errorf("metrics: %s", m)
	}
	if out := verb(0, "history", lab.User(1)); strings.Count(out, "login refused that worked") != 1 || strings.Count(out, "login works again") != 1 ||
		strings.Count(out, "login hook done") != 1 {
		t.Errorf("history: %s", out)
	}
	if ran() != once+once {
		t.Errorf("the hook ran for\n%s", ran())
	}
	g.stop()

	log += g.log.String()
	if !strings.Contains(log, "a password that worked on OLD is refused by NEW") {
		t.Errorf("log: %s", log)
	}
	b64 := base64.StdEncoding.EncodeToString([]byte(secret))
	for where, text := range map[string]string{"what verbs say": said.String(), "the log": log, "arguments or environments": mustRead(t, filepath.Join(g.dir, "seen")),
		"the exported file": hash} {
		if text == "" || strings.Contains(text, "4711") || strings.Contains(text, b64) || strings.Contains(text, plain(lab.User(1), secret)) {
			t.Errorf("the password is in %s", where)
		}
	}
	if g.holds(secret) || !g.holds("$argon2id$") {
		t.Error("the store has the password, or no hash")
	}
	if !strings.Contains(mustRead(t, filepath.Join(g.dir, "seen")), "its-argument") {
		t.Error("nothing was seen: this cannot fail")
	}
}
