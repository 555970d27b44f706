package syncer

import (
	"cmp"
	"slices"
	"sync"

	"mailgate/config"
	"mailgate/imapwire"
)

// Proofs remembers what people asked to be deleted through the gateway, until a pass has carried it: such deletes do not count against the
// guard. And it remembers since when the guard holds deletes back, so that no history need be read. Run writes the proofs down, a moment
// later: what is lost with the process is held back as if nobody had seen it. It is safe for concurrent use, and
// bounded; what does not fit is no proof.
type Proofs struct {
	mu    sync.Mutex
	users map[string]map[spot][]proof
	spans int                               // of all
	seen  map[string]map[string]observation // what was held back of a user when he was last looked at
	taken map[string]map[spot][]proof       // by passes that are under way
	dirty map[string]bool                   // of whom the store is to learn; see Run

	writing sync.Mutex // one write at a time: an older state must not replace a newer one; before mu
}

// spot is a mailbox of a user on a side.
type spot struct {
	side     config.Side
	mailbox  uint64 // imapwire.NameHash
	validity uint64 // wholeFolder, or UIDVALIDITY, or anyValidity
}

// What stands in place of a UIDVALIDITY.
const (
	wholeFolder = 0       // the mailbox itself was deleted
	anyValidity = 1 << 32 // of which one it was is not known
)

// proof is what was asked of one mailbox: most messages of uids, and what has \Deleted among marked.
type proof struct {
	session uint64
	uids    imapwire.Spans
	most    uint64
	marked  imapwire.Spans
}

// sure tells whether each message is meant, and not only so many of them.
func (x proof) sure() bool { return x.most >= x.uids.Size() }

// Bounds of Proofs.
const (
	maxProofs      = 64      // of a mailbox
	maxProvenBoxes = 200     // of a user
	maxProofSpans  = 1 << 17 // of all users: a mebibyte
)

// Note remembers what was deleted in a session of a user, whose ID is no other's.
func (s *Proofs) Note(user string, side config.Side, session uint64, d imapwire.Deletes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := spot{side: side, mailbox: d.Mailbox, validity: uint64(d.Validity)}
	if d.Validity == 0 && !d.Folder {
		at.validity = anyValidity
	}
	s.add(user, at, proof{session: session, uids: slices.Clone(d.UIDs), most: uint64(d.Most), marked: slices.Clone(d.Marked)})
	s.touch(user)
}

// add puts a proof to those of a mailbox; mu is held. What one session says of several commands is one proof; what is sure is one
// whoever says it.
func (s *Proofs) add(user string, at spot, x proof) {
	u := s.users[user]
	list := u[at]
	if s.spans+len(x.uids)+len(x.marked) > maxProofSpans || len(u) >= maxProvenBoxes && list == nil {
		return
	}
	i := slices.IndexFunc(list, func(y proof) bool { return x.sure() && y.sure() || !x.sure() && !y.sure() && x.session == y.session })
	switch {
	case i < 0 && len(list) == maxProofs:
		return
	case i < 0:
		i, list = len(list), append(list, proof{session: x.session})
	}
	y := &list[i]
	s.spans -= len(y.uids) + len(y.marked)
	for _, r := range x.uids {
		y.uids = y.uids.Add(r.First, r.Last)
	}
	for _, r := range x.marked {
		y.marked = y.marked.Add(r.First, r.Last)
	}
	y.most += x.most
	if x.sure() {
		y.most = y.uids.Size()
	}
	s.spans += len(y.uids) + len(y.marked)
	if u == nil {
		if u = map[spot][]proof{}; s.users == nil {
			s.users = map[string]map[spot][]proof{}
		}
		s.users[user] = u
	}
	u[at] = list
}

// Forget lets go what is remembered of a user.
func (s *Proofs) Forget(user string) {
	s.take(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, user)
	delete(s.taken, user)
	s.touch(user)
}

// take gives what is remembered of a user, and remembers it no more.
func (s *Proofs) take(user string) map[spot][]proof {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[user]
	delete(s.users, user)
	s.hand(user, u)
	for _, list := range u {
		for _, x := range list {
			s.spans -= len(x.uids) + len(x.marked)
		}
	}
	return u
}

// back remembers again what take gave.
func (s *Proofs) back(user string, u map[spot][]proof) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.taken, user)
	s.touch(user)
	for at, list := range u {
		for _, x := range list {
			s.add(user, at, x)
		}
	}
}

// byWorth puts what is sure first, and then what proves most.
func byWorth(list []proof) []proof {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b proof) int {
		switch {
		case a.sure() == b.sure():
			return cmp.Compare(b.most, a.most)
		case a.sure():
			return -1
		}
		return 1
	})
	return list
}
