package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mailgate/learned"
	"mailgate/mailtest/lab"
)

// learningGate is a gate before a lab that knows no password but those that users log in with. Users 1 to 3 are kept.
func learningGate(t *testing.T, l *lab.Lab) *gate {
	t.Helper()
	old := fmt.Sprintf("{imap: 'imap+starttls://localhost:%d', submission: 'submission+starttls://localhost:%d', tls: {ca: %s}, sync: {learned: true}}",
		l.Old.IMAP, l.Old.Submission, l.CA)
	new := fmt.Sprintf("{imap: 'imaps://localhost:%d', submission: 'submission://127.0.0.1:%d', tls: {ca: %s}, sync: {learned: true}}",
		l.New.IMAPS, l.New.Submission, l.CA)
	routes := ""
	for n := 1; n <= 3; n++ {
		routes += lab.User(n) + " old wave=pilot\n"
	}
	g := newGate(t, old, new, routes, "sync: {waves: [pilot], poll: 2s, settle: 100ms}\nlogin: {learn: {key: learn.key}}\n")
	g.mustVerb("secrets", "key", filepath.Join(g.dir, "learn.key"))
	return g
}

// submit logs in by submission, and out.
func (g *gate) submit(t *testing.T, user, password string) {
	t.Helper()
	c := rawDial(t, g.smtps, true)
	defer c.Close()
	c.until(t, "220 ")
	c.send(t, "EHLO client.example.org\r\n")
	c.until(t, "250 ")
	c.send(t, "AUTH PLAIN "+plain(user, password)+"\r\n")
	c.until(t, "235 ")
	c.send(t, "QUIT\r\n")
	c.until(t, "221 ")
}

// sealed are the ciphertexts of a user, as an export has them.
func (g *gate) sealed(user string) (out [][]byte) {
	g.t.Helper()
	for line := range strings.Lines(g.mustVerb("store", "export")) {
		var x struct {
			Table string
			Row   struct {
				User   string
				Sealed []byte
			}
		}
		if json.Unmarshal([]byte(line), &x) == nil && x.Table == "learned" && (user == "" || x.Row.User == user) {
			if !learned.Sealed(x.Row.Sealed) {
				g.t.Errorf("the export has %q of %s", x.Row.Sealed, x.Row.User)
			}
			out = append(out, x.Row.Sealed)
		}
	}
	return out
}

// inFiles counts pieces of ciphertexts in the files of the store.
func (g *gate) inFiles(sealed [][]byte) (n int) {
	g.t.Helper()
	for _, s := range sealed {
		for piece := range slices.Chunk(s[len("age-encryption.org/v1\n"):], 16) {
			if len(piece) == 16 && g.holds(string(piece)) {
				n++
			}
		}
	}
	return n
}

// holds tells whether a file of the store has a text in it.
func (g *gate) holds(text string) bool {
	g.t.Helper()
	files, err := filepath.Glob(filepath.Join(g.dir, "state", "mailgate.db*"))
	if err != nil || len(files) < 2 {
		g.t.Fatal(files, err)
	}
	for _, f := range files {
		if strings.Contains(mustRead(g.t, f), text) {
			return true
		}
	}
	return false
}

