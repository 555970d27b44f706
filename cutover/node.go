package cutover

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mailgate/config"
	"mailgate/router"
)

// Kind is what a message to a node asks for.
type Kind string

const (
	AskFence   Kind = "fence"   // admit no login of the user; sessions are asked to end
	AskDrain   Kind = "drain"   // acknowledge when no mailbox session of the user is left
	AskRelease Kind = "release" // the user is at Place: let logins go on
)

// Message goes to each node. It is plain data, so that it travels alike within a process, over a socket and through a
// database.
type Message struct {
	Kind       Kind
	User       string
	Generation int64
	Side       config.Side
	Epoch      int64
	Half       time.Time // AskDrain: from then on sessions that only read are cut between two responses
	Cut        bool      // AskDrain: from Half on sessions are cut, whatever they do: their side is given up
	Text       string    // for the clients
	Term       int64     // of who leads, see LocalNode; 0 where there is one process
}

// Ack is a node's answer.
type Ack struct {
	Node       string
	User       string
	Generation int64
	Left       int // mailbox sessions that still run
}

// Node is a process that serves clients. Send returns when the message was carried out: for AskDrain when the user has
// no mailbox session left, or with the cause of ctx and the number that is left.
type Node interface {
	Name() string
	Incarnation() string // of the process, see op.Node
	Send(ctx context.Context, m Message) (Ack, error)
}

// LocalNode is the node of this process. It obeys the one who leads last: messages of an older term are ErrTerm, since who was
// followed by another may have stood still for any time, and not know it.
type LocalNode struct {
	ID     string
	Once   string // the incarnation
	Router *router.Router
	Flush  func(ctx context.Context) error // writes the rows owed to people who were let in without one; nil: there is one process
	Reload func(ctx context.Context) error // reads rules and rows; nil: there is one process
	// Moved is told that a user comes to another side, before his logins go on; nil: nobody asks.
	Moved func(user string, to config.Side)

	mu   sync.RWMutex // held for reading while a message is carried out, so that none of an older term ends behind Heed
	term int64

	pausing sync.Mutex
	paused  [2]int64 // term and number of the last pause that was heard of

	renamed atomic.Pointer[string] // in place of ID; nil: it never was
}

// Rename gives it another name.
func (n *LocalNode) Rename(name string) { n.renamed.Store(&name) }

// Heed makes term the oldest that counts.
func (n *LocalNode) Heed(term int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.term = max(n.term, term)
}

// obey runs f unless term is over.
func (n *LocalNode) obey(term int64, f func() error) error {
	n.mu.RLock()
	for term > n.term {
		n.mu.RUnlock()
		n.Heed(term)
		n.mu.RLock()
	}
	defer n.mu.RUnlock()
	if term < n.term {
		return ErrTerm
	}
	return f()
}

// Under is this node as who leads in a term asks it.
func (n *LocalNode) Under(term int64) Node { return &underTerm{n, term} }

type underTerm struct {
	*LocalNode
	term int64
}

// Send implements Node.
func (n *underTerm) Send(ctx context.Context, m Message) (Ack, error) {
	m.Term = n.term
	return n.LocalNode.Send(ctx, m)
}

// Name implements Node.
func (n *LocalNode) Name() string {
	if name := n.renamed.Load(); name != nil {
		return *name
	}
	return n.ID
}

// Incarnation implements Node.
func (n *LocalNode) Incarnation() string { return n.Once }

// Send implements Node.
func (n *LocalNode) Send(ctx context.Context, m Message) (Ack, error) {
	ack := Ack{Node: n.Name(), User: m.User, Generation: m.Generation}
	switch m.Kind {
	case AskPause:
		return ack, n.pause(ctx, m)
	case AskRules:
		return ack, n.resume(ctx, m)
	}
	var empty <-chan struct{}
	err := n.obey(m.Term, func() (err error) {
		switch m.Kind {
		case AskFence, AskDrain:
			empty, err = n.Router.Fence(m.User, m.Generation, m.Text)
		case AskRelease:
			err = n.release(m.User, router.Place{Side: m.Side, Epoch: m.Epoch, Generation: m.Generation})
		default: // to guess would be to let go of a fence
			err = fmt.Errorf("does not know what %q asks for: it is of an older version", m.Kind)
		}
		return err
	})
	if err == nil && m.Kind == AskDrain {
		return n.drain(ctx, m, ack, empty)
	}
	return ack, err
}

// release ends a fence here.
func (n *LocalNode) release(user string, to router.Place) error {
	if at, known := n.Router.Lookup(user); n.Moved != nil && known && at.Side != to.Side && at.Generation <= to.Generation {
		n.Moved(user, to.Side)
	}
	return n.Router.Release(user, to)
}

// againTime is the shortest rest of a deadline in which reads are judged once more.
const againTime = time.Second

func (n *LocalNode) drain(ctx context.Context, m Message, ack Ack, empty <-chan struct{}) (Ack, error) {
	half := time.NewTimer(time.Until(m.Half))
	defer half.Stop()
	for {
		select {
		case <-empty:
			return ack, nil
		case <-half.C:
			how := router.CutReads
			if m.Cut {
				how = router.Cut
			}
			n.Router.Press(m.User, how, m.Text)
			// A client may stop reading later, or have had bytes on their way that nobody takes: look again.
			if end, ok := ctx.Deadline(); ok && time.Until(end) > againTime {
				half.Reset(time.Until(end) / 2)
			}
		case <-ctx.Done():
			select {
			case <-empty: // and so this process ends, or who asks has no more time
				return ack, nil
			default:
			}
			for _, s := range n.Router.Sessions(m.User) {
				if s.Mailbox {
					ack.Left++
				}
			}
			return ack, context.Cause(ctx)
		}
	}
}

// noted tells whether a pause, or its end, is no older than what was heard of last, and notes it. then runs while that is so.
func (n *LocalNode) noted(m Message, then func()) error {
	return n.obey(m.Term, func() error {
		n.pausing.Lock()
		defer n.pausing.Unlock()
		this := [2]int64{m.Term, m.Generation}
		if slices.Compare(this[:], n.paused[:]) < 0 {
			return router.ErrStale
		}
		n.paused = this
		then()
		return nil
	})
}

func (n *LocalNode) pause(ctx context.Context, m Message) error {
	err := n.noted(m, func() { n.Router.HoldAll(router.Newcomers, true) })
	if err != nil || n.Flush == nil {
		return err
	}
	return n.Flush(ctx)
}

func (n *LocalNode) resume(ctx context.Context, m Message) error {
	if err := n.noted(m, func() {}); err != nil {
		return err
	}
	if n.Reload != nil {
		// All rows may take longer than one answer may: who asks tries again, and finds it done.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), joinTime)
		defer cancel()
		if err := n.Reload(ctx); err != nil {
			return err
		}
	}
	return n.noted(m, func() { n.Router.HoldAll(router.Newcomers, false) })
}
