// Package merge is the three-way merge of a mailbox that exists on two sides, as a pure function: what both sides had in
// common (base), what each has now (a complete snapshot), and who decides, give the operations that make them equal, and
// the conflicts.
//
// It imports nothing of ours. Begin at Mailbox.
package merge
