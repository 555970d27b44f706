package cutover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/op"
)

// What a process that has handed over asks of the one that leads.
const (
	askJoin  = "join"
	askLeave = "leave"
	askBeat  = "beat"
	askRows  = "rows of"
	askNodes = "nodes"
	askAll   = "rows"
	askOne   = "row"
	askRules = "rules"
	askTold  = "told"
)

// plea is such a question, Registry over a Link.
type plea struct {
	What string   `json:"what"`
	Node op.Node  `json:"node,omitzero"`
	Rows []op.Row `json:"rows,omitempty"`
	User string   `json:"user,omitempty"`
	Note *Note    `json:"note,omitempty"`
}

// Note is what a session of a process that has handed over has done, of which the one that has the store must know: a mailbox of the user
// has changed, or messages were deleted because he asked for it.
type Note struct {
	User     string            `json:"user"`
	Protocol config.Protocol   `json:"protocol,omitempty"`
	Side     config.Side       `json:"side"`
	Session  uint64            `json:"session,omitempty"` // as no other process has one
	Deletes  *imapwire.Deletes `json:"deletes,omitempty"` // nil: something has changed
}

type reply struct {
	Error  string    `json:"error,omitempty"`
	Kind   string    `json:"kind,omitempty"` // of the error, see replyErrors
	Node   op.Node   `json:"node,omitzero"`
	Leader op.Leader `json:"leader,omitzero"`
	Nodes  []op.Node `json:"nodes,omitempty"`
	Rows   []op.Row  `json:"rows,omitempty"`
	Rules  op.Rules  `json:"rules,omitzero"`
}

func replyErrors() map[string]error {
	return map[string]error{"nodes": op.ErrNodes, "name": op.ErrNodeName, "not found": op.ErrNotFound, "unavailable": op.ErrUnavailable}
}

// HostOptions are what a Host works with. All but Told must be set.
type HostOptions struct {
	Store op.Store
	Local *LocalNode // this process, which leads
	// Alive tells whether the process of a node still runs. A false must be certain: its acknowledgement counts no more then.
	Alive func(n op.Node) bool
	Log   *slog.Logger
	// Told is told what other processes' sessions do; nil means that nobody asks. It must not block.
	Told func(n Note)
}

// Host is the one process that has the store, as those see it that had it before and still have sessions: it registers them, asks them,
// and takes them out when they have ended. It implements Cluster, and asks them as a
// Wire does. It is safe for concurrent use.
type Host struct {
	o HostOptions

	mu      sync.Mutex
	links   map[string]*Link // by incarnation
	all     map[*Link]bool
	parted  bool
	heard   map[string]op.Node
	changed chan struct{} // closed and made anew when links changes
}

// NewHost makes one. Begin must come before flips do.
func NewHost(o HostOptions) *Host {
	return &Host{o: o, links: map[string]*Link{}, all: map[*Link]bool{}, heard: map[string]op.Node{}, changed: make(chan struct{})}
}

// Begin registers this process and those that still run, and takes out those that do not.
func (h *Host) Begin(ctx context.Context, running []op.Node) error {
	self := op.Node{Name: h.o.Local.Name(), Incarnation: h.o.Local.Incarnation(), Since: time.Now()}
	nodes, err := h.o.Store.Nodes(ctx)
	if err != nil {
		return fmt.Errorf("read nodes: %w", err)
	}
	all := append([]op.Node{self}, running...)
	for _, x := range nodes {
		if !slices.ContainsFunc(all, func(n op.Node) bool { return n.Name == x.Name }) {
			if err := h.remove(ctx, x, "its process has ended"); err != nil && !errors.Is(err, op.ErrNodes) {
				return err
			}
		}
	}
	for _, n := range all {
		if err := h.o.Store.AddNode(ctx, n); err != nil {
			return fmt.Errorf("register node %s: %w", n.Name, err)
		}
	}
	return nil
}

