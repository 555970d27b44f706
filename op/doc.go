// Package op is the record of what was asked and done: operations with an id, a state and a reason for waiting, pins,
// and the history. It declares the Store that keeps them and the users' rows; package store implements it.
//
// It may import config. Begin at Operation and Store.
package op
