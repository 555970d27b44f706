package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"mailgate/admin"
	"mailgate/cutover"
	"mailgate/op"
)

// fellowTime bounds the wait for what other nodes say of their sessions.
const fellowTime = 2 * time.Second

// Nodes implements admin.Fellows.
func (g *gateway) Nodes(ctx context.Context) ([]admin.NodeInfo, error) {
	if g.shared == nil {
		out := []admin.NodeInfo{{Name: nodeName(g.conf.Load()), Here: true, Leads: true, Since: g.since, Version: version,
			Sessions: len(g.router.Sessions("")), Serial: g.routes.Load().Serial}}
		host := g.host.Load()
		if host == nil {
			return out, nil
		}
		others, err := host.Others(ctx)
		silent := silentHere(others)
		for _, n := range others { // their routes file is of no account: they are told where people are
			out = append(out, admin.NodeInfo{Name: n.Name, Since: n.Since, Seen: n.Seen, SilentSeconds: silent[n.Name].Seconds(),
				Sessions: n.About.Sessions, Version: n.About.Version, Serial: n.About.Serial})
		}
		return out, err
	}
	nodes, err := g.shared.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	leader, err := g.shared.Leader(ctx)
	if err != nil {
		return nil, err
	}
	waiting, err := g.shared.Waiting(ctx)
	if err != nil {
		return nil, err
	}
	taken, err := g.shared.Serial(ctx)
	if err != nil {
		return nil, err
	}
	self := "" // a verb that looks is none
	if g.member != nil {
		self = g.member.Node().Incarnation
	}
	silent := cutover.Silent(nodes)
	out := []admin.NodeInfo{}
	for _, n := range nodes {
		out = append(out, admin.NodeInfo{Name: n.Name, Here: n.Incarnation == self, Leads: n.Incarnation == leader.Incarnation,
			Since: n.Since, Seen: n.Seen, SilentSeconds: silent[n.Name].Seconds(), Sessions: n.About.Sessions, Version: n.About.Version,
			Serial: n.About.Serial, Differs: taken != "" && n.About.Serial != taken && !n.About.HandedOver, Waiting: waiting[n.Incarnation]})
	}
	return out, nil
}

// RemoveNode implements admin.Fellows.
func (g *gateway) RemoveNode(ctx context.Context, name, by, from string) error {
	if host := g.host.Load(); host != nil {
		return g.removeOld(ctx, host, name, by, from)
	}
	if g.shared == nil {
		return exitError{exitRefused, errors.New("there is one process on this store (store.url names a database for several)")}
	}
	nodes, err := g.shared.Nodes(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(nodes, func(n op.Node) bool { return n.Name == name })
	switch {
	case i < 0:
		return exitError{exitDifference, fmt.Errorf("%s is no node; mailgate nodes lists them", name)}
	case g.member != nil && nodes[i].Incarnation == g.member.Node().Incarnation:
		return exitError{exitRefused, fmt.Errorf("%s is this node, and it runs: stop it instead", name)}
	}
	return removed(g.shared.RemoveNode(ctx, nodes[i], op.Event{At: time.Now(), What: "node removed", Before: name, By: by, From: from,
		Detail: "last heard of " + nodes[i].Seen.Format(time.RFC3339)}), name)
}

// removed words what came of it.
func removed(err error, name string) error {
	if errors.Is(err, op.ErrNodes) {
		return exitError{exitDifference, fmt.Errorf("%s has just left, or registered anew; mailgate nodes lists them", name)}
	}
	return err
}

// removeOld takes out a process that has handed over.
func (g *gateway) removeOld(ctx context.Context, host *cutover.Host, name, by, from string) error {
	others, err := host.Others(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(others, func(n op.Node) bool { return n.Name == name })
	if i < 0 {
		return exitError{exitDifference, fmt.Errorf("%s is no other node; mailgate nodes lists them", name)}
	}
	return removed(g.store.RemoveNode(ctx, others[i], op.Event{At: time.Now(), What: "node removed", Before: name, By: by, From: from}), name)
}

// Sessions implements admin.Fellows.
func (g *gateway) Sessions(ctx context.Context, user string) (out []admin.SessionInfo, silent []string, err error) {
	if g.member == nil && g.host.Load() == nil {
		return nil, nil, nil
	}
	silent, err = g.fellows(ctx, fellowTime, http.MethodGet, "/sessions", url.Values{"user": {user}}, func(name string, body []byte) error {
		var list []admin.SessionInfo
		err := json.Unmarshal(body, &list)
		for i := range list {
			list[i].Node = name
		}
		out = append(out, list...)
		return err
	})
	return out, silent, err
}

// Kick implements admin.Fellows.
func (g *gateway) Kick(ctx context.Context, user, by, from string) (k admin.Kicked, err error) {
	if g.member == nil && g.host.Load() == nil {
		return k, nil
	}
	k.Silent, err = g.fellows(admin.WithOrigin(ctx, from), 2*forwardTime, http.MethodPost, "/kick", url.Values{"user": {user}, "by": {by}}, func(_ string, body []byte) error {
		var one admin.Kicked
		err := json.Unmarshal(body, &one)
		k.Asked += one.Asked
		k.Left += one.Left
		return err
	})
	return k, err
}

// Counts implements admin.Fellows.
func (g *gateway) Counts(ctx context.Context, wave string) (n admin.SessionCounts, silent []string, err error) {
	n = admin.SessionCounts{}
	if g.member == nil && g.host.Load() == nil {
		return n, nil, nil
	}
	silent, err = g.fellows(ctx, fellowTime, http.MethodGet, "/sessions/counts", url.Values{"wave": {wave}}, func(_ string, body []byte) error {
		var one admin.SessionCounts
		err := json.Unmarshal(body, &one)
		n.Add(one)
		return err
	})
	return n, silent, err
}

// Node names this process for lists of several; "" where there is one.
func (g *gateway) Node() string {
	if g.member == nil {
		if host := g.host.Load(); host != nil {
			return nodeName(g.conf.Load())
		}
		return ""
	}
	return g.member.Node().Name
}

// live keeps this process a node, until ctx ends; when it cannot be one any more, stop ends it.
func (g *gateway) live(ctx context.Context, lost *error, stop context.CancelFunc) {
	if err := g.member.Run(ctx); err != nil {
		g.log.Error("this process ends: it cannot be a node", "err", err)
		*lost = err
		stop()
	}
}

// workLocal goes on with a gateway that a verb has opened to look: it works from now on.
func (p *program) workLocal(ctx context.Context) error {
	if p.local.conf.Load().Store.URL == "" {
		return p.local.work(ctx)
	}
	err := p.local.close() // a node is another one
	if err == nil {
		p.local, err = p.openLocal(ctx, asVerbNode)
	}
	return err
}

// startVerb joins and leads for a verb that moves users, while no serve runs here and no other node leads.
func (g *gateway) startVerb(ctx context.Context) error {
	if err := g.member.Join(ctx); err != nil {
		return err
	}
	g.removeEnded(ctx)
	if err := g.elect(ctx); err != nil {
		if errors.Is(err, op.ErrInUse) {
			return exitError{exitRefused, fmt.Errorf("node %s leads: run it there", g.member.Leader().Name)}
		}
		return err
	}
	run, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.member.Run(run) })
	g.stopVerb = func() {
		stop()
		wg.Wait()
	}
	return nil
}
