package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
	"mailgate/proxy"
	"mailgate/tlsconf"
)

// Paths of the control socket that are no verbs: the connection goes on as something else.
const (
	takeOverPath = "/take-over" // to a successor: see offered
	fellowPath   = "/fellow"    // to a process that has handed over: a cutover.Link
	servesPath   = "/serves"    // within a link: the successor serves
)

// sayTime bounds each step of a take-over in which the other process has nothing to wait for.
const sayTime = 10 * time.Second

// heir is what a process has of the one that it takes over, before it has the store.
type heir struct {
	conn  *net.UnixConn
	limit time.Duration

	mu      sync.Mutex
	sockets []proxy.Socket // handed over, and those that are opened beside; whoever takes one has it
	link    *cutover.Link
	other   cutover.RemoteNode
}

// upgrade makes a connection to the control socket something else.
func upgrade(ctx context.Context, socket, path string) (*net.UnixConn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	u := c.(*net.UnixConn)
	defer context.AfterFunc(ctx, func() { u.Close() })()
	fail := func(err error) (*net.UnixConn, error) {
		u.Close()
		return nil, err
	}
	_ = u.SetDeadline(time.Now().Add(sayTime))
	if _, err := fmt.Fprintf(u, "POST %s HTTP/1.1\r\nHost: mailgate\r\nConnection: Upgrade\r\nUpgrade: mailgate\r\nContent-Length: 0\r\n\r\n", path); err != nil {
		return fail(err)
	}
	var head []byte // to its end and no further: what follows may come with files
	for b := make([]byte, 1); len(head) < 1<<16; {
		if _, err := io.ReadFull(u, b); err != nil {
			return fail(err)
		}
		if head = append(head, b[0]); len(head) >= 4 && string(head[len(head)-4:]) == "\r\n\r\n" {
			break
		}
	}
	if res, ok := refusedUpgrade(head, u); ok {
		return fail(res)
	}
	_ = u.SetDeadline(time.Time{})
	return u, nil
}

// inherit asks the process that serves for its sockets, having looked that nothing is in the way of a start. nil when none serves.
func (p *program) inherit(ctx context.Context, limit time.Duration) (h *heir, err error) {
	conf, err := p.load()
	if err != nil {
		return nil, err
	}
	if err := rehearse(conf); err != nil {
		return nil, err
	}
	conn, err := upgrade(ctx, conf.Control.Socket, takeOverPath)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, nil
	case err != nil:
		return nil, exitError{exitRefused, fmt.Errorf("take over the gateway that answers at %s: %w", conf.Control.Socket, err)}
	}
	h = &heir{conn: conn, limit: limit}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(sayTime))
	var o offered
	files, err := hear(conn, &o)
	if err != nil {
		return nil, fmt.Errorf("take over: the other process did not hand out its sockets: %w", err)
	}
	old, err := inherited(o, files)
	if err != nil {
		return nil, fmt.Errorf("take over: %w", err)
	}
	h.sockets = old
	if mine := storeName(conf); o.Store != "" && o.Store != mine {
		return nil, exitError{exitRefused, fmt.Errorf("take over: the other process has its store in %s, and the configuration says %s; "+
			"stop it, and start this one", o.Store, mine)}
	}
	if err := h.openRest(conf); err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return h, nil
}

// openRest opens the addresses that the other process does not have, so that it goes on if one cannot be opened; what it has and the
// configuration does not is closed.
func (h *heir) openRest(conf *config.Config) error {
	var want []proxy.Socket
	for _, e := range conf.Listen {
		want = append(want, proxy.Socket{Network: e.Network(), Address: e.Address()})
	}
	if conf.Admin.Listen != "" {
		want = append(want, proxy.Socket{Network: "tcp", Address: conf.Admin.Listen})
	}
	old := h.sockets
	h.sockets = nil
	for i := range want {
		l, err := takeSocket(&old, want[i].Network, want[i].Address)
		if err != nil {
			closeSockets(old)
			return err
		}
		want[i].Listener = l
		h.sockets = append(h.sockets, want[i])
	}
	closeSockets(old)
	return nil
}

