package main

import (
	"net"
	"syscall"
)

// peerOf tells whose process is at the other end of a unix socket.
func peerOf(c *net.UnixConn) (uid, pid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var peer *syscall.Ucred
	var perr error
	if err := raw.Control(func(fd uintptr) {
		peer, perr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return 0, 0, err
	}
	if perr != nil {
		return 0, 0, perr
	}
	return int(peer.Uid), int(peer.Pid), nil
}
