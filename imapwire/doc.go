// Package imapwire is IMAP as tokens: command lines with their literals before login (Command), response codes and
// capabilities, and the boundary tracker (Tracker) that follows a spliced session in both directions.
//
// It knows no sockets and may import none of our packages. Begin at Tracker for what happens after login, at
// CommandReader for what happens before.
package imapwire
