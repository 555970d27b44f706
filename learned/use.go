package learned

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// UnknownError means that no password of a user is known that may be tried at a side.
type UnknownError struct {
	User  string
	Side  config.Side
	Since time.Time // he has not logged in since then, as far as is known; zero where nothing is

	Elsewhere bool // a password is known of the other side, which is none of this one's business
}

// NoLogin marks the error as one of there being no credentials.
func (e *UnknownError) NoLogin() {}

// Error is in plain words.
func (e *UnknownError) Error() string {
	text, his := "he has not logged in", "his password"
	if e.Elsewhere {
		text, his = text+" on "+strings.ToUpper(e.Side.String()), his+" there"
	}
	if e.Since.IsZero() {
		return text + " through mailgate yet: " + his + " is not known"
	}
	return text + " since " + e.Since.Local().Format(time.DateTime) + ": " + his + " is not known yet"
}

// RefusedError means that a side refuses what is known: it is not tried again.
type RefusedError struct {
	User  string
	Side  config.Side
	Since time.Time
	Err   error // what the server said, when that was just now
}

// Error is in plain words.
func (e *RefusedError) Error() string {
	text := fmt.Sprintf("the password that he logged in with is refused by %s, since %s: it is not tried again until he logs in with another one",
		strings.ToUpper(e.Side.String()), e.Since.Local().Format(time.DateTime))
	if e.Err != nil {
		text += " (" + e.Err.Error() + ")"
	}
	return text
}

// Unwrap gives what the server said.
func (e *RefusedError) Unwrap() error { return e.Err }

// ErrOff means that there is no key.
var ErrOff = errors.New("login.learn.key is not set: nothing that was learned is used")

// answer is a side's, about a password of a user.
type answer struct {
	user string
	by   config.Side
	at   config.Protocol // the service that said it, where it may have rules of its own; "" is the mail
	sum  [sha256.Size]byte
}

// Use calls login with what is known of a user at a side, until one password is let in: the one that was learned there and, at NEW, the one
// that was learned at OLD. refused tells of login's error whether the server has refused the password, as opposed to trouble. A refused
// one is not tried again at that side, not even while the store cannot be written: a person who is locked out is worse than one whose
// mailboxes differ. So only one login of a user at a side is under way at a time. The error is login's, *UnknownError, *RefusedError,
// ErrOtherKey, ErrOtherPlace, ErrOff, or the store's.
func (b *Book) Use(ctx context.Context, user string, side config.Side, login func(config.Secret) error, refused func(error) bool) error {
	return b.UseAt(ctx, user, side, "", login, refused)
}

// UseAt is Use for a service other than the mail. What it refuses is not tried there again by this process, and the mail does not mind: a
// user may be shut out of ManageSieve alone.
func (b *Book) UseAt(ctx context.Context, user string, side config.Side, at config.Protocol, login func(config.Secret) error, refused func(error) bool) error {
	leave, err := b.enter(ctx, turn{user, side})
	if err != nil {
		return err
	}
	defer leave()
	key := b.key.Load()
	if key == nil {
		return ErrOff
	}
	rows, err := b.o.Store.Secrets(ctx, user)
	if err != nil {
		return err
	}
	tries, why := b.worthTrying(key, user, side, at, rows)
	if len(tries) == 0 {
		return why
	}
	var last error
	for _, t := range tries {
		if last = login(t.password); last == nil || !refused(last) {
			return last
		}
		b.refuse(ctx, t, side, at)
	}
	return &RefusedError{User: user, Side: side, Since: b.o.Now(), Err: last}
}

// Holds tells whether a password is the one that was learned of a user at a side, and that this side has not refused since.
func (b *Book) Holds(ctx context.Context, user string, side config.Side, password config.Secret) bool {
	key := b.key.Load()
	if key == nil {
		return false
	}
	rows, err := b.o.Store.Secrets(ctx, user)
	if err != nil {
		return false
	}
	for _, r := range rows {
		if r.Side != side || !r.Refused[side].IsZero() || !b.ends(r).After(b.o.Now()) {
			continue
		}
		if known, err := key.Open(user, side, r.Sealed); err == nil && same(known, password) {
			return true
		}
	}
	return false
}

