package config

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Bounds of login.learn.expire. Past a year nobody remembers what is kept of him.
const (
	minExpire = time.Hour
	maxExpire = 366 * 24 * time.Hour
)

// checkLearn looks at what is kept of logins, and whether the key may be trusted with it.
func (l *loader) checkLearn() {
	c := l.c.Login.Learn
	if c.Expire < minExpire || c.Expire > maxExpire {
		l.bad("login.learn.expire", "%s is not from 1h to 8784h, which is a year; write for example 720h for 30 days", c.Expire)
	}
	l.checkHook(c)
	if c.Key != "" {
		if err := checkIdentity(c.Key); err != nil {
			l.bad("login.learn.key", "%v", err)
		}
		return
	}
	for _, side := range Sides {
		if l.c.Backends[side].Sync.Learned {
			l.bad("backends."+side.String()+".sync.learned", "needs login.learn.key, without which nothing is learned; "+
				"mailgate secrets key FILE makes the file")
		}
	}
}

// Bounds of login.learn.hook_time and login.learn.hook_parallel.
const (
	minHookTime = time.Second
	maxHookTime = 10 * time.Minute
	maxHooks    = 64
)

// checkHook looks whether the hook is a program that can be run.
func (l *loader) checkHook(c Learn) {
	if c.HookTime < minHookTime || c.HookTime > maxHookTime {
		l.bad("login.learn.hook_time", "%s is not from 1s to 10m; write for example 30s", c.HookTime)
	}
	if c.HookParallel < 1 || c.HookParallel > maxHooks {
		l.bad("login.learn.hook_parallel", "%d is not from 1 to %d; write for example 2", c.HookParallel, maxHooks)
	}
	if len(c.Hook) == 0 {
		return
	}
	if _, err := exec.LookPath(c.Hook[0]); err != nil {
		l.bad("login.learn.hook", "%v; write a program that the user of mailgate may run, and its arguments: [/usr/local/bin/provision, new]", err)
	}
}

// maxIdentity is the size of an identity file, comments included, in bytes.
const maxIdentity = 64 << 10

// errNoIdentity means that a file is not what mailgate secrets key writes. What it holds is not told: it may be another secret.
var errNoIdentity = errors.New("holds no age identity, or several: one line that begins with AGE-SECRET-KEY-1 is needed; " +
	"mailgate secrets key FILE makes such a file")

// checkIdentity refuses a file that others may read or write, and one that holds no age identity. The mode is that of the open
// file; a FIFO is not waited for.
func checkIdentity(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w; mailgate secrets key %s makes it", err, path)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !st.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	case st.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("others can read or change %s (mode %04o), which opens every password that is learned; run: chmod 600 %s",
			path, st.Mode().Perm(), path)
	}
	n := 0
	lines := bufio.NewScanner(io.LimitReader(f, maxIdentity))
	for lines.Scan() {
		switch line := strings.TrimSpace(lines.Text()); {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "AGE-SECRET-KEY-1"):
			n++
		default:
			n += 2
		}
	}
	if lines.Err() != nil || n != 1 {
		return fmt.Errorf("%s %w", path, errNoIdentity)
	}
	return nil
}
