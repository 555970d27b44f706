package cutover

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/router"
)

// TestLinkToStopped: who asks a process that takes nothing any more does not wait for ever, whatever stands in the buffers.
func TestLinkToStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe() // nobody reads there
		defer there.Close()
		defer here.Close()
		began := time.Now()
		if _, err := NewLink(here).Ask(context.Background(), []byte("release")); !errors.Is(err, ErrLink) || time.Since(began) > 2*frameTime {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestRulesOfOne: a node with nothing to load lets people go on too when the rules have changed.
func TestRulesOfOne(t *testing.T) {
	n := &LocalNode{ID: "one", Router: router.New(router.Options{}, func(string) config.Side { return config.Old }, nil)}
	for _, k := range []Kind{AskPause, AskRules} {
		if _, err := n.Send(t.Context(), Message{Kind: k, Generation: 1}); err != nil {
			t.Fatal(err)
		}
		if held := n.Router.Held(router.Newcomers); held != (k == AskPause) {
			t.Errorf("behind %s: %v", k, held)
		}
	}
}
