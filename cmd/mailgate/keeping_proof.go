package main

import (
	"mailgate/config"
	"mailgate/imapwire"
)

// deleted remembers what a user's client asked to be deleted, for the next pass over him. Of those who are neither kept nor moved nobody would ask.
func (kp *keeping) deleted(user string, side config.Side, session uint64, d imapwire.Deletes) {
	if _, kept := kp.k.State(user); kept || kp.s.flips(user) {
		kp.s.proofs.Note(user, side, session, d)
	}
}
