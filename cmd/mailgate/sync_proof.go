package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/syncer"
)

// mostSeconds is how many users are tried as the second one of a proof: one may have no mailbox at a side yet.
const mostSeconds = 5

// proofOf names what a proof holds for: a host, where it is, who the master is, and how he says whose mailbox he wants. With
// any other, nothing is proven.
func proofOf(conf *config.Config, side config.Side, host string) string {
	b, at := conf.Backends[side], ""
	for _, h := range b.Hosts {
		if h.Name == host {
			at = h.IMAP.Address()
		}
	}
	return fmt.Sprintf("%s %s: %q as %q", host, at, b.Sync.MasterUser, b.Sync.MasterLogin)
}

// proofAt is the same for one of the host's services.
func proofAt(conf *config.Config, side config.Side, host string, p config.Protocol) string {
	if p == config.IMAP {
		return proofOf(conf, side, host)
	}
	at := ""
	for _, h := range conf.Backends[side].Hosts {
		if h.Name == host {
			at = h.Endpoint(p).Address()
		}
	}
	return string(p) + " at " + at + ", " + proofOf(conf, side, host)
}

// unproven is the refusal of a master login that nobody has seen to open the right mailbox.
func unproven(side config.Side, host string) error {
	return exitError{exitRefused, fmt.Errorf("%s: the master login at %s is not proven to open the mailbox of the user who is asked for: "+
		"run mailgate probe backends first", side, host)}
}

func (a *accounts) believed(proof string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.proven[proof]
}

func (a *accounts) believe(proof string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.proven == nil {
		a.proven = map[string]bool{}
	}
	a.proven[proof] = true
}

// hosts are those of a side that a user's login may come to.
func (a *accounts) hosts(conf *config.Config, side config.Side, user string) (out []string) {
	if bound := a.g.routes.Load().For(user).Host[side]; bound != "" {
		return []string{bound}
	}
	for _, h := range conf.Backends[side].Hosts {
		if h.IMAP.Host != "" {
			out = append(out, h.Name)
		}
	}
	return out
}

// prove makes sure, before anything is read or written with a master login, that it opens the mailbox of the user and not
// another one: some servers let the master in and ignore whom he asked for. Once proven it is believed of the host, until
// master_user, master_login or the host's address is another. A proof leaves nothing behind, but it writes on the way:
// without write it is refused. Hosts that are down are passed over when another one is proven.
func (a *accounts) prove(ctx context.Context, y *syncer.Syncer, side config.Side, user string, others []string, write bool) error {
	conf := a.g.conf.Load()
	if conf.Backends[side].Sync.MasterUser == "" {
		return nil
	}
	var failed error
	proven := false
	for _, host := range a.hosts(conf, side, user) {
		err := a.proveAt(ctx, conf, y, side, host, user, others, write)
		var trouble *syncer.SideError
		switch {
		case err == nil:
			proven = true
		case errors.As(err, &trouble):
			failed = errors.Join(failed, err)
		default:
			return err
		}
	}
	if proven {
		return nil
	}
	return failed
}

func (a *accounts) proveAt(ctx context.Context, conf *config.Config, y *syncer.Syncer, side config.Side, host, user string, others []string,
	write bool) error {
	proof := proofOf(conf, side, host)
	profile, err := y.Profile(ctx, side, host)
	if err != nil {
		return err
	}
	if profile != nil && profile.MasterProven && profile.MasterLogin == proof {
		a.believe(proof)
		return nil
	}
	if !write {
		return unproven(side, host)
	}
	release, err := a.budget.Hold(ctx, side, user)
	if err != nil {
		return err
	}
	release = sync.OnceFunc(release)
	defer release()
	other, err := a.second(ctx, conf, side, host, user, others)
	if err != nil {
		return err
	}
	open := func(ctx context.Context, user string) (*backend.Client, error) {
		return a.login(ctx, conf, side, user, host)
	}
	err = syncer.ProveMaster(ctx, open, user, other)
	var wrong *syncer.WrongMailboxError
	switch {
	case errors.As(err, &wrong):
		return exitError{exitRefused, fmt.Errorf("%s: the master login cannot be used: %w; write backends.%s.sync.secrets instead", side, err, side)}
	case err != nil:
		return &syncer.SideError{Side: side, Err: fmt.Errorf("proof of the master login with %s and %s: %w", user, other, err)}
	}
	a.believe(proof)
	release()
	if profile == nil { // what else there is to know goes with it
		if profile, err = a.probe(ctx, side, host, user); err != nil {
			return err
		}
	}
	profile.MasterProven, profile.MasterLogin = true, proof
	return y.SaveProfile(ctx, side, profile)
}

// probe probes one host of a side with a user's account, which prove has been asked about.
func (a *accounts) probe(ctx context.Context, side config.Side, host, user string) (*syncer.Profile, error) {
	y := syncer.New(syncer.Options{Store: a.g.store, Log: a.g.log, Budget: a.budget, Open: func(ctx context.Context, side config.Side, user string) (*backend.Client, error) {
		return a.openAt(ctx, side, user, host)
	}})
	defer y.Close()
	return y.Probe(ctx, side, user)
}

// second finds another user with a mailbox at the same host. That user's login must be at that very host: at another one he
// would not see the marker either way, and nothing would be proven.
func (a *accounts) second(ctx context.Context, conf *config.Config, side config.Side, host, user string, others []string) (string, error) {
	var last error
	tried := map[string]bool{user: true}
	for _, o := range others {
		bound := a.g.routes.Load().For(o).Host[side]
		if tried[o] || bound != "" && bound != host {
			continue
		}
		tried[o] = true
		c, err := a.login(ctx, conf, side, o, host)
		if err == nil {
			_ = c.Logout(ctx)
			_ = c.Close()
			return o, nil
		}
		var e *backend.Error
		if !errors.As(err, &e) || e.Kind != backend.AuthFailed {
			return "", &syncer.SideError{Side: side, Err: err}
		}
		if last = err; len(tried) > mostSeconds {
			break
		}
	}
	err := fmt.Errorf("%s: the master login at %s is not proven to open the right mailbox yet, and two users with a mailbox there are needed "+
		"for that: run mailgate probe backends --user %s --user ANOTHER", side, host, user)
	if last != nil {
		err = fmt.Errorf("%w (another user is not let in: %w)", err, last)
	}
	return "", exitError{exitRefused, err}
}
