// Package syncer keeps two accounts equal: it plans the folders, scans, merges, applies, journals what it is about to do,
// and verifies. It knows no client sessions.
//
// It may import config, backend, imapwire and syncer/merge. Begin at Syncer; store.go is what it needs to remember.
package syncer