// TestLearnedAtLogin: with no other credential than what people type, those who have logged in, by IMAP or by submission, have their
// mailboxes kept equal, and the others are told of in plain words. Nothing of it is readable anywhere, and what is erased is gone.
func TestLearnedAtLogin(t *testing.T) {
	t.Parallel()
	l := lab.Start(t)
	g := learningGate(t, l)
	for n := 1; n <= 3; n++ {
		deposit(t, l.Old, n, "first")
	}
	g.start()
	var said strings.Builder // all that anybody is told
	verb := func(want int, args ...string) string {
		t.Helper()
		code, out, errOut := g.verb(args...)
		said.WriteString(out + errOut)
		if code != want {
			t.Fatalf("%v: exit %d, want %d\n%s%s", args, code, want, out, errOut)
		}
		return out + errOut
	}
	until(t, "nobody's password is known", func() bool { return strings.Contains(verb(0, "status", lab.User(1)), "sync failed") })
	if out := verb(0, "status", lab.User(1)); !strings.Contains(out, "he has not logged in since ") || !strings.Contains(out, "his password is not known yet") ||
		!strings.Contains(out, "it goes on by itself when he logs in") {
		t.Errorf("status says\n%s", out)
	}
	if out := verb(0, "secrets", "list"); !strings.Contains(out, "no password is known") {
		t.Errorf("list says\n%s", out)
	}
	if out := verb(3, "sync", "run", lab.User(1), "--yes"); !strings.Contains(out, "his password is not known yet") {
		t.Errorf("run says\n%s", out)
	}

	c, err := g.dial(lab.User(1), lab.Password(1))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Logout().Wait()
	g.submit(t, lab.User(2), lab.Password(2))
	if _, err := g.dial(lab.User(3), "wrong"); err == nil {
		t.Fatal("a wrong password is let in")
	}
	for n := 1; n <= 2; n++ {
		until(t, "the first copy", func() bool { return has(t, l.New, n, "first") })
	}
	deposit(t, l.Old, 1, "second")
	deposit(t, l.New, 2, "straggler")
	until(t, "new mail", func() bool { return has(t, l.New, 1, "second") && has(t, l.Old, 2, "straggler") })
	for n := 1; n <= 2; n++ {
		sameOnBothSides(t, l, n)
	}
	if has(t, l.New, 3, "first") {
		t.Error("mail of somebody whose password nobody knows was copied")
	}
	out := verb(0, "secrets", "list")
	if strings.Count(out, "usable") != 2 || strings.Contains(out, lab.User(3)) {
		t.Errorf("list says\n%s", out)
	}
	verb(0, "secrets", "list", lab.User(1), "-o", "json")

	if out := verb(0, "status"); !strings.Contains(out, "1 without a login, 0 failing") {
		t.Errorf("status says\n%s", out)
	}
	if out := verb(0, "history", lab.User(3)); strings.Contains(out, "failing") {
		t.Errorf("that he has not logged in is told as a failure:\n%s", out)
	}

	// Who is moved and goes on with the same password is learned on NEW, and not lost on OLD.
	verb(0, "flip", lab.User(2), "new", "--yes")
	if c, err = g.dial(lab.User(2), lab.Password(2)); err != nil {
		t.Fatal(err)
	}
	_ = c.Logout().Wait()
	deposit(t, l.New, 2, "behind the flip")
	until(t, "what came to NEW", func() bool { return has(t, l.Old, 2, "behind the flip") })
	until(t, "known on both sides", func() bool { return strings.Count(verb(0, "secrets", "list", lab.User(2)), "usable") == 2 })

	// The verbs of another process use it as well, and nobody reads it.
	g.stop()
	deposit(t, l.Old, 2, "third")
	verb(0, "sync", "run", lab.User(2), "--yes")
	if !has(t, l.New, 2, "third") {
		t.Error("sync run without serve carried nothing")
	}
	log := g.log.String()
	g.start()

	// Another key opens nothing; the right one does again.
	key := mustRead(t, filepath.Join(g.dir, "learn.key"))
	verb(0, "secrets", "key", filepath.Join(g.dir, "other.key"))
	if err := os.Rename(filepath.Join(g.dir, "other.key"), filepath.Join(g.dir, "learn.key")); err != nil {
		t.Fatal(err)
	}
	verb(0, "reload")
	if out := verb(0, "secrets", "list"); strings.Count(out, "other key") != 3 {
		t.Errorf("list says\n%s", out)
	}
	if out := verb(3, "sync", "plan", lab.User(1)); !strings.Contains(out, "does not open with the key") {
		t.Errorf("plan says\n%s", out)
	}
	g.write(filepath.Join(g.dir, "learn.key"), key)
	verb(0, "reload")
	verb(0, "sync", "plan", lab.User(1))

	// Erased is gone from the files, while serve runs; the other one's stays.
	mine, all := g.sealed(lab.User(1)), g.sealed("")
	if len(mine) != 1 || len(all) != 3 || g.inFiles(mine) == 0 {
		t.Fatalf("%d of his, %d of all, %d pieces in the files", len(mine), len(all), g.inFiles(mine))
	}
	if out := verb(0, "secrets", "forget", lab.User(1)); !strings.Contains(out, "1 passwords erased") {
		t.Errorf("forget says\n%s", out)
	}
	if n := g.inFiles(mine); n > 0 || len(g.sealed("")) != 2 {
		t.Errorf("%d pieces of what was erased are in the files; %d left", n, len(g.sealed("")))
	}
	verb(2, "secrets", "forget", lab.User(1))
	if out := verb(0, "history", lab.User(1)); !strings.Contains(out, "learned password erased") {
		t.Errorf("history says\n%s", out)
	}
	if out := verb(3, "sync", "plan", lab.User(1)); !strings.Contains(out, "is not known yet") {
		t.Errorf("plan says\n%s", out)
	}
	g.stop()
	verb(0, "secrets", "forget", "--all")
	if n := g.inFiles(all); n > 0 || len(g.sealed("")) != 0 {
		t.Errorf("%d pieces are in the files", n)
	}
	verb(0, "store", "check")

	for n := 1; n <= 2; n++ {
		b64 := base64.StdEncoding.EncodeToString([]byte(lab.Password(n)))
		for where, text := range map[string]string{"what verbs say": said.String(), "the log": log + g.log.String()} {
			if strings.Contains(text, lab.Password(n)) || strings.Contains(text, b64) || strings.Contains(text, plain(lab.User(n), lab.Password(n))) {
				t.Errorf("a password is in %s", where)
			}
		}
		if g.holds(lab.Password(n)) {
			t.Error("a password is in the store")
		}
	}
	if secret := key[strings.Index(key, "AGE-SECRET"):]; strings.Contains(said.String()+log+g.log.String(), secret[:30]) || g.holds(secret[:30]) {
		t.Error("the key is told")
	}
}
