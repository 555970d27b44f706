package protocol

import "hash/maphash"

// nNodes is how many nodes there are.
const nNodes = 2

// States of the row, by their place in router.States.
const (
	settled uint8 = iota
	prep
	fence
	drain
	delta
	verify
	release
)

// place is router.Place in little.
type place struct{ Side, Epoch, Gen uint8 }

// row is op.Row.
type row struct {
	St uint8
	Op uint8 // 0 means none
	place
}

// Life of a process.
const (
	down uint8 = iota
	up
	paused
)

// Phase of a process that is up or paused.
const (
	fresh      uint8 = iota // not registered
	registered              // hears nothing yet
	listening               // knows who leads, and hears what it is asked
	hasRead                 // knows the row, its router does not yet
	serving
)

// Login of a client at a node.
const (
	noLogin uint8 = iota
	waiting       // registered with the router, not routed
	routed        // has its place, speaks with the backend
)

// node is a process.
type node struct {
	Life, Phase uint8
	Inc         uint8 // incarnation
	Term        uint8 // the oldest that it obeys

	Known, Fenced bool // of its router
	place              // of its router

	Sess  uint8 // sessions: a bit for each side and epoch
	Login uint8
	Dial  uint8 // the side that the login dials
	P     place // of the login; before it serves, what it has read
	PHalf bool  // what it has read is half way

	mgr
}

// Where a leader stands. Of a state that was written and is to be told, first the telling is due, then the answers.
const (
	nobody uint8 = iota // leads nothing
	idle
	inPrep
	inFence
	askFence
	inDrain
	askDrain
	inDelta
	inVerify
	askMore // asks nodes that have joined
	unknown // did not hear what became of the commit
	inRelease
	askRelease
	inAbort
	askAbort
	inRepair
	askRepair
)

// mgr is what the leader in a process knows.
type mgr struct {
	PC    uint8
	MTerm uint8 // its writer's number
	Row   row   // as it has written it
	Told  uint8 // generation that an abort or repair tells
	Stood [nNodes]uint8
	Wait  uint8 // nodes whose answer is due, a bit each
}

// Kind of a message.
const (
	msgFence uint8 = iota + 1
	msgDrain
	msgRelease
)

// msg is a message to several nodes, and the answers. The zero value is none.
type msg struct {
	Kind, Term uint8
	place
	To  uint8 // nodes that may get it, for the first time or again
	Ack uint8 // nodes that have answered
}

// nMsgs is how many may be under way. More is a panic.
const nMsgs = 7

// State is everything. It is comparable.
type State struct {
	Row  row
	Term uint8 // number of the writer
	Hold bool
	Reg  [nNodes]uint8 // incarnations that are registered; 0 means none
	Node [nNodes]node
	Msg  [nMsgs]msg

	Bounds // of what may still come
}

// Bounds of an exploration: how often what may happen.
type Bounds struct {
	Flips, Logins uint8
	Faults        uint8
	Rereads       uint8 // a node that serves reads the row again, and takes it in later
}

// starts are the states to begin from: two nodes that know the user, one alone, and two that have never heard of him.
func starts(b Bounds) []State {
	n := node{Life: up, Phase: serving, Inc: 1, Known: true, place: place{Gen: 1}}
	s := State{Row: row{place: place{Gen: 1}}, Term: 1, Bounds: b}
	s.Reg = [nNodes]uint8{1, 1}
	s.Node = [nNodes]node{n, n}
	s.Node[0].mgr = mgr{PC: idle, MTerm: 1}
	one := s
	one.Reg[1], one.Node[1] = 0, node{}
	strange := s
	strange.Row.Gen = 0
	for i := range strange.Node {
		strange.Node[i].Known, strange.Node[i].place = i == 0, place{}
	}
	return []State{s, one, strange}
}

// digest stands for a state. Two of 128 bits are taken for equal: among 10^8 states the chance that this is wrong once is below 10^-22.
type digest struct{ a, b uint64 }

// digester makes digests; all of one exploration are of the same.
type digester struct{ a, b maphash.Seed }

// canon is the one of the states that cannot be told apart which stands for all, and its digest: nodes in order, generations and terms
// counted from the oldest in use, without messages that change nothing.
func (d digester) canon(s State, r Rules) (State, digest) {
	s.tidy(r)
	s.shift()
	hs := maphash.Comparable(d.a, s)
	if !r.has(TellInTurn) { // there the first is told first: they can be told apart
		t := s.swapped()
		if ht := maphash.Comparable(d.a, t); ht < hs {
			s, hs = t, ht
		}
	}
	return s, digest{hs, maphash.Comparable(d.b, s)}
}

