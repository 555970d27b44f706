// Package proxy is the client side of the gateway: listeners, limits before login, login with hold and route, the
// splice under a boundary tracker, drain. All of that stands here once; each protocol is one file behind two small
// interfaces, protocol and dialect (imap.go, pop3.go, sieve.go, submission.go), and one for its tracker, boundary.
//
// It may import config, tlsconf, router, auth, backend, imapwire. Begin at Server, then protocol, dialect, login and link.
//
// What holds over all functions:
//
//	I1  a session is admitted only after its generation was compared again (login).
//	I15 a session that we end has no command without its answer, but IDLE and what was not read yet (link.tryEnd).
//
// Locks: link.mu is taken alone; nothing is written to a socket under it. A link's bytes are in link.go, its ends in
// link_end.go. Who is before login stands in preAuth until he is handed to a session or closed, under its mutex.
package proxy
