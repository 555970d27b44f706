package cutover

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/router"
)

// TestLoginCrossesImport: a user who is admitted while his first line is being recorded for the other side is where his
// session is, in the store too, and then moved as his line says.
func TestLoginCrossesImport(t *testing.T) {
	for name, written := range map[string]bool{"before it is written": false, "behind it": true} {
		for outcome, f := range map[string]fault{"": well, ", and the store answers an error": after} {
			for alive, keep := range map[string]bool{", and his session lives": true, "": false} {
				t.Run(name+alive+outcome, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { crosses(t, written, f, keep) }) })
			}
		}
	}
}

func crosses(t *testing.T, written bool, f fault, keep bool) {
	s := openStore(t, tempDir(t))
	defer s.Close()
	g := newGateway(t, s)
	must(t, g.m.Start(t.Context()))
	defer g.m.Stop()
	var sess *router.Session
	ended := make(chan struct{})
	logIn := func() {
		var err error
		sess, err = login(t.Context(), g.r, alice, &ender{end: func() { close(ended) }})
		must(t, err)
		if sess.Side != config.Old {
			t.Errorf("let in to %s", sess.Side)
		}
		if !keep {
			sess.Done()
		}
	}
	if written {
		g.st.imported = logIn
	}
	g.st.set(func(name string, _ int) fault {
		if name != "Import" {
			return well
		}
		if !written {
			logIn()
		}
		return f
	})
	g.imports("default old\n" + alice + " new\n")
	if keep {
		<-ended
		if r := g.row(alice); r.Side != config.Old {
			t.Errorf("his session is on old, the row says %+v", r)
		}
		sess.Done()
	}
	synctest.Wait()
	g.settle()
	g.check(alice, config.New, 1)
}

// TestCrossedWhileHeld: a hold on one who crossed an import stops nobody else who did, is not asked about all the time, and when it ends he
// is moved at once.
func TestCrossedWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, tempDir(t))
		defer s.Close()
		g := newGateway(t, s)
		must(t, g.m.Start(t.Context()))
		defer g.m.Stop()
		var asked atomic.Int64
		g.st.set(func(name string, _ int) fault {
			switch name {
			case "Holds":
				asked.Add(1)
			case "Import":
				if _, _, err := g.m.Hold(t.Context(), op.Hold{Scope: op.HoldUser(alice), By: "kim", At: time.Now()}, ""); err != nil {
					t.Error(err)
				}
				for _, user := range []string{alice, bob} {
					sess, err := login(t.Context(), g.r, user, &ender{})
					must(t, err)
					sess.Done()
				}
			}
			return well
		})
		g.imports("default old\n" + alice + " new\n" + bob + " new\n")
		synctest.Wait()
		g.check(bob, config.New, 1)
		g.check(alice, config.Old, 0)
		before := asked.Load()
		time.Sleep(10 * time.Minute)
		if n := asked.Load() - before; n > 25 {
			t.Errorf("asked %d times in 10 minutes", n)
		}
		if changed, err := g.m.Unhold(t.Context(), op.HoldUser(alice), "kim", ""); !changed || err != nil {
			t.Error(changed, err)
		}
		synctest.Wait()
		g.check(alice, config.New, 1)
	})
}
