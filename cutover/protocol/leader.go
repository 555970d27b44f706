package protocol

// leads is what a process does as leader, or to become it.
func (x *stepper) leads(i uint8) {
	s, n := &x.from, &x.from.Node[i]
	switch {
	case n.PC == nobody:
		x.takesOver(i)
		return
	case n.MTerm != s.Term:
		x.do(act{kind: actResigns, node: i}, normal, func(s *State, n *node) { n.mgr = mgr{} })
	}
	switch n.PC {
	case idle:
		if s.Flips > 0 && !s.Hold && s.Row.St == settled {
			x.writes(i, act{kind: actBegin, node: i}, func(s *State, n *node) row {
				n.Row = s.Row
				s.Flips--
				if x.rules.has(NodesBeforeFence) {
					n.Stood = s.Reg
				}
				return row{prep, s.Flips + 1, place{s.Row.Side, s.Row.Epoch, max(n.Gen, s.Row.Gen) + 1}}
			}, inPrep)
		}
	case inPrep:
		if !s.Hold {
			x.writes(i, write(i, fence), func(s *State, n *node) row {
				r := n.Row
				r.St, r.Gen = fence, max(n.Gen, r.Gen)+1
				return r
			}, inFence)
			x.loses(i, fence)
		}
	case inFence:
		x.tells(i, askFence)
	case askFence:
		x.onward(i, drain, inDrain)
	case inDrain:
		x.tells(i, askDrain)
	case askDrain:
		x.onward(i, delta, inDelta)
	case inDelta:
		x.steps(i, verify, inVerify)
		x.loses(i, verify)
	case askMore:
		x.again(i)
		if x.answered(i) {
			x.do(act{kind: actRegistry, node: i}, normal, func(s *State, n *node) { n.PC = inVerify })
		}
	case inVerify:
		x.commits(i)
	case unknown:
		x.readsBack(i)
	case inRelease:
		x.tells(i, askRelease)
	case askRelease:
		x.again(i)
		x.dropsOut(i)
		if x.answered(i) {
			x.steps(i, settled, idle)
		}
	case inAbort:
		x.tells(i, askAbort)
	case askAbort:
		x.again(i)
		x.dropsOut(i)
		if x.answered(i) {
			x.undoes(i)
		}
	case inRepair:
		x.tells(i, askRepair)
	case askRepair:
		x.again(i)
		x.dropsOut(i)
		if x.answered(i) {
			x.repaired(i)
		}
	}
	if n.PC >= inPrep && n.PC <= askMore && !x.rules.has(NoDeadline) {
		x.aborts(i)
	}
}

func write(i, st uint8) act { return act{actWrite, i, st} }

// all has a bit for each that is registered.
func all(reg [nNodes]uint8) (bits uint8) {
	for i, inc := range reg {
		if inc != 0 {
			bits |= 1 << i
		}
	}
	return bits
}

// asks is the message that a leader waits for the answers to.
func (n *node) asks() (kind uint8, p place, ok bool) {
	p = n.Row.place
	switch n.PC {
	case askFence:
		return msgFence, p, true
	case askDrain, askMore:
		return msgDrain, p, true
	case askRelease:
		return msgRelease, p, true
	case askAbort, askRepair:
		p.Gen = n.Told
		return msgRelease, p, true
	}
	return 0, p, false
}

// writes is a step of the leader that writes the row. A writer that was followed is refused, and calls off what it does.
func (x *stepper) writes(i uint8, a act, next func(s *State, n *node) row, pc uint8) {
	if n := &x.from.Node[i]; n.MTerm != x.from.Term && !x.rules.has(NoWriterNumber) {
		if n.PC >= inPrep && n.PC <= askMore || n.PC == unknown { // else it tries again, until it resigns
			x.aborts(i)
		}
		return
	}
	x.do(a, normal, func(s *State, n *node) {
		was := s.Row
		r := next(s, n)
		if n.Row.Gen != was.Gen && n.PC != askAbort && n.PC != askRepair {
			n.mgr = mgr{PC: idle, MTerm: n.MTerm} // compare-and-swap: somebody else has written
			return
		}
		s.Row = r
		n.Row, n.PC = r, pc
		if pc == idle {
			n.mgr = mgr{PC: idle, MTerm: n.MTerm}
		}
		x.moved(was, *s, a)
		if n.MTerm != s.Term {
			x.wrong("I13: the store took a write of a writer that was followed by another", *s, a)
		}
	})
}

