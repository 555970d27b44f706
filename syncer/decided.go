package syncer

import (
	"slices"
	"time"

	"mailgate/config"
)

// asks tells whether mail in quarantine for a reason waits for a person: no pass tries it by itself, for it may be there already, or
// may have been deleted.
func asks(reason string) bool {
	return reason == reasonReset || reason == reasonSuspect || reason == reasonVanished
}

// nextTry is when a pass tries a message again by itself.
func nextTry(q Quarantined) time.Time {
	return q.Last.Add(min(time.Minute<<min(q.Tries, 12), 24*time.Hour))
}

// decided tells whether a person has said what is to be done with a message in quarantine: then nothing that a pass finds out by itself
// deletes it.
func (f *folder) decided(side config.Side, uid uint32) bool {
	return slices.ContainsFunc(f.quar, func(q Quarantined) bool {
		return q.Side == side && q.UID == uid && q.Validity == f.validity(side) && q.Decision != Undecided
	})
}

// requarantine gives messages in quarantine their new UIDs when a mailbox was renumbered, so that what was decided about them holds. to
// goes from the UIDs before to those behind.
func (f *folder) requarantine(side config.Side, to map[uint32]uint32, validity uint32) (c Change) {
	for i, q := range f.quar {
		if uid, ok := to[q.UID]; ok && q.Side == side && q.Validity == f.box.Validity[side] {
			c.Release = append(c.Release, q)
			q.UID, q.Validity = uid, validity
			c.Quarantine = append(c.Quarantine, q)
			f.quar[i] = q
		}
	}
	return c
}

// aside notes messages that are not carried.
func (r *Report) aside(list ...Quarantined) {
	for _, q := range list {
		if q.Decision == Waived {
			r.Waived = append(r.Waived, q)
		} else {
			r.Quarantine = append(r.Quarantine, q)
		}
	}
}