// takeSocket takes the first that fits out of a list, or opens one.
func takeSocket(list *[]proxy.Socket, network, address string) (net.Listener, error) {
	for i, s := range *list {
		if s.Network == network && s.Address == address {
			*list = append((*list)[:i:i], (*list)[i+1:]...)
			return s.Listener, nil
		}
	}
	return proxy.OpenSocket(network, address)
}

func closeSockets(list []proxy.Socket) {
	for _, s := range list {
		s.Close()
	}
}

// open is proxy.Options.Open.
func (h *heir) open(network, address string) (net.Listener, error) {
	if h == nil {
		return proxy.OpenSocket(network, address)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return takeSocket(&h.sockets, network, address)
}

// take asks for the store. When it returns nil the store is free, or the name among the nodes of a database, and the other process is a node
// that has to be asked.
func (h *heir) take(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { h.conn.Close() })()
	if err := say(h.conn, wanted{Limit: h.limit}, nil); err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	var g given
	if _, err := hear(h.conn, &g); err != nil {
		return fmt.Errorf("take over: the other process did not give the store: %w", err)
	}
	if g.Error != "" {
		return exitError{exitRefused, fmt.Errorf("take over: the other process goes on: %s", g.Error)}
	}
	h.other.Node = g.Node
	h.link = cutover.NewLink(h.conn)
	return nil
}

// close lets go of all that nobody has taken. Unless this process serves by now, the other one goes on as before.
func (h *heir) close() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	closeSockets(h.sockets)
	h.sockets = nil
	h.conn.Close()
}

// rehearse looks that a start would not fail for what the files say.
func rehearse(conf *config.Config) error {
	quiet := slog.New(slog.DiscardHandler)
	if _, err := config.LoadRoutes(conf); err != nil {
		return err
	}
	if _, err := learnKey(conf); err != nil {
		return err
	}
	if _, err := tlsconf.NewCertificates(conf.TLS, quiet); err != nil {
		return err
	}
	if _, err := backend.NewDialer(conf.Backends, quiet, nil); err != nil {
		return err
	}
	v, err := newVerifiers(conf)
	if err != nil {
		return err
	}
	v.Close()
	files, err := filesLimit()
	if err != nil {
		return err
	}
	return checkFiles(files, conf, quiet)
}

// meetOld serves the process that was taken over, and those before it, from before the state is brought in order: its acknowledgement is
// needed. The result ends that.
func (g *gateway) meetOld(ctx context.Context, h *heir) (stop func()) {
	host := g.host.Load()
	if h == nil || host == nil {
		return func() {}
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { _ = host.Serve(run, h.link) })
	soon, enough := context.WithTimeout(ctx, meetTime)
	defer enough()
	if err := host.Wait(soon, h.other.Node); err != nil { // it may have ended: that is found out in time
		g.log.Warn("the process that was taken over is not heard of", "node", h.other.Node.Name, "err", err)
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// meetTime is how long a start waits to hear of the process that was taken over.
const meetTime = 2 * time.Second

// tellOld tells the process that was taken over that this one serves, until it knows or has ended: until then both listen.
func (g *gateway) tellOld(ctx context.Context, h *heir) {
	defer g.leaving.taking.Store(false)
	if g.member != nil {
		g.tellNode(ctx, h)
		return
	}
	host := g.host.Load()
	if host == nil { // it ended as soon as it had given the store
		g.log.Warn("the process that was taken over has ended, and its sessions with it", "node", h.other.Node.Name)
		return
	}
	for told := false; ; told = true {
		try, cancel := context.WithTimeout(ctx, sayTime)
		reply, err := cutover.AskNode(try, host, host.Present(try, h.other.Node), cutover.Call{Method: http.MethodPost, Path: servesPath})
		cancel()
		if err == nil && reply.Status != http.StatusOK {
			err = fmt.Errorf("it answers %s", reply.Body)
		}
		switch {
		case err == nil:
			g.leaving.taking.Store(false)
			g.log.Info("taken over", "node", h.other.Node.Name)
			return
		case errors.Is(err, op.ErrGone):
			g.log.Warn("the process that was taken over has ended, and its sessions with it", "node", h.other.Node.Name)
			return
		case ctx.Err() != nil:
			return
		case !told:
			g.log.Warn("the process that was taken over cannot be told yet that this one serves", "node", h.other.Node.Name, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(redialTime):
		}
	}
}
