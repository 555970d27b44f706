package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
)

// doors is a gate that serves all four protocols, before hosts with a master user.
type doors struct {
	*gate
	pop3, sieve string
}

// newDoors makes one; masters are the sync sections of both sides, "" for none. A port that a host has not is left out.
func newDoors(t *testing.T, old, new lab.Host, masters [2]string, routes, extra string) *doors {
	t.Helper()
	var sides [2]string
	for i, h := range []lab.Host{old, new} {
		s := fmt.Sprintf("imap: 'imap://127.0.0.1:%d', pop3: 'pop3://127.0.0.1:%d', login_timeout: 20s", h.IMAP, h.POP3)
		if h.Submission > 0 {
			s += fmt.Sprintf(", submission: 'submission://127.0.0.1:%d'", h.Submission)
		} else {
			s += ", submission: 'submission://127.0.0.1:1'"
		}
		if h.Sieve > 0 {
			s += fmt.Sprintf(", sieve: 'sieve://127.0.0.1:%d'", h.Sieve)
		}
		if masters[i] != "" {
			s += ", sync: {master_user: " + lab.MasterUser + ", master_password: master" + masters[i] + "}"
		}
		sides[i] = "{" + s + "}"
	}
	d := &doors{gate: newGate(t, sides[0], sides[1], routes, extra), pop3: port(t), sieve: port(t)}
	listen := fmt.Sprintf("listen: [\"pop3://%s\", ", d.pop3)
	if old.Sieve > 0 && new.Sieve > 0 {
		listen += fmt.Sprintf("\"sieve://%s\", ", d.sieve)
	} else {
		d.sieve = ""
	}
	d.write(d.file, strings.Replace(mustRead(t, d.file), "listen: [", listen, 1))
	d.write(filepath.Join(d.dir, "master"), lab.MasterPassword+"\n")
	return d
}

// answers logs a user in by each protocol, and gives the first word of each answer, or behind a login what shows whose mailbox it is.
func (d *doors) answers(user, password string) map[string]string {
	t := d.t
	t.Helper()
	out := map[string]string{}
	c := rawDial(t, d.imapPlain, false)
	c.until(t, "* OK")
	c.send(t, "a LOGIN "+user+" "+password+"\r\n")
	if line := c.until(t, "a "); strings.HasPrefix(line, "a OK") {
		c.send(t, "b STATUS INBOX (MESSAGES)\r\n")
		out["imap"] = strings.TrimSuffix(strings.TrimPrefix(c.until(t, "* STATUS"), "* STATUS INBOX (MESSAGES "), ")")
	} else {
		_, line, _ = strings.Cut(line, "[")
		out["imap"], _, _ = strings.Cut(line, "]")
	}
	c.Close()
	c = rawDial(t, d.pop3, false)
	c.until(t, "+OK")
	c.send(t, "USER "+user+"\r\n")
	c.until(t, "+OK")
	c.send(t, "PASS "+password+"\r\n")
	if line, _ := c.read(); strings.HasPrefix(line, "+OK") {
		c.send(t, "STAT\r\n")
		out["pop3"] = strings.Fields(c.until(t, "+OK"))[1]
	} else {
		out["pop3"] = strings.Fields(line)[1]
	}
	c.Close()
	c = rawDial(t, d.smtp, false)
	c.until(t, "220")
	c.send(t, "EHLO client.example.org\r\n")
	c.until(t, "250 ")
	c.send(t, "AUTH PLAIN "+plain(user, password)+"\r\n")
	line, _ := c.read()
	out["submission"] = strings.Fields(line)[0]
	c.Close()
	if d.sieve == "" {
		return out
	}
	c = rawDial(t, d.sieve, false)
	c.until(t, "OK")
	c.send(t, "AUTHENTICATE \"PLAIN\" \""+plain(user, password)+"\"\r\n")
	if line, _ := c.read(); strings.HasPrefix(line, "OK") {
		c.send(t, "LISTSCRIPTS\r\n")
		line, _ := c.read()
		out["sieve"] = strings.Trim(strings.Fields(line)[0], `"`)
	} else {
		out["sieve"] = strings.Fields(line)[0] + " " + strings.Fields(line)[1]
	}
	c.Close()
	return out
}

