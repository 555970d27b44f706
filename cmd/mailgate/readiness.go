package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/op"
	"mailgate/syncer"
)

// mostPaces is how many of the last passes over a user tell how long one takes that finds little to do.
const mostPaces = 8

// paceCopies is how many messages a pass may have copied to count among them.
const paceCopies = 50

// paced remembers how long a pass took; mu of keeping is held.
func (k *keptUser) paced(r *syncer.Report) {
	if r.Copied[0]+r.Copied[1]+r.Paired > paceCopies {
		return
	}
	if len(k.paces) == mostPaces {
		k.paces = slices.Delete(k.paces, 0, 1)
	}
	k.paces = append(k.paces, r.Took)
}

// pace is the median of how long passes over a user took that found little; 0 where none was measured. left is how long his first copy
// takes still, 0 where that is not known.
func (kp *keeping) pace(user string, now time.Time) (pace, left time.Duration) {
	kp.mu.Lock()
	defer kp.mu.Unlock()
	k := kp.users[user]
	if k == nil {
		return 0, 0
	}
	if n := len(k.paces); n > 0 {
		pace = slices.Sorted(slices.Values(k.paces))[n/2]
	}
	p := k.progress
	if took := now.Sub(p.Began); !k.copied && p.Messages[0] > 0 && p.Messages[1] > p.Messages[0] && took > time.Second {
		left = time.Duration(float64(took) * float64(p.Messages[1]-p.Messages[0]) / float64(p.Messages[0]))
	}
	return pace, left
}

// syncs tells whether a side says how to log in for syncing.
func syncs(b config.Backend) bool {
	return b.Sync.MasterUser != "" || b.Sync.Secrets != "" || len(b.Sync.TokenCommand) > 0 || b.Sync.Learned
}

// noMail tells why flips do not bring mailboxes together, "" where they do.
func noMail(conf *config.Config) string {
	switch {
	case conf.Flip.Delta == "off":
		return "no mail is carried (flip.delta is off)"
	case conf.Flip.Delta != "require" && !slices.ContainsFunc(conf.Backends[:], syncs):
		return "no mail is carried, as nothing says how to log in for syncing"
	}
	return ""
}

// facts are what is known of everybody at a moment: the rest is a user's own.
type facts struct {
	g     *gateway
	holds []op.Hold
	down  [2]string
}

// readyFacts gathers them: the store is asked for the holds, once.
func (g *gateway) readyFacts(ctx context.Context) (*facts, error) {
	f := &facts{g: g}
	var err error
	if f.holds, err = g.store.Holds(ctx); err != nil {
		return nil, err
	}
	if !g.serving || g.dialer == nil { // nobody has looked
		return f, nil
	}
	for _, side := range config.Sides {
		var why []string
		all := g.dialer.Health(side, config.IMAP)
		for _, h := range all {
			if h.Error != "" {
				why = append(why, h.Name+": "+strings.ReplaceAll(h.Error, "\n", "; "))
			}
		}
		if len(why) == len(all) {
			f.down[side] = strings.Join(why, "; ")
		}
	}
	return f, nil
}

// of are a user's.
func (f *facts) of(user, wave string, side config.Side) admin.ReadyFacts {
	out := admin.ReadyFacts{NoMail: noMail(f.g.conf.Load()), Down: f.down}
	scopes := op.HoldScopes(user, wave)
	for _, h := range f.holds {
		if slices.Contains(scopes, h.Scope) {
			out.Holds = append(out.Holds, h)
		}
	}
	if s := f.g.syncing; s != nil && s.keeping != nil {
		out.Pace, out.Left = s.keeping.pace(user, time.Now())
	}
	return out
}

// readiness implements admin.API.Ready.
func (g *gateway) readiness(ctx context.Context, u *admin.UserStatus) *admin.Readiness {
	f, err := g.readyFacts(ctx)
	if err != nil {
		return &admin.Readiness{To: u.Side.Other(), Why: []admin.Hindrance{{Class: "store", Why: "the store cannot be read: " + err.Error(), Do: "see to the store"}}}
	}
	return admin.ReadinessOf(u, f.of(u.User, u.Wave, u.Side))
}

// readyCounts tells of all users who are kept, by the side that they would be moved to.
func (g *gateway) readyCounts(ctx context.Context) (map[string]*admin.ReadyCounts, error) {
	kp := g.syncing.keeping
	kp.mu.Lock()
	users := slices.Collect(maps.Keys(kp.users))
	kp.mu.Unlock()
	f, err := g.readyFacts(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]*admin.ReadyCounts{}
	routes := g.routes.Load()
	for _, user := range users {
		side := g.manager().Side(user)
		if p, ok := g.router.Lookup(user); ok {
			side = p.Side
		}
		u := &admin.UserStatus{User: user, Side: side, Wave: routes.For(user).Wave, Sync: kp.status(user)}
		r := admin.ReadinessOf(u, f.of(user, u.Wave, side))
		if out[r.Title()] == nil {
			out[r.Title()] = &admin.ReadyCounts{}
		}
		out[r.Title()].Add(r)
	}
	return out, nil
}

func printReadyCounts(w io.Writer, counts map[string]*admin.ReadyCounts) {
	for _, title := range slices.Sorted(maps.Keys(counts)) {
		c := counts[title]
		text := syncer.Thousands(int64(c.Ready)) + " users are ready"
		if c.Ready == 1 {
			text = "1 user is ready"
		}
		if c.Seconds > 0 {
			text += ", about " + syncer.Seconds(time.Duration(c.Seconds*float64(time.Second))) + " each at most"
		}
		if c.Not > 0 {
			text += fmt.Sprintf("; %s not:", syncer.Thousands(int64(c.Not)))
			for i, class := range slices.Sorted(maps.Keys(c.Why)) {
				if i > 0 {
					text += ","
				}
				text += fmt.Sprintf(" %d %s", c.Why[class], class)
			}
		}
		fmt.Fprintf(w, "%s\t%s\n", title, text)
	}
}
