// Package acme has certificates from an authority (RFC 8555) while serve runs: asked for, kept in a folder, renewed, and handed to
// tlsconf.Certificates. certmagic does the order of a request and its storage layout; folder, authority and challenges are here, so
// that each file is replaced whole, each goroutine has an end, and nothing is shared between managers but what the library
// acmez remembers of directories.
//
// It may import tlsconf and config. Begin at Manager.
package acme
