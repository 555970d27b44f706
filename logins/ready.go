package logins

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Known is what the store knows of a user's logins.
type Known struct {
	Logins   []Login
	Kept     *Kept // nil where nothing is
	Refusals []Refusal
}

// Last is when he was last let in, and where; zero when he never was.
func (k *Known) Last() (last Login) {
	if k == nil {
		return last
	}
	for _, x := range k.Logins {
		if x.Last.After(last.Last) {
			last = x
		}
	}
	return last
}

// Read reads what the store knows, by user: of one, or of everybody ("").
func Read(ctx context.Context, s Store, user string) (map[string]*Known, error) {
	out := map[string]*Known{}
	of := func(user string) *Known {
		k := out[user]
		if k == nil {
			k = &Known{}
			out[user] = k
		}
		return k
	}
	seen, err := s.Logins(ctx, user)
	if err != nil {
		return nil, err
	}
	kept, err := s.Kept(ctx, user)
	if err != nil {
		return nil, err
	}
	refused, err := s.Refusals(ctx, user)
	if err != nil {
		return nil, err
	}
	for _, x := range seen {
		k := of(x.User)
		k.Logins = append(k.Logins, x)
	}
	for _, x := range kept {
		of(x.User).Kept = &x
	}
	for _, x := range refused {
		k := of(x.User)
		k.Refusals = append(k.Refusals, x)
	}
	return out, nil
}

// Reason is why a user is not ready to be moved, or to stay where he is.
type Reason string

// Reasons, the one that comes first being the first thing to see to.
const (
	Never      Reason = "never"       // he has not logged in through the gateway
	NotSince   Reason = "not-since"   // ... not since a time
	Refused    Reason = "refused"     // a side refuses the password that worked on the other
	NoHash     Reason = "no-hash"     // hashes are kept, and there is none of his password
	HookFailed Reason = "hook-failed" // the hook has failed and is tried again
	HookWaits  Reason = "hook-waits"  // the hook has not run yet
)

// Reasons are all, for loops.
func Reasons() []Reason { return []Reason{Never, NotSince, Refused, NoHash, HookFailed, HookWaits} }

// Missing is a reason in plain words.
type Missing struct {
	Reason Reason `json:"reason"`
	Text   string `json:"text"`
}

// Missing is what a user still lacks; nothing where he is ready. since is a time after which he must have logged in, or zero; k may be nil.
func (k *Known) Missing(s Settings, since time.Time) (out []Missing) {
	add := func(r Reason, format string, args ...any) {
		out = append(out, Missing{r, fmt.Sprintf(format, args...)})
	}
	last := k.Last()
	switch {
	case last.Last.IsZero():
		add(Never, "has not logged in through mailgate yet")
		return out
	case last.Last.Before(since):
		add(NotSince, "last logged in on %s", last.Last.Local().Format(time.DateTime))
	}
	for _, r := range k.Refusals {
		add(Refused, "%s (%s) refuses the password that worked on %s, since %s", strings.ToUpper(r.Side.String()), r.Protocol,
			strings.ToUpper(r.Side.Other().String()), r.First.Local().Format(time.DateTime))
	}
	switch hook := len(s.Hook) > 0; {
	case !s.keeps():
	case k.Kept == nil && s.Hash:
		add(NoHash, "there is no hash of his password: he has not logged in with one since that was turned on")
	case k.Kept == nil:
		add(HookWaits, "the hook has not run: he has not logged in with a password since that was turned on")
	case !hook || !k.Kept.Hook.Done.IsZero():
	case k.Kept.Hook.Error != "":
		add(HookFailed, "the hook has failed %d times: %s", k.Kept.Hook.Tries, k.Kept.Hook.Error)
	default:
		add(HookWaits, "the hook has not run yet")
	}
	return out
}
