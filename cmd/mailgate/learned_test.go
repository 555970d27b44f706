package main

import (
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailgate/backend"
	"mailgate/learned"
	"mailgate/store"
)

// learns lets a memory learn passwords: OLD is the one in memory, NEW at an address.
func (m *memory) learns(new string) {
	m.t.Helper()
	if _, err := learned.WriteKey(filepath.Join(m.dir, "learn.key"), time.Now()); err != nil {
		m.t.Fatal(err)
	}
	text := strings.ReplaceAll(mustRead(m.t, m.dir+"/mailgate.yaml"), "sync: {secrets: secrets}", "sync: {learned: true}")
	m.write("mailgate.yaml", strings.Replace(text, m.hosts[1].IMAP, new, 1)+"login: {learn: {key: learn.key}}\n")
}

// login logs in through a gateway, with the password that hosts in memory know, and out.
func (m *memory) login(g *gateway, user string) {
	m.t.Helper()
	c := rawDial(m.t, g.proxy.Addrs()[0].String(), false)
	c.until(m.t, "* OK")
	c.send(m.t, "a LOGIN "+user+" "+user[:1]+"\r\nb LOGOUT\r\n")
	c.until(m.t, "a OK")
	c.until(m.t, "b OK")
	c.Close()
}

// secrets is secrets list.
func (m *memory) secrets(g *gateway) SecretsList {
	m.t.Helper()
	v, err := g.syncing.Sync(m.t.Context(), "secrets", url.Values{"action": {"list"}}, func(any) {})
	if err != nil {
		m.t.Fatal(err)
	}
	return v.(SecretsList)
}

// TestLearnedRefused: NEW refuses the password that was learned on OLD. It is shown to NEW once, however often passes begin, by
// themselves, by verbs and behind reloads; status says so, and what to do.
func TestLearnedRefused(t *testing.T) {
	const alice = "alice@example.com"
	h := newOAuthHost(t, "AUTH=PLAIN", "NO [AUTHENTICATIONFAILED] no")
	m := newMemory(t, alice)
	m.learns(h.l.Addr().String())
	m.keeps("")
	g := m.serve()
	m.login(g, alice)
	until(t, "the refusal", func() bool {
		s := g.syncing.Status(alice)
		return s != nil && strings.Contains(s.Error, "is refused by NEW") && strings.Contains(s.Do, "mailgate secrets retry "+alice)
	})
	for range 5 {
		if _, err := g.Reload(t.Context(), "test", ""); err != nil {
			t.Fatal(err)
		}
		_, err := m.ask(g, "run", alice)
		var e exitError
		if !errors.As(err, &e) || e.code != exitRefused || !strings.Contains(err.Error(), "not tried again until he logs in with another one") {
			t.Errorf("sync run: %v", err)
		}
		m.login(g, alice)
	}
	h.mu.Lock()
	if n := len(h.tried); n != 1 {
		t.Errorf("shown to NEW %d times", n)
	}
	h.mu.Unlock()
	l := m.secrets(g)
	if len(l.Passwords) != 1 || stateWords(l.Passwords[0], l) != "refused by NEW" || l.Passwords[0].State != learned.Usable {
		t.Errorf("%+v", l)
	}
	if events := m.events(g, alice); strings.Count(strings.Join(events, " "), "learned password refused") != 1 {
		t.Errorf("history: %q", events)
	}

	// Somebody says that NEW was wrong: it is tried once more, by itself.
	if code, errOut := m.run("secrets", "retry", alice); code != exitOK {
		t.Errorf("secrets retry: %d %s", code, errOut)
	}
	until(t, "one try more", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.tried) == 2
	})
	until(t, "the refusal", func() bool { l := m.secrets(g); return stateWords(l.Passwords[0], l) == "refused by NEW" })
	if code, _ := m.run("secrets", "retry", "--all"); code != exitOK {
		t.Errorf("secrets retry --all: %d", code)
	}
	until(t, "one try more", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.tried) == 3
	})
}

