// Package imapwire is IMAP as tokens: command lines with their literals before login (Command), response codes and
// capabilities, the boundary tracker (Tracker) that follows a spliced session in both directions, the streaming scanner of
// what servers say (Scanner), UID sets (ParseSet, AppendUIDs) and mailbox names (DecodeName).
//
// It knows no sockets and may import none of our packages. Begin at Tracker for what happens after login, at
// CommandReader for what happens before, at Scanner for the client's side.
package imapwire
