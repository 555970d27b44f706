package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
	"mailgate/syncer"
)

// life is a test user's whole life, for real: mail is put in, he is moved, it is changed, he goes back, and both sides are compared.
type life struct {
	User  string     `json:"user"`
	Steps []lifeStep `json:"steps"`
	Flags string     `json:"flags,omitempty"` // why flags are not shown
	Error string     `json:"error,omitempty"` // what did not go as it should; the steps say how far it came
}

// lifeStep is one thing that was shown.
type lifeStep struct {
	What    string  `json:"what"`
	Seconds float64 `json:"seconds"`
}

// lifeTime bounds a test user's life.
const lifeTime = 10 * time.Minute

// live leads a test user's life. However it ends he is on OLD again, if that can be.
func (s *syncing) live(ctx context.Context, user, by, from string, tell func(what string)) (l life) {
	l.User = user
	ctx, cancel := context.WithTimeout(ctx, lifeTime)
	defer cancel()
	one, two := "mailgate-rehearsal-"+rand.Text()+"@mailgate.invalid", "mailgate-rehearsal-"+rand.Text()+"@mailgate.invalid"
	step := func(what string, f func() error) bool {
		if l.Error != "" {
			return false
		}
		tell(what)
		began := time.Now()
		if err := f(); err != nil {
			l.Error = what + ": " + strings.ReplaceAll(err.Error(), "\n", "; ")
			return false
		}
		l.Steps = append(l.Steps, lifeStep{what, time.Since(began).Seconds()})
		return true
	}
	if p, _ := s.g.router.Lookup(user); p.Side != config.Old {
		l.Error = "he is on new: a test user begins on old"
		return l
	}
	moved := false
	defer func() {
		if p, _ := s.g.router.Lookup(user); moved && p.Side == config.New { // a step in between failed
			back, end := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer end()
			if err := s.flipFor(back, user, config.Old, by, from); err != nil {
				l.Error += "; and he is on new still: mailgate rollback " + user
			}
		}
	}()
	flag := `\Flagged`
	step("he can be reached on both sides", func() error {
		for _, side := range config.Sides {
			keeps := false
			if err := s.inbox(ctx, side, user, func(_ *backend.Client, sel *backend.Selected) error { keeps = sel.CanKeep(flag); return nil }); err != nil {
				return err
			}
			if !keeps {
				l.Flags = side.String() + " does not say that it keeps " + flag
			}
		}
		if l.Flags != "" {
			flag = ""
		}
		return nil
	})
	step("a message is put into his INBOX on old", func() error { return s.put(ctx, config.Old, user, one) })
	step("he is moved to new", func() error { moved = true; return s.flipFor(ctx, user, config.New, by, from) })
	step("the message is on new, once", func() error { return s.has(ctx, config.New, user, one, "") })
	step("on new it is flagged, and another message comes", func() error {
		return errors.Join(s.flag(ctx, config.New, user, one), s.put(ctx, config.New, user, two))
	})
	step("he is rolled back to old", func() error { return s.flipFor(ctx, user, config.Old, by, from) })
	step("both messages are on old, once, with what was changed", func() error {
		return errors.Join(s.has(ctx, config.Old, user, one, flag), s.has(ctx, config.Old, user, two, ""))
	})
	step("both sides are equal", func() error {
		y := s.syncer()
		defer y.Close()
		u, leave, err := s.enter(ctx, user, false)
		if err != nil {
			return err
		}
		defer leave()
		if _, err := s.pass(u, y, user, syncer.RunOptions{}, by, from); err != nil {
			return err
		}
		v, err := y.Verify(u.ctx, user, syncer.VerifyOptions{})
		if err == nil && !v.Equal {
			err = errors.New(v.Verdict())
		}
		return err
	})
	step("the two messages are deleted again", func() error {
		return errors.Join(s.remove(ctx, config.Old, user, one), s.remove(ctx, config.Old, user, two))
	})
	return l
}

// flipFor moves a test user, and waits for the end.
func (s *syncing) flipFor(ctx context.Context, user string, to config.Side, by, from string) error {
	o, err := s.g.manager().Ask(ctx, op.Operation{User: user, Target: to, By: by, From: "a rehearsal, " + from, Pin: to == config.New})
	if err != nil {
		return err
	}
	if o, err = s.g.manager().Wait(ctx, o.ID); err != nil {
		return err
	}
	if o.Status != op.Done {
		return fmt.Errorf("%s %s: %s", o.ID, o.Status, o.Reason)
	}
	return nil
}

