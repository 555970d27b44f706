package syncer_test

import (
	"os"
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
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

// probe makes the profiles of both hosts.
func (r *rig) probe(t testing.TB) (p [2]*syncer.Profile) {
	t.Helper()
	for _, side := range config.Sides {
		var err error
		if p[side], err = r.Probe(t.Context(), side, lab.User(r.n)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// same verifies with everything hashed; what differs has to be explained.
func (r *rig) same(t testing.TB) *syncer.Verification {
	t.Helper()
	v, err := r.Verify(t.Context(), lab.User(r.n), syncer.VerifyOptions{Deep: true})
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	if !v.Equal {
		var b strings.Builder
		_ = v.WriteTable(&b)
		t.Error(b.String())
	}
	return v
}

func TestPairs(t *testing.T) {
	pairs(t, func(t *testing.T, old, new lab.Host, n int) {
		r := newRig(t, old, new, n, nil)
		corpus.Load(t, old, n, corpus.Mailbox(800, 40, 1, corpus.Options{Mean: 3000}))
		p := r.probe(t)
		_ = syncer.WriteProfiles(os.Stdout, p[0], p[1])
		rep := r.pass(t)
		t.Logf("%+v", rep)
		v := r.same(t)
		_ = v.WriteTable(os.Stdout)
		diff := corpus.Diff(r.snapshot(t, config.Old), r.snapshot(t, config.New), corpus.DiffOptions{Limit: 200})
		t.Log(len(diff), strings.Join(diff, "\n"))
		for range 2 {
			t.Logf("%+v", r.pass(t))
		}
	})
}

// TestChanges carries what people do after the first copy, pass by pass.
func TestChanges(t *testing.T) {
	pairs(t, func(t *testing.T, old, new lab.Host, n int) {
		r := newRig(t, old, new, n, nil)
		corpus.Load(t, old, n, corpus.Mailbox(1200, 40, 2, corpus.Options{Mean: 2000}))
		r.probe(t)
		r.pass(t)
		x := newTalk(t, old, n)
		for seed := range uint64(3) {
			change(x, old, seed+1)
			t.Logf("%+v", r.pass(t))
			r.same(t)
			rep := r.pass(t)
			if rep.Copied != [2]int64{} || rep.Flags != [2]int64{} || rep.Expunged != [2]int64{} || rep.Moved != [2]int64{} {
				t.Errorf("a pass without changes did something: %+v", rep)
			}
		}
	})
}
