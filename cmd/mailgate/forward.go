package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"mailgate/admin"
	"mailgate/cutover"
	"mailgate/op"
)

// Times of asking another node. One that leads and stands still must not hold up who only looks.
const (
	lookTime    = 3 * time.Second
	forwardTime = 30 * time.Second
	waitMargin  = 5 * time.Second
	syncTime    = 10 * time.Minute
)

// handler answers the control socket. Verbs work on every node: what the one that leads has to answer is passed on to it.
func (g *gateway) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost && r.URL.Path == takeOverPath:
			g.successor(w)
			return
		case r.Method == http.MethodPost && r.URL.Path == fellowPath:
			g.fellow(w)
			return
		case g.leaving.lent.Load():
			sayNo(w, admin.ExitUnknown, errHanded)
			return
		}
		if here(r.URL.Path) || g.leadsSurely() {
			g.api().Handler().ServeHTTP(w, r)
			return
		}
		if err := r.ParseForm(); err != nil {
			sayNo(w, admin.ExitUsage, err)
			return
		}
		leader := g.whoLeads(r.Context())
		if r.URL.Path == "/sync/run" || r.URL.Path == "/sync/verify" { // who ends the verb ends them, and they tell how far they are
			sayNoSync(w, fmt.Errorf("this runs on the node that leads: run it on %s", leader.Name), admin.ExitRefused)
			return
		}
		c := cutover.Call{Method: r.Method, Path: r.URL.Path, Form: r.Form, From: g.cameFrom(r.Context())}
		reply, err := g.forward(r.Context(), leader, c)
		for errors.Is(err, errAnotherLeads) && c.Path == "/op/wait" { // it goes on with who leads now
			reply, err = g.forward(r.Context(), g.whoLeads(r.Context()), c)
		}
		switch {
		case err == nil && reply.Text != "":
			_, _ = w.Write([]byte(reply.Text))
		case err == nil:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(reply.Status)
			_, _ = w.Write(reply.Body)
		case looks(c): // what this node and the store know is better than nothing
			g.api().Handler().ServeHTTP(w, r)
		case strings.HasPrefix(c.Path, "/sync/"):
			sayNoSync(w, err, admin.ExitUnknown)
		default:
			sayNo(w, admin.ExitUnknown, err)
		}
	})
}

// cameFrom is where a request came from that this node has others answer.
func (g *gateway) cameFrom(ctx context.Context) string {
	return strings.TrimSuffix("node "+g.Node()+", "+admin.Origin(ctx), ", ")
}

// leadsSurely is leads, behind the beginning or the end of a term that is under way.
func (g *gateway) leadsSurely() bool {
	g.terms.Lock()
	defer g.terms.Unlock()
	return g.leads()
}

// here tells what each node answers for itself.
func here(path string) bool {
	return path == "/reload" || path == "/sessions" || path == "/kick" || path == "/nodes" || path == "/nodes/remove"
}

// followTime is how long a verb waits for another node to lead where the one that led is gone.
const followTime = 5 * time.Second

// whoLeads is the node that leads, as the store has it now; when there is none it waits a little for one. Without the store it is the one
// last heard of.
func (g *gateway) whoLeads(ctx context.Context) op.Leader {
	for end := time.Now().Add(followTime); ; {
		try, cancel := context.WithTimeout(ctx, lookTime)
		leader, err := g.shared.Leader(try)
		var nodes []op.Node
		if err == nil {
			nodes, err = g.shared.Nodes(try)
		}
		cancel()
		if err != nil {
			return g.member.Leader()
		}
		if slices.ContainsFunc(nodes, func(n op.Node) bool { return n.Incarnation == leader.Incarnation }) {
			return leader
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return op.Leader{}
		}
		select {
		case <-ctx.Done():
		case <-time.After(electEvery / 4):
		}
	}
}

// forward asks the node that leads.
func (g *gateway) forward(ctx context.Context, leader op.Leader, c cutover.Call) (cutover.Reply, error) {
	limit := forwardTime
	switch d, err := time.ParseDuration(c.Form.Get("timeout")); {
	case looks(c):
		limit = lookTime
	case strings.HasPrefix(c.Path, "/sync/"):
		limit = syncTime
	case err == nil:
		limit = d + waitMargin
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errSilentNode)
	defer cancel()
	if leader.Name == "" {
		return cutover.Reply{}, errors.New("no node leads at the moment; ask again")
	}
	ctx, stop := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		g.watchLead(ctx, leader, stop)
	}()
	reply, err := cutover.AskNode(ctx, g.member.Wire(), op.Node{Name: leader.Name, Incarnation: leader.Incarnation}, c)
	stop(nil)
	<-watched
	switch {
	case errors.Is(err, errAnotherLeads):
		return reply, fmt.Errorf("node %s was asked, and %w; look what has become of it (mailgate op list --all)", leader.Name, err)
	case errors.Is(err, op.ErrGone):
		return reply, fmt.Errorf("node %s leads no more, and no other does yet; ask again", leader.Name)
	case err != nil:
		return reply, fmt.Errorf("node %s, which leads, does not answer (%w); whether it has done anything is not known. "+
			"If it is down for good: mailgate nodes remove %s", leader.Name, err, leader.Name)
	}
	return reply, nil
}