// steps writes the next state at the same place.
func (x *stepper) steps(i, st, pc uint8) {
	x.writes(i, write(i, st), func(s *State, n *node) row {
		r := n.Row
		r.St, r.Gen = st, r.Gen+1
		if st == settled {
			r.Op = 0
		}
		return r
	}, pc)
}

// loses is a write whose answer is lost: it may have been taken, and the flip is called off. The next reader learns that.
func (x *stepper) loses(i, st uint8) {
	if n := &x.from.Node[i]; n.MTerm != x.from.Term {
		return
	}
	a := act{actWriteLost, i, st}
	x.do(a, fault, func(s *State, n *node) {
		was := s.Row
		s.Row.St, s.Row.Gen = st, s.Row.Gen+1
		if st == fence {
			s.Row.Gen = max(s.Row.Gen, n.Gen+1)
		}
		n.callOff()
		x.moved(was, *s, a)
	})
}

// onward is steps when all have answered.
func (x *stepper) onward(i, st, pc uint8) {
	x.again(i)
	if x.answered(i) {
		x.steps(i, st, pc)
		x.loses(i, st)
	}
}

// tells sends a message to all who take part: those that are registered when the first goes out, and others that joined.
func (x *stepper) tells(i, pc uint8) {
	x.do(act{kind: actTell, node: i}, normal, func(s *State, n *node) {
		if pc == askFence && !x.rules.has(NodesBeforeFence) || pc == askRepair {
			n.Stood = s.Reg
		}
		n.PC = pc
		s.send(n, all(n.Stood), x.rules)
	})
}

// send sends what the leader asks to some nodes, whose answers are due then.
func (s *State) send(n *node, to uint8, r Rules) {
	n.Wait = to
	s.post(n, to, r)
}

// post puts the message that n asks on its way to those of the nodes that are still the ones who were registered.
func (s *State) post(n *node, to uint8, r Rules) {
	kind, p, _ := n.asks()
	if kind == msgRelease && r.has(TellInTurn) {
		to &= -to
	}
	for i := range s.Node {
		if s.Node[i].Life == down || s.Node[i].Inc != n.Stood[i] || s.Node[i].Phase == fresh {
			to &^= 1 << i
		}
	}
	at := -1
	for k, m := range s.Msg {
		if m.Kind == kind && m.Term == n.MTerm && m.place == p {
			at = k
			break
		}
		if m.Kind == 0 {
			at = k
		}
	}
	if at < 0 {
		panic("model: more messages than there is room for (nMsgs)")
	}
	m := &s.Msg[at]
	m.Ack &^= to &^ m.To // who gets it for the first time has not answered
	m.Kind, m.Term, m.place, m.To = kind, n.MTerm, p, m.To|to
}

// again sends to those who have not answered, and perhaps have not got it.
func (x *stepper) again(i uint8) {
	n := &x.from.Node[i]
	missing := n.Wait &^ x.answers(n)
	if missing == 0 {
		return
	}
	x.do(act{kind: actAgain, node: i}, normal, func(s *State, n *node) { s.post(n, missing, x.rules) })
}

func (x *stepper) answers(n *node) uint8 {
	kind, p, _ := n.asks()
	for _, m := range x.from.Msg {
		if m.Kind == kind && m.Term == n.MTerm && m.place == p {
			return m.Ack
		}
	}
	return 0
}

// answered tells whether all have answered whom the leader waits for.
func (x *stepper) answered(i uint8) bool {
	n := &x.from.Node[i]
	missing := n.Wait &^ x.answers(n)
	drains := n.PC == askDrain || n.PC == askMore
	switch {
	case drains && x.rules.has(CommitUndrained):
		return true
	case drains && x.rules.has(CommitWithoutOne):
		return missing&(missing-1) == 0
	}
	return missing == 0
}

// dropsOut leaves those out whom a release need not reach: they are no nodes any more, and who comes again loads the row.
func (x *stepper) dropsOut(i uint8) {
	s, n := &x.from, &x.from.Node[i]
	for k := range s.Reg {
		if bit := uint8(1) << k; n.Wait&bit != 0 && n.Stood[k] != s.Reg[k] {
			x.do(act{kind: actDropsOut, node: i}, normal, func(s *State, n *node) { n.Wait &^= bit })
		}
	}
}

