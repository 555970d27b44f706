package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/cutover"
	wavegate "mailgate/cutover/gate"
	"mailgate/op"
	"mailgate/syncer"
)

// newWaves makes what moves groups of users.
func (g *gateway) newWaves() *cutover.Waves {
	return cutover.NewWaves(cutover.WavesOptions{Config: g.conf.Load, Routes: g.routes.Load, Edit: g.setSides, Judge: g.judge, Changed: g.otherWaves, Log: g.log})
}

// otherWaves has the mailboxes kept in sync of the waves that are started now.
func (g *gateway) otherWaves() {
	if g.syncing != nil && g.syncing.keeping != nil && g.serving {
		g.syncing.keeping.configure()
	}
}

// setSides edits many lines of the routes file in one write, and takes it over.
func (g *gateway) setSides(ctx context.Context, users []string, side config.Side, by, from string) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if g.leaving.lent.Load() { // whoever leads next goes on with what is moved
		return fmt.Errorf("%w: %w", op.ErrUnavailable, errHanded)
	}
	if err := g.mayEdit(); err != nil {
		return err
	}
	c := g.conf.Load()
	before, err := os.ReadFile(c.Routes.File)
	if err != nil {
		return fmt.Errorf("routes file: %w", err)
	}
	if err := config.EditRoutes(c, users, side); err != nil {
		return err
	}
	mine, err := os.ReadFile(c.Routes.File)
	if err != nil {
		return fmt.Errorf("routes file: %w", err)
	}
	r, err := g.reload(ctx, by, from)
	waits := err == nil && r.Import.Waiting != nil
	if err == nil && !waits {
		return nil
	}
	// The file must not say what was refused: the next reload would move the users.
	if terr := takeBack(c, before, mine); !waits || terr != nil {
		return errors.Join(err, terr)
	}
	return g.approveFirst(ctx, by, from)
}

// approveFirst is the refusal of an edit beside changes of others which wait for approval. What can be approved is the file as they have left it,
// without the edit: it is taken up anew for that.
func (g *gateway) approveFirst(ctx context.Context, by, from string) error {
	no := &cutover.Refusal{Why: "the routes file holds other changes too, which need approval",
		Do: "take them back, or mailgate reload and approve what it says; then ask again"}
	if r, err := g.reload(ctx, by, from); err == nil && r.Import.Waiting != nil {
		no.Why += ": " + r.Import.Waiting.Reason
		no.Do = "mailgate op approve " + r.Import.Waiting.ID + ", or take them back; then ask again"
	}
	return no
}

// keptWaves are the waves whose mailboxes are kept in sync: those of the configuration and those that were started, without those that are
// complete. "*" stands for all others too.
func (g *gateway) keptWaves() []string {
	done := g.moves().Completed()
	var out []string
	for _, w := range append(slices.Clone(g.conf.Load().Sync.Waves), g.moves().Kept()...) {
		if !slices.Contains(out, w) && !slices.Contains(done, w) {
			out = append(out, w)
		}
	}
	return out
}

// shares names the members of a wave who share folders with people outside of it, by what was last looked at, and those of whom that is not
// known, or not wholly, and why.
func (g *gateway) shares(ctx context.Context, wave string) (out []admin.WaveShare, unknown []admin.WaveUnlooked) {
	routes := g.routes.Load()
	members := routes.Members(wave)
	if g.syncing == nil {
		for _, user := range members {
			unknown = append(unknown, admin.WaveUnlooked{User: user, Why: "mailgate serve does not run"})
		}
		return nil, unknown
	}
	y := g.syncing.syncer()
	defer y.Close()
	for _, user := range members {
		r, err := y.KeptGaps(ctx, user)
		if why := unlooked(r, err); why != "" {
			unknown = append(unknown, admin.WaveUnlooked{User: user, Why: why})
		}
		if err != nil || r == nil {
			continue
		}
		with := map[string][]string{}
		for _, gap := range r.Gaps {
			if gap.Kind != syncer.GapACL {
				continue
			}
			for _, x := range gap.Things {
				who, rights, ok := strings.Cut(x.What, " may ")
				if !ok || strings.HasPrefix(rights, "not ") {
					continue
				}
				if other := g.someone(who, user); other != user && !slices.Contains(members, other) {
					with[other] = append(with[other], x.Folder)
				}
			}
		}
		for _, other := range slices.Sorted(maps.Keys(with)) {
			out = append(out, admin.WaveShare{User: user, With: other, Folders: slices.Compact(slices.Sorted(slices.Values(with[other])))})
		}
	}
	return out, unknown
}

// unlooked is why a look does not tell, or not wholly, with whom a user shares folders; "" where it does.
func unlooked(r *syncer.GapReport, err error) string {
	switch {
	case err != nil:
		return "what was found cannot be read: " + err.Error()
	case r == nil:
		return "nobody has looked yet"
	}
	for _, gap := range r.Gaps {
		if gap.Kind == syncer.GapACL {
			if gap.Why == "" && gap.More > 0 {
				return fmt.Sprintf("%d rights are not listed", gap.More)
			}
			return gap.Why
		}
	}
	return "it was not asked"
}

// writeUnlooked says of how many it is not known with whom they share folders, each reason once.
func writeUnlooked(w io.Writer, list []admin.WaveUnlooked, format string) {
	var whys []string
	by := map[string][]string{}
	for _, u := range list {
		if by[u.Why] == nil {
			whys = append(whys, u.Why)
		}
		by[u.Why] = append(by[u.Why], u.User)
	}
	for _, why := range whys {
		fmt.Fprintf(w, format, fmt.Sprintf("unknown of %d (%s): %s; mailgate gaps --now USER looks", len(by[why]), someNames(by[why]), why))
	}
}

// someone is the user that a name of an ACL means: an address, or a login name of a host.
func (g *gateway) someone(who, owner string) string {
	routes := g.routes.Load()
	if user, _, _, err := g.Resolve(who); err == nil && routes.Users[user] != nil {
		return user
	}
	if _, domain, ok := strings.Cut(owner, "@"); ok && !strings.Contains(who, "@") {
		if user := strings.ToLower(who) + "@" + domain; routes.Users[user] != nil {
			return user
		}
	}
	for user, r := range routes.Users {
		if r.Login[config.Old] == who || r.Login[config.New] == who {
			return user
		}
	}
	return who
}

// verified is how both sides of a user were last compared; ok is false when they never were.
func (g *gateway) verified(ctx context.Context, user string) (c wavegate.Compared, ok bool, err error) {
	v, ok, err := g.store.Verified(ctx, user)
	return wavegate.Compared{User: user, At: v.At, Equal: v.Equal}, ok, err
}
