package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailgate/admin"
	"mailgate/mailtest/lab"
)

// keptGate is a gate whose users 1 and 2 are in a wave that has started, 3 in one that has not.
func keptGate(t *testing.T, l *lab.Lab) *gate {
	g := syncGate(t, l, "")
	var routes strings.Builder
	for n := 1; n <= lab.Users; n++ {
		wave := "pilot"
		if n > 2 {
			wave = "later"
		}
		fmt.Fprintf(&routes, "%s old wave=%s\n", lab.User(n), wave)
	}
	g.write(g.routes, routes.String())
	g.write(g.file, strings.Replace(mustRead(t, g.file), "sync: {settle: 100ms", "sync: {waves: [pilot], poll: 2s, settle: 100ms", 1))
	return g
}

// until waits for something to become true.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}

// has tells whether a message of a subject is in INBOX.
func has(t *testing.T, h lab.Host, n int, subject string) bool {
	t.Helper()
	return subjects(t, h, lab.User(n), lab.Password(n))[subject] == 1
}

func deposit(t *testing.T, h lab.Host, n int, subject string) {
	t.Helper()
	c := lab.Dial(t, h, n)
	defer c.Close()
	c.Append("INBOX", "", "Subject: "+subject+"\r\nMessage-ID: <"+strings.ReplaceAll(subject, " ", ".")+"@example.com>\r\n\r\nhello\r\n")
}

// TestKept: serve brings the users of started waves together by itself, goes on after kill -9, heeds pauses, reloads and flips, and says
// how far it is; users of other waves it leaves alone.
func TestKept(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	g := keptGate(t, l)
	for n := 1; n <= 3; n++ {
		deposit(t, l.Old, n, "first")
	}
	g.start()
	for n := 1; n <= 2; n++ {
		until(t, "the first copy", func() bool { return has(t, l.New, n, "first") })
	}
	sync := func(n int) *admin.SyncStatus {
		t.Helper()
		u, err := g.user(lab.User(n))
		if err != nil {
			t.Fatal(err)
		}
		return u.Sync
	}
	until(t, "converged", func() bool { return sync(1).Phase == "converged" && !sync(1).Running })
	if s := sync(1); s.Messages != 1 || s.Error != "" {
		t.Errorf("status: %+v", s)
	}
	if s := sync(3); s != nil || has(t, l.New, 3, "first") {
		t.Errorf("a user whose wave has not started: %+v", s)
	}
	if out := g.mustVerb("status"); !strings.Contains(out, "2 users of the waves pilot: 2 converged") {
		t.Errorf("status says\n%s", out)
	}

	// What comes to either side later is carried.
	deposit(t, l.Old, 1, "second")
	deposit(t, l.New, 2, "straggler")
	until(t, "new mail", func() bool { return has(t, l.New, 1, "second") && has(t, l.Old, 2, "straggler") })

	// A pause holds, also over kill -9, and for him alone.
	if out := g.mustVerb("sync", "pause", lab.User(1), "--reason", "a backup runs"); !strings.Contains(out, lab.User(1)+" is paused") {
		t.Errorf("pause says %s", out)
	}
	g.kill()
	g.start()
	deposit(t, l.Old, 1, "third")
	deposit(t, l.Old, 2, "third")
	until(t, "the other user's mail", func() bool { return has(t, l.New, 2, "third") })
	if s := sync(1); s.Phase != "paused" || s.Paused == nil || s.Paused.Reason != "a backup runs" || has(t, l.New, 1, "third") {
		t.Errorf("paused: %+v", s)
	}
	if out := g.mustVerb("status", lab.User(1)); !strings.Contains(out, "paused, by ") || !strings.Contains(out, "a backup runs") {
		t.Errorf("status says\n%s", out)
	}
	g.mustVerb("sync", "resume", lab.User(1))
	until(t, "what came while he was paused", func() bool { return has(t, l.New, 1, "third") })
	if code, _, errOut := g.verb("sync", "resume", lab.User(1)); code != 2 || !strings.Contains(errOut, "nothing was paused so") {
		t.Errorf("resumed twice: exit %d, %s", code, errOut)
	}

	// What somebody asks for goes before what begins by itself.
	for range 10 {
		g.mustVerb("verify", lab.User(1))
	}

	// A wave starts by an edit and a reload.
	g.write(g.file, strings.Replace(mustRead(t, g.file), "waves: [pilot]", "waves: [pilot, later, nobody]", 1))
	g.mustVerb("reload")
	until(t, "the first copy of the other wave", func() bool { return has(t, l.New, 3, "first") })
	if out := g.mustVerb("status"); !strings.Contains(out, "nobody has no user in the routes file") {
		t.Errorf("status says\n%s", out)
	}

	// Behind a flip NEW decides.
	g.mustVerb("flip", lab.User(1), "new", "--yes")
	c := lab.Dial(t, l.New, 1)
	c.Do("SELECT INBOX")
	c.Do(`STORE 1 +FLAGS (\Deleted)`)
	c.Do("EXPUNGE")
	c.Close()
	until(t, "a delete on NEW", func() bool { return !has(t, l.Old, 1, "first") && has(t, l.Old, 1, "third") })
	paused := regexp.MustCompile(`sync paused +cli: .* control socket, pid \d+, uid .* a backup runs`)
	if out := g.mustVerb("history", lab.User(1)); !strings.Contains(out, "first copy done") || !paused.MatchString(out) {
		t.Errorf("history says\n%s", out)
	}
}

// TestKeptWithoutNew: NEW is down. OLD's users do not notice, status says it and what to do, and when it is back all is made up for.
func TestKeptWithoutNew(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	g := keptGate(t, l)
	real := fmt.Sprintf("imap://127.0.0.1:%d", l.New.IMAP)
	text := mustRead(t, g.file)
	g.write(g.file, strings.Replace(text, real, "imap://127.0.0.1:9", 1))
	deposit(t, l.Old, 1, "first")
	g.start()
	failing := func() *admin.SyncStatus {
		u, err := g.user(lab.User(1))
		if err != nil {
			t.Fatal(err)
		}
		return u.Sync
	}
	until(t, "failing", func() bool { return failing().Phase == "failing" })
	if s := failing(); !strings.Contains(s.Error, "new") || !strings.Contains(s.Do, "tried again by itself") || s.Next.IsZero() {
		t.Errorf("status: %+v", s)
	}
	c, err := g.dial(lab.User(1), lab.Password(1))
	if err != nil {
		t.Fatalf("a login on OLD while NEW is down: %v", err)
	}
	_ = c.Logout().Wait()
	g.write(g.file, text)
	g.mustVerb("reload")
	until(t, "the first copy", func() bool { return has(t, l.New, 1, "first") })
	until(t, "converged", func() bool { return failing().Phase == "converged" })
	if out := g.mustVerb("history", lab.User(1)); !strings.Contains(out, "sync is failing") || !strings.Contains(out, "sync works again") {
		t.Errorf("history says\n%s", out)
	}
}