// remove takes out this very registration: op.ErrNodes when there is none, but perhaps another of that name.
func (h *Host) remove(ctx context.Context, n op.Node, why string) error {
	e := op.Event{At: time.Now(), What: "node removed", Before: n.Name, By: "serve", Detail: why}
	if err := h.o.Store.RemoveNode(ctx, n, e); err != nil {
		return fmt.Errorf("remove node %s: %w", n.Name, err)
	}
	h.o.Log.Info("node is gone", "node", n.Name, "why", why)
	return nil
}

// lookEvery is how often a Host looks whether its nodes still run.
const lookEvery = 500 * time.Millisecond

// Run takes out nodes whose process has ended, until ctx ends.
func (h *Host) Run(ctx context.Context) {
	for {
		h.look(ctx)
		h.mu.Lock()
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(lookEvery):
		}
	}
}

func (h *Host) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	nodes, err := h.o.Store.Nodes(ctx)
	if err != nil {
		return // again in a moment
	}
	for _, n := range nodes {
		if n.Name == h.o.Local.Name() || h.o.Alive(n) {
			continue
		}
		if err := h.remove(ctx, n, "its process has ended"); err != nil && !errors.Is(err, op.ErrNodes) {
			h.o.Log.Warn("a node whose process has ended is registered still", "err", err)
		}
	}
}

// Serve answers one process until its connection or ctx ends.
func (h *Host) Serve(ctx context.Context, l *Link) error {
	h.mu.Lock()
	h.all[l] = true
	if h.parted {
		l.end() // it was on its way
	}
	h.mu.Unlock()
	defer func() {
		h.drop(l)
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.all, l)
	}()
	return l.Run(ctx, func(ctx context.Context, b []byte) []byte {
		var p plea
		var r reply
		err := json.Unmarshal(b, &p)
		if err == nil {
			r, err = h.answer(ctx, l, p)
		}
		if err != nil {
			r = reply{Error: err.Error()}
			for kind, e := range replyErrors() {
				if errors.Is(err, e) {
					r.Kind = kind
				}
			}
		}
		out, _ := json.Marshal(r) // of plain fields: it cannot fail
		return out
	})
}

// Part ends all connections, also those that come later: this process is to have the store no more, or another Host of it has.
func (h *Host) Part() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parted = true
	for l := range h.all {
		l.end()
	}
}

func (h *Host) drop(l *Link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, x := range h.links {
		if x == l {
			delete(h.links, name)
		}
	}
	h.wake()
}

// wake is for who waits for a change; mu is held.
func (h *Host) wake() {
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *Host) meet(n op.Node, l *Link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard[n.Incarnation] = n
	if h.links[n.Incarnation] != l {
		h.links[n.Incarnation] = l
		h.wake()
	}
}

func (h *Host) answer(ctx context.Context, l *Link, p plea) (r reply, err error) {
	st := h.o.Store
	switch p.What {
	case askJoin:
		if p.Node.Name == h.o.Local.Name() {
			return r, op.ErrNodeName
		}
		p.Node.Since = time.Now()
		if err := st.AddNode(ctx, op.Node{Name: p.Node.Name, Incarnation: p.Node.Incarnation, Since: p.Node.Since}); err != nil {
			return r, err
		}
		r.Node = p.Node
		h.meet(p.Node, l)
	case askLeave:
		err = h.remove(ctx, p.Node, "its last session has ended")
	case askBeat:
		if err := h.is(ctx, p.Node); err != nil {
			return r, err
		}
		p.Node.Seen = time.Now()
		h.meet(p.Node, l)
		r.Leader = op.Leader{Name: h.o.Local.Name(), Incarnation: h.o.Local.Incarnation()}
	case askRows:
		if err = h.is(ctx, p.Node); err == nil {
			err = st.AddRows(ctx, p.Rows)
		}
	case askNodes:
		r.Nodes, err = st.Nodes(ctx)
	case askAll:
		err = st.Rows(ctx, func(x op.Row) error {
			r.Rows = append(r.Rows, x)
			return nil
		})
	case askOne:
		var x op.Row
		x, err = st.Row(ctx, p.User)
		r.Rows = []op.Row{x}
	case askRules:
		r.Rules, err = st.Rules(ctx)
	case askTold:
		if p.Note != nil && h.o.Told != nil {
			h.o.Told(*p.Note)
		}
	default:
		err = fmt.Errorf("does not understand %q: it is of another version", p.What)
	}
	return r, err
}