// TestLearnedTrouble: a host that is in trouble has refused nothing. It is tried again, and what it says is told.
func TestLearnedTrouble(t *testing.T) {
	const alice = "alice@example.com"
	h := newOAuthHost(t, "AUTH=PLAIN", "NO Maximum number of connections from user+IP exceeded")
	m := newMemory(t, alice)
	m.learns(h.l.Addr().String())
	g := m.serve()
	m.login(g, alice)
	until(t, "the password is known", func() bool { return len(m.secrets(g).Passwords) == 1 })
	for range 3 {
		if _, err := m.ask(g, "plan", alice); err == nil || notLearned(err) || !strings.Contains(err.Error(), "Maximum number of connections") {
			t.Errorf("%v", err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.tried) < 3 {
		t.Errorf("tried %d times", len(h.tried))
	}
	if l := m.secrets(g); stateWords(l.Passwords[0], l) != "usable" {
		t.Errorf("%+v", l)
	}
}

// TestLearnedLive: a reload turns learning on and off while users log in, without a restart.
func TestLearnedLive(t *testing.T) {
	const alice, bob = "alice@example.com", "bob@example.com"
	m := newMemory(t, alice, bob)
	off := mustRead(t, m.dir+"/mailgate.yaml")
	g := m.serve()
	m.login(g, alice)
	reload := func() {
		t.Helper()
		r, err := g.Reload(t.Context(), "test", "")
		if err != nil || len(r.Restart) > 0 {
			t.Fatal(err, r.Restart)
		}
	}
	m.learns(m.hosts[1].IMAP)
	reload()
	if l := m.secrets(g); !l.On || len(l.UsedBy) != 2 || len(l.Passwords) != 0 {
		t.Errorf("learned while it was off: %+v", l)
	}
	m.deliver(0, alice, 2)
	m.login(g, alice)
	until(t, "the password is known", func() bool { return len(m.secrets(g).Passwords) == 1 })
	if _, err := m.ask(g, "run", alice); err != nil {
		t.Error(err)
	}

	// A key that is none changes nothing.
	key := mustRead(t, m.dir+"/learn.key")
	m.write("learn.key", key[:len(key)-2]+"\n")
	if _, err := g.Reload(t.Context(), "test", ""); err == nil || !strings.Contains(err.Error(), "does not hold one age identity") {
		t.Errorf("%v", err)
	}
	if code, errOut := m.run("config", "check"); code != exitRefused || !strings.Contains(errOut, "does not hold one age identity") {
		t.Errorf("config check: %d %s", code, errOut)
	}
	m.write("learn.key", key)

	m.write("mailgate.yaml", off)
	reload()
	m.login(g, bob)
	l := m.secrets(g)
	if l.On || len(l.Passwords) != 1 || stateWords(l.Passwords[0], l) != "not used: login.learn.key is not set" {
		t.Errorf("%+v", l)
	}
	if _, err := m.ask(g, "run", alice); err != nil { // by the file again
		t.Error(err)
	}
}

// TestRefusedPassword: what a server says of the password is a refusal, what it says of anything else is not.
func TestRefusedPassword(t *testing.T) {
	for _, x := range []struct {
		err  error
		want bool
	}{
		{&backend.Error{Kind: backend.AuthFailed, Code: "AUTHENTICATIONFAILED", Reply: "no"}, true},
		{&backend.Error{Kind: backend.AuthFailed, Code: "AUTHENTICATIONFAILED", Reply: "connection refused by the directory"}, true},
		{&backend.Error{Kind: backend.AuthFailed, Reply: "Login failed."}, true},
		{&backend.Error{Kind: backend.AuthFailed, Reply: "Too many open connections (5 of 5 for user33)"}, false},
		{&backend.Error{Kind: backend.AuthFailed, Code: "ALERT", Reply: "Maximum connection limit reached"}, false},
		{&backend.Error{Kind: backend.Temporary, Code: "UNAVAILABLE", Reply: "later"}, false},
		{&backend.Error{Kind: backend.Refused, Code: "PRIVACYREQUIRED", Reply: "TLS first"}, false},
		{errors.New("connection reset"), false},
	} {
		if got := refusedPassword(x.err); got != x.want {
			t.Errorf("%v: %v", x.err, got)
		}
	}
}

// TestForgetWhileRead: while somebody reads the store the verb erases, and says that something may be left.
func TestForgetWhileRead(t *testing.T) {
	t.Parallel()
	const alice = "alice@example.com"
	m := newMemory(t, alice)
	m.learns(m.hosts[1].IMAP)
	g := m.serve()
	m.login(g, alice)
	until(t, "the password is known", func() bool { return len(m.secrets(g).Passwords) == 1 })
	look, err := store.Look(t.Context(), m.dir+"/state.db")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := look.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	code, errOut := m.run("secrets", "forget", alice)
	if code != exitPartly || !strings.Contains(errOut, "something may be left in the files of the store") || len(m.secrets(g).Passwords) != 0 {
		t.Errorf("%d %s", code, errOut)
	}
	if err := look.Close(); err != nil {
		t.Fatal(err)
	}
	if code, errOut := m.run("secrets", "forget", alice); code != exitDifference {
		t.Errorf("%d %s", code, errOut)
	}
}
