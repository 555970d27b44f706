package syncer

import (
	"context"
	"errors"
	"sync"
	"time"

	"mailgate/backend"
)

// What NOTIFY is asked for, the most first: servers refuse what they do not know (BADEVENT, RFC 5465, section 5).
var notifySpecs = [...]string{ //nolint:gochecknoglobals // a constant
	"SET (personal (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange))",
	"SET (personal (MessageNew MessageExpunge FlagChange MailboxName))",
	"SET (personal (MessageNew MessageExpunge FlagChange))",
	"SET (personal (MessageNew MessageExpunge))",
}

// Classes of trouble with a watch. The others are named by the step of a login, or the code of a refusal.
const (
	classDeaf    = "deaf"    // no NOTIFY, no IDLE
	classRefused = "refused" // the login, and trying again soon may lock the user out
	classLost    = "lost"    // the connection
	classCrowded = "crowded" // passes need the connections that there are
	classDefect  = "defect"  // ours
)

// errDeaf means that the server does not tell of changes by itself.
var errDeaf = errors.New("the server has neither NOTIFY nor IDLE")

// classOf names the kind of trouble, so that it is logged once.
func classOf(err error) string {
	var login *backend.Error
	var status *backend.StatusError
	switch {
	case errors.Is(err, errDeaf):
		return classDeaf
	case errors.Is(err, ErrCrowded):
		return classCrowded
	case errors.As(err, &login) && login.Kind != backend.Temporary:
		return classRefused
	case errors.As(err, &login):
		return string(login.Step)
	case stackOf(err) != nil:
		return classDefect
	case errors.As(err, &status):
		return status.Command + " " + status.Status + " " + status.Code.Name
	}
	return classLost
}

// stackOf is where a defect was, nil when err is of another kind.
func stackOf(err error) []byte {
	var here *PanicError
	var there *backend.DefectError
	switch {
	case errors.As(err, &here):
		return here.Stack
	case errors.As(err, &there):
		return there.Stack
	}
	return nil
}

// listen logs in and hears what the server tells until ctx or the connection ends. Its error is never nil.
func (w *Watcher) listen(ctx context.Context, u *watched) error {
	s, ok := w.o.Budget.more(u.side, u.user)
	for !ok && w.o.Budget.busy(u.side, u.user) {
		if err := pause(ctx, 1); err != nil {
			return err
		}
		s, ok = w.o.Budget.more(u.side, u.user)
	}
	if !ok {
		return ErrCrowded
	}
	c, err := w.login(ctx, u)
	if err != nil {
		s.refused(err)
		s.release()
		return err
	}
	defer logout(context.WithoutCancel(ctx), []pooled{{c, s}})
	s.connected(true)
	s.spare(func() { _ = c.Close() })
	// Who waits for a server that says nothing more, when ctx ends, is helped out of it.
	over := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(over)
	wg.Go(func() {
		select {
		case <-ctx.Done():
			t := time.NewTimer(logoutTime)
			defer t.Stop()
			select {
			case <-t.C:
				_ = c.Close()
			case <-over:
			}
		case <-over:
		}
	})
	return w.hear(ctx, u, c)
}

// login is one of few at a time.
func (w *Watcher) login(ctx context.Context, u *watched) (*backend.Client, error) {
	select {
	case w.logins[u.side] <- struct{}{}:
		defer func() { <-w.logins[u.side] }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return w.o.Open(ctx, u.side, u.user)
}

// hear asks the server to tell, in the best way that it knows.
func (w *Watcher) hear(ctx context.Context, u *watched, c *backend.Client) error {
	hint := func() { w.o.Hint(u.user) }
	c.SetUntagged(backend.Untagged{Exists: func(uint32) { hint() }, Expunge: func(uint32) { hint() }, Vanished: func(backend.Range) { hint() },
		Fetch: func(*backend.Message) { hint() }, Status: func(backend.Status) { hint() }, List: func(backend.ListEntry) { hint() }})
	if c.Has("NOTIFY") && c.Has("CONDSTORE") {
		c.Enable("CONDSTORE") // else FlagChange tells of \Seen only; nobody waits for the answer
	}
	var refused *backend.StatusError
	for _, spec := range notifySpecs {
		err := c.Notify(ctx, spec)
		switch {
		case err == nil:
			w.stands(u, "NOTIFY")
			return w.notified(ctx, c, spec)
		case errors.Is(err, backend.ErrNoNotify):
		case !errors.As(err, &refused) || refused.Status == "BYE":
			return err
		default:
			continue
		}
		break
	}
	if !c.Has("IDLE") {
		return errDeaf
	}
	if _, err := c.Select("INBOX", backend.SelectOptions{ReadOnly: true}).Result(ctx); err != nil {
		return err
	}
	w.stands(u, "IDLE")
	if err := c.Idle(ctx); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// notified waits while the server tells. NOTIFY is asked for anew now and then: so the server does not end a connection on which
// nothing is said, one that is dead is found out, and a server that has given up (NOTIFICATIONOVERFLOW) begins again.
func (w *Watcher) notified(ctx context.Context, c *backend.Client, spec string) error {
	t := time.NewTicker(w.o.Renew)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.Done():
			return c.Err()
		case <-t.C:
			if err := c.Notify(ctx, spec); err != nil {
				return err
			}
		}
	}
}
