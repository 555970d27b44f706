package syncer

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"mailgate/imapwire"
	"mailgate/syncer/merge"
)

// Limits of deletes that nobody has confirmed (uid-stable.md, section 4.7).
const (
	guardMessages = 50
	guardShare    = 5 // one in so many
	guardEmptied  = 10
)

// guard keeps deletes back that look like an accident: a mailbox that lost much, or all of its mail, and an account that
// lost most of its folders, or much or all of its mail, be it little by little. What a client of the gateway asked to be deleted is no
// accident (see Proofs), and neither is what was moved: neither counts.
func (p *pass) guard(ctx context.Context) {
	follower, doubt := p.authority.Other(), ""
	if p.s.o.Doubt != nil && !p.opts.Deletes {
		doubt = p.s.o.Doubt(ctx, p.user)
	}
	p.unseen = p.mayHold(ctx)
	for _, f := range p.folders {
		f.proven = p.prove(f)
		if n := len(f.work.expunge[follower]); f.Action == ActionGone || n > f.proven.count || n > 0 && p.unseen != "" {
			f.released = doubt == "" && p.released(ctx, f)
		}
		if f.released {
			f.proven.count, f.proven.sure, f.proven.left = len(f.work.expunge[follower]), f.work.expunge[follower], nil
		}
	}
	gone, known := 0, 0
	lost, all := 0, 0      // messages of the folders that are there
	lostAll, inAll := 0, 0 // and with those of folders that are not
	for _, f := range p.folders {
		if f.err != nil || f.box.ID == 0 || f.box.Pairs == 0 || f.Action == ActionGone && (f.proven.folder || f.released) {
			continue
		}
		n := len(f.work.expunge[follower]) - f.proven.count
		of := f.agreed() - len(f.work.drop) - len(f.movedAway) - f.proven.count
		known++
		inAll, lostAll = inAll+of, lostAll+n
		if f.Action == ActionGone {
			if f.Side == follower {
				gone++
			}
			continue
		}
		lost, all = lost+n, all+of
	}
	switch {
	case doubt != "":
		p.guarded = doubt
	case gone > 1 && gone*2 > known:
		p.guarded = fmt.Sprintf("%d of %d folders are gone from %s", gone, known, p.authority)
	case lostAll >= inAll && lostAll > guardEmptied:
		p.guarded = fmt.Sprintf("the account is empty on %s", p.authority)
	case lost > max(guardMessages, all/guardShare):
		p.guarded = fmt.Sprintf("more than %d and more than one in %d messages of the account are gone from %s", guardMessages, guardShare, p.authority)
	}
	p.holdUnseen(ctx)
	for _, f := range p.folders {
		if f.Action == ActionGone { // its mail goes with it, when its time of grace is over
			f.work.expunge[follower], f.work.again = nil, true
			f.work.create, f.work.change = [2][]item{}, [2][]change{} // what else stands in it waits for a person
		}
		n, of := len(f.work.expunge[follower])-f.proven.count, f.agreed()-f.proven.count
		if n == 0 || f.waits || f.Action == ActionGone {
			continue
		}
		why := p.guarded
		switch {
		case why != "":
		case n > max(guardMessages, of/guardShare):
			why = fmt.Sprintf("more than %d and more than one in %d messages of this folder are gone from %s", guardMessages, guardShare, p.authority)
		case n >= of-len(f.work.drop) && n > guardEmptied:
			why = fmt.Sprintf("the folder is empty on %s", p.authority)
		}
		if why == "" {
			continue
		}
		p.hold(f, follower, n, int(f.box.Pairs), why+"; "+p.wayOut(ctx, f))
		f.work.expunge[follower] = f.proven.sure
		f.work.again, f.held = true, true
	}
}

// agreed is how much mail both sides had when they were last in agreement. What has arrived since is no sign that the rest was
// deleted by a person: deletes that are kept back stay so when mail comes in.
func (f *folder) agreed() int {
	if f.work.merged {
		return f.work.agreed
	}
	return int(f.box.Pairs)
}

// proven is what is known to be meant of the deletes of a folder.
type proven struct {
	count  int          // of work.expunge
	sure   []merge.Pair // those of which each is known
	folder bool         // the folder itself was deleted
	left   []proof      // what is of use to the next pass when the rest is held back
}

