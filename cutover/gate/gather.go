package gate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Gather asks the other nodes what they have counted: each from its mark (heard), and again while there is more, and has each answer
// taken in (tell). It names all other nodes that are registered, and those that have not told all in time.
type Gather func(ctx context.Context, heard func(node string) Mark, tell func(node string, s Snapshot)) (nodes, silent []string, err error)

// gathering is what a Book knows of other nodes.
type gathering struct {
	turn sync.Mutex // one at a time
	at   time.Time  // when the last one began
	not  string     // what is not known since, and why; "" when all is
	gone string     // for whom the store was read last: nodes that do not tell themselves, see stored
}

// gatherFresh is how long what was gathered is good: the members of a wave are judged one by one.
const gatherFresh = 2 * time.Second

// gatherAll asks the other nodes, unless that was done behind a time, and gives what is not known all the same, in plain words.
func (b *Book) gatherAll(ctx context.Context, behind time.Time) (not string, at time.Time) {
	if b.o.Gather == nil {
		return "", b.now()
	}
	g := &b.gathered
	g.turn.Lock()
	defer g.turn.Unlock()
	if g.at.After(behind) {
		return g.not, g.at
	}
	at = b.now()
	nodes, silent, err := b.o.Gather(ctx, b.Heard, b.Merge)
	if err == nil {
		err = b.stored(ctx, nodes, silent)
	}
	switch slices.Sort(silent); {
	case err != nil:
		not = "what other gateways have counted cannot be read: " + err.Error()
	case len(silent) > 0:
		not = fmt.Sprintf("%s does not answer, and what was counted there is not known", strings.Join(silent, ", "))
	}
	if ctx.Err() == nil { // else who asked has gone: that is no answer for others
		g.at, g.not = at, not
	}
	return not, at
}

// stored takes in what the store has of nodes that do not tell themselves: they are silent, or no more. It is read when there are others.
func (b *Book) stored(ctx context.Context, nodes, silent []string) error {
	tells := map[string]bool{b.o.Node: true}
	for _, n := range nodes {
		tells[n] = !slices.Contains(silent, n)
	}
	names := slices.Sorted(maps.Keys(tells))
	key := strings.Join(names, " ") + " without " + strings.Join(slices.Sorted(slices.Values(silent)), " ")
	if key == b.gathered.gone {
		return nil
	}
	err := b.o.Store.Signals(ctx, b.now().Add(-horizon), func(r Row) error {
		if !tells[r.Node] {
			b.restore(r, false)
		}
		return nil
	})
	if err == nil {
		b.gathered.gone = key
	}
	return err
}

// rough is a baseline that was recorded at the flip, and what was recorded at the one before.
type rough struct {
	at      time.Time
	earlier Baseline
}

// refine records anew the baselines of flips of moments ago, when all nodes have told what they had counted until then. Where another node
// has made a later flip since, what that has recorded stands. Without the store it is done the next time.
func (b *Book) refine(ctx context.Context, not string, at time.Time) {
	if not != "" || !b.ripens(at) || b.refresh(ctx) != nil {
		return
	}
	b.mu.Lock()
	ripe := map[string]rough{}
	for user, x := range b.rough {
		if at.After(x.at) {
			if !b.baselines[user].At.After(x.at) {
				ripe[user] = x
			}
			delete(b.rough, user)
		}
	}
	b.mu.Unlock()
	for user, x := range ripe {
		b.record(b.behind(x.earlier, user, x.at, x.at))
	}
}

// ripens tells whether there is something to record anew by what was gathered at a time.
func (b *Book) ripens(at time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range b.rough {
		if at.After(x.at) {
			return true
		}
	}
	return false
}

// unripe is since when other nodes must be asked for the sake of baselines; zero when they need not be.
func (b *Book) unripe() (at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range b.rough {
		if x.at.After(at) {
			at = x.at
		}
	}
	return at
}
