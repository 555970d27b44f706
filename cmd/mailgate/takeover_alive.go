package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"mailgate/config"
	"mailgate/op"
)

// A process that has handed over proves that it runs by a file beside the store, or beside the control socket where the store is a database,
// which it keeps locked: the kernel lets go of the lock when the process ends, however that ends. Whoever opens the store next needs that
// process's acknowledgement, also when the one in between was killed.

// aliveDir is where these files are.
func aliveDir(c *config.Config) string {
	if c.Store.URL != "" {
		return c.Control.Socket + ".nodes"
	}
	return c.Store.Path + ".nodes"
}

// sayAlive makes the file of a node, in place of that which this process had before (nil if none). It ends when the result is closed.
func sayAlive(dir, tag string, n op.Node, before *os.File) (*os.File, error) {
	text, err := json.Marshal(op.Node{Name: n.Name, Incarnation: n.Incarnation})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("say that this process runs: %w", err)
	}
	tmp := filepath.Join(dir, "."+tag)
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(tmp, filepath.Join(dir, tag)) // nobody looks at it before it is locked and whole
	}
	if err != nil {
		if f != nil {
			f.Close()
			_ = os.Remove(tmp)
		}
		return nil, fmt.Errorf("say that this process runs: %w", err)
	}
	if before != nil {
		before.Close()
	}
	return f, nil
}

// alive are the nodes that have handed over and still run. Files of those that do not are removed.
func alive(dir string) (out []op.Node, err error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look which gateways have handed over and still run: %w", err)
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		n, runs, err := isAlive(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("look which gateways have handed over and still run: %w", err)
		}
		if runs {
			out = append(out, n)
		}
	}
	return out, nil
}

func isAlive(file string) (n op.Node, runs bool, err error) {
	for {
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			return n, false, nil
		}
		if err != nil {
			return n, false, err
		}
		n, runs, replaced, err := readAlive(file, f)
		f.Close()
		if !replaced {
			return n, runs, err
		}
	}
}

// readAlive reads a file of a node that was opened at a path. replaced tells that another one has taken its place since: the process runs,
// and has let go of this one.
func readAlive(path string, f *os.File) (n op.Node, runs, replaced bool, err error) {
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); {
	case err == nil: // behind that it is not replaced any more: sayAlive does so before it lets go
		mine, err := f.Stat()
		if err != nil {
			return n, false, false, err
		}
		there, err := os.Stat(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return n, false, false, nil
		case err != nil:
			return n, false, false, err
		case !os.SameFile(mine, there):
			return n, false, true, nil
		}
		if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) { // who else looks may have been first
			return n, false, false, err
		}
		return n, false, false, nil
	case !errors.Is(err, syscall.EWOULDBLOCK):
		return n, false, false, err
	}
	err = json.NewDecoder(f).Decode(&n)
	return n, true, false, err
}

// ended are the nodes of which a file says that their process has ended, by the file. Here the files stay: with a database a registration goes
// only for a file that is there, since somebody may have emptied the directory.
func ended(dir string) (map[string]op.Node, error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look which gateways that have handed over have ended: %w", err)
	}
	out := map[string]op.Node{}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		n, over, err := hasEnded(path)
		if err != nil {
			return nil, fmt.Errorf("look which gateways that have handed over have ended: %w", err)
		}
		if over {
			out[path] = n
		}
	}
	return out, nil
}

func hasEnded(path string) (n op.Node, over bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return n, false, nil
	}
	if err != nil {
		return n, false, err
	}
	defer f.Close()
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return n, false, nil
	case err != nil:
		return n, false, err
	}
	mine, err := f.Stat()
	if err != nil {
		return n, false, err
	}
	if there, err := os.Stat(path); err != nil || !os.SameFile(mine, there) { // it was taken away, or replaced, before the lock went
		return n, false, nil
	}
	err = json.NewDecoder(f).Decode(&n)
	return n, err == nil, err
}

// runs tells whether the process of a node runs, also where that is registering under its next incarnation, or has let go of the file of the
// last one because it hands over again: it has its sessions as before. So the name decides, which holds the number of the process. true also
// when it cannot be told, and where another process has that number by now: until that is registered flips wait.
func runs(dir string, n op.Node) bool {
	list, err := alive(dir)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(list, func(x op.Node) bool { return x.Name == n.Name })
}