// watchLead calls stop when another leads, until ctx ends: who was asked may be dead, and registered still.
func (g *gateway) watchLead(ctx context.Context, leader op.Leader, stop context.CancelCauseFunc) {
	tick := time.NewTicker(electEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now, err := g.shared.Leader(ctx); err == nil && now.Term > leader.Term {
			stop(errAnotherLeads)
		}
	}
}

var errAnotherLeads = errors.New("another node leads by now")

var errSilentNode = errors.New("nothing was heard of it in time")

// looks tells whether this node and the store have an answer too.
func looks(c cutover.Call) bool {
	return c.Method == http.MethodGet && slices.Contains([]string{"/status", "/user", "/ops", "/op", "/history", "/holds", "/waves"}, c.Path)
}

// sayNoSync is sayNo as admin.Client.Stream reads it.
func sayNoSync(w http.ResponseWriter, err error, exit int) {
	_ = json.NewEncoder(w).Encode(map[string]admin.Failure{"failure": {Error: err.Error(), Exit: exit}})
}

func sayNo(w http.ResponseWriter, exit int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnprocessableEntity)
	_ = json.NewEncoder(w).Encode(admin.Failure{Error: err.Error(), Exit: exit})
}

// answer is what another node asks of this one: its own part of what all are asked, or, if it leads, anything.
func (g *gateway) answer(ctx context.Context, c cutover.Call) cutover.Reply {
	if c.Path == servesPath {
		if !g.leaving.successorServes() {
			b, _ := json.Marshal(admin.Failure{Error: "it leads again: the connection had ended", Exit: admin.ExitUnknown})
			return cutover.Reply{Status: http.StatusUnprocessableEntity, Body: b}
		}
		return cutover.Reply{Status: http.StatusOK, Body: []byte("{}")}
	}
	if c.Path == signalsPath {
		return g.tellSignals(c.Form)
	}
	if c.Path == notesPath {
		return g.hearNotes(ctx, c.Form)
	}
	own := c.Form.Get("here") != ""
	if !own && !g.leadsSurely() {
		b, _ := json.Marshal(admin.Failure{Error: "that node leads no more; ask again", Exit: admin.ExitUnknown})
		return cutover.Reply{Status: http.StatusUnprocessableEntity, Body: b}
	}
	ctx = admin.WithOrigin(ctx, cmp.Or(c.From, "another node"))
	status, body := admin.Serve(ctx, g.api().Handler(), c.Method, c.Path, c.Form)
	if strings.HasPrefix(c.Path, "/sync/") {
		return cutover.Reply{Status: status, Text: string(body)}
	}
	if !json.Valid(body) {
		body, _ = json.Marshal(admin.Failure{Error: strings.TrimSpace(string(body)), Exit: admin.ExitFailed})
	}
	return cutover.Reply{Status: status, Body: body}
}

// fellows asks all other nodes the same, and gives each answer; who does not answer in time is named.
func (g *gateway) fellows(ctx context.Context, limit time.Duration, method, path string, form url.Values, each func(name string, body []byte) error) (silent []string, err error) {
	nodes, wire, away, err := g.asked(ctx)
	if err != nil {
		return nil, err
	}
	ask, from := url.Values{"here": {"1"}}, g.cameFrom(ctx)
	for k, v := range form {
		ask[k] = v
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errSilentNode)
	defer cancel()
	type got struct {
		name  string
		reply cutover.Reply
		err   error
	}
	answers := make(chan got, len(nodes))
	for _, n := range nodes {
		if _, ok := away[n.Name]; ok {
			answers <- got{name: n.Name, err: errSilentNode}
			continue
		}
		go func() { // ends with ctx
			r, err := cutover.AskNode(ctx, wire, n, cutover.Call{Method: method, Path: path, Form: ask, From: from})
			answers <- got{n.Name, r, err}
		}()
	}
	for range nodes {
		x := <-answers
		if x.err != nil || x.reply.Status != http.StatusOK {
			silent = append(silent, x.name)
			continue
		}
		if e := each(x.name, x.reply.Body); e != nil {
			err = errors.Join(err, e)
		}
	}
	return silent, err
}

// asked are the other nodes, what reaches them, and which are silent.
func (g *gateway) asked(ctx context.Context) (nodes []op.Node, by cutover.Asker, away map[string]time.Duration, err error) {
	if host := g.host.Load(); host != nil {
		nodes, err = host.Others(ctx)
		return nodes, host, silentHere(nodes), err
	}
	all, err := g.shared.Nodes(ctx)
	self := g.member.Node().Name
	nodes = slices.DeleteFunc(slices.Clone(all), func(n op.Node) bool { return n.Name == self })
	return nodes, g.member.Wire(), cutover.Silent(all), err
}

// silentHere are nodes of this machine that are not heard of: by its clock.
func silentHere(nodes []op.Node) map[string]time.Duration {
	out := map[string]time.Duration{}
	for _, n := range nodes {
		since := n.Seen
		if since.IsZero() {
			since = n.Since
		}
		if d := time.Since(since); d > silentTime {
			out[n.Name] = d
		}
	}
	return out
}

// silentTime is some heartbeats.
const silentTime = 6 * time.Second
