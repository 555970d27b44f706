package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/syncer"
)

// hasSieve tells whether a side has ManageSieve for users of a host, "" for any host.
func hasSieve(conf *config.Config, side config.Side, host string) bool {
	for _, h := range conf.Backends[side].Hosts {
		if h.Sieve.Host != "" && (host == "" || h.Name == host) {
			return true
		}
	}
	return false
}

// openSieve logs in at a side's ManageSieve as a user of ours, the same way as for his mail; backend.ErrNoHost where the side has none.
// A master login has to be proven at that host, for the mail and for scripts; write allows to write something for that.
func (a *accounts) openSieve(ctx context.Context, side config.Side, user string, write bool) (*backend.SieveClient, error) {
	conf := a.g.conf.Load()
	host := a.g.routes.Load().For(user).Host[side]
	if !hasSieve(conf, side, host) { // before anybody's secret is looked for
		return nil, fmt.Errorf("%s: %w", side, backend.ErrNoHost)
	}
	c, err := logIn(ctx, a, conf, side, user, host, config.Sieve, a.dialer.DialSieve)
	if err != nil || conf.Backends[side].Sync.MasterUser == "" {
		return c, err
	}
	if !a.believed(proofOf(conf, side, c.Host())) {
		err = unproven(side, c.Host())
	} else {
		err = a.strict(ctx, conf, side, user, c, write)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// errLax means that a ManageSieve lets the master in as anybody, and as himself each time.
var errLax = errors.New("its ManageSieve does not heed whose scripts the master asks for")

// strict makes sure that a host's ManageSieve heeds whom the master asks for, as prove does for the mail. A host that does not let him in
// as a user who does not exist does. Of one that does not know who exists, a script of mine that the session of such a user does not show
// tells it; that is written, and deleted at once: without write it is refused. What was seen is believed of the host, as the proof is.
func (a *accounts) strict(ctx context.Context, conf *config.Config, side config.Side, user string, mine *backend.SieveClient, write bool) error {
	host := mine.Host()
	seen := proofAt(conf, side, host, config.Sieve)
	if a.believed(seen) {
		return nil
	}
	y := syncer.New(syncer.Options{Store: a.g.store, Log: a.g.log})
	defer y.Close()
	profile, err := y.Profile(ctx, side, host)
	if err != nil {
		return err
	}
	if profile == nil || profile.SieveProven != seen {
		if err := a.heeds(ctx, conf, side, user, mine, write); err != nil {
			return fmt.Errorf("%s: %s: %w", side, host, err)
		}
		if profile != nil {
			profile.SieveProven = seen
			if err := y.SaveProfile(ctx, side, profile); err != nil {
				return err
			}
		}
	}
	a.believe(seen)
	return nil
}

// heeds is the look of strict.
func (a *accounts) heeds(ctx context.Context, conf *config.Config, side config.Side, user string, mine *backend.SieveClient, write bool) error {
	random := strings.ToLower(rand.Text()[:12])
	nobody := "mailgate-nobody-" + random
	if _, domain, ok := strings.Cut(conf.LoginName(side, a.g.routes.Load().For(user)), "@"); ok {
		nobody += "@" + domain
	}
	who, err := masterAccount(conf, side, nobody)
	if err != nil {
		return err
	}
	his, err := a.dialer.DialSieve(ctx, side, mine.Host(), who)
	var refused *backend.Error
	switch {
	case errors.As(err, &refused) && refused.Kind == backend.AuthFailed:
		return nil
	case err != nil:
		return err
	}
	defer his.Close()
	if !write {
		return errors.New("the master login is not proven for its ManageSieve yet: a pass that writes proves it")
	}
	name := syncer.SieveProof + random
	if _, err := mine.Put(ctx, name, "keep;\r\n"); err != nil {
		return fmt.Errorf("proof of the master login: %w", err)
	}
	list, err := his.List(ctx)
	if derr := mine.Delete(ctx, name); err == nil {
		err = derr
	}
	if err != nil {
		return fmt.Errorf("proof of the master login: %w", err)
	}
	if slices.ContainsFunc(list, func(s backend.SieveScript) bool { return s.Name == name }) {
		return fmt.Errorf("%w; write backends.%s.sync.secrets instead, or leave out sieve", errLax, side)
	}
	return nil
}

// masterAccount is the master acting for a login.
func masterAccount(conf *config.Config, side config.Side, login string) (who backend.Account, err error) {
	s := conf.Backends[side].Sync
	password, err := auth.ReadSecretFile(s.MasterPassword)
	if err != nil {
		return who, exitError{exitRefused, fmt.Errorf("backends.%s.sync.master_password: %w", side, err)}
	}
	return backend.MasterAccount(s, login, password)
}

// sieveTold counts what a pass did with scripts, once.
func (g *gateway) sieveTold(r *syncer.Report) {
	s := r.Sieve
	if s == nil || r.DryRun || s.At.Before(r.Began) || g.metrics == nil {
		return
	}
	result := "ok"
	switch {
	case s.Trouble != "":
		result = "failed"
	case s.Without != "":
		result = "without"
	case s.Count(syncer.SieveRefused, syncer.SieveKept, syncer.SieveInactive) > 0:
		result = "partly"
	}
	g.metrics.Sieve(result)
	for _, side := range config.Sides {
		g.metrics.Scripts(side, "written", s.Written[side])
		g.metrics.Scripts(side, "deleted", s.Deleted[side])
		if s.Activated[side] {
			g.metrics.Scripts(side, "activated", 1)
		}
	}
}

// sieveNotes are what a person should know of a user's scripts.
func sieveNotes(s *syncer.SieveReport) (out []string) {
	for _, l := range s.Lines {
		switch l.Act {
		case syncer.SieveRefused, syncer.SieveKept, syncer.SieveInactive, syncer.SieveDoubt:
			out = append(out, l.Sentence(false))
		}
	}
	return out
}

// printSieve says what a pass did with scripts.
func printSieve(w io.Writer, r *syncer.Report) {
	s := r.Sieve
	if s == nil {
		return
	}
	if text := s.Summary(); text != "" {
		fmt.Fprintf(w, "scripts: %s\n", text)
	}
	word := map[syncer.SieveAct]string{syncer.SieveWrote: "SCRIPT    ", syncer.SieveDeleted: "SCRIPT    ", syncer.SieveActive: "SCRIPT    ",
		syncer.SieveRefused: "NOT DONE  ", syncer.SieveKept: "KEPT      ", syncer.SieveInactive: "LEFT      ", syncer.SieveDoubt: "LOOK AT   "}
	for _, l := range s.Lines {
		fmt.Fprintf(w, "%s %s\n", word[l.Act], l.Sentence(r.DryRun))
	}
}
