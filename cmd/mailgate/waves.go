package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/cutover"
	wavegate "mailgate/cutover/gate"
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
func (g *gateway) setSides(ctx context.Context, users []string, side config.Side, by string) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
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
	r, err := g.reload(ctx, by)
	if err == nil && r.Import.Waiting != nil {
		err = &cutover.Refusal{Why: "the routes file holds other changes too, which wait for approval (" + r.Import.Waiting.Reason + ")",
			Do: "mailgate op approve " + r.Import.Waiting.ID + ", or take them back, and ask again"}
	}
	if err != nil { // the file must not say what was refused: the next reload would move the users
		err = errors.Join(err, takeBack(c, before, mine))
	}
	return err
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

// shares names the members of a wave who share folders with people outside of it, by what was last looked at. Of some nobody knows.
func (g *gateway) shares(ctx context.Context, wave string) (out []admin.WaveShare, unknown []string) {
	if g.syncing == nil {
		return nil, g.routes.Load().Members(wave)
	}
	y := g.syncing.syncer()
	defer y.Close()
	routes := g.routes.Load()
	members := routes.Members(wave)
	for _, user := range members {
		r, err := y.KeptGaps(ctx, user)
		if err != nil || r == nil {
			unknown = append(unknown, user)
			continue
		}
		with := map[string][]string{}
		for _, gap := range r.Gaps {
			if gap.Kind != syncer.GapACL {
				continue
			}
			if gap.Answer == syncer.GapUnknown {
				unknown = append(unknown, user)
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
