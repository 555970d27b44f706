package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/learned"
	"mailgate/syncer"
)

// accounts logs the syncer in as a user at a side, the way the configuration says. It is safe for concurrent use.
type accounts struct {
	g      *gateway
	dialer *backend.Dialer
	budget *syncer.Budget
	book   *learned.Book

	secrets [2]auth.SecretsFile // by side

	mu     sync.Mutex
	tokens map[string]token // by side and user
	proven map[string]bool  // by proofOf: master logins that are known to open the right mailbox
}

type token struct {
	value config.Secret
	until time.Time
}

// tokenLife is how long a token is used before the command is asked again.
const tokenLife = 5 * time.Minute

// open logs in at a side as a user of ours; with a master login only at a host where that is proven, see prove.
func (a *accounts) open(ctx context.Context, side config.Side, user string) (*backend.Client, error) {
	return a.openAt(ctx, side, user, a.g.routes.Load().For(user).Host[side])
}

// openAt does that at a host, "" for any of the side's.
func (a *accounts) openAt(ctx context.Context, side config.Side, user, host string) (*backend.Client, error) {
	conf := a.g.conf.Load()
	c, err := a.login(ctx, conf, side, user, host)
	if err == nil && conf.Backends[side].Sync.MasterUser != "" && !a.believed(proofOf(conf, side, c.Host())) {
		_ = c.Logout(ctx)
		_ = c.Close()
		return nil, unproven(side, c.Host())
	}
	return c, err
}

// login does that without a thought of whose mailbox is opened.
func (a *accounts) login(ctx context.Context, conf *config.Config, side config.Side, user, host string) (*backend.Client, error) {
	return logIn(ctx, a, conf, side, user, host, "", a.dialer.DialClient)
}

// dialing connects to a side's host and logs in: DialClient for mail, DialSieve for scripts.
type dialing[C any] func(ctx context.Context, side config.Side, host string, who backend.Account) (C, error)

// logIn is login with any protocol.
func logIn[C any](ctx context.Context, a *accounts, conf *config.Config, side config.Side, user, host string, service config.Protocol, dial dialing[C]) (none C, err error) {
	login, s := conf.LoginName(side, a.g.routes.Load().For(user)), conf.Backends[side].Sync
	switch {
	case s.MasterUser != "":
		who, err := masterAccount(conf, side, login)
		if err != nil {
			return none, err
		}
		return dial(ctx, side, host, who)
	case s.Secrets != "":
		password, err := a.secret(conf, side, s.Secrets, user)
		if err != nil {
			return none, err
		}
		c, err := auth.Password("PLAIN", login, password.Reveal())
		if err != nil {
			return none, err
		}
		return dial(ctx, side, host, backend.Account{LoginName: login, Credentials: c})
	case len(s.TokenCommand) > 0:
		return byToken(ctx, a, side, user, login, host, s.TokenCommand, dial)
	case s.Learned:
		return byLearned(ctx, a, side, user, login, host, service, dial)
	}
	return none, fmt.Errorf("%w: write backends.%s.sync.secrets, .master_user, .token_command or .learned into mailgate.yaml", syncer.ErrNoLogin, side)
}

// secret finds a user's password in a file that is looked at each time: passwords change.
func (a *accounts) secret(conf *config.Config, side config.Side, file, user string) (config.Secret, error) {
	all, err := a.secrets[side].Read(file)
	if err != nil {
		return "", exitError{exitRefused, fmt.Errorf("backends.%s.sync.secrets: %w", side, err)}
	}
	if s, ok := all[user]; ok {
		return s, nil
	}
	addresses := config.NewAddresses(conf.Routes)
	for name, s := range all {
		if canonical, err := addresses.Canonical(name); err == nil && canonical == user {
			return s, nil
		}
	}
	hint := ""
	if a.g.routes.Load().Users[user] == nil {
		hint = ", and in none of the routes file: is the address spelt right?"
	}
	return "", fmt.Errorf("%w as %s: he stands in no line of %s%s", syncer.ErrNoLogin, user, file, hint)
}

// byToken logs in with an access token; the mechanism is the one that the server offers.
func byToken[C any](ctx context.Context, a *accounts, side config.Side, user, login, host string, argv []string, dial dialing[C]) (none C, err error) {
	t, err := a.token(ctx, side, user, argv)
	if err != nil {
		return none, err
	}
	var last error
	for _, mechanism := range []string{"OAUTHBEARER", "XOAUTH2"} {
		c := &auth.Credentials{Mechanism: mechanism, Username: login, Token: t}
		var client C
		if client, last = dial(ctx, side, host, backend.Account{LoginName: login, Credentials: c}); last == nil {
			return client, nil
		}
		if !errors.Is(last, backend.ErrNotOffered) {
			break // it was asked, and a token that is refused in one form is in the other
		}
	}
	a.mu.Lock()
	delete(a.tokens, side.String()+" "+user) // perhaps it was the token: the next try asks for another
	a.mu.Unlock()
	return none, last
}

// tokenTime bounds the command.
const tokenTime = 30 * time.Second

func (a *accounts) token(ctx context.Context, side config.Side, user string, argv []string) (config.Secret, error) {
	key := side.String() + " " + user
	a.mu.Lock()
	t, ok := a.tokens[key]
	a.mu.Unlock()
	if ok && time.Now().Before(t.until) {
		return t.value, nil
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTime)
	defer cancel()
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Env = append(os.Environ(), "MAILGATE_USER="+user, "MAILGATE_SIDE="+side.String())
	c.WaitDelay = time.Second
	out, err := c.Output()
	var status *exec.ExitError
	switch {
	case errors.As(err, &status): // what it said on standard error may hold a secret
		return "", fmt.Errorf("backends.%s.sync.token_command: %w; to see what it says, run it by hand as the user of mailgate, with "+
			"MAILGATE_USER=%s and MAILGATE_SIDE=%s in its environment", side, err, user, side)
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return "", exitError{exitRefused, fmt.Errorf("backends.%s.sync.token_command: %w", side, err)}
	case err != nil:
		return "", fmt.Errorf("backends.%s.sync.token_command: %w", side, err)
	}
	value := strings.TrimSpace(string(out))
	if value == "" || strings.ContainsAny(value, "\r\n\x00\x01") {
		return "", fmt.Errorf("backends.%s.sync.token_command printed no token in one line", side)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tokens == nil {
		a.tokens = map[string]token{}
	}
	a.tokens[key] = token{config.Secret(value), time.Now().Add(tokenLife)}
	return config.Secret(value), nil
}
