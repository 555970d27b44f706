package syncer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mailgate/backend"
)

// WrongMailboxError means that a login on behalf of one user opened another's mailbox, and was answered OK (Courier ignores
// the authorization identity of PLAIN and opens the mailbox of who authenticates).
type WrongMailboxError struct{ A, B string }

// Error implements error.
func (e *WrongMailboxError) Error() string {
	return fmt.Sprintf("the login for %s and the login for %s opened the same mailbox: this server does not open the mailbox of the user "+
		"who is asked for, so a master login must not be used here", e.A, e.B)
}

// ProveMaster tells two users' mailboxes apart: a marker that is put into a's must be seen by a second login for a, and
// not by one for b. The error is a *WrongMailboxError when b's login sees it. The marker is removed again in any case.
func ProveMaster(ctx context.Context, open func(ctx context.Context, user string) (*backend.Client, error), a, b string) (err error) {
	if a == b {
		return fmt.Errorf("a master login is proven with two users, not with %s alone", a)
	}
	name, err := newScratch(time.Now())
	if err != nil {
		return err
	}
	r := &prober{open: func(ctx context.Context) (*backend.Client, error) { return open(ctx, a) }, p: &Profile{}}
	defer func() { err = errors.Join(err, r.end(ctx)) }()
	if err := r.begin(ctx, name, time.Now()); err != nil {
		return err
	}
	if _, err := append1(ctx, r.c, r.box, specimen{date: ordinaryDate,
		body: "From: probe@example.com\r\nSubject: " + name + "\r\n\r\nIt shows whose mailbox a login opens. It may be deleted.\r\n"}); err != nil {
		return fmt.Errorf("the marker: %w", err)
	}
	for _, user := range []string{a, b} {
		seen, err := sees(ctx, open, user, r.box)
		switch {
		case err != nil:
			return fmt.Errorf("the login for %s: %w", user, err)
		case seen && user == b:
			return &WrongMailboxError{A: a, B: b}
		case !seen && user == a:
			return fmt.Errorf("a second login for %s does not see what the first one stored: nothing is proven", a)
		}
	}
	return nil
}

// sees tells whether a login for user finds the marker.
func sees(ctx context.Context, open func(ctx context.Context, user string) (*backend.Client, error), user, box string) (seen bool, err error) {
	c, err := open(ctx, user)
	if err != nil {
		return false, err
	}
	defer func() {
		_ = c.Logout(ctx)
		_ = c.Close()
	}()
	err = c.List(ctx, backend.ListOptions{Pattern: box}, func(e backend.ListEntry) error {
		seen = seen || e.Name == box
		return nil
	})
	return seen, err
}
