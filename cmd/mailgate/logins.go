package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/logins"
)

// newLedger makes the Ledger of logins; learn configures it.
func newLedger(s *syncing) *logins.Ledger {
	return logins.New(logins.Options{Store: s.g.store, Shared: s.g.shared != nil, Log: s.g.log, Recorder: s.g.metrics,
		Listed: func(user string) bool { return s.g.routes.Load().Users[user] != nil }, Worked: s.book.Holds})
}

// ledgerSettings are what a configuration says of it.
func ledgerSettings(c *config.Config) logins.Settings {
	l := c.Login.Learn
	return logins.Settings{Hash: l.Hash, Hook: l.Hook, HookTime: l.HookTime, Hooks: l.HookParallel, Expire: l.Expire}
}

// judged is told by the fronts how a side's server has answered a login of somebody in the routes file. What it says of anything but the
// password, such as too many connections, is no refusal.
func (s *syncing) judged(user string, side config.Side, p config.Protocol, password config.Secret, refused error) {
	if refused != nil && !refusedPassword(refused) {
		return
	}
	s.ledger.Note(user, side, p, password, refused == nil)
	if refused == nil && password != "" {
		s.book.Note(user, side, p, password)
	}
}

// refusedShown is how many refused logins the overview names.
const refusedShown = 20

// refusedLogins adds to an overview those that are refused with what worked on the other side.
func (g *gateway) refusedLogins(ctx context.Context, o *admin.Overview) error {
	list, err := g.store.Refusals(ctx, "")
	if err != nil {
		return err
	}
	users := map[string]bool{}
	for _, r := range list {
		users[r.User] = true
	}
	o.Refusals = len(users)
	o.Refused = admin.RefusedLogins(list[:min(len(list), refusedShown)])
	return nil
}

// NotReady answers status --not-ready.
type NotReady struct {
	Users    int                   `json:"users"` // that were looked at
	Ready    int                   `json:"ready"`
	Since    time.Time             `json:"since,omitzero"` // logins before do not count
	Reasons  map[logins.Reason]int `json:"reasons"`        // how many users lack what
	NotReady []Unready             `json:"not_ready"`
}

// Unready is a user who is not ready.
type Unready struct {
	User    string            `json:"user"`
	Wave    string            `json:"wave,omitempty"`
	Side    config.Side       `json:"side"`                // where he is
	Last    time.Time         `json:"last_login,omitzero"` //
	By      config.Protocol   `json:"protocol,omitempty"`  // of that login
	At      *config.Side      `json:"last_side,omitempty"` // the same
	Lacks   []logins.Missing  `json:"lacks"`
	Seen    []admin.LastLogin `json:"logins"`
	Refused int64             `json:"refused_logins,omitempty"`
}

// notReady tells who in the routes file has not logged in, or lacks something else. The form has "wave" and "since", both optional.
func (s *syncing) notReady(ctx context.Context, form url.Values) (any, error) {
	ctx, leave, err := s.visit(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var since time.Time
	if text := form.Get("since"); text != "" {
		if since, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return nil, exitError{exitUsage, fmt.Errorf("since: %w", err)}
		}
	}
	wave, routes := form.Get("wave"), s.g.routes.Load()
	if wave != "" && !slices.Contains(s.g.waves(), wave) {
		return nil, exitError{exitUsage, fmt.Errorf("no user in the routes file has wave=%s", wave)}
	}
	all, err := logins.Read(ctx, s.g.store, "")
	if err != nil {
		return nil, exitError{exitUnknown, err}
	}
	conf := s.g.conf.Load()
	settings := ledgerSettings(conf)
	out := NotReady{Since: since, Reasons: map[logins.Reason]int{}, NotReady: []Unready{}}
	for _, r := range logins.Reasons() {
		out.Reasons[r] = 0
	}
	for _, user := range slices.Sorted(maps.Keys(routes.Users)) {
		r := routes.Users[user]
		if wave != "" && r.Wave != wave {
			continue
		}
		out.Users++
		k := all[user]
		mine := settings
		if _, bySide := conf.AuthorityOf(routes.For(user)).Verifier(r.Side); !bySide { // no side's password is known of him, and NEW needs none
			mine.Hash, mine.Hook = false, nil
		}
		lacks := k.Missing(mine, since)
		if len(lacks) == 0 {
			out.Ready++
			continue
		}
		for i, x := range lacks {
			if i == 0 || lacks[i-1].Reason != x.Reason { // a refusal comes once for each protocol
				out.Reasons[x.Reason]++
			}
		}
		side := r.Side // before the first import lines are places
		if s.g.manager().Imported() {
			place, _ := s.g.router.Lookup(user)
			side = place.Side
		}
		u := Unready{User: user, Wave: r.Wave, Side: side, Lacks: lacks, Seen: []admin.LastLogin{}}
		if last := k.Last(); !last.Last.IsZero() {
			u.Last, u.By, u.At = last.Last, last.Protocol, &last.Side
			for _, x := range k.Logins {
				u.Seen = append(u.Seen, admin.LastLogin{Side: x.Side, Protocol: x.Protocol, First: x.First, Last: x.Last})
			}
			for _, x := range k.Refusals {
				u.Refused += x.Count
			}
		}
		out.NotReady = append(out.NotReady, u)
	}
	return out, nil
}

// listHashes tells of those that are kept.
func (s *syncing) listHashes(ctx context.Context, user string) ([]HashEntry, error) {
	kept, err := s.g.store.Kept(ctx, user)
	out := []HashEntry{}
	for _, k := range kept {
		out = append(out, HashEntry{k.User, k.Side, k.Learned, k.Seen, k.Expires})
	}
	return out, err
}

// hashes are those that are kept, with what NEW calls their users. The form may have "user" and "wave".
func (s *syncing) hashes(ctx context.Context, user, wave string) ([]logins.Exported, error) {
	kept, err := s.g.store.Kept(ctx, user)
	if err != nil {
		return nil, err
	}
	conf, routes, now := s.g.conf.Load(), s.g.routes.Load(), time.Now()
	out := []logins.Exported{}
	for _, k := range kept {
		r := routes.For(k.User)
		if wave != "" && r.Wave != wave || !k.Expires.After(now) || !k.Seen.Add(conf.Login.Learn.Expire).After(now) {
			continue
		}
		out = append(out, logins.Exported{User: k.User, Login: conf.LoginName(config.New, r), Hash: k.Hash, Side: k.Side.String(), Learned: k.Learned, Seen: k.Seen})
	}
	return out, nil
}