// is tells whether a node is registered: op.ErrNodes when not.
func (h *Host) is(ctx context.Context, n op.Node) error {
	nodes, err := h.o.Store.Nodes(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(nodes, func(x op.Node) bool { return x.Name == n.Name && x.Incarnation == n.Incarnation }) {
		return op.ErrNodes
	}
	return nil
}

// Nodes implements Cluster.
func (h *Host) Nodes(ctx context.Context) ([]Node, error) {
	nodes, err := h.o.Store.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	var out []Node
	for _, n := range nodes {
		if n.Name == h.o.Local.Name() {
			out = append(out, h.o.Local)
		} else {
			out = append(out, &mortal{&RemoteNode{Node: n, Wire: h}, h})
		}
	}
	return out, nil
}

// mortal is a node whose end is known: a process that has ended has no session, and lets nobody in, which is all that is ever to be
// acknowledged.
type mortal struct {
	*RemoteNode
	h *Host
}

// Send implements Node.
func (n *mortal) Send(ctx context.Context, m Message) (Ack, error) {
	ack, err := n.RemoteNode.Send(ctx, m)
	if errors.Is(err, op.ErrGone) && !n.h.o.Alive(n.Node) {
		return Ack{Node: n.Name(), User: m.User, Generation: m.Generation}, nil
	}
	return ack, err
}

// Others are the nodes beside this process, with what they told last of themselves.
func (h *Host) Others(ctx context.Context) ([]op.Node, error) {
	nodes, err := h.o.Store.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []op.Node
	for _, n := range nodes {
		if n.Name == h.o.Local.Name() {
			continue
		}
		if x, ok := h.heard[n.Incarnation]; ok {
			n.Seen, n.About = x.Seen, x.About
		}
		out = append(out, n)
	}
	return out, nil
}

// Present is a node as it is registered now: its process may have registered anew. Where it is not, it is n.
func (h *Host) Present(ctx context.Context, n op.Node) op.Node {
	nodes, err := h.o.Store.Nodes(ctx)
	if i := slices.IndexFunc(nodes, func(x op.Node) bool { return x.Name == n.Name }); err == nil && i >= 0 {
		return nodes[i]
	}
	return n
}

// linkTime is how long Ask waits for a process that is about to come again: it has lost its connection, or this process has just begun. A
// flip has its own deadline, and must not be called off before only because the machine is busy.
const linkTime = 5 * time.Second

// Ask implements Asker. It waits for a node without a connection, and asks again behind one that has ended: op.ErrGone when the node's
// process has.
func (h *Host) Ask(ctx context.Context, to op.Node, request []byte) ([]byte, error) {
	wait, cancel := context.WithTimeoutCause(ctx, linkTime, fmt.Errorf("%w, and it has not come again yet", ErrLink))
	defer cancel()
	for {
		h.mu.Lock()
		l, changed := h.links[to.Incarnation], h.changed
		h.mu.Unlock()
		if l != nil {
			answer, err := l.Ask(ctx, request)
			if !errors.Is(err, ErrLink) {
				return answer, err
			}
			h.drop(l)
			continue
		}
		if !h.o.Alive(to) {
			h.look(ctx)
			return nil, op.ErrGone
		}
		select {
		case <-wait.Done():
			return nil, context.Cause(wait)
		case <-changed:
		case <-time.After(aliveEvery):
		}
	}
}

// aliveEvery is how often Ask looks whether the process has ended.
const aliveEvery = 20 * time.Millisecond

// Wait returns when a node has a connection, or ctx has ended.
func (h *Host) Wait(ctx context.Context, n op.Node) error {
	for {
		h.mu.Lock()
		l, changed := h.links[n.Incarnation], h.changed
		h.mu.Unlock()
		if l != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}
