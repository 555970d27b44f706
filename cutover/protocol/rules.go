package protocol

import "strings"

// Rules are what is left out of the protocol, a bit each: each is missed by an invariant. 0 is the protocol as it is.
type Rules uint32

const (
	NoGenerationCheck  Rules = 1 << iota // Admit compares nothing
	RouteBeforeHold                      // a login dials the side that was his before he was held
	CommitUndrained                      // COMMIT without the answers to the drain
	CommitWithoutOne                     // COMMIT without the answer of one node
	IgnoreJoined                         // the condition of COMMIT does not look for nodes that have joined
	HoldNotChecked                       // COMMIT does not look at holds
	OlderRelease                         // a node believes a release of an older generation
	UnknownIsFailed                      // a commit without an answer counts as failed, and is not read back
	RemovedServesOn                      // a node that was removed while it was stopped goes on where it was
	UndoCommitted                        // a successor undoes a row that is committed
	LoadUnfenced                         // a node that starts takes a row that is half way for a settled one
	LoadBeforeRegister                   // a node reads the row, then registers
	NoTerms                              // nodes obey leaders that were followed by another
	NoTermAtLoad                         // a node that starts does not know who leads
	NoAsking                             // a fenced node that hears nothing never asks the store
	NoWriterNumber                       // the store takes writes of who was followed by another
	NodesBeforeFence                     // the nodes are read when the flip begins, not when FENCE stands
	NoDeadline                           // a flip that cannot go on waits for ever
	ListenFirst                          // a node that starts listens before it knows who leads
	RemovedAlive                         // a node that runs, cut off from the store, is removed, or another process takes its name
	TellInTurn                           // a release is told to one node after the other

	nRules = iota
)

func (r Rules) has(x Rules) bool { return r&x != 0 }

func ruleNames() [nRules]string {
	return [nRules]string{"no generation check at Admit", "route before hold", "commit before drain acks",
		"commit without one node's acknowledgement", "commit condition ignores a node that joined", "hold not checked in COMMIT",
		"release with an older generation accepted", "unknown commit outcome taken as failed", "a removed node serves on",
		"successor undoes a committed row", "half-way row loaded as unfenced", "row loaded before registering",
		"messages of a followed leader obeyed", "no term heeded at start", "fenced nodes never ask the store", "writer number not compared",
		"nodes read before FENCE", "no deadline", "listens before it knows who leads",
		"a node removed while it runs", "nodes told one after the other"}
}

func (r Rules) String() string {
	if r == 0 {
		return "the protocol"
	}
	var s []string
	for i, name := range ruleNames() {
		if r.has(1 << i) {
			s = append(s, name)
		}
	}
	return strings.Join(s, ", ")
}

// other is the side across.
func other(side uint8) uint8 { return 1 - side }

// session is the bit of sessions at a place.
func session(side, epoch uint8) uint8 { return 1 << (side*4 + epoch) }

// What a node's router does. router_test.go compares each with router.Router.

// fence is Router.Fence; false means ErrStale.
func (n *node) fence(gen uint8) bool {
	if n.Gen > gen || n.Gen == gen && !n.Fenced {
		return false
	}
	n.Fenced, n.Known, n.Gen = true, true, gen
	return true
}

// release is Router.Release; false means ErrStale.
func (n *node) release(p place, r Rules) bool {
	if n.Known && !n.Fenced && n.Gen < p.Gen && n.Side == p.Side && n.Epoch == p.Epoch {
		n.place = p
		return true
	}
	if !n.Fenced || n.Gen > p.Gen && !r.has(OlderRelease) {
		return false
	}
	n.place, n.Fenced = p, false
	return true
}

// load is Router.Load.
func (n *node) load(p place) bool {
	if n.Known && (n.Fenced || n.Gen > p.Gen) || n.elsewhere(p) {
		return false
	}
	n.place, n.Known = p, true
	return true
}

// loadFenced is Router.LoadFenced.
func (n *node) loadFenced(p place) bool {
	if n.Known && n.Gen > p.Gen || n.elsewhere(p) {
		return false
	}
	n.place, n.Known, n.Fenced = p, true, true
	return true
}

func (n *node) elsewhere(p place) bool {
	return n.Sess != 0 && (n.Side != p.Side || n.Epoch != p.Epoch)
}

// route is Login.Route of a login that waits; false means that he is held.
func (n *node) route() bool {
	if n.Fenced {
		return false
	}
	n.Login, n.P = routed, n.place
	return true
}

// admit is Login.Admit of a login that is routed; false means ErrMoved.
func (n *node) admit(r Rules) bool {
	if !r.has(NoGenerationCheck) && (n.Fenced || n.Gen != n.P.Gen || n.Side != n.P.Side) {
		return false
	}
	n.Sess |= session(n.Dial, n.P.Epoch)
	n.Login, n.Known = noLogin, true
	return true
}

// deliver carries a message out and tells whether the sender hears that it is done.
func (n *node) deliver(m msg, r Rules) bool {
	if !r.has(NoTerms) {
		if m.Term < n.Term {
			return false
		}
		n.Term = m.Term
	}
	switch m.Kind {
	case msgFence:
		return n.fence(m.Gen)
	case msgDrain:
		return n.fence(m.Gen) && n.Sess == 0
	}
	n.release(m.place, r)
	return true // also a stale one: it knows
}

// deaf tells whether a message can change nothing for this process any more, whatever else happens to it. read tells that it will not
// read the row once it serves.
func (n *node) deaf(m msg, r Rules, read bool) bool {
	if m.Term < n.Term && !r.has(NoTerms) {
		return true
	}
	if m.Kind == msgRelease && r.has(OlderRelease) {
		return false
	}
	return n.Gen > m.Gen || n.Gen == m.Gen && n.Phase == serving && read && n.Known && (m.Kind != msgRelease || !n.Fenced)
}
