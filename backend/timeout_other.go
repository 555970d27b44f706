//go:build !linux

package backend

import (
	"net"
	"time"
)

// setUserTimeout does nothing: this system has its own times.
func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }
