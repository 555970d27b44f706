package cutover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"mailgate/op"
)

// Tether is the store of a process that has handed it over: it asks the one that has it, over a Link that is made anew when it breaks,
// also to that one's successors. It implements Registry, and Wire is a node's.
type Tether struct {
	// Dial connects to who leads now.
	Dial func(ctx context.Context) (*Link, error)
	// Joining is told the node before it registers: what proves that its process runs must say so first.
	Joining func(n op.Node) error

	// Answering (may be nil) is called before an answer to who leads goes out: what sessions did must be told before it is said that they
	// have ended.
	Answering func(ctx context.Context)

	ready chan struct{} // closed when there is a handle

	mu      sync.Mutex
	link    *Link         // nil while there is none
	changed chan struct{} // closed and made anew when link changes
	handle  func(ctx context.Context, request []byte) []byte
	node    op.Node      // as registered last
	busy    atomic.Int64 // how much is being carried out
}

// NewTether makes one; Run connects it.
func NewTether(dial func(ctx context.Context) (*Link, error), joining func(n op.Node) error) *Tether {
	return &Tether{Dial: dial, Joining: joining, changed: make(chan struct{}), ready: make(chan struct{})}
}

// redial is the pause between attempts to connect, also behind a connection that ended at once: who leads may be handing over, or starting
// again.
const redial = 100 * time.Millisecond

// Run serves a connection, and those that follow, until ctx ends. lost (may be nil) is called when the first one has ended, and answers
// whether to go on.
func (t *Tether) Run(ctx context.Context, first *Link, lost func() bool) {
	for l := first; ; l = nil {
		if l == nil {
			var err error
			if l, err = t.Dial(ctx); err != nil {
				select {
				case <-ctx.Done():
					return
				case <-time.After(redial):
				}
				continue
			}
		}
		began := time.Now()
		t.serve(ctx, l)
		if ctx.Err() != nil || l == first && lost != nil && !lost() {
			return
		}
		if time.Since(began) < redial {
			select {
			case <-ctx.Done():
				return
			case <-time.After(redial):
			}
		}
	}
}

func (t *Tether) serve(ctx context.Context, l *Link) {
	var wg sync.WaitGroup
	defer wg.Wait()
	t.set(l)
	defer t.set(nil)
	t.mu.Lock()
	node := t.node
	t.mu.Unlock()
	if node.Name != "" { // so that who leads knows at once which node this is
		// Over this link only: where it ends before it is used nobody makes another one until serve has returned.
		wg.Go(func() { _, _ = askOver(ctx, l, plea{What: askBeat, Node: node}) })
	}
	_ = l.Run(ctx, func(ctx context.Context, b []byte) []byte {
		select {
		case <-t.ready: // in a moment: this process has just handed over
		case <-ctx.Done():
			return nil
		}
		t.mu.Lock()
		handle := t.handle
		t.mu.Unlock()
		answer := handle(ctx, b)
		if t.Answering != nil {
			t.Answering(ctx)
		}
		return answer
	})
}

func (t *Tether) set(l *Link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.link = l
	close(t.changed)
	t.changed = make(chan struct{})
}

// ask asks over the present link, or the next one where there is none.
func (t *Tether) ask(ctx context.Context, p plea) (reply, error) {
	for {
		t.mu.Lock()
		l, changed := t.link, t.changed
		t.mu.Unlock()
		if l == nil {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return reply{}, fmt.Errorf("%w: %w", op.ErrUnavailable, context.Cause(ctx))
			}
		}
		return askOver(ctx, l, p)
	}
}

