package main

import (
	"fmt"
	"log/slog"
	"syscall"

	"mailgate/config"
)

// How many sessions the limit of open files leaves room for. Go raises the soft limit to the hard one when a program starts, so nothing is
// left to be raised here.
const (
	filesSession   = 2    // a client's connection and its host's
	filesOwn       = 256  // store, log, control socket, certificates, looks at hosts, passwords read
	sessionsWanted = 5000 // fewer are worth a warning
	filesLeast     = 100  // with fewer serve does not start
)

// sessionsWithin tells how many sessions so many open files leave room for, beside what the syncer takes.
func sessionsWithin(files uint64, conf *config.Config) int {
	own := filesOwn + conf.Sync.Watch + 2*conf.Sync.Passes*conf.Sync.Connections
	return (int(min(files, 1<<30)) - own) / filesSession
}

// raiseFiles is what somebody can do about it.
const raiseFiles = "raise the limit: LimitNOFILE= in the unit of systemd, --ulimit nofile= of a container, ulimit -n in a shell"

// checkFiles refuses to serve next to nobody, and warns when many would be turned away.
func checkFiles(files uint64, conf *config.Config, log *slog.Logger) error {
	n := max(sessionsWithin(files, conf), 0)
	switch {
	case files < filesLeast:
		return exitError{exitRefused, fmt.Errorf("this process may have %d files open, which is room for nobody; %s", files, raiseFiles)}
	case n < sessionsWanted:
		log.Warn("few files may be open: when all are in use, clients before login are turned away", "files", files, "sessions", n,
			"way_out", raiseFiles)
	}
	return nil
}

// filesLimit is how many files this process may have open.
func filesLimit() (uint64, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}
	return l.Cur, nil
}

// files looks at the limit of open files: that of the serve that runs, or else the one that it would have if it were started like this.
func (d *doctor) files() {
	const name = "open files"
	who := "mailgate serve, which runs,"
	n, err := servingFiles(d.conf.Control.Socket)
	running := err == nil
	if !running {
		who = "a process that is started from here"
		n, err = filesLimit()
	}
	if err != nil {
		d.note(unknown, name, "%v", err)
		return
	}
	room := max(sessionsWithin(n, d.conf), 0)
	text := fmt.Sprintf("%s may have %d files open: room for %d sessions", who, n, room)
	switch {
	case room >= sessionsWanted:
		d.note(pass, name, "%s", text)
	case running:
		d.note(fail, name, "%s; %s", text, raiseFiles)
	default:
		d.note(unknown, name, "%s; %s. What mailgate serve may have is seen while it runs", text, raiseFiles)
	}
}
