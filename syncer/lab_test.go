package syncer_test

import (
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
)

// pairs are the hosts between which everything has to work.
func pairs(t *testing.T, f func(t *testing.T, old, new lab.Host, n int)) {
	l := lab.Start(t)
	courier, cyrus := lab.StartCourier(t), lab.StartCyrus(t, lab.CyrusSetting("munge8bit: no"))
	n := 0
	for _, old := range []lab.Host{l.Old, courier.Host} {
		for _, new := range []lab.Host{l.New, cyrus.Host} {
			n++
			t.Run(old.Name+" to "+new.Name, func(t *testing.T) { f(t, old, new, n) })
		}
	}
}

func TestPairs(t *testing.T) {
	pairs(t, func(t *testing.T, old, new lab.Host, n int) {
		r := newRig(t, old, new, n, nil)
		corpus.Load(t, old, n, corpus.Mailbox(800, 40, 1, corpus.Options{Mean: 3000}))
		rep := r.pass(t)
		t.Logf("%+v", rep)
		diff := corpus.Diff(r.snapshot(t, config.Old), r.snapshot(t, config.New), corpus.DiffOptions{Limit: 200})
		t.Log(len(diff), strings.Join(diff, "\n"))
		for range 2 {
			t.Logf("%+v", r.pass(t))
		}
	})
}
