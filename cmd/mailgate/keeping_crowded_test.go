package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/mailtest/people"
)

// TestKeptWithFewConnections: OLD is a Courier as it comes, which allows four connections from one address and closes the fifth without a
// word. Nobody has told mailgate. It finds out, brings everybody's mailboxes together with what there is, calls nobody failing, and
// leaves room for those who log in.
func TestKeptWithFewConnections(t *testing.T) {
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
	refused, logins := 0, 0
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
	// People log in while first copies and later passes are made.
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		n := 1 + logins%users
		logins++
		d, err := people.Sit(g.imapPlain, n)
		if err != nil {
			t.Log(err)
			refused++
		} else {
			if _, err := d.Do("SELECT INBOX"); err != nil {
				t.Errorf("%s: %v", lab.User(n), err)
			}
			d.Leave()
		}
		if phases() == users && logins >= 30 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d are converged within a minute\n%s", phases(), users, g.mustVerb("sync", "limits"))
		}
	}
	t.Logf("%d of %d logins were refused", refused, logins)
	var v SyncLimits
	if err := json.Unmarshal([]byte(g.mustVerb("sync", "limits", "-o", "json")), &v); err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", v)

	g.stop()
}
