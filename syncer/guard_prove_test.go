package syncer

import (
	"testing"

	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/syncer/merge"
)

// TestProve: what was seen to be moved is not proof of other deletes, names are known in both spellings, and a mailbox that began anew is
// another one.
func TestProve(t *testing.T) {
	pairs := func(first, last uint32) (list []merge.Pair) {
		for uid := first; uid <= last; uid++ {
			list = append(list, merge.Pair{UID: [2]uint32{uid, uid + 1000}})
		}
		return list
	}
	for name, c := range map[string]struct {
		raw, client string // the folder's name, and as the client says it
		most        uint32
		reset       bool
		want        int
	}{
		"as many as were moved":  {"Trash", "Trash", 100, false, 0},
		"some more":              {"Trash", "Trash", 130, false, 30},
		"all":                    {"Trash", "Trash", 400, false, 300},
		"INBOX":                  {"INBOX", "inbox", 400, false, 300},
		"in UTF-8":               {"Entw&APw-rfe", "Entwürfe", 400, false, 300},
		"another name":           {"Trash", "trash", 400, false, 0},
		"a mailbox that is anew": {"Trash", "Trash", 400, true, 0},
	} {
		p := &pass{authority: config.Old}
		f := &folder{movedAway: pairs(301, 400)}
		f.was.ID, f.was.Name, f.box.Validity = 1, [2]string{c.raw, "x"}, [2]uint32{7, 8}
		f.work.expunge[config.New] = pairs(1, 300)
		f.reset[config.Old] = c.reset
		var s Proofs
		s.Note("u", config.Old, 1, imapwire.Deletes{Mailbox: imapwire.NameHash(c.client), Validity: 7, UIDs: spans(1, 1<<32-1), Most: c.most})
		p.proofs = s.take("u")
		out := p.prove(f)
		if sure := len(out.sure); out.count != c.want || (sure == 300) != (c.want == 300) {
			t.Errorf("%s: %d proven, want %d; %d of them each", name, out.count, c.want, sure)
		}
	}
}
