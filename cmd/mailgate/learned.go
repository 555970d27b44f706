package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/learned"
)

// learnKey reads the key of passwords that are learned; nil when nothing is.
func learnKey(conf *config.Config) (*learned.Key, error) {
	if conf.Login.Learn.Key == "" {
		return nil, nil
	}
	key, err := learned.ReadKey(conf.Login.Learn.Key)
	if err != nil {
		return nil, exitError{exitRefused, err}
	}
	return key, nil
}

// newBook makes the Book of learned passwords; learn gives it a key.
func newBook(s *syncing) *learned.Book {
	return learned.New(learned.Options{Store: s.g.store, Log: s.g.log, Recorder: s.g.metrics, Changed: s.again}) // he may have failed for want of it
}

// again has passes that fail made again, over a user or over all ("").
func (s *syncing) again(user string) {
	switch {
	case s.keeping == nil:
	case user == "":
		s.keeping.k.RetryAll()
	default:
		s.keeping.k.Retry(user)
	}
}

// learn puts the key of the configuration in force.
func (s *syncing) learn(conf *config.Config) error {
	key, err := learnKey(conf)
	if err == nil {
		s.adopt(key, conf)
	}
	return err
}

// adopt puts a key and what else a configuration says of learning in force.
func (s *syncing) adopt(key *learned.Key, conf *config.Config) {
	s.book.Configure(key, conf.Login.Learn.Expire)
	s.ledger.Configure(ledgerSettings(conf))
}

// byLearned logs in with what the user himself has logged in with.
func byLearned[C any](ctx context.Context, a *accounts, side config.Side, user, login, host string, service config.Protocol, dial dialing[C]) (c C, err error) {
	var none C
	err = a.book.UseAt(ctx, user, side, service, func(password config.Secret) error {
		creds, err := auth.Password("PLAIN", login, password.Reveal())
		if err != nil {
			return err
		}
		c, err = dial(ctx, side, host, backend.Account{LoginName: login, Credentials: creds})
		return err
	}, refusedPassword)
	if err != nil {
		return none, err
	}
	return c, nil
}

// refusedPassword tells whether a server has refused a password. One without response codes that speaks of connections means those:
// Cyrus, Dovecot and Courier say so when a user has too many.
func refusedPassword(err error) bool {
	var e *backend.Error
	return errors.As(err, &e) && e.Kind == backend.AuthFailed && (e.Code != "" && e.Code != "ALERT" || !strings.Contains(strings.ToLower(e.Reply), "connection"))
}

// notLearned tells whether a side cannot be logged in at because of what is known of a user's password.
func notLearned(err error) bool {
	var unknown *learned.UnknownError
	var refused *learned.RefusedError
	return errors.As(err, &unknown) || errors.As(err, &refused) || errors.Is(err, learned.ErrOff) || errors.Is(err, learned.ErrOtherKey) ||
		errors.Is(err, learned.ErrOtherPlace)
}

// learnedWayOut is what somebody can do about that.
func learnedWayOut(user string, err error) string {
	var unknown *learned.UnknownError
	var refused *learned.RefusedError
	switch {
	case errors.As(err, &unknown):
		return "nothing: it goes on by itself when he logs in through mailgate with a password"
	case errors.As(err, &refused):
		side := strings.ToUpper(refused.Side.String())
		return "have him log in through mailgate with the password that " + side + " takes: it goes on by itself then; when it was " + side +
			" that was wrong, mailgate secrets retry " + user + " has the same one tried once more"
	case errors.Is(err, learned.ErrOff):
		return "write login.learn.key into mailgate.yaml again, or another way to log in"
	}
	return "put back the key that login.learn.key had; or nothing: he is learned anew when he logs in through mailgate (mailgate secrets list shows whose do not open)"
}

// SecretsList answers secrets list.
type SecretsList struct {
	On        bool            `json:"on"`      // login.learn.key is set
	UsedBy    []string        `json:"used_by"` // sides with sync.learned
	Passwords []learned.Entry `json:"passwords"`
	Hash      bool            `json:"hash"` // login.learn.hash is set
	Hook      bool            `json:"hook"` // login.learn.hook is set
	Hashes    []HashEntry     `json:"hashes"`
}

// HashEntry tells of a hash that is kept, without it.
type HashEntry struct {
	User    string      `json:"user"`
	Side    config.Side `json:"side"` // that last let him in with the password
	Learned time.Time   `json:"learned"`
	Seen    time.Time   `json:"last_login"`
	Expires time.Time   `json:"expires"`
}

// SecretsChanged answers secrets forget and secrets retry.
type SecretsChanged struct {
	User      string `json:"user"` // "" for everybody
	Passwords int    `json:"passwords"`
	Hashes    int    `json:"hashes"` // of so many users, by secrets forget
	On        bool   `json:"on"`
}

// secrets answers the verbs of that name: action is "list", "forget", "retry" or "export".
func (s *syncing) secrets(ctx context.Context, form url.Values) (any, error) {
	user := ""
	if form.Get("user") != "" {
		var err error
		if user, _, _, err = s.g.Resolve(form.Get("user")); err != nil {
			return nil, exitError{exitUsage, err}
		}
	}
	ctx, leave, err := s.visit(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	conf := s.g.conf.Load()
	on := conf.Login.Learn.Key != ""
	switch form.Get("action") {
	case "list":
		out := SecretsList{On: on, UsedBy: []string{}}
		for _, side := range config.Sides {
			if conf.Backends[side].Sync.Learned {
				out.UsedBy = append(out.UsedBy, side.String())
			}
		}
		if out.Passwords, err = s.book.List(ctx, user); err != nil {
			return nil, err
		}
		out.Hash, out.Hook = conf.Login.Learn.Hash, len(conf.Login.Learn.Hook) > 0
		out.Hashes, err = s.listHashes(ctx, user)
		return out, err
	case "export":
		if !conf.Login.Learn.Hash {
			return nil, exitError{exitRefused, errors.New("login.learn.hash is not set: no hashes are kept for NEW")}
		}
		if wave := form.Get("wave"); wave != "" && !slices.Contains(s.g.waves(), wave) {
			return nil, exitError{exitUsage, fmt.Errorf("no user in the routes file has wave=%s", wave)}
		}
		return s.hashes(ctx, user, form.Get("wave"))
	case "forget", "retry":
		if user == "" && form.Get("all") == "" {
			return nil, exitError{exitUsage, errors.New("whose? an address, or --all")}
		}
		out := SecretsChanged{User: user, On: on}
		if form.Get("action") == "retry" {
			out.Passwords, err = s.book.Allow(ctx, user, form.Get("by"), form.Get("from"))
			s.again(user)
			return out, err
		}
		if out.Hashes, err = s.ledger.Forget(ctx, user, form.Get("by"), form.Get("from")); err != nil {
			return nil, err
		}
		if out.Passwords, err = s.book.Forget(ctx, user, form.Get("by"), form.Get("from")); errors.Is(err, learned.ErrLeft) {
			err = exitError{exitPartly, err}
		}
		return out, err
	}
	return nil, exitError{exitUsage, errors.New("unknown action")}
}
