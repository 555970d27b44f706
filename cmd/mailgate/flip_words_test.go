package main

import (
	"strings"
	"testing"

	"mailgate/cutover"
	"mailgate/syncer"
)

// TestFolderInTheWay: a flip that a folder keeps off names it, what the host says of it, and what can be done, also to go without it.
func TestFolderInTheWay(t *testing.T) {
	for _, c := range []struct {
		class syncer.Class
		out   bool // leaving it out is a way
	}{{syncer.ClassRefused, true}, {syncer.ClassUnreachable, false}} {
		r := &syncer.Report{Errors: []syncer.FolderError{{Folder: "Work", Error: "old: SELECT: NO [SERVERBUG] Internal error", Class: c.class}}}
		err := obstacles(cutover.Move{User: "a@example.com"}, r)
		refusal, ok := err.(*cutover.Refusal)
		if !ok {
			t.Fatalf("%v", err)
		}
		for _, word := range []string{"Work", "old: SELECT: NO [SERVERBUG] Internal error", "mailgate sync run a@example.com"} {
			if !strings.Contains(refusal.Why+refusal.Do, word) {
				t.Errorf("%s: %q, %q do not say %q", c.class, refusal.Why, refusal.Do, word)
			}
		}
		if strings.Contains(refusal.Do, "sync.exclude") != c.out {
			t.Errorf("%s: %q", c.class, refusal.Do)
		}
	}
}