// commits is COMMIT, with its condition.
func (x *stepper) commits(i uint8) {
	s, n := &x.from, &x.from.Node[i]
	if n.MTerm != s.Term && !x.rules.has(NoWriterNumber) {
		return // refused; the abort is always possible
	}
	if s.Hold && !x.rules.has(HoldNotChecked) {
		return // refused
	}
	var joined uint8
	same := true
	for k := range s.Reg {
		if s.Reg[k] != 0 && s.Reg[k] != n.Stood[k] {
			joined |= 1 << k
		}
		gone := n.Stood[k] != 0 && s.Reg[k] == 0
		same = same && !gone
	}
	if x.rules.has(IgnoreJoined) {
		joined, same = 0, true
	}
	if joined != 0 || !same {
		x.do(act{kind: actRefused, node: i}, normal, func(s *State, n *node) {
			n.PC, n.Stood = askMore, s.Reg
			s.send(n, joined, x.rules)
		})
		return
	}
	next := func(s *State, n *node) row {
		if s.Hold {
			x.wrong("a flip was committed while a hold stood", *s, act{kind: actCommit, node: i})
		}
		return row{release, n.Row.Op, place{other(n.Row.Side), n.Row.Epoch + 1, n.Row.Gen + 1}}
	}
	x.writes(i, act{kind: actCommit, node: i}, next, inRelease)
	x.do(act{actCommitLost, i, 0}, fault, func(s *State, n *node) { n.PC = unknown })
	x.do(act{actCommitLost, i, 1}, fault, func(s *State, n *node) {
		was := s.Row
		s.Row = next(s, n)
		n.PC = unknown
		x.moved(was, *s, act{actCommitLost, i, 1})
	})
}

// readsBack learns what became of a commit.
func (x *stepper) readsBack(i uint8) {
	s, n := &x.from, &x.from.Node[i]
	switch {
	case x.rules.has(UnknownIsFailed):
		x.aborts(i)
	case s.Row.Op == n.Row.Op && s.Row.Epoch == n.Row.Epoch+1:
		x.do(act{kind: actReadBack, node: i}, normal, func(s *State, n *node) { n.Row, n.PC = s.Row, inRelease })
	default:
		x.aborts(i)
	}
}

// aborts begins to call a flip off: the nodes are told first, by a generation that nobody has seen.
func (x *stepper) aborts(i uint8) {
	x.do(act{kind: actAbort, node: i}, normal, func(s *State, n *node) { n.callOff() })
}

func (n *node) callOff() {
	n.Told = max(n.Gen, n.Row.Gen) + 2 // + 2: the store may have taken a write that it does not know of
	n.PC, n.Wait = inAbort, 0
}

// undoes records an abort.
func (x *stepper) undoes(i uint8) {
	s, n := &x.from, &x.from.Node[i]
	if s.Row.Op != n.Row.Op || s.Row.St == settled {
		x.do(act{kind: actDone, node: i}, normal, func(s *State, n *node) { n.mgr = mgr{PC: idle, MTerm: n.MTerm} })
		return
	}
	x.writes(i, write(i, settled), func(s *State, n *node) row {
		return row{settled, 0, place{s.Row.Side, s.Row.Epoch, max(n.Told, s.Row.Gen+1)}}
	}, idle)
}

// takesOver makes a process the leader.
func (x *stepper) takesOver(i uint8) {
	s, n := &x.from, &x.from.Node[i]
	if n.Phase != serving || s.Reg[i] != n.Inc {
		return
	}
	c := lead
	for k := range s.Node {
		switch m := &s.Node[k]; {
		case m.PC == nobody || m.MTerm != s.Term:
		case m.Life == up:
			c = fault // it was cut off from the store
		case m.Life == paused:
			c = heal // its connection keeps the lead for it, until somebody ends that
		}
	}
	x.do(act{kind: actTakesOver, node: i}, c, func(s *State, n *node) {
		s.Term++
		n.mgr = mgr{PC: idle, MTerm: s.Term}
		if s.Row.St != settled {
			n.PC, n.Row, n.Told = inRepair, s.Row, max(n.Gen, s.Row.Gen)+1
		}
	})
}

// repaired ends what a leader before has left half way.
func (x *stepper) repaired(i uint8) {
	x.writes(i, write(i, settled), func(s *State, n *node) row {
		p := n.Row.place
		if x.rules.has(UndoCommitted) && n.Row.St == release {
			p.Side, p.Epoch = other(p.Side), p.Epoch-1
		}
		p.Gen = max(n.Told, s.Row.Gen+1)
		return row{settled, 0, p}
	}, idle)
}
