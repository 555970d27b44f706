package main

import (
	"net/url"
	"testing"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/logins"
)

// TestJudged: what a side says of anything but the password is no refusal of it; a password that it refuses is one when the other side has
// taken it, and then the user is not ready.
func TestJudged(t *testing.T) {
	t.Parallel()
	const alice = "alice@example.com"
	m := newMemory(t, alice)
	g := m.serve()
	m.login(g, alice)
	crowded := &backend.Error{Kind: backend.AuthFailed, Reply: "Maximum number of connections from user+IP exceeded"}
	no := &backend.Error{Kind: backend.AuthFailed, Code: "AUTHENTICATIONFAILED", Reply: "Authentication failed."}
	for range 3 {
		g.syncing.judged(alice, config.New, config.IMAP, "a", crowded)
	}
	g.syncing.judged(alice, config.New, config.IMAP, "b", no) // never worked
	g.syncing.judged(alice, config.New, config.IMAP, "a", no)
	refusals := func() []logins.Refusal {
		list, err := g.store.Refusals(t.Context(), alice)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	until(t, "the refusal", func() bool { return len(refusals()) == 1 })
	if r := refusals()[0]; r.Count != 1 || r.Side != config.New || r.Protocol != config.IMAP {
		t.Errorf("%+v", r)
	}
	v, err := g.syncing.Sync(t.Context(), "ready", url.Values{}, func(any) {})
	if err != nil {
		t.Fatal(err)
	}
	if out := v.(NotReady); len(out.NotReady) != 1 || out.Reasons[logins.Refused] != 1 || out.Ready != 0 || out.NotReady[0].Refused != 1 {
		t.Errorf("%+v", out)
	}
	g.syncing.judged(alice, config.New, config.IMAP, "c", nil)
	until(t, "that it is over", func() bool { return len(refusals()) == 0 })
}
