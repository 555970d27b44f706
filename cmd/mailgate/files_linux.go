package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// servingFiles is how many files the process may have open that listens on the control socket.
func servingFiles(socket string) (uint64, error) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *syscall.Ucred
	var perr error
	if err := raw.Control(func(fd uintptr) {
		peer, perr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if perr != nil {
		return 0, perr
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/limits", peer.Pid)) // readable for everybody
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "Max open files"); ok {
			if soft := strings.Fields(rest); len(soft) > 0 {
				return strconv.ParseUint(soft[0], 10, 64)
			}
		}
	}
	return 0, errors.New("the limits of the process do not tell")
}
