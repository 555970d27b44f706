// Package learned keeps the passwords that people log in with through the gateway, so that the syncer can log in as them:
// encrypted to a key that is not in the store, for a time, and erased on request. Nothing is kept unless there is a key.
//
// It may import config and op. Begin at Book: Note is told of logins, Run writes them down, Passwords gives them back,
// Forget erases. It declares the Store that keeps ciphertext; package store implements it.
package learned
