package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"mailgate/op"
)

// alone takes the lock beside the control socket: on a machine there is one process behind each, which has its name among nodes. It
// waits while a verb has it; op.ErrInUse.
func (g *gateway) alone(ctx context.Context, wait time.Duration) error {
	socket := g.conf.Load().Control.Socket
	for end := time.Now().Add(wait); ; {
		err := g.aloneNow()
		if !errors.Is(err, op.ErrInUse) {
			return err
		}
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			return fmt.Errorf("mailgate serve runs already: it answers at %s", socket)
		}
		if time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// aloneNow is alone that does not wait.
func (g *gateway) aloneNow() error {
	socket := g.conf.Load().Control.Socket
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return fmt.Errorf("control.socket: %w", err)
	}
	f, err := os.OpenFile(socket+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrPermission) {
		return exitError{exitRefused, fmt.Errorf("control.socket: %w; run it as the user that mailgate serve runs as, or with sudo", err)}
	} else if err != nil {
		return fmt.Errorf("control.socket: %w", err)
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case err == nil:
		g.lock = f
		return nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		f.Close()
		return fmt.Errorf("%w (%s.lock)", op.ErrInUse, socket)
	default:
		f.Close()
		return fmt.Errorf("control.socket: lock %s.lock: %w", socket, err)
	}
}

// notAlone lets the lock go: at once, also where a program that is being started has the file open for a moment still.
func (g *gateway) notAlone() error {
	err := errors.Join(syscall.Flock(int(g.lock.Fd()), syscall.LOCK_UN), g.lock.Close())
	g.lock = nil
	return err
}
