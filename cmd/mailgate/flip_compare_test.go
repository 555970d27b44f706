package main

import (
	"testing"

	"mailgate/syncer"
)

// TestPassedBy: what a user does while both sides are compared is no difference; what differs twice is, and what cannot be told is too.
func TestPassedBy(t *testing.T) {
	of := func(list ...syncer.Difference) *syncer.Verification {
		f := syncer.FolderVerification{Name: [2]string{"INBOX", "INBOX"}, Found: int64(len(list)), Differences: list}
		return &syncer.Verification{Folders: []syncer.FolderVerification{f}}
	}
	missing := func(uid uint32) syncer.Difference {
		return syncer.Difference{Kind: "missing-new", UID: [2]uint32{uid, 0}}
	}
	flags := syncer.Difference{Kind: "flags", UID: [2]uint32{3, 3}}
	cut := of(missing(8))
	cut.Folders[0].Found = 2000
	open := of(missing(8))
	open.Open = 1
	scripts := of(missing(8))
	scripts.Sieve = &syncer.SieveVerification{Different: 1}
	for name, c := range map[string]struct {
		before, after *syncer.Verification
		want          bool
	}{
		"other messages each time":  {of(missing(7), flags), of(missing(8)), true},
		"nothing the second time":   {of(missing(7)), of(), true},
		"the same again":            {of(missing(7), flags), of(missing(8), missing(7)), false},
		"flags again":               {of(flags), of(flags), false},
		"contents":                  {of(missing(7)), of(syncer.Difference{Kind: "body", UID: [2]uint32{4, 4}}), false},
		"contents before":           {of(syncer.Difference{Kind: "size", UID: [2]uint32{4, 4}}), of(missing(8)), false},
		"not all are listed":        {cut, of(missing(9)), false},
		"one waits in quarantine":   {of(missing(7)), open, false},
		"scripts":                   {of(missing(7)), scripts, false},
		"missing behind flags":      {of(flags), of(missing(3)), false},
		"a folder that was missing": {of(syncer.Difference{Kind: "folder"}), of(missing(3)), false},
	} {
		if got := passedBy(c.before, c.after); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