// spots are under which names sessions may have had a folder on the side that decides: as it stands on the wire, or in UTF-8 after
// ENABLE UTF8=ACCEPT (RFC 6855).
func (p *pass) spots(name string, validity uint64) []spot {
	list := []spot{{side: p.authority, mailbox: imapwire.NameHash(name), validity: validity}}
	if text, ok := decodeUTF7(name); ok && strings.Contains(name, "&") {
		list = append(list, spot{side: p.authority, mailbox: imapwire.NameHash(text), validity: validity})
	}
	if validity != wholeFolder && validity != anyValidity {
		list = append(list, p.spots(name, anyValidity)...)
	}
	return list
}

// prove looks what was asked of a folder by clients.
func (p *pass) prove(f *folder) (out proven) {
	follower, name := p.authority.Other(), f.was.Name[p.authority]
	if len(p.proofs) == 0 || f.err != nil || f.was.ID == 0 || name == "" || f.reset[p.authority] {
		return out
	}
	for _, at := range p.spots(name, wholeFolder) {
		out.folder = out.folder || len(p.proofs[at]) > 0
	}
	list := f.work.expunge[follower]
	if len(list) == 0 {
		return out
	}
	var all []proof
	for _, at := range p.spots(name, uint64(f.box.Validity[p.authority])) {
		all = append(all, p.proofs[at]...)
	}
	seen, sure := make([]bool, len(list)), make([]bool, len(list))
	for _, x := range byWorth(all) {
		var here []int
		others := false // that another proof may mean as well
		for i, q := range list {
			if !x.uids.Has(q.UID[p.authority]) {
				continue
			}
			if others = others || seen[i] && !sure[i]; !seen[i] {
				here = append(here, i)
			}
		}
		room := x.most // what of it was seen to be moved is none of these
		for _, q := range f.movedAway {
			if room > 0 && x.uids.Has(q.UID[p.authority]) {
				room--
			}
		}
		whole := uint64(len(here)) <= room
		if out.count += int(min(uint64(len(here)), room)); !whole || others {
			out.left = append(out.left, x)
		}
		for _, i := range here { // more than were asked for: which ones is not known, and another proof may mean the same
			seen[i], sure[i] = true, whole
		}
	}
	marked := map[merge.Flags]bool{} // whether \Deleted is among them: there are few different ones
	for i, q := range list {
		if seen[i] || !slices.ContainsFunc(all, func(x proof) bool { return x.marked.Has(q.UID[p.authority]) }) {
			continue
		}
		flags := q.Base[p.authority]
		deleted, known := marked[flags]
		if !known {
			deleted = f.markedDeleted(flags)
			marked[flags] = deleted
		}
		if deleted {
			sure[i] = true
			out.count++
		}
	}
	for i, q := range list {
		if sure[i] {
			out.sure = append(out.sure, q)
		}
	}
	return out
}

// markedDeleted tells whether \Deleted is among flags.
func (f *folder) markedDeleted(flags merge.Flags) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dict != nil && slices.ContainsFunc(f.dict.List(flags), func(name string) bool { return strings.EqualFold(name, `\Deleted`) })
}

// keepProofs remembers for the next pass what this one has not come to use. What it has carried, or seen not to be, is done with.
func (p *pass) keepProofs(err error) {
	if len(p.proofs) == 0 {
		return
	}
	if p.opts.DryRun {
		p.s.o.Proofs.back(p.user, p.proofs)
		return
	}
	keep := map[spot][]proof{}
	if err != nil {
		keep = p.proofs
	}
	for _, f := range p.folders {
		name := f.was.Name[p.authority]
		for i, at := range p.spots(name, uint64(f.box.Validity[p.authority])) {
			switch {
			case f.waits, f.err != nil && !f.carried:
				keep[at] = p.proofs[at]
			case f.held && err == nil && i == 0: // once: what is left is of all spots
				keep[at] = f.proven.left
			case f.held && err == nil:
				delete(keep, at)
			case f.carried:
				delete(keep, at)
			}
		}
		for _, at := range p.spots(name, wholeFolder) {
			if f.Action == ActionGone && !f.deleted {
				keep[at] = p.proofs[at]
			}
		}
	}
	p.s.o.Proofs.back(p.user, keep)
}