func wantAnswers(t *testing.T, what string, got map[string]string, imap, pop3, submission, sieve string) {
	t.Helper()
	for p, want := range map[string]string{"imap": imap, "pop3": pop3, "submission": submission, "sieve": sieve} {
		if want != "" && got[p] != want {
			t.Errorf("%s: %s is answered %q, want %q", what, p, got[p], want)
		}
	}
}

// putScript stores a script that is named after its owner, directly at a host.
func putScript(t *testing.T, h lab.Host, user, password, name string) {
	t.Helper()
	c := rawDial(t, lab.Addr(h.Sieve), false)
	defer c.Close()
	c.until(t, "OK")
	c.send(t, "AUTHENTICATE \"PLAIN\" \""+plain(user, password)+"\"\r\n")
	c.until(t, "OK")
	c.send(t, "PUTSCRIPT \""+name+"\" {5+}\r\nkeep;\r\n")
	c.until(t, "OK")
}

// fillInbox puts n messages into a user's INBOX.
func fillInbox(t *testing.T, h lab.Host, user, n int) {
	t.Helper()
	c := rawDial(t, lab.Addr(h.IMAP), false)
	defer c.Close()
	c.until(t, "* OK")
	c.send(t, "a LOGIN "+lab.User(user)+" "+lab.Password(user)+"\r\n")
	c.until(t, "a OK")
	for range n {
		c.send(t, "b APPEND INBOX {18}\r\n")
		c.until(t, "+")
		c.send(t, "Subject: x\r\n\r\nx\r\n\r\n")
		c.until(t, "b OK")
	}
}

// TestAuthorityOnHosts: passwords that no host knows, of a file, open by a proven master login the right mailboxes of two Dovecots by all
// four protocols, whichever side the user is on; without the proof nothing opens, and nobody is told of a wrong password.
func TestAuthorityOnHosts(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.StrictMasters())
	users := [2]string{lab.User(1), lab.User(2)}
	for i, h := range []lab.Host{l.Old, l.New} {
		for n := 1; n <= 2; n++ {
			fillInbox(t, h, n, 10*i+n) // each mailbox has its own number
			putScript(t, h, lab.User(n), lab.Password(n), fmt.Sprintf("%s-of-%d", h.Name, n))
		}
	}
	fillInbox(t, l.New, 4, 3)
	text := mustRead(t, filepath.Join(l.New.Dir, "users"))
	must(t, os.WriteFile(filepath.Join(l.New.Dir, "users"), []byte(strings.Replace(text, "{PLAIN}"+lab.Password(4)+"\n", "{PLAIN}another\n", 1)), 0o644))
	routes := users[0] + " old\n" + users[1] + " new\n" + lab.User(3) + " new authority=route\n"
	byOld := routes + lab.User(4) + " new authority=old\n" + lab.User(5) + " old authority=old\n"
	d := newDoors(t, l.Old, l.New, [2]string{" ", `, master_login: "{login}*{master}"`}, byOld, "authority: {default: file, file: passwords}\nflip: {delta: off}\n") // the hosts are told apart by what they hold
	d.write(filepath.Join(d.dir, "passwords"), users[0]+":{PLAIN}secret1\n"+users[1]+":{PLAIN}other\n")
	d.start()
	defer d.stop()
	got := d.answers(users[0], "secret1")
	wantAnswers(t, "without a proof", got, "UNAVAILABLE", "[SYS/TEMP]", "454", "NO (TRYLATER)")
	if out := d.mustVerb("status"); !strings.Contains(out, "verified: 1 by route, 2 by old, 2 by file") ||
		!strings.Contains(out, "1 user cannot log in, since the master login of old is not proven for imap, pop3, submission, sieve: run mailgate probe backends") {
		t.Errorf("status:\n%s", out)
	}
	d.mustVerb("probe", "backends")
	wantAnswers(t, "user 1 on OLD", d.answers(users[0], "secret1"), "1", "1", "235", "old-of-1")
	wantAnswers(t, "his password at the host", d.answers(users[0], lab.Password(1)), "AUTHENTICATIONFAILED", "[AUTH]", "535", `NO "Authentication`)
	wantAnswers(t, "the route verifies", d.answers(lab.User(3), lab.Password(3)), "0", "0", "235", "OK")
	if out := d.mustVerb("status"); strings.Contains(out, "cannot log in") {
		t.Errorf("status:\n%s", out)
	}
	if out := d.mustVerb("status", users[1]); !strings.Contains(out, "verified by file") {
		t.Errorf("status of a user:\n%s", out)
	}
	d.write(filepath.Join(d.dir, "passwords"), users[0]+":{PLAIN}secret1\n"+users[1]+":{PLAIN}secret2\n")
	wantAnswers(t, "user 2 on NEW, and the file has changed", d.answers(users[1], "secret2"), "12", "12", "235", "new-of-2")
	d.mustVerb("flip", users[0], "new", "--yes")
	wantAnswers(t, "user 1 on NEW", d.answers(users[0], "secret1"), "11", "11", "235", "new-of-1")

	// OLD goes on verifying a user who has been moved, until it is decided otherwise; status says that he depends on it.
	wantAnswers(t, "OLD's password", d.answers(lab.User(4), lab.Password(4)), "3", "3", "235", "OK")
	wantAnswers(t, "NEW's password", d.answers(lab.User(4), "another"), "AUTHENTICATIONFAILED", "[AUTH]", "535", `NO "Authentication`)
	wantAnswers(t, "by OLD on OLD", d.answers(lab.User(5), lab.Password(5)), "0", "0", "235", "OK")
	if out := d.mustVerb("status"); !strings.Contains(out, "without old  ") || !strings.Contains(out, "1 user on new still verified by old") {
		t.Errorf("status:\n%s", out)
	}
	d.write(d.routes, strings.Replace(strings.Replace(byOld, users[0]+" old", users[0]+" new", 1), lab.User(4)+" new authority=old", lab.User(4)+" new authority=route", 1))
	d.mustVerb("reload")
	wantAnswers(t, "NEW's password, after the decision", d.answers(lab.User(4), "another"), "3", "3", "235", "OK")
	if out := d.mustVerb("status"); strings.Contains(out, "without old") {
		t.Errorf("status:\n%s", out)
	}

	// After a restart the proofs are known.
	d.stop()
	d.start()
	wantAnswers(t, "after a restart", d.answers(users[1], "secret2"), "12", "12", "235", "new-of-2")
}

