package protocol

// stepper makes the successors of a state.
type stepper struct {
	rules Rules
	from  State
	emit  func(to State, a act, c class)
	wrong func(what string, to State, a act)
	moved func(was row, to State, a act) // is told of each write of the row
}

// next calls emit for each step that can be done, and wrong for what no step may do.
func (x *stepper) next() {
	for i := range uint8(nNodes) {
		n := &x.from.Node[i]
		if n.Life == up {
			x.leads(i)
			x.joins(i)
			x.clients(i)
			x.messages(i)
		}
		x.life(i)
	}
	x.hold()
}

// do emits what f makes of the state.
func (x *stepper) do(a act, c class, f func(s *State, n *node)) {
	s := x.from
	if c == fault {
		if s.Faults == 0 {
			return
		}
		s.Faults--
	}
	f(&s, &s.Node[a.node])
	x.emit(s, a, c)
}

// messages are those that come to a node, and the question of a node to which none comes.
func (x *stepper) messages(i uint8) {
	n := &x.from.Node[i]
	if n.Phase < listening && !(n.Phase == registered && x.rules.has(ListenFirst)) {
		return // it does not listen before it knows who leads
	}
	for k, m := range x.from.Msg {
		bit := uint8(1) << i
		if m.To&bit == 0 {
			continue
		}
		x.do(act{actDeliver, i, uint8(k)}, normal, func(s *State, n *node) {
			if n.deliver(m, x.rules) {
				s.Msg[k].Ack |= bit
			}
		})
		if m.Ack&bit == 0 || !x.from.awaits(m, 1<<nNodes-1) { // of the others it is known that they came
			x.do(act{actLose, i, uint8(k)}, fault, func(s *State, n *node) { s.Msg[k].To &^= bit })
		}
	}
	if r := x.from.Row; n.Phase == serving && n.Fenced && !half(r.St) && !x.rules.has(NoAsking) {
		x.do(act{kind: actAsks, node: i}, normal, func(s *State, n *node) { n.release(r.place, x.rules) })
	}
}

// half tells whether a node that reads a row must fence the user: behind COMMIT his side is certain.
func half(st uint8) bool { return st != settled && st != prep && st != release }

// joins is the way of a process to serving: it registers, learns who leads, listens, reads the row, and takes it in.
func (x *stepper) joins(i uint8) {
	n := &x.from.Node[i]
	order := [...]kind{fresh: actRegister, registered: actListen, listening: actRead}
	if x.rules.has(LoadBeforeRegister) {
		order = [...]kind{actListen, actRead, actRegister}
	}
	switch n.Phase {
	case fresh, registered, listening:
		a := act{kind: order[n.Phase], node: i}
		x.do(a, normal, func(s *State, n *node) {
			switch a.kind {
			case actRegister:
				s.Reg[i] = n.Inc
			case actListen:
				if !x.rules.has(NoTermAtLoad) {
					n.Term = s.Term
				}
			case actRead:
				n.P, n.PHalf = s.Row.place, half(s.Row.St)
			}
			n.Phase++
		})
	case hasRead:
		x.do(act{kind: actLoad, node: i}, normal, func(s *State, n *node) {
			if n.PHalf && !x.rules.has(LoadUnfenced) {
				n.loadFenced(n.P)
			} else {
				n.load(n.P)
			}
			n.Phase, n.P, n.PHalf = serving, place{}, false
		})
	case serving:
		if x.from.Rereads > 0 && n.Login == noLogin {
			x.do(act{kind: actReread, node: i}, normal, func(s *State, n *node) {
				s.Rereads--
				n.P, n.PHalf, n.Phase = s.Row.place, half(s.Row.St), hasRead
			})
		}
	}
}

// clients come, wait, work and go.
func (x *stepper) clients(i uint8) {
	n := &x.from.Node[i]
	if n.Phase < serving {
		return
	}
	switch n.Login {
	case noLogin:
		if x.from.Logins > 0 {
			x.do(act{kind: actArrives, node: i}, normal, func(s *State, n *node) {
				s.Logins--
				n.Login, n.Dial = waiting, 0
				if x.rules.has(RouteBeforeHold) {
					n.Dial = n.Side
				}
			})
		}
	case waiting:
		if n.Fenced {
			x.do(act{kind: actHoldLimit, node: i}, normal, func(s *State, n *node) { n.Login, n.Dial = noLogin, 0 })
			break
		}
		x.do(act{kind: actRoute, node: i}, normal, func(s *State, n *node) {
			n.route()
			if !x.rules.has(RouteBeforeHold) {
				n.Dial = n.Side
			}
		})
	case routed:
		x.do(act{kind: actAdmit, node: i}, normal, func(s *State, n *node) {
			if !n.admit(x.rules) {
				n.Login = waiting
			}
			n.P = place{}
			if n.Login == noLogin || !x.rules.has(RouteBeforeHold) {
				n.Dial = 0
			}
		})
	}
	for b := uint8(1); b != 0; b <<= 1 {
		if n.Sess&b != 0 {
			x.do(act{kind: actLeaves, node: i}, normal, func(s *State, n *node) { n.Sess &^= b })
		}
	}
}

// life and death of a process.
func (x *stepper) life(i uint8) {
	n := &x.from.Node[i]
	here := func(s *State) bool { return s.Reg[i] != 0 && s.Reg[i] == s.Node[i].Inc }
	switch n.Life {
	case down:
		x.do(act{kind: actBoot, node: i}, heal, func(s *State, n *node) { *n = node{Life: up, Inc: s.unused(i)} })
		if x.from.Reg[i] != 0 {
			x.do(act{kind: actRemove, node: i}, heal, func(s *State, n *node) { s.Reg[i] = 0 })
		}
	case paused:
		if here(&x.from) || n.Phase == fresh || x.rules.has(RemovedServesOn) {
			x.do(act{kind: actResume, node: i}, heal, func(s *State, n *node) { n.Life = up })
		} else {
			x.do(act{kind: actAnew, node: i}, heal, func(s *State, n *node) {
				s.gone(i)
				*n = node{Life: up, Inc: s.unused(i)}
			})
		}
		if x.from.Reg[i] != 0 {
			x.do(act{kind: actRemove, node: i}, fault, func(s *State, n *node) { s.Reg[i] = 0 })
		}
	case up:
		if x.rules.has(RemovedAlive) && n.Phase == serving && x.from.Reg[i] != 0 {
			x.do(act{kind: actRemove, node: i}, fault, func(s *State, n *node) { s.Reg[i] = 0 })
		}
		x.do(act{kind: actPause, node: i}, fault, func(s *State, n *node) { n.Life = paused })
	}
	if n.Life != down {
		x.do(act{kind: actCrash, node: i}, fault, func(s *State, n *node) {
			s.gone(i)
			*n = node{}
		})
	}
}

// gone takes away what was sent to a process that is no more.
func (s *State) gone(i uint8) {
	for k := range s.Msg {
		s.Msg[k].To &^= 1 << i
	}
}

// unused is an incarnation that nobody remembers.
func (s *State) unused(i uint8) uint8 {
	for inc := uint8(1); ; inc++ {
		used := s.Reg[i] == inc
		for k := range s.Node {
			used = used || s.Node[k].Stood[i] == inc
		}
		if !used {
			return inc
		}
	}
}

func (x *stepper) hold() {
	if x.from.Hold {
		x.do(act{kind: actUnhold}, heal, func(s *State, _ *node) { s.Hold = false })
	} else {
		x.do(act{kind: actHold}, fault, func(s *State, _ *node) { s.Hold = true })
	}
}
