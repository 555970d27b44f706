package main

import (
	"encoding/base64"
	"os"
	"strings"
	"testing"
	"time"

	"mailgate/mailtest"
	"mailgate/op"
)

// TestFlipInEachState moves users by the routes file and a reload while each of them stands in another state of a protocol. Whatever was
// begun is ended where it was begun, each command has its answer, nothing of it comes to NEW, and the next login is there.
func TestFlipInEachState(t *testing.T) {
	t.Parallel()
	states := map[string]*flipState{}
	for i := range flipStates {
		s := &flipStates[i]
		if states[s.user()] != nil {
			t.Fatalf("two states of %s", s.user())
		}
		states[s.user()] = s
	}
	old, new := startScriptedHost(t, "old", states), startScriptedHost(t, "new", nil)
	routes := func(side string) (text string) {
		for i := range flipStates {
			text += flipStates[i].user() + " " + side + "\n"
		}
		return text
	}
	g := newGate(t, old.yaml(), new.yaml(), routes("old"), "flip: {deadline: 2m, hold: 2m, parallel: 100}\n")
	addr := map[string]string{"imap": g.imapPlain, "submission": g.smtp, "pop3": g.listener("pop3"), "sieve": g.listener("sieve")}
	text, err := os.ReadFile(g.file)
	must(t, err)
	g.write(g.file, strings.Replace(string(text), "watch: 100ms", "watch: 0s, approve_min: 1000", 1))
	g.start()
	defer g.stop()

	host := func(s *flipState) *mailtest.Script {
		return map[string]*mailtest.Script{"imap": old.imap, "pop3": old.pop3, "sieve": old.sieve, "submission": old.submission}[s.protocol]
	}
	fill := func(s *flipState, text string) string {
		d := flipDoors[s.protocol]
		plain := base64.StdEncoding.EncodeToString([]byte("\x00" + s.user() + "\x00pw"))
		return strings.NewReplacer("{user}", s.user(), "{plain}", plain).Replace(strings.NewReplacer("{bye}", d.bye, "{probe}", d.probe).Replace(text))
	}
	dial := func(s *flipState) *mailtest.Talk {
		k := mailtest.Dial(titled{t, s.user()}, addr[s.protocol], nil)
		k.Dialogue(flipDoors[s.protocol].hello)
		return k
	}
	talks := make([]*mailtest.Talk, len(flipStates))
	for i := range flipStates {
		s := &flipStates[i]
		k := dial(s)
		if s.in {
			k.Dialogue(fill(s, flipDoors[s.protocol].login))
		}
		k.Dialogue(fill(s, s.client))
		if s.slow || strings.Contains(s.old, "{at}") {
			host(s).Await("at " + s.user())
		}
		talks[i] = k
	}
	g.write(g.routes, routes("new"))
	g.run(0, "reload")
	for i := range flipStates {
		if s := &flipStates[i]; s.holds {
			g.waitDrain(s.user())
		} else {
			g.waitSide(s.user(), "new")
		}
	}
	for i := range flipStates {
		s := &flipStates[i]
		if s.holds { // it still does: nothing that came in between has let it go
			g.waitDrain(s.user())
		}
		host(s).Fire("go " + s.user())
		talks[i].Dialogue(fill(s, s.then))
	}
	for i := range flipStates {
		s := &flipStates[i]
		g.waitSide(s.user(), "new")
		dial(s).Dialogue(fill(s, flipDoors[s.protocol].login+"\n{probe}"))
	}
	if said := strings.Join(new.submission.Received(), "") + strings.Join(new.pop3.Received(), "") + strings.Join(new.sieve.Received(), "") +
		strings.Join(new.imap.Received(), ""); strings.Contains(said, "two@example.com") || strings.Contains(said, "DELE") || strings.Contains(said, "SETACTIVE") {
		t.Errorf("NEW was told what was said to OLD: %q", said)
	}
}

// waitDrain waits until a user's flip waits for his sessions.
func (g *gate) waitDrain(user string) {
	g.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		u, err := g.user(user)
		must(g.t, err)
		if u.State == op.Drain {
			return
		}
		if time.Now().After(end) {
			g.t.Fatalf("the flip of %s does not wait: %+v", user, u)
		}
	}
}

// titled puts a name before what goes wrong.
type titled struct {
	*testing.T
	name string
}

func (n titled) Errorf(format string, args ...any) {
	n.Helper()
	n.T.Errorf(n.name+": "+format, args...)
}

func (n titled) Fatalf(format string, args ...any) {
	n.Helper()
	n.T.Fatalf(n.name+": "+format, args...)
}
