package proxy

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/router"
)

// TestStorm: many clients come at once, over TLS, more than the host may be asked by at a time; all of them get in.
func TestStorm(t *testing.T) {
	t.Parallel()
	const n = 120
	r := newRig(t, rigOptions{old: ends("old", "!silent"), gone: true, tune: func(c *config.Config) {
		b := &c.Backends[config.Old]
		b.MaxLogins, b.LoginWait, b.LoginTimeout = 2, 2*time.Minute, time.Minute
		c.Limits.Handshake = time.Minute
	}})
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			r.secure().Dialogue("S: * OK ...\nC: in LOGIN " + user + " pw\nS: in OK ...")
		})
	}
	wg.Wait()
	if got := r.rec.results(); got != "map[ok:120]" {
		t.Error(got)
	}
}

// TestFrontsGiveWay: where a host has as many connections as we may make, and some are the syncer's, those make room for a login on
// every front. A host that says that it is crowded is heard by IMAP only: it counts each service by itself.
func TestFrontsGiveWay(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rig func(testing.TB, rigOptions) *rig
		old func(*mailtest.Talk)
		in  func(*rig)
	}{
		"IMAP": {newRig, ends("old", "!silent"), func(r *rig) { r.in() }},
		"POP3": {popRig, popEnds("old", "!silent"), func(r *rig) { r.popClientIn() }},
		"sieve": {sieveRig, sieveEnds(""), func(r *rig) {
			r.plain().Dialogue("S: \"IMPLEMENTATION\" ...\nS: \"SIEVE\" ...\nS: \"SASL\" ...\nS: OK ...\n" + sieveAuth)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			asked := 0
			r := tt.rig(t, rigOptions{old: tt.old, gone: true, server: func(s *Server) {
				s.crowded = func(side config.Side, who string, err error) bool {
					mu.Lock()
					defer mu.Unlock()
					if !errors.Is(err, backend.ErrBudget) || side != config.Old || who != user {
						t.Errorf("%s, %s: %v", side, who, err)
					}
					asked++
					for _, x := range s.router.Sessions("") { // the one whose place is wanted
						x.Press(router.Cut, "go")
					}
					return true
				}
			}})
			cfg := r.set.Load().cfg.Backends
			cfg[config.Old].MaxConnections = 1
			if err := r.dialer.Update(cfg); err != nil {
				t.Fatal(err)
			}
			tt.in(r)
			tt.in(r)
			mu.Lock()
			defer mu.Unlock()
			if asked == 0 {
				t.Error("nobody was asked to make room")
			}
		})
	}
	t.Run("a POP3 host that is crowded", func(t *testing.T) {
		t.Parallel()
		r := popRig(t, rigOptions{old: func(k *mailtest.Talk) {
			k.Dialogue(strings.Replace(popIn, "S: +OK in on ", "S: -ERR [SYS/TEMP] Maximum number of connections exceeded", 1))
			k.Silent()
		}, gone: true, server: func(s *Server) {
			s.crowded = func(config.Side, string, error) bool { t.Error("the syncer was asked"); return false }
		}})
		r.plain().Dialogue("S: +OK ...\nC: USER " + user + "\nS: +OK ...\nC: PASS pw\nS: -ERR [SYS/TEMP] ...")
	})
}

// TestStrangersWaitAlone: where strangers have all the turns that they may have, who is known gets in beside them.
func TestStrangersWaitAlone(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	r := newRig(t, rigOptions{gone: true, tune: func(c *config.Config) {
		b := &c.Backends[config.Old]
		b.MaxLogins, b.LoginWait, b.ConnectTimeout = 2, time.Millisecond, time.Minute
	}, old: func(k *mailtest.Talk) {
		if n.Add(1) == 2 {
			k.Script().Fire("hangs")
			k.Silent()
			return
		}
		ends("old", "!silent")(k)
	}})
	r.in() // he is known now
	stranger := func(name string) *mailtest.Talk {
		k := r.plain()
		k.Dialogue("S: * OK ...\nC: in LOGIN " + name + "@example.com pw")
		return k
	}
	stranger("v")
	r.old.Await("hangs")
	stranger("w").Expect("in NO [UNAVAILABLE] ...")
	r.in()
}
