// Package logins knows who has logged in through the gateway, and does what follows from it: it records the last login of each user,
// makes strong hashes of passwords for NEW's user database, runs the operator's hook that provisions NEW, and notices a password that
// worked on one side and is refused on the other.
//
// It may import config and op. Begin at Ledger: Note is told of logins, Run does the rest behind them. It declares the Store that
// keeps all of it; package store implements it. No password is ever in the store, in the log, in an environment or in arguments.
package logins
