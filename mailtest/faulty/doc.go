// Package faulty is an IMAP host in memory that goes wrong on purpose, at random from a seed: connections that end at any byte,
// answers that are lost, commands that are done after everybody has given up, refusals, half listings. What it holds can be read and
// changed directly, as other clients would, and compared. It is made as one of several products (Product). It knows nothing of
// mailgate, so that a wrong idea of ours is not on both sides of the wire.
//
// Begin at Start, Account and Faults.
package faulty