// TestAuthorityCyrusCourier: Cyrus' proxy administrator is proven and used; Courier, which lets in and opens the master's own mailbox, is
// not, whatever is asked.
func TestAuthorityCyrusCourier(t *testing.T) {
	t.Parallel()
	courier, cyrus := lab.StartCourier(t), lab.StartCyrus(t)
	corpus.Load(t, cyrus.Host, 2, corpus.Mailbox(3, 1, 1, corpus.Options{Mean: 300, Plain: true}))
	routes := lab.User(1) + " old\n" + lab.User(2) + " new\n"
	// At Courier the master is a user like others: it opens his mailbox for everybody whom he asks for.
	d := newDoors(t, courier.Host, cyrus.Host, [2]string{" ", " "}, routes, "authority: {default: file, file: passwords}\n")
	d.write(filepath.Join(d.dir, "passwords"), lab.User(1)+":{PLAIN}secret\n"+lab.User(2)+":{PLAIN}secret\n")
	text := strings.Replace(mustRead(t, d.file), "master_user: "+lab.MasterUser+", master_password: master ", "master_user: "+lab.User(9)+", master_password: ninth ", 1)
	d.write(d.file, text)
	d.write(filepath.Join(d.dir, "ninth"), lab.Password(9)+"\n")
	fillInbox(t, courier.Host, 9, 7)
	d.start()
	defer d.stop()
	code, _, errOut := d.verb("probe", "backends", "--user", lab.User(1), "--user", lab.User(2))
	if code == 0 {
		t.Error("Courier's master login was proven")
	}
	wantAnswers(t, "on Courier", d.answers(lab.User(1), "secret"), "UNAVAILABLE", "[SYS/TEMP]", "454", "")
	wantAnswers(t, "on Cyrus ("+errOut+")", d.answers(lab.User(2), "secret"), "3", "3", "454", "")
}