func askOver(ctx context.Context, l *Link, p plea) (r reply, err error) {
	in, err := json.Marshal(p)
	if err != nil {
		return r, err
	}
	out, err := l.Ask(ctx, in)
	if err != nil {
		return r, fmt.Errorf("%w: %w", op.ErrUnavailable, err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, err
	}
	if r.Error == "" {
		return r, nil
	}
	if e := replyErrors()[r.Kind]; e != nil {
		return r, fmt.Errorf("%w (%s)", e, r.Error)
	}
	return r, errors.New(r.Error)
}

// Join implements Registry.
func (t *Tether) Join(ctx context.Context, n op.Node) (op.Node, error) {
	if err := t.Joining(n); err != nil {
		return n, err
	}
	r, err := t.ask(ctx, plea{What: askJoin, Node: n})
	if err != nil {
		return n, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.node = op.Node{Name: n.Name, Incarnation: n.Incarnation}
	return r.Node, nil
}

// Leave implements Registry.
func (t *Tether) Leave(ctx context.Context, n op.Node) error {
	_, err := t.ask(ctx, plea{What: askLeave, Node: n})
	return err
}

// Beat implements Registry.
func (t *Tether) Beat(ctx context.Context, n op.Node) (op.Leader, error) {
	r, err := t.ask(ctx, plea{What: askBeat, Node: n})
	return r.Leader, err
}

// AddRowsOf implements Registry.
func (t *Tether) AddRowsOf(ctx context.Context, n op.Node, rows []op.Row) error {
	_, err := t.ask(ctx, plea{What: askRows, Node: n, Rows: rows})
	return err
}

// Nodes implements Registry.
func (t *Tether) Nodes(ctx context.Context) ([]op.Node, error) {
	r, err := t.ask(ctx, plea{What: askNodes})
	return r.Nodes, err
}

// Rows implements Registry.
func (t *Tether) Rows(ctx context.Context, f func(op.Row) error) error {
	r, err := t.ask(ctx, plea{What: askAll})
	for _, x := range r.Rows {
		if err == nil {
			err = f(x)
		}
	}
	return err
}

// Row implements Registry.
func (t *Tether) Row(ctx context.Context, user string) (op.Row, error) {
	r, err := t.ask(ctx, plea{What: askOne, User: user})
	if err != nil || len(r.Rows) == 0 {
		return op.Row{}, err
	}
	return r.Rows[0], nil
}

// Rules implements Registry.
func (t *Tether) Rules(ctx context.Context) (op.Rules, error) {
	r, err := t.ask(ctx, plea{What: askRules})
	return r.Rules, err
}

// Tell tells who leads what a session has done.
func (t *Tether) Tell(ctx context.Context, n Note) error {
	_, err := t.ask(ctx, plea{What: askTold, Note: &n})
	return err
}

// Wire is that of a node of this process. It is asked only: verbs go to who leads.
func (t *Tether) Wire() Wire { return tetherWire{t} }

type tetherWire struct{ t *Tether }

// Ask implements Wire.
func (w tetherWire) Ask(context.Context, op.Node, []byte) ([]byte, error) { return nil, op.ErrGone }

// Serve implements Wire.
func (w tetherWire) Serve(ctx context.Context, handle func(ctx context.Context, request []byte) []byte, ready func()) error {
	var mu sync.Mutex
	over := false
	w.t.mu.Lock()
	first := w.t.handle == nil
	w.t.handle = func(asked context.Context, b []byte) []byte {
		mu.Lock()
		if over {
			mu.Unlock()
			<-asked.Done() // the end of the process answers
			return nil
		}
		w.t.busy.Add(1)
		mu.Unlock()
		defer w.t.busy.Add(-1)
		mine, cancel := context.WithCancel(asked)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return handle(mine, b)
	}
	w.t.mu.Unlock()
	if first {
		close(w.t.ready)
	}
	if ready != nil {
		ready()
	}
	<-ctx.Done()
	mu.Lock()
	over = true
	mu.Unlock()
	w.t.Quiet(context.WithoutCancel(ctx))
	return nil
}

// Quiet waits until all that was asked is answered, so that a process which ends has said what it knows.
func (t *Tether) Quiet(ctx context.Context) {
	for t.busy.Load() > 0 && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
}
