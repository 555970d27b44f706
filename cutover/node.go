package cutover

import (
	"context"
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

// LocalNode is the node of this process.
type LocalNode struct {
	ID     string
	Once   string // the incarnation
	Router *router.Router
}

// Name implements Node.
func (n *LocalNode) Name() string { return n.ID }

// Incarnation implements Node.
func (n *LocalNode) Incarnation() string { return n.Once }

// Send implements Node.
func (n *LocalNode) Send(ctx context.Context, m Message) (Ack, error) {
	ack := Ack{Node: n.ID, User: m.User, Generation: m.Generation}
	switch m.Kind {
	case AskFence:
		_, err := n.Router.Fence(m.User, m.Generation, m.Text)
		return ack, err
	case AskDrain:
		return n.drain(ctx, m, ack)
	}
	return ack, n.Router.Release(m.User, router.Place{Side: m.Side, Epoch: m.Epoch, Generation: m.Generation})
}

// againTime is the shortest rest of a deadline in which reads are judged once more.
const againTime = time.Second

func (n *LocalNode) drain(ctx context.Context, m Message, ack Ack) (Ack, error) {
	empty, err := n.Router.Fence(m.User, m.Generation, m.Text)
	if err != nil {
		return ack, err
	}
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
			for _, s := range n.Router.Sessions(m.User) {
				if s.Mailbox {
					ack.Left++
				}
			}
			return ack, context.Cause(ctx)
		}
	}
}
