// Package router is who is where: each user's side, epoch and generation in memory, the table of legal states, and the
// registry of pending logins and sessions with fence, drain and release.
//
// Nothing here touches a socket or the store, so a login never waits for either. It may import config. Begin at
// Router, then Login.Route and Login.Admit (the way in), Fence and Release (the flip).
//
// Invariants, named in the tests that guard them:
//
//	I1  single route: a live mailbox session belongs to the user's present epoch.
//	I2  no overlap: no mailbox session of the old epoch lives when Release names the new one.
//	I14 liveness: a held login gets an answer within the hold limit.
package router
