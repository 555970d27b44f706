package syncer_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/faulty"
)

// TestRenamedAboveDeleted: a folder is renamed and one below it is deleted between two passes. The follower has neither the old names nor the
// deleted one afterwards, with mail in it or without.
func TestRenamedAboveDeleted(t *testing.T) {
	t.Parallel()
	for _, product := range []func() faulty.Product{faulty.Dovecot, faulty.Cyrus, faulty.Courier} {
		for mail := range 2 {
			p := product()
			t.Run(fmt.Sprintf("%s, %d letters", p.Name, mail), func(t *testing.T) {
				w := newFaultyWorld(t, p, faulty.Dovecot(), 1)
				a := w.hosts[config.Old].Account
				a.Create(w.name(config.Old, "Work"))
				a.Create(w.name(config.Old, "Work/2025"))
				w.deliver(config.Old, "Work")
				for range mail {
					w.deliver(config.Old, "Work/2025")
				}
				w.settle(t, "before")
				a.Rename(w.name(config.Old, "Work"), w.name(config.Old, "Arbeit"))
				a.Delete(w.name(config.Old, "Arbeit/2025"))
				w.want = slices.DeleteFunc(w.want, func(l *letterRecord) bool { return l.path == "Work/2025" })
				for _, l := range w.want {
					l.path = strings.Replace(l.path, "Work", "Arbeit", 1)
				}
				w.settle(t, "behind")
				w.check(t, "behind", p.Keywords)
				for _, n := range w.hosts[config.New].Account.Names() {
					if path := w.path(config.New, n); path != "INBOX" && path != "Arbeit" {
						t.Errorf("%s is there", path)
					}
				}
			})
		}
	}
}
