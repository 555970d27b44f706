package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// Where the store is a database nothing has to pass but the name among nodes, and the lock beside the control socket that goes with it. The
// process that hands over goes on as a node under another name: it is registered without a gap, beats, and is asked as ever. Whoever has the
// lock has the name, so it can go back when the lock is free, and the successor's connection has ended.

// nameApart names a process that has handed over: the node's name with the number of the process.
func nameApart(c *config.Config) string { return fmt.Sprintf("%s/%d", nodeName(c), os.Getpid()) }

// giveName gives a node's name up. It may be called again after an error, and goBack undoes it. What this process alone does has ended.
func (g *gateway) giveName(ctx context.Context) error {
	l, conf := &g.leaving, g.conf.Load()
	if l.given { // a successor before had the lock, and may have it still
		if err := g.takeBack(ctx); err != nil {
			return err
		}
	}
	tag := tagOf(g.member.Node())
	l.mu.Lock()
	f, err := sayAlive(aliveDir(conf), tag, op.Node{Name: nameApart(conf), Incarnation: g.member.Node().Incarnation}, l.alive)
	if err == nil {
		l.alive, l.file = f, filepath.Join(aliveDir(conf), tag)
	}
	l.mu.Unlock()
	if err != nil {
		return err
	}
	l.apart.Store(true)
	try, cancel := context.WithTimeout(context.WithoutCancel(ctx), sayTime)
	defer cancel()
	if err := g.member.Rename(try, nameApart(conf), false); err != nil {
		return err
	}
	l.node = g.member.Node()
	l.given = true
	return g.notAlone()
}

// tagOf is what the incarnations of a node's process begin with.
func tagOf(n op.Node) string {
	tag, _, _ := strings.Cut(n.Incarnation, ".")
	return tag
}

// stayNode waits until the successor serves: true; false when it ends before, or this process does.
func (g *gateway) stayNode(c *net.UnixConn) (served bool) {
	l := &g.leaving
	if _, err := hear(c, &serves{}); err != nil {
		return false
	}
	l.served.Store(true)
	g.log.Info("handed over; sessions that run go on here", "node", l.node.Name, "sessions", len(g.router.Sessions("")))
	g.stopServing()
	_ = say(c, heard{}, nil) // who cannot hear it has ended
	return true
}

// nameAgain gives this process the node's name back. It has the lock; so whoever had the name meanwhile has ended. runs tells that what one
// process alone runs was not ended.
func (g *gateway) nameAgain(ctx context.Context, runs bool) error {
	l := &g.leaving
	l.apart.Store(false)
	try, cancel := context.WithTimeout(ctx, sayTime)
	defer cancel()
	err := g.member.Rename(try, nodeName(g.conf.Load()), true)
	if err == nil {
		err = g.syncing.keeping.load(ctx) // who is paused may have changed
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	l.unsay()
	g.syncing.reopen()
	l.lent.Store(false)
	if !runs {
		g.startLeading()
	}
	return nil
}

// unsay takes the file away that says that this process has handed over: it has its name again, or is a node no more.
func (l *leaving) unsay() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.alive != nil {
		_ = os.Remove(l.file) // before the lock: a file that is not locked proves that the process has ended
		l.alive.Close()
		l.alive = nil
	}
}

// findOld looks that the process which was taken over is a node of the same database: else nobody would ask it. One that has ended needs not
// be one.
func (g *gateway) findOld(ctx context.Context, h *heir) error {
	if h == nil || g.member == nil {
		return nil
	}
	nodes, err := g.shared.Nodes(ctx)
	if err != nil {
		return fmt.Errorf("take over: read nodes: %w", err)
	}
	if slices.ContainsFunc(nodes, func(n op.Node) bool {
		return n.Name == h.other.Node.Name && tagOf(n) == tagOf(h.other.Node) // a copy of its database knows it under the name of before
	}) {
		return nil
	}
	_ = h.conn.SetReadDeadline(time.Now().Add(meetTime))
	if _, err := hear(h.conn, &heard{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return exitError{exitRefused, fmt.Errorf("take over: the other process (%s) is no node of this database (store.url); stop it, and start this one",
		h.other.Node.Name)}
}

// tellNode is tellOld where the store is a database.
func (g *gateway) tellNode(ctx context.Context, h *heir) {
	defer context.AfterFunc(ctx, func() { h.conn.Close() })()
	name := h.other.Node.Name
	late := time.AfterFunc(sayTime, func() {
		g.log.Warn("the process that was taken over does not answer yet to that this one serves", "node", name)
	})
	defer late.Stop()
	err := say(h.conn, serves{}, nil)
	if err == nil {
		_, err = hear(h.conn, &heard{})
	}
	switch {
	case err == nil:
		g.log.Info("taken over", "node", name)
	case ctx.Err() == nil:
		g.log.Warn("the process that was taken over has ended, and its sessions with it", "node", name, "err", err)
	}
}

// watchEnded takes processes out that had this node's name before and have ended without a word, until ctx ends.
func (g *gateway) watchEnded(ctx context.Context) {
	for {
		g.removeEnded(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(endedEvery):
		}
	}
}

// endedEvery is how often watchEnded looks: as a rule at a directory that is not there.
const endedEvery = 500 * time.Millisecond

// removeEnded is one look. This process has the lock, so none of them goes back meanwhile. What fails is tried at the next one.
func (g *gateway) removeEnded(ctx context.Context) {
	dead, err := ended(aliveDir(g.conf.Load()))
	if err != nil {
		g.log.Warn("processes that have handed over", "err", err)
	}
	if len(dead) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sayTime)
	defer cancel()
	nodes, err := g.shared.Nodes(ctx)
	if err != nil {
		return
	}
	for path, d := range dead {
		i := slices.IndexFunc(nodes, func(n op.Node) bool { return n.Name == d.Name && tagOf(n) == tagOf(d) })
		if i >= 0 {
			why := "its process has ended"
			err := g.shared.RemoveNode(ctx, nodes[i], op.Event{At: time.Now(), What: "node removed", Before: d.Name, By: "serve", Detail: why})
			if err != nil && !errors.Is(err, op.ErrNodes) {
				g.log.Warn("a node whose process has ended is registered still", "node", d.Name, "err", err)
				continue
			}
			g.log.Info("node is gone", "node", d.Name, "why", why)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			g.log.Warn("processes that have handed over", "err", err)
		}
	}
}
