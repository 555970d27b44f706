package cutover

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// rename is store.Postgres.Rename in memory, of a process that hands over.
func (r *registry) rename(ctx context.Context, n op.Node, name string, _ bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := ""
	for _, x := range r.nodes {
		if x.Incarnation == n.Incarnation {
			was = x.Name
		}
	}
	if r.away != nil || was == "" {
		return errors.Join(op.ErrNodes, r.away)
	}
	delete(r.nodes, was)
	if err := r.SQLite.RemoveNode(ctx, op.Node{Name: was, Incarnation: n.Incarnation}, op.Event{What: "renamed"}); err != nil {
		return err
	}
	n.Name, n.About.HandedOver = name, true
	r.nodes[name] = n
	return r.SQLite.AddNode(ctx, n)
}

// TestMemberRename: a node whose name changes amid a flip is asked as before, under the new name; so is the one that comes under the old.
func TestMemberRename(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g, _, two := pairOf(t, alice+" old\n")
		two.o.Rename = r.rename
		s, err := login(t.Context(), two.r, alice, &ender{})
		must(t, err)
		o := g.request(alice, config.New)
		synctest.Wait()
		before := two.Node()
		r.mu.Lock()
		r.away = op.ErrUnavailable
		r.mu.Unlock()
		if err := two.Rename(t.Context(), "gw2/7", false); !errors.Is(err, op.ErrUnavailable) {
			t.Error(err)
		}
		same(t, "name", two.Node().Name, "gw2")
		r.mu.Lock()
		r.away = nil
		r.mu.Unlock()
		must(t, two.Rename(t.Context(), "gw2/7", false))
		same(t, "name", two.Node().Name, "gw2/7")
		same(t, "incarnation", two.Node().Incarnation, before.Incarnation)
		three := r.process(t, "gw2", "c")
		three.join(t)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := login(short, three.r, alice, &ender{}); err == nil {
			t.Error("let in amid the flip")
		}
		if x, err := r.Operation(t.Context(), o.ID); err == nil && x.Status.Final() {
			t.Errorf("it did not wait: %+v", x)
		}
		s.Done()
		if x := g.wait(o.ID); x.Status != op.Done {
			t.Fatalf("%+v", x)
		}
		g.admits(two.r, alice, config.New)
		g.admits(three.r, alice, config.New)
		// It is taken out, and joins anew under its present name.
		must(t, r.remove("gw2/7"))
		g.wait(g.request(alice, config.Old).ID)
	})
}

// goneWire is a wire to a node that is registered no more, or was for a moment.
type goneWire struct{}

func (goneWire) Ask(context.Context, op.Node, []byte) ([]byte, error) { return nil, op.ErrNotAsked }

// TestParting: a node that has handed over may leave with the session that a flip ends, and counts no more then. While it is registered its word is
// needed.
func TestParting(t *testing.T) {
	r := newRegistry(t)
	n, err := r.Join(t.Context(), op.Node{Name: "gw2/7", Incarnation: "b.1", About: op.About{HandedOver: true}})
	must(t, err)
	p := &parting{&RemoteNode{Node: n, Wire: goneWire{}}, r}
	_, err = p.Send(t.Context(), Message{Kind: AskDrain, User: alice, Generation: 7})
	if !errors.Is(err, op.ErrGone) {
		t.Error(err)
	}
	must(t, r.remove(n.Name))
	ack, err := p.Send(t.Context(), Message{Kind: AskDrain, User: alice, Generation: 7})
	must(t, err)
	same(t, "acknowledgement", ack, Ack{Node: n.Name, User: alice, Generation: 7})
	plain := &RemoteNode{Node: n, Wire: goneWire{}}
	_, err = plain.Send(t.Context(), Message{Kind: AskDrain, User: alice, Generation: 7})
	if !errors.Is(err, op.ErrGone) {
		t.Error(err)
	}
}
