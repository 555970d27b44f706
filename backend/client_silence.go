package backend

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"mailgate/config"
	"mailgate/tlsconf"
)

// How long a server may neither take nor give a byte while something is outstanding, by what is asked of it; of what is asked together
// the longest counts. What changes mail gets time, as it may wait for locks of others; an APPEND most of all: who gives up on one whose
// literal is through, and tries again, makes twins.
const (
	briefSilence  = time.Minute     // what needs no mailbox
	lookSilence   = 2 * time.Minute // what opens and reads one, or all: an index may have to be made first
	clientSilence = 5 * time.Minute // the others
	appendSilence = 10 * time.Minute
)

// silence is how long nothing may be heard while a command is the only one.
func (x *Command) silence() time.Duration {
	if x.append {
		return appendSilence
	}
	switch x.name {
	case "NOOP", "NAMESPACE", "ENABLE", "ID", "UNSELECT", "LOGOUT", "SUBSCRIBE", "UNSUBSCRIBE", "IDLE", "COMPRESS":
		return briefSilence
	case "SELECT", "EXAMINE", "STATUS", "LIST", "UID FETCH", "NOTIFY":
		return lookSilence
	}
	return clientSilence
}

// patience is the silence that is put up with now. The caller holds mu.
func (c *Client) patience() time.Duration {
	if c.silence > 0 {
		return c.silence
	}
	most := briefSilence
	for _, x := range c.outstanding {
		most = max(most, x.silence())
	}
	return most
}

// SetSilence changes how long the server may say nothing, whatever is asked; 0 means that it goes by what is asked.
func (c *Client) SetSilence(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silence = d
	c.deadline()
}

// SilenceError means that a server neither took nor gave a byte for too long. It is an os.ErrDeadlineExceeded.
type SilenceError struct {
	Host    string
	Command string // the oldest that it owed an answer to
	For     time.Duration
}

func (e *SilenceError) Error() string {
	return fmt.Sprintf("%s has said nothing for %s; it owes an answer to %s", e.Host, e.For, e.Command)
}

// Unwrap makes it the timeout that it is.
func (e *SilenceError) Unwrap() error { return os.ErrDeadlineExceeded }

// mute words a timeout, and lets the host's health know.
func (c *Client) mute(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || len(c.outstanding) == 0 { // it was closed, or nothing was asked
		return err
	}
	e := &SilenceError{Host: c.host, Command: c.outstanding[0].name, For: c.patience()}
	c.health.muted(config.IMAP, e)
	return e
}

// deadAfter is when a machine is taken for gone that does not even acknowledge what it is sent, by its kernel.
const deadAfter = time.Minute

// watchful makes the system find out soon that the other machine is gone, so that the long patience with an APPEND is for those who are
// there. People's sessions are left as they are: they live through a network that is away for a while.
func watchful(c net.Conn) error {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	q, ok := c.(*tlsconf.Quiet)
	if !ok {
		return nil
	}
	if err := q.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: deadAfter / 2, Interval: deadAfter / 6, Count: 3}); err != nil {
		return err
	}
	return setUserTimeout(q.TCPConn, deadAfter)
}
