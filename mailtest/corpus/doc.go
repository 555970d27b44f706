// Package corpus is the mail that tests move: messages and folder names that servers stumble over (Nasty, Names), accounts
// that look like real ones (Mailbox), loaders for the hosts of package lab (Load), and what an account holds in the end
// (Snapshot, Diff), read by code that shares nothing with the gateway's IMAP.
package corpus
