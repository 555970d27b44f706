package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/syncer"
)

// asUser is how the gateway logs in at a side as a user who was verified elsewhere: by the master user, and only at hosts whose service
// was seen to open the mailbox of who is asked for. It implements proxy.Options.Master.
func (a *accounts) asUser(side config.Side, p config.Protocol, login string) (backend.Account, error) {
	conf := a.g.conf.Load()
	if conf.Backends[side].Sync.MasterUser == "" {
		return backend.Account{}, fmt.Errorf("backends.%s.sync.master_user is not set, and %s is to log in a user whom it has not verified", side, side)
	}
	who, err := masterAccount(conf, side, login)
	who.Only = func(host string) bool { return a.believed(proofAt(conf, side, host, p)) }
	return who, err
}

// masters tells whether the gateway logs anybody in by a master user; the syncer needs no more than IMAP and ManageSieve.
func masters(conf *config.Config, routes *config.RouteFile) bool {
	return conf.TLS.ClientCA != "" || conf.Delegated(routes)
}

// recall believes what earlier probes have proven of the hosts that are configured now.
func (a *accounts) recall(ctx context.Context, conf *config.Config) error {
	y := syncer.New(syncer.Options{Store: a.g.store, Log: a.g.log})
	defer y.Close()
	for _, side := range config.Sides {
		if conf.Backends[side].Sync.MasterUser == "" {
			continue
		}
		for _, h := range conf.Backends[side].Hosts {
			profile, err := y.Profile(ctx, side, h.Name)
			if err != nil {
				return err
			}
			if profile == nil {
				continue
			}
			for _, p := range config.Protocols() {
				if proof := proofAt(conf, side, h.Name, p); provenOf(profile, p) == proof {
					a.believe(proof)
				}
			}
		}
	}
	return nil
}

// provenOf is what was proven of a host's service, "" when nothing.
func provenOf(profile *syncer.Profile, p config.Protocol) string {
	switch {
	case p == config.IMAP && profile.MasterProven:
		return profile.MasterLogin
	case p == config.IMAP:
		return ""
	case p == config.Sieve:
		return profile.SieveProven
	}
	return profile.Proven[string(p)]
}

// proveServices proves the master login at the services of a host besides IMAP, where that is proven. What cannot be proven is not used
// there, and is in the error.
func (a *accounts) proveServices(ctx context.Context, y *syncer.Syncer, side config.Side, host string, who []string) (errs error) {
	conf := a.g.conf.Load()
	if !masters(conf, a.g.routes.Load()) || conf.Backends[side].Sync.MasterUser == "" || !a.believed(proofOf(conf, side, host)) {
		return nil
	}
	for _, h := range conf.Backends[side].Hosts {
		for _, p := range config.Protocols() {
			if h.Name != host || p == config.IMAP || h.Endpoint(p).Host == "" {
				continue
			}
			if err := a.proveService(ctx, conf, y, side, host, p, who); err != nil {
				errs = errors.Join(errs, &syncer.SideError{Side: side, Err: fmt.Errorf("%s at %s: the master login is not proven there, so "+
					"that nobody is logged in by it: %w", p, host, err)})
			}
		}
	}
	return errs
}

func (a *accounts) proveService(ctx context.Context, conf *config.Config, y *syncer.Syncer, side config.Side, host string, p config.Protocol, who []string) error {
	proof := proofAt(conf, side, host, p)
	if a.believed(proof) {
		return nil
	}
	profile, err := y.Profile(ctx, side, host)
	if err != nil || profile == nil {
		return err
	}
	if provenOf(profile, p) == proof {
		a.believe(proof)
		return nil
	}
	switch p {
	case config.Sieve:
		var account backend.Account
		if account, err = masterAccount(conf, side, conf.LoginName(side, a.g.routes.Load().For(who[0]))); err != nil {
			return err
		}
		var c *backend.SieveClient
		if c, err = a.dialer.DialSieve(ctx, side, host, account); err != nil {
			return err
		}
		defer c.Close()
		return a.strict(ctx, conf, side, who[0], c, true)
	case config.POP3:
		err = a.provePOP3(ctx, conf, side, host, who)
	default:
		err = a.proveSubmission(ctx, conf, side, host, who[0])
	}
	if err != nil {
		return err
	}
	a.believe(proof)
	if profile.Proven == nil {
		profile.Proven = map[string]string{}
	}
	profile.Proven[string(p)] = proof
	return y.SaveProfile(ctx, side, profile)
}

// nobodyLike is a login name that nobody has, where user's is known.
func (a *accounts) nobodyLike(conf *config.Config, side config.Side, user string) string {
	nobody := "mailgate-nobody-" + strings.ToLower(rand.Text()[:12])
	if _, domain, ok := strings.Cut(conf.LoginName(side, a.g.routes.Load().For(user)), "@"); ok {
		nobody += "@" + domain
	}
	return nobody
}

