// Package protocol is the flip protocol as a small machine of states, and an explorer that visits every one of them: two nodes, one
// user, a store, messages between them, and whatever can go wrong. It is what model checkers call a model; nothing of it runs in
// the gateway.
//
// It may import router: the steps of the machine are those of router.Moves, and a step that router.Legal refuses is a finding, as is
// a legal one that is never taken. What a node does with a message is compared with router.Router itself (router_test.go). Begin at
// State, then Rules (what is left out on purpose, to see that it is missed), next (all that can happen) and Explore.
//
// What is taken for granted:
//
//   - A message is for one incarnation of a node. It may be lost, come twice, late, or behind later ones, also when who sent it leads no
//     more: one that was sent is there to be delivered until it can change nothing any more.
//   - The store does one transaction after the other, and refuses those of a writer that has been followed by another.
//   - The leader runs in the process of one of the nodes: what stops the one stops the other.
//   - Who removes a node has made sure that it is down. Where it was only stopped, it looks whether it is registered before it does
//     anything else.
//   - A process that starts registers, then learns who leads, then listens, then reads the row: in that order.
//   - A process comes back under its name when the one before it is dead.
//
// Invariants:
//
//	I1  single route: no session of a running process is on another side than the committed one.
//	I2  no overlap: no session is of another epoch than the row.
//	I13 fencing: the store takes no write of a writer that was followed by another; a write changes side and epoch at COMMIT only.
//	I14 liveness: from everywhere, when nothing more goes wrong, a state can be reached in which the row is settled and nobody waits;
//	    and that without the return of nodes that are stopped or dead, as far as the running ones are concerned; only where the
//	    leader itself is stopped, and not dead, must it go on or be removed.
//	    While a hold stands nothing is committed.
package protocol
