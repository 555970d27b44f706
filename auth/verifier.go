package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"mailgate/config"
)

// RefusedError means that an authority has looked at a secret and does not take it. Any other error of an authority means that nobody
// knows, and is never to look like a wrong password.
type RefusedError struct {
	By  config.Authority
	Why string // for logs; it tells nothing of the secret
}

// Error implements error.
func (e *RefusedError) Error() string { return "authority " + string(e.By) + ": " + e.Why }

// Verifiers are the authorities that are no side: a file of hashes, a directory, an authorization server. They are safe for concurrent
// use, and remember no password; tokens are believed for authority.oauth.cache.
type Verifiers struct {
	set     atomic.Pointer[verifiers]
	hashing room // hashes that are computed at a time: some take 64 MiB each
	asking  room // connections to directories
}

// verifiers is what a reload changes. What is not configured is nil.
type verifiers struct {
	file      *passwordFile
	directory *directory
	tokens    *introspector
}

// maxDirectoryConnections bounds those to directories: each login has one of its own, for moments.
const maxDirectoryConnections = 64

// patience is how long a login waits for an authority, its turn included: a flood of guesses must not pile up for longer than clients wait.
const patience = 30 * time.Second

var errCrowd = errors.New("too many logins wait for the authority")

// NewVerifiers makes those that are configured. Files that they need are read; nobody is asked.
func NewVerifiers(c *config.Config) (*Verifiers, error) {
	v := &Verifiers{hashing: newRoom(max(2, runtime.GOMAXPROCS(0))), asking: newRoom(maxDirectoryConnections)}
	return v, v.Configure(c)
}

// Configure puts another configuration in force. On an error the one before stays.
func (v *Verifiers) Configure(c *config.Config) error {
	next := &verifiers{}
	a := c.Authority
	addresses := config.NewAddresses(c.Routes)
	if a.File != "" {
		next.file = &passwordFile{path: a.File, canonical: addresses.Canonical}
		if _, _, err := next.file.read(); err != nil {
			return fmt.Errorf("authority.file: %w", err)
		}
	}
	var err error
	if a.LDAP.URL != "" {
		if next.directory, err = newDirectory(a.LDAP, addresses.DefaultDomain()); err != nil {
			return fmt.Errorf("authority.ldap: %w", err)
		}
	}
	if a.OAuth.URL != "" {
		if next.tokens, err = newIntrospector(a.OAuth, addresses.Canonical); err != nil {
			return fmt.Errorf("authority.oauth: %w", err)
		}
	}
	if old := v.set.Swap(next); old != nil {
		old.close()
	}
	return nil
}

// Adopt puts in force what another was made with, which is not to be used any more.
func (v *Verifiers) Adopt(o *Verifiers) {
	if old := v.set.Swap(o.set.Load()); old != nil {
		old.close()
	}
}

// Close lets go of connections that are kept. Nothing may be verified any more.
func (v *Verifiers) Close() { v.set.Load().close() }

func (s *verifiers) close() {
	if s.tokens != nil {
		s.tokens.close()
	}
}

// Verify asks an authority that is no side whether the secret is that of a user, whose canonical address is user. The error is a
// *RefusedError when it is not.
func (v *Verifiers) Verify(ctx context.Context, by config.Authority, user string, c *Credentials) error {
	s := v.set.Load()
	if (by == config.ByOAuth) != c.OAuth() || c.Password == "" && c.Token == "" {
		return &RefusedError{by, "cannot verify what " + c.Mechanism + " gives: it takes " + takes(by)}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errCrowd)
	defer cancel()
	switch {
	case by == config.ByFile && s.file != nil:
		return v.byFile(ctx, s.file, user, c.Password)
	case by == config.ByLDAP && s.directory != nil:
		return v.asking.inTurn(ctx, func() error { return s.directory.verify(ctx, user, c.Password) })
	case by == config.ByOAuth && s.tokens != nil:
		return s.tokens.verify(ctx, user, c.Token)
	}
	return fmt.Errorf("authority %s is not configured", by)
}

func takes(by config.Authority) string {
	if by == config.ByOAuth {
		return "tokens only (XOAUTH2, OAUTHBEARER)"
	}
	return "passwords only"
}

// byFile compares with a file of hashes. Who is not in it costs as much as who is.
func (v *Verifiers) byFile(ctx context.Context, f *passwordFile, user string, password config.Secret) error {
	users, settled, err := f.read()
	if err != nil {
		return fmt.Errorf("authority.file: %w", err)
	}
	s, known := users.of[user]
	if !known {
		s = users.nobody
	}
	ok := false
	err = v.hashing.inTurn(ctx, func() (err error) {
		if s.match != nil { // else the file is empty
			ok, err = s.match(password.Reveal())
		}
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("authority.file: %w", err)
	case !known && !settled:
		return errors.New("authority.file: the user is not in the file, which is being written")
	case !known:
		return &RefusedError{config.ByFile, "the user is not in the file"}
	case !ok:
		return &RefusedError{config.ByFile, "the password is another one"}
	}
	return nil
}

// hostOf is the host of an address with a port.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}
