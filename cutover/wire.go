package cutover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"mailgate/op"
	"mailgate/router"
)

// Wire carries requests between nodes, and the answers back: over the database between machines, over a socket between processes of
// one. What a node is asked may be lost, come twice, late, and in another order: generation and term make that harmless.
type Wire interface {
	Asker
	// Serve has handle carry out what this node is asked, each in a goroutine of its own, until ctx ends; then it waits for them. It
	// lives through trouble of the medium. ready (may be nil) is called once, when a request sent from then on will be heard.
	Serve(ctx context.Context, handle func(ctx context.Context, request []byte) (answer []byte), ready func()) error
}

// Asker is the half of a Wire that asks.
type Asker interface {
	// Ask sends a request to a node and returns its answer. On an error the node may have carried it out all the same. op.ErrGone when the
	// wire knows that nobody will answer: that process is registered no more; op.ErrNotAsked, which is one, when it was not even asked.
	Ask(ctx context.Context, to op.Node, request []byte) (answer []byte, err error)
}

// ErrTerm means that a node was asked by who leads no more.
var ErrTerm = errors.New("another node leads by now")

// Call is a verb's question to another node: see admin.API.
type Call struct {
	Method string     `json:"method"`
	Path   string     `json:"path"`
	Form   url.Values `json:"form,omitempty"`
	From   string     `json:"from,omitempty"` // where the request came from, see op.Operation
}

// Reply answers a Call.
type Reply struct {
	Status int             `json:"status"` // of HTTP
	Body   json.RawMessage `json:"body,omitempty"`
	Text   string          `json:"text,omitempty"` // in place of Body, where that is not one value
}

// request is what goes over a Wire. Times are left to go, since the clocks of two machines differ.
type request struct {
	Message *Message      `json:"message,omitempty"`
	Half    time.Duration `json:"half_in_ns,omitempty"`
	Rest    time.Duration `json:"rest_ns,omitempty"` // 0 means no limit
	Call    *Call         `json:"call,omitempty"`
}

type response struct {
	Ack   Ack    `json:"ack,omitzero"`
	Stale bool   `json:"stale,omitempty"` // router.ErrStale
	Term  bool   `json:"term,omitempty"`  // ErrTerm
	Late  bool   `json:"late,omitempty"`  // ErrDeadline
	Error string `json:"error,omitempty"`
	Reply *Reply `json:"reply,omitempty"`
}

// RemoteNode is a node that is another process.
type RemoteNode struct {
	Node op.Node
	Wire Asker
	Term int64 // of who asks
}

// Name implements Node.
func (n *RemoteNode) Name() string { return n.Node.Name }

// Incarnation implements Node.
func (n *RemoteNode) Incarnation() string { return n.Node.Incarnation }

// answerTime is left of a deadline for the way back: so that a node which could not drain in time can still say what is left.
const answerTime = 300 * time.Millisecond

// Send implements Node.
func (n *RemoteNode) Send(ctx context.Context, m Message) (Ack, error) {
	m.Term = n.Term
	r := request{Message: &m}
	if !m.Half.IsZero() {
		r.Half, m.Half = max(time.Until(m.Half), time.Nanosecond), time.Time{}
	}
	a, err := ask(ctx, n.Wire, n.Node, r)
	if err != nil {
		return Ack{}, err
	}
	a.Ack.Node = n.Name() // the wire has asked this very incarnation, and it may have another name by now
	switch {
	case a.Stale:
		err = router.ErrStale
	case a.Term:
		err = ErrTerm
	case a.Late:
		err = ErrDeadline
	case a.Error != "":
		err = errors.New(a.Error)
	}
	return a.Ack, err
}

// AskNode has a node answer a verb's question.
func AskNode(ctx context.Context, w Asker, to op.Node, c Call) (Reply, error) {
	a, err := ask(ctx, w, to, request{Call: &c})
	switch {
	case err != nil:
		return Reply{}, err
	case a.Reply == nil:
		return Reply{}, fmt.Errorf("node %s: %s", to.Name, a.Error)
	}
	return *a.Reply, nil
}

func ask(ctx context.Context, w Asker, to op.Node, r request) (a response, err error) {
	if end, ok := ctx.Deadline(); ok {
		rest := time.Until(end)
		r.Rest = max(rest-min(answerTime, rest/4), time.Nanosecond)
	}
	out, err := json.Marshal(r)
	if err != nil {
		return a, err
	}
	in, err := w.Ask(ctx, to, out)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(in, &a); err != nil {
		return a, fmt.Errorf("node %s: %w", to.Name, err)
	}
	return a, nil
}

// Station carries out what this node is asked over a Wire.
type Station struct {
	Node Node // a LocalNode
	// Call answers verbs; nil refuses them.
	Call func(ctx context.Context, c Call) Reply
}

// Handle is for Wire.Serve.
func (s *Station) Handle(ctx context.Context, in []byte) []byte {
	var r request
	var a response
	err := json.Unmarshal(in, &r)
	if r.Rest > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, r.Rest, ErrDeadline)
		defer cancel()
	}
	switch {
	case err != nil:
	case r.Message != nil:
		m := *r.Message
		if r.Half > 0 {
			m.Half = time.Now().Add(r.Half)
		}
		a.Ack, err = s.Node.Send(ctx, m)
		a.Stale, a.Term, a.Late = errors.Is(err, router.ErrStale), errors.Is(err, ErrTerm), errors.Is(err, ErrDeadline)
	case r.Call != nil && s.Call != nil:
		reply := s.Call(ctx, *r.Call)
		a.Reply = &reply
	default:
		err = errors.New("is of a version that does not understand what it was asked")
	}
	if err != nil {
		a.Error = err.Error()
	}
	out, err := json.Marshal(a)
	if err != nil { // a reply that is no JSON
		out, _ = json.Marshal(response{Error: err.Error()})
	}
	return out
}