// inbox does something in the INBOX of a side, past the gateway.
func (s *syncing) inbox(ctx context.Context, side config.Side, user string, f func(c *backend.Client, sel *backend.Selected) error) error {
	c, err := s.accounts.open(ctx, side, user)
	if err != nil {
		return err
	}
	defer c.Close()
	sel, err := c.Select("INBOX", backend.SelectOptions{}).Result(ctx)
	if err != nil {
		return err
	}
	return f(c, sel)
}

func (s *syncing) put(ctx context.Context, side config.Side, user, id string) error {
	text := fmt.Sprintf("From: mailgate <%[1]s>\r\nTo: %[1]s\r\nSubject: rehearsal of a move: this may be deleted\r\nMessage-ID: <%[2]s>\r\nDate: %[3]s\r\n\r\n"+
		"mailgate has put this message here to show that it comes through a move and back.\r\n", user, id, time.Now().Format(time.RFC1123Z))
	return s.inbox(ctx, side, user, func(c *backend.Client, _ *backend.Selected) error {
		a := c.Append(ctx, "INBOX")
		w, err := a.Next(ctx, backend.AppendMessage{Date: time.Now(), Size: int64(len(text))})
		if err == nil {
			_, _ = io.WriteString(w, text) // Finish tells of its error
		}
		_, ended := a.Finish().Result(ctx)
		return errors.Join(err, ended)
	})
}

// find gives the UIDs of the messages with an ID.
func find(ctx context.Context, c *backend.Client, id string) (uids []uint32, err error) {
	err = c.Search(`HEADER Message-ID "`+id+`"`, func(r backend.Range) {
		for u := r.First; u <= r.Last; u++ {
			uids = append(uids, u)
		}
	}).Wait(ctx)
	return uids, err
}

// has looks that a message is there once, with a flag if one is named.
func (s *syncing) has(ctx context.Context, side config.Side, user, id, flag string) error {
	return s.inbox(ctx, side, user, func(c *backend.Client, _ *backend.Selected) error {
		uids, err := find(ctx, c, id)
		if err != nil {
			return err
		}
		if len(uids) != 1 {
			return fmt.Errorf("a message that was put in is there %d times on %s", len(uids), side)
		}
		flags := ""
		err = c.Fetch(strconv.FormatUint(uint64(uids[0]), 10), backend.FetchOptions{Items: []string{"FLAGS"}, Message: func(m *backend.Message) error {
			flags += string(m.Flags)
			return nil
		}}).Wait(ctx)
		if err == nil && !strings.Contains(strings.ToLower(flags), strings.ToLower(flag)) {
			err = fmt.Errorf("the message has not the flag %s on %s (%s)", flag, side, flags)
		}
		return err
	})
}

func (s *syncing) flag(ctx context.Context, side config.Side, user, id string) error {
	return s.store(ctx, side, user, id, `\Flagged`, false)
}

func (s *syncing) remove(ctx context.Context, side config.Side, user, id string) error {
	return s.store(ctx, side, user, id, `\Deleted`, true)
}

func (s *syncing) store(ctx context.Context, side config.Side, user, id, flag string, expunge bool) error {
	return s.inbox(ctx, side, user, func(c *backend.Client, _ *backend.Selected) error {
		uids, err := find(ctx, c, id)
		for _, uid := range uids {
			set := strconv.FormatUint(uint64(uid), 10)
			err = errors.Join(err, c.Store(set, backend.StoreOptions{Add: []string{flag}}).Wait(ctx))
			if expunge && c.Has("UIDPLUS") { // plain EXPUNGE would take the user's own too
				err = errors.Join(err, c.Expunge(set).Wait(ctx))
			}
		}
		return err
	})
}

// refusalOf splits what stands in the way into why and what to do.
func refusalOf(err error) (why, do string) {
	var no *cutover.Refusal
	if errors.As(err, &no) {
		return no.Why, no.Do
	}
	return err.Error(), ""
}
