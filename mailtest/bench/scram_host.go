package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// scramRound measures logins by SCRAM at a real host, directly and through a proxy before it: a backend that does nothing would make any
// hop look long.
func (b *bench) scramRound(ctx context.Context, round int, through string, d time.Duration) error {
	host, addr, err := b.startHost(ctx)
	if err != nil {
		return err
	}
	defer host.stop()
	c := *b // which has that backend
	c.back.IMAP = addr
	p, err := c.startPeer(ctx, through)
	if err != nil {
		return err
	}
	defer p.main.stop()
	err = c.measure(ctx, round, job{Kind: scramHost, For: d}, p)
	b.results = c.results
	return err
}

// mailOwner is the uid and gid of mail: nobody's.
const mailOwner = 65534

// startHost runs a Dovecot with mailboxes of its own.
func (b *bench) startHost(ctx context.Context) (*process, string, error) {
	dir, err := os.MkdirTemp(b.dir, "h")
	if err != nil {
		return nil, "", err
	}
	hash, err := exec.CommandContext(ctx, "doveadm", "pw", "-s", "SCRAM-SHA-256", "-p", password).Output()
	if err != nil {
		return nil, "", fmt.Errorf("doveadm pw: %w", err)
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, "", err
	}
	home := filepath.Join(dir, "home")
	err = errors.Join(os.Chmod(dir, 0o711), os.Mkdir(filepath.Join(dir, "run"), 0o755), os.Mkdir(filepath.Join(dir, "state"), 0o755), os.Mkdir(home, 0o755),
		os.Chown(home, mailOwner, mailOwner))
	s := settings{Dir: dir, Front: frontAddrs{IMAP: ports[0]}, Workers: runtime.NumCPU(), Password: strings.TrimSpace(string(hash)), Owner: mailOwner}
	if err = errors.Join(err, s.render("dovecot-host.conf")); err != nil {
		return nil, "", err
	}
	p, err := start(filepath.Join(dir, "host.out"), exec.Command("dovecot", "-F", "-c", filepath.Join(dir, "dovecot-host.conf")))
	if err != nil {
		return nil, "", err
	}
	err = p.await(ctx, "the mail host", func() error {
		c, err := imapLogin(ports[0], false, 0, 1024)
		if err == nil {
			c.Close()
		}
		return err
	})
	if err != nil {
		p.stop()
		return nil, "", err
	}
	return p, ports[0], nil
}
