// Package cutover is the order of steps: it takes requests (a changed line of the routes file, a verb), and moves one
// user through FENCE, DRAIN, COMMIT and RELEASE, durably and with the acknowledgement of every node.
//
// It may import config, op, router. Begin at Manager, then flip (one user's move, step by step) and Import (what a
// changed routes file asks for).
//
// Invariants, named in the tests that guard them:
//
//	I1  COMMIT is written only after every registered node has acknowledged the drain.
//	I14 FENCE to RELEASE has one deadline; past it the flip aborts and nothing is different but the history.
//	    Whether a commit happened is never guessed: the row is read back, and the user stays fenced until it was.
package cutover
