package cutover

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// quiet notes when a user's mailboxes are left alone.
type quiet struct {
	mu   sync.Mutex
	held map[string]bool
	told []string
}

func (q *quiet) say(user, what string, held bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held[user] = held
	q.told = append(q.told, what)
}

func (q *quiet) still(_ context.Context, user string) (func(), error) {
	q.say(user, "still", true)
	return func() { q.say(user, "resume", false) }, nil
}

// TestQuiet: nothing else works in a user's mailboxes from before the fence of a flip until behind its last step, however
// it ends.
func TestQuiet(t *testing.T) {
	for name, test := range map[string]struct {
		stuck bool // a session that does not end
		to    config.Side
		act   func(g *gateway, id string)
		want  op.Status

		before func(g *gateway)
	}{
		"committed": {to: config.New, want: op.Done},
		"deadline":  {to: config.New, stuck: true, want: op.Failed},
		"cancelled": {to: config.New, stuck: true, want: op.Cancelled, act: func(g *gateway, id string) {
			synctest.Wait() // he is fenced
			must(g.t, g.m.Cancel(g.t.Context(), id, "test", "there"))
		}},
		"already there": {to: config.Old, want: op.Done},
		"store down for a while": {to: config.New, want: op.Done, before: func(g *gateway) { // from the request on; under the fence it would end the flip
			until := time.Now().Add(3 * time.Second)
			g.st.set(func(name string, _ int) fault {
				if time.Now().Before(until) && name != "Holds" && name != "NewOperation" {
					return after
				}
				return well
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := started(t, alice+" old\n")
				q := &quiet{held: map[string]bool{}}
				g.m.still = q.still
				g.st.swaps = func(_ int64, next op.Row) {
					q.mu.Lock()
					defer q.mu.Unlock()
					if next.State != op.Prep && !q.held[next.User] {
						t.Errorf("%s is written, and the mailboxes are not left alone", next.State)
					}
				}
				if test.stuck {
					s, err := login(t.Context(), g.r, alice, &ender{})
					must(t, err)
					defer s.Done()
				}
				if test.before != nil {
					test.before(g)
				}
				o := g.request(alice, test.to)
				if test.act != nil {
					test.act(g, o.ID)
				}
				if o = g.wait(o.ID); o.Status != test.want {
					t.Errorf("%+v", o)
				}
				synctest.Wait()
				want := []string{"still", "resume"}
				if test.to == config.Old {
					want = nil // nobody is disturbed for nothing
				}
				if !slices.Equal(q.told, want) {
					t.Errorf("told %v", q.told)
				}
			})
		})
	}
}

// TestRestless: a flip is refused when what works in the mailboxes does not end in time: nobody was fenced.
func TestRestless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, alice+" old\n")
		g.m.still = func(ctx context.Context, _ string) (func(), error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		g.st.swaps = func(_ int64, next op.Row) {
			if next.State.Fenced() {
				t.Errorf("%+v is written", next)
			}
		}
		start := time.Now()
		o := g.request(alice, config.New)
		synctest.Wait()
		if why := g.m.Live(o).Reason; !strings.Contains(why, "waits for the end of a sync pass") {
			t.Errorf("meanwhile: %q", why)
		}
		g.admits(g.r, alice, config.Old)
		o = g.wait(o.ID)
		if o.Status != op.Failed || !strings.Contains(o.Reason, "sync pass over his mailboxes has not ended") {
			t.Errorf("%+v", o)
		}
		if d := time.Since(start); d != 20*time.Second {
			t.Errorf("after %v", d)
		}
		g.st.swaps = nil
		g.check(alice, config.Old, 0)

		o = g.request(alice, config.New)
		synctest.Wait()
		if err := g.m.Cancel(t.Context(), o.ID, "test", "there"); err != nil && !errors.Is(err, ErrFinal) {
			t.Error(err)
		}
		if o = g.wait(o.ID); o.Status != op.Cancelled {
			t.Errorf("%+v", o)
		}
	})
}