// proveSubmission: the master is let in as the user, and not as somebody who does not exist. A host that does not heed as whom he logs in
// takes anybody; so does one that knows nobody who does not exist, and then nothing is proven.
func (a *accounts) proveSubmission(ctx context.Context, conf *config.Config, side config.Side, host, user string) error {
	in := func(login string) error {
		who, err := masterAccount(conf, side, login)
		if err != nil {
			return err
		}
		c, err := a.dialer.DialSubmission(ctx, side, host, backend.LoginSubmission{Credentials: who.Credentials, LoginName: who.LoginName,
			Authzid: who.Authzid, Helo: conf.Hostname, GatewayName: conf.Hostname})
		if err == nil {
			_ = c.SetDeadline(time.Now().Add(time.Second))
			_, _ = c.Write([]byte("QUIT\r\n"))
			_, _ = c.ReadReply()
			_ = c.Close()
		}
		return err
	}
	if err := in(conf.LoginName(side, a.g.routes.Load().For(user))); err != nil {
		return err
	}
	if err := in(a.nobodyLike(conf, side, user)); !isRefused(err) {
		return lax(err)
	}
	return nil
}

// lax says that somebody who does not exist was let in, or what went wrong.
func lax(err error) error {
	if err == nil {
		err = errors.New("it lets the master in as somebody who does not exist, so that nobody can tell whom it heeds (Dovecot: write pass = yes into the passdb of the masters)")
	}
	return err
}

func isRefused(err error) bool {
	var e *backend.Error
	return errors.As(err, &e) && e.Kind == backend.AuthFailed
}

// provePOP3: what the master sees by POP3 as a user are as many messages as by IMAP, where he was seen to open the right mailbox; and he
// is not let in as somebody who does not exist, or sees an empty mailbox where the user's is not.
func (a *accounts) provePOP3(ctx context.Context, conf *config.Config, side config.Side, host string, who []string) error {
	nobody := a.nobodyLike(conf, side, who[0])
	last := errors.New("no user is known who may come there") // nothing is proven by nobody
	tried := map[string]bool{}
	for _, user := range who {
		if tried[user] || len(tried) == mostSeconds {
			continue
		}
		tried[user] = true
		if bound := a.g.routes.Load().For(user).Host[side]; bound != "" && bound != host {
			continue
		}
		n, err := a.same(ctx, conf, side, host, user)
		if err != nil {
			if last = err; isRefused(err) { // he may have no mailbox here yet
				continue
			}
			return err
		}
		theirs, err := a.countPOP3(ctx, conf, side, host, nobody)
		switch {
		case isRefused(err):
			return nil
		case err != nil:
			return err
		case n > 0 && theirs == 0:
			_, err := a.same(ctx, conf, side, host, user) // and it was not the mailbox of all three that had changed
			return err
		}
		last = errors.New("it lets the master in as somebody who does not exist, and no user was found with mail in his INBOX to tell the two " +
			"apart: run mailgate probe backends with --user of one who has")
	}
	return last
}

// same counts a user's messages by POP3, and makes sure that IMAP shows as many; mail may come in between.
func (a *accounts) same(ctx context.Context, conf *config.Config, side config.Side, host, user string) (n int, err error) {
	login := conf.LoginName(side, a.g.routes.Load().For(user))
	by := 0
	for range 3 {
		if n, err = a.countPOP3(ctx, conf, side, host, login); err != nil {
			return 0, err
		}
		if by, err = a.countIMAP(ctx, conf, side, host, user); err != nil {
			return 0, err
		}
		if n == by {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%s has %d messages by POP3 and %d by IMAP: it is not the same mailbox, or not all of it", user, n, by)
}

func (a *accounts) countIMAP(ctx context.Context, conf *config.Config, side config.Side, host, user string) (int, error) {
	c, err := a.login(ctx, conf, side, user, host)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	s, err := c.Status("INBOX", "MESSAGES").Result(ctx)
	if err != nil {
		return 0, err
	}
	_ = c.Logout(ctx)
	return int(s.Messages), nil
}

// countPOP3 asks STAT (RFC 1939, section 5).
func (a *accounts) countPOP3(ctx context.Context, conf *config.Config, side config.Side, host, login string) (n int, err error) {
	who, err := masterAccount(conf, side, login)
	if err != nil {
		return 0, err
	}
	c, err := a.dialer.DialPOP3(ctx, side, host, backend.LoginPOP3{Credentials: who.Credentials, LoginName: who.LoginName, Authzid: who.Authzid})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(conf.Backends[side].LoginTimeout))
	if _, err := c.Write([]byte("STAT\r\n")); err != nil {
		return 0, err
	}
	line, err := bufio.NewReaderSize(c, 512).ReadString('\n')
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscanf(line, "+OK %d", &n); err != nil || n < 0 {
		return 0, fmt.Errorf("STAT is answered by %q", strings.TrimSpace(line))
	}
	_, err = c.Write([]byte("QUIT\r\n"))
	return n, err
}
