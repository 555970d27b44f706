package acme

import (
	"testing"
	"time"

	"mailgate/config"
)

// An authority that has to take a certificate back says that it is to be renewed before that, and it is, early as that may be.
func TestAdvice(t *testing.T) {
	t.Parallel()
	r := newRig(t, config.HTTP01, 0, one)
	r.run()
	r.has(one)
	r.until("it is told", func() bool { return r.count("obtained") == 1 })
	r.stop()
	first := r.leaf(one)
	r.run() // nothing is due
	r.until("the authority's advice", func() bool {
		r.m.mu.Lock()
		defer r.m.mu.Unlock()
		return !r.m.state[one].advised.next.IsZero()
	})
	if at := r.status(one).RenewAt; at.Before(first.NotBefore.AddDate(0, 0, 50)) || r.count("renewed") > 0 {
		t.Errorf("renewed at %s", at)
	}
	r.stop()
	r.ca.Advise(first, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	r.run()
	r.until("a renewal", func() bool { return !r.leaf(one).Equal(first) })
	r.until("it is told", func() bool { return r.count("renewed") == 1 })
}