// try is a password with the row that it is from.
type try struct {
	row      Row
	password config.Secret
}

// worthTrying are the passwords that may be tried at a side, the likeliest first, or why there is none.
func (b *Book) worthTrying(key *Key, user string, side config.Side, service config.Protocol, rows []Row) (tries []try, why error) {
	now := b.o.Now()
	unknown := &UnknownError{User: user, Side: side}
	from := []config.Side{side}
	if side == config.New { // what is typed for NEW is not shown to OLD, which he leaves
		from = append(from, config.Old)
	}
	var said *RefusedError
	var bad []config.Secret
	for _, at := range from {
		for _, r := range rows {
			if r.Side != at {
				unknown.Elsewhere = unknown.Elsewhere || !slices.Contains(from, r.Side)
				continue
			}
			if !b.ends(r).After(now) {
				unknown.Since = later(unknown.Since, r.Seen)
				continue
			}
			password, err := key.Open(user, r.Side, r.Sealed)
			if err != nil {
				why = fmt.Errorf("the password that was learned of %s on %s: %w", user, strings.ToUpper(r.Side.String()), err)
				continue
			}
			if when := b.refusedAt(r, password, side, service); !when.IsZero() {
				said = &RefusedError{User: user, Side: side, Since: when}
				bad = append(bad, password)
				continue
			}
			tries = append(tries, try{r, password})
		}
	}
	tries = distinct(tries, bad)
	switch {
	case len(tries) > 0:
		return tries, nil
	case said != nil:
		return nil, said
	case why != nil:
		return nil, why
	}
	if unknown.Since.IsZero() {
		b.mu.Lock()
		unknown.Since = b.since
		b.mu.Unlock()
	}
	return nil, unknown
}

// distinct leaves out what is the same as one before, or as one of those that were refused.
func distinct(tries []try, bad []config.Secret) (out []try) {
next:
	for _, t := range tries {
		for _, p := range bad {
			if same(p, t.password) {
				continue next
			}
		}
		bad = append(bad, t.password)
		out = append(out, t)
	}
	return out
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (b *Book) answer(user string, by config.Side, at config.Protocol, password config.Secret) answer {
	return answer{user, by, at, b.sum(place(user, by), password)}
}

// refusedAt is when a side has refused a row, or its password while it stood in another one; zero when it has not.
func (b *Book) refusedAt(r Row, password config.Secret, by config.Side, service config.Protocol) time.Time {
	if at := r.Refused[by]; !at.IsZero() {
		return at
	}
	mail, own := b.answer(r.User, by, "", password), b.answer(r.User, by, service, password)
	b.mu.Lock()
	defer b.mu.Unlock()
	return later(b.refused[mail], b.refused[own])
}

// refuse notes that a side has refused a password, in memory first: there it holds also for somebody who has two passwords and logs in
// with them by turns.
func (b *Book) refuse(ctx context.Context, t try, side config.Side, service config.Protocol) {
	at, r, a := b.o.Now(), t.row, b.answer(t.row.User, side, service, t.password)
	b.mu.Lock()
	b.refused[a] = at
	if service != "" { // the row's mark, and what is learned, are of the mail
		b.mu.Unlock()
		return
	}
	for l := range b.seen {
		if l.user == r.User { // what was left alone may be wanted now
			delete(b.seen, l)
		}
	}
	b.mu.Unlock()
	e := op.Event{At: at, User: r.User, By: "serve", What: "learned password refused", Detail: "by " + strings.ToUpper(side.String()) +
		", learned on " + strings.ToUpper(r.Side.String()) + "; it is not tried again until he logs in with another one"}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTime) // also where the pass was just ended
	defer cancel()
	if _, err := b.o.Store.RefuseSecret(ctx, r, side, at, e); err != nil {
		b.o.Log.Warn("that a learned password is refused is not recorded; until the end of this process it is not tried again", "user", r.User,
			"side", side.String(), "err", err)
	}
}

// noteTime bounds the wait for the store to take that.
const noteTime = 10 * time.Second
