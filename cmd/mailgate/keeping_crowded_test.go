package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/mailtest/people"
)

// TestKeptWithFewConnections: OLD is a Courier as it comes, which allows four connections from one address and closes the fifth without a
// word. Nobody has told mailgate. It finds out, brings everybody's mailboxes together with what there is, calls nobody failing, and
// leaves room for those who log in.
func TestKeptWithFewConnections(t *testing.T) {
	t.Parallel()
	l := &lab.Lab{Old: lab.StartCourier(t, "MAXPERIP=4").Host, New: lab.StartCyrus(t).Host}
	g := keptGate(t, l)
	text := mustRead(t, g.file)
	text = strings.Replace(text, "poll: 2s", "passes: 6, poll: 1s", 1)
	g.write(g.file, strings.Replace(text, `"]`+"\ntls:", fmt.Sprintf(`", "imap://%s"]`+"\ntls:", g.imapPlain), 1))
	const users = 8
	var routes strings.Builder
	for n := 1; n <= users; n++ {
		fmt.Fprintf(&routes, "%s old wave=pilot\n", lab.User(n))
		corpus.Load(t, l.Old, n, corpus.Mailbox(60, 6, uint64(n), corpus.Options{Mean: 2000, Plain: true}))
	}
	g.write(g.routes, routes.String())
	g.start()
	limits := func() (v SyncLimits) {
		if err := json.Unmarshal([]byte(g.mustVerb("sync", "limits", "-o", "json")), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	learned := func() bool {
		for _, u := range limits().Sides[config.Old].Hosts {
			if u.Learned > 4 || u.Open > 4 {
				t.Fatalf("%+v", u)
			}
			if u.Learned > 0 {
				return true
			}
		}
		return false
	}
	phases := func() (converged int) {
		for n := 1; n <= users; n++ {
			u, err := g.user(lab.User(n))
			if err != nil || u.Sync == nil {
				t.Fatalf("%+v, %v", u, err)
			}
			switch u.Sync.Phase {
			case "failing":
				t.Fatalf("%s is called failing: %+v", lab.User(n), u.Sync)
			case "converged":
				converged++
			}
		}
		return converged
	}
	until(t, "what the host allows is known", learned)

	// People log in, two at a time, while first copies and later passes are made.
	refused, logins := 0, 0
	var sessions []*people.Desk
	for end := time.Now().Add(5 * time.Minute); phases() < users || logins < 60; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d are converged within five minutes\n%s", phases(), users, g.mustVerb("sync", "limits"))
		}
		n := 1 + logins%users
		logins++
		d, err := people.Sit(g.imapPlain, n)
		if err != nil {
			t.Log(err)
			refused++
			continue
		}
		if err := d.Put("INBOX", "", time.Now(), fmt.Appendf(nil, "Subject: later %d\r\n\r\nhello\r\n", logins)); err != nil {
			t.Errorf("%s: %v", lab.User(n), err)
		}
		if sessions = append(sessions, d); len(sessions) == 2 {
			sessions[0].Leave()
			sessions = sessions[1:]
		}
	}
	if refused > logins/20 {
		t.Errorf("%d of %d logins were refused", refused, logins)
	}
	for _, d := range sessions {
		d.Leave()
	}

	// In a quiet hour, when all connections may be taken by those who listen for changes, somebody logs in.
	g.kill() // and nothing is known any more
	g.start()
	until(t, "what the host allows is known again", learned)
	time.Sleep(2 * watchEvery)
	for tries := 1; ; tries++ {
		d, err := people.Sit(g.imapPlain, 1)
		if err == nil {
			d.Leave()
			break
		}
		t.Log(err)
		if tries == 3 {
			t.Fatalf("nobody can log in: %v\n%s", err, g.mustVerb("sync", "limits"))
		}
		time.Sleep(time.Second)
	}
	if phases() != users {
		t.Error("not everybody is converged")
	}

	// Courier tells of mail once a minute, or asks a daemon that is not there: looks find it sooner.
	for n := 1; n <= 2; n++ {
		file := filepath.Join(l.Old.Home(n), "Maildir", "new", fmt.Sprintf("%d.%d.mx", time.Now().Unix(), n))
		text := "Subject: by the transfer agent\nMessage-ID: <by.mta@example.com>\n\nhello\n"
		if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.Chown(file, l.Old.MailID, l.Old.MailID)); err != nil {
			t.Fatal(err)
		}
		until(t, "mail that the transfer agent has brought to Courier", func() bool { return has(t, l.New, n, "by the transfer agent") })
	}
	g.stop()
}
