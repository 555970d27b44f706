// Package backend is a server on either side: dialling it with TLS as configured, logging in as the user, its
// capabilities, and what is known of its health. What it hands over is spliced or relayed by package proxy.
//
// It may import config, tlsconf, auth, imapwire. Begin at Dialer; imap.go and submission.go are the two logins. Client is an
// IMAP connection for programs of ours, the syncer above all: begin at client_conn.go.
package backend
