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
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return fmt.Errorf("control.socket: %w", err)
	}
	f, err := os.OpenFile(socket+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrPermission) {
		return exitError{exitRefused, fmt.Errorf("control.socket: %w; run it as the user that mailgate serve runs as, or with sudo", err)}
	} else if err != nil {
		return fmt.Errorf("control.socket: %w", err)
	}
	for end := time.Now().Add(wait); ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			g.lock = f
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return fmt.Errorf("control.socket: lock %s.lock: %w", socket, err)
		}
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			f.Close()
			return fmt.Errorf("mailgate serve runs already: it answers at %s", socket)
		}
		if time.Now().After(end) {
			f.Close()
			return fmt.Errorf("%w (%s.lock)", op.ErrInUse, socket)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