// tidy forgets what no longer matters.
func (s *State) tidy(r Rules) {
	for k := range s.Msg {
		m := &s.Msg[k]
		if m.Kind == 0 {
			continue
		}
		awaited := false
		for i := range s.Node {
			n := &s.Node[i]
			bit := uint8(1) << i
			if m.To&bit != 0 && (n.Life == down || n.deaf(*m, r, s.Rereads == 0)) && !s.awaits(*m, bit) {
				m.To &^= bit
			}
			awaited = awaited || s.awaits(*m, 1<<nNodes-1)
		}
		if !awaited {
			m.Ack = 0
		}
		if m.To == 0 && !awaited {
			*m = msg{}
		}
	}
	s.sort()
}

// awaits tells whether a leader waits for an answer of some of the nodes to m.
func (s *State) awaits(m msg, nodes uint8) bool {
	for i := range s.Node {
		if kind, p, ok := s.Node[i].asks(); ok && s.Node[i].MTerm == m.Term && kind == m.Kind && p == m.place && s.Node[i].Wait&nodes != 0 {
			return true
		}
	}
	return false
}

// shift counts generations and terms from the oldest in use, as 1: only their differences matter. Generation 0, of who has no row, is
// below them all.
func (s *State) shift() {
	g, t := ^uint8(0), s.Term
	s.each(func(gen *uint8) {
		if *gen != 0 {
			g = min(g, *gen)
		}
	}, func(term *uint8) { t = min(t, *term) })
	for i := range s.Node { // none of an older term is there to be refused
		n := &s.Node[i]
		n.Term = max(n.Term, t)
	}
	s.each(func(gen *uint8) {
		if *gen != 0 {
			*gen -= g - 1
		}
	}, func(term *uint8) { *term -= t - 1 })
	for i := range s.Node {
		s.Node[i].Term -= t - 1
	}
}

// each visits generations, and terms but those that nodes obey.
func (s *State) each(gen, term func(*uint8)) {
	gen(&s.Row.Gen)
	term(&s.Term)
	for i := range s.Node {
		n := &s.Node[i]
		if n.Life == down {
			continue
		}
		gen(&n.Gen)
		if n.Login == routed || n.Phase < serving {
			gen(&n.P.Gen)
		}
		if n.PC != nobody {
			term(&n.MTerm)
			if n.PC != idle {
				gen(&n.Row.Gen)
			}
			if n.PC >= inAbort {
				gen(&n.Told)
			}
		}
	}
	for k := range s.Msg {
		if s.Msg[k].Kind != 0 {
			gen(&s.Msg[k].Gen)
			term(&s.Msg[k].Term)
		}
	}
}

// swapped has the names of the two nodes exchanged.
func (s State) swapped() State {
	flip := func(b uint8) uint8 { return b>>1 | b&1<<1 }
	s.Reg[0], s.Reg[1] = s.Reg[1], s.Reg[0]
	s.Node[0], s.Node[1] = s.Node[1], s.Node[0]
	for i := range s.Node {
		m := &s.Node[i].mgr
		m.Stood[0], m.Stood[1] = m.Stood[1], m.Stood[0]
		m.Wait = flip(m.Wait)
	}
	for k := range s.Msg {
		s.Msg[k].To, s.Msg[k].Ack = flip(s.Msg[k].To), flip(s.Msg[k].Ack)
	}
	s.sort()
	return s
}

// sort puts messages in order, those that are none last.
func (s *State) sort() {
	n := 0
	for _, m := range s.Msg {
		if m.Kind == 0 {
			continue
		}
		at := n
		for ; at > 0 && s.Msg[at-1].num() > m.num(); at-- {
			s.Msg[at] = s.Msg[at-1]
		}
		s.Msg[at] = m
		n++
	}
	clear(s.Msg[n:])
}

func (m msg) num() uint64 {
	return uint64(m.Gen)<<40 | uint64(m.Kind)<<36 | uint64(m.Term)<<28 | uint64(m.Side)<<24 | uint64(m.Epoch)<<16 | uint64(m.To)<<8 | uint64(m.Ack)
}
