package backend

import (
	"errors"
	"io"
	"testing"
)

// TestWrongMailbox: a server that refuses to open a mailbox and leaves the one before open is not believed what it says of that one to
// commands that were under way for the new one.
func TestWrongMailbox(t *testing.T) {
	c := played(t, "IMAP4rev1", func(p *peer) {
		p.say("%s OK [READ-ONLY] open\n", p.want(`EXAMINE "one"`))
		closed := p.want(`EXAMINE "two"`)
		fetch := p.want("UID FETCH 1 (UID BODY.PEEK[])")
		p.say("%s BAD busy\n", closed)
		p.say("* 1 FETCH (UID 1 BODY[] {3}\none)\n%s OK done\n", fetch)
		p.say("%s OK [READ-ONLY] open\n", p.want(`EXAMINE "two"`))
		fetch = p.want("UID FETCH 1 (UID BODY.PEEK[])")
		p.say("* 1 FETCH (UID 1 BODY[] {3}\ntwo)\n%s OK done\n", fetch)
	})
	var bodies []string
	body := FetchOptions{Items: []string{"BODY.PEEK[]"}, Body: func(_ *Message, _ string, _ int64, r io.Reader) error {
		b, err := io.ReadAll(r)
		bodies = append(bodies, string(b))
		return err
	}}
	if err := c.Select("one", SelectOptions{ReadOnly: true}).Wait(ctx(t)); err != nil {
		t.Fatal(err)
	}
	open, fetch := c.Select("two", SelectOptions{ReadOnly: true}), c.Fetch("1", body)
	var s *StatusError
	if err := open.Wait(ctx(t)); !errors.As(err, &s) {
		t.Fatalf("opened: %v", err)
	}
	if err := fetch.Wait(ctx(t)); !errors.As(err, &s) || s.Command != "EXAMINE" {
		t.Errorf("the fetch ended with %v", err)
	}
	if len(bodies) > 0 {
		t.Errorf("took %q for mail of another mailbox", bodies)
	}
	open, fetch = c.Select("two", SelectOptions{ReadOnly: true}), c.Fetch("1", body)
	if err := errors.Join(open.Wait(ctx(t)), fetch.Wait(ctx(t))); err != nil || len(bodies) != 1 || bodies[0] != "two" {
		t.Errorf("afterwards %v, %q", err, bodies)
	}
}
