package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"mailgate/op"
	"mailgate/syncer"
)

var errLate = errors.New("too late")

// nodeStore opens a store as a process among several, whose incarnations begin with tag.
func nodeStore(t *testing.T, url, tag string) *Postgres {
	t.Helper()
	s, err := OpenPostgresNode(t.Context(), url, tag)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func joined(t *testing.T, s *Postgres, name, incarnation, place string) op.Node {
	t.Helper()
	n, err := s.Join(t.Context(), op.Node{Name: name, Incarnation: incarnation, About: op.About{Place: place}})
	must(t, err)
	return n
}

// postgresLeases: the mailboxes that a node is at are free as soon as it is known to be down: taken out, or followed by a process in its
// place. What it began before is fenced. That it leads no more, or left a name to a process elsewhere, frees nothing.
func postgresLeases(t *testing.T, c *cluster) {
	url, ctx := c.fresh(t), t.Context()
	one, two := nodeStore(t, url, "a"), nodeStore(t, url, "b")
	gw1 := joined(t, one, "gw1", "a.1", "east /run/m")
	joined(t, two, "gw2", "b.1", "west /run/m")
	lead, err := one.Lead(ctx, gw1)
	must(t, err)
	token, err := one.Acquire(ctx, "a@example.com", "gw1", time.Minute)
	must(t, err)
	other, err := two.Acquire(ctx, "b@example.com", "gw2", time.Minute)
	must(t, err)
	must(t, lead.Close())
	_, err = two.Acquire(ctx, "a@example.com", "gw2", time.Minute)
	is(t, err, syncer.ErrFenced)

	again := nodeStore(t, url, "c")
	gw1 = joined(t, again, "gw1", "c.1", "east /run/m")
	next, err := two.Acquire(ctx, "a@example.com", "gw2", time.Minute)
	must(t, err)
	is(t, one.Release(ctx, "a@example.com", token), syncer.ErrFenced)
	must(t, two.Release(ctx, "a@example.com", next))

	token, err = again.Acquire(ctx, "a@example.com", "gw1", time.Minute)
	must(t, err)
	must(t, two.RemoveNode(ctx, gw1, op.Event{What: "node removed"}))
	_, err = two.Acquire(ctx, "a@example.com", "gw2", time.Minute)
	must(t, err)
	must(t, two.Release(ctx, "b@example.com", other)) // of a node that was not meant
	st := nodeStore(t, url, "d")
	is(t, st.Release(ctx, "a@example.com", token), syncer.ErrFenced)
}

// postgresNodes: names are taken once; one leads; who is no node any more learns it and writes nothing.
func postgresNodes(t *testing.T, c *cluster) {
	url, ctx := c.fresh(t), t.Context()
	one, two := nodeStore(t, url, "a"), nodeStore(t, url, "b")
	gw1, gw2 := joined(t, one, "gw1", "a.1", "east /run/m"), joined(t, two, "gw2", "b.1", "west /run/m")
	_, err := two.Join(ctx, op.Node{Name: "gw1", Incarnation: "b.1", About: op.About{Place: "west /run/m"}})
	is(t, err, op.ErrNodeName)
	lead, err := one.Lead(ctx, gw1)
	must(t, err)
	_, err = two.Lead(ctx, gw2)
	is(t, err, op.ErrInUse)
	gw2.About = op.About{Version: "1", Serial: "abc", Sessions: 7, Place: "west /run/m"}
	l, err := two.Beat(ctx, gw2)
	must(t, err)
	same(t, []any{l.Name, l.Incarnation, l.Term}, []any{"gw1", "a.1", lead.Term()})
	nodes, err := two.Nodes(ctx)
	must(t, err)
	if len(nodes) != 2 || nodes[1].About != gw2.About || nodes[1].Seen.Before(nodes[0].Seen) || nodes[0].Since.IsZero() {
		t.Errorf("%+v", nodes)
	}

	// A node that does not lead writes whom it has seen for the first time, and nothing else of users.
	must(t, two.AddRowsOf(ctx, gw2, []op.Row{alice}))
	next := alice
	next.Generation++
	must(t, lead.Swap(ctx, 0, next, op.Operation{}, nil))
	// A process that comes again in the same place takes the name, and its predecessor is nobody.
	again := joined(t, nodeStore(t, url, "c"), "gw2", "c.1", "west /run/m")
	is(t, two.AddRowsOf(ctx, gw2, []op.Row{{User: "b@example.com"}}), op.ErrNodes)
	_, err = two.Beat(ctx, gw2)
	is(t, err, op.ErrNodeName)
	must(t, two.Leave(ctx, gw2)) // which is not its successor's end
	nodes, err = two.Nodes(ctx)
	must(t, err)
	same(t, []string{nodes[1].Incarnation}, []string{again.Incarnation})

	// Who gives the lead up lets another have it, and what he began before is not written behind.
	must(t, lead.Close())
	var after *Postgres
	for end := time.Now().Add(10 * time.Second); after == nil; time.Sleep(5 * time.Millisecond) {
		if after, err = two.Lead(ctx, again); err != nil && time.Now().After(end) {
			t.Fatal(err)
		}
	}
	defer after.Close()
	if after.Term() <= lead.Term() {
		t.Errorf("term %d behind %d", after.Term(), lead.Term())
	}
	next.Generation++
	is(t, lead.Swap(ctx, 1, next, op.Operation{}, nil), op.ErrInUse)
}

// postgresRemoved: a node that leads and stands still in the middle of a transaction is removed by another, which leads then.
func postgresRemoved(t *testing.T, c *cluster) {
	url, ctx := c.fresh(t), t.Context()
	one, two := nodeStore(t, url, "a"), nodeStore(t, url, "b")
	gw1, gw2 := joined(t, one, "gw1", "a.1", "east"), joined(t, two, "gw2", "b.1", "west")
	lead, err := one.Lead(ctx, gw1)
	must(t, err)
	must(t, lead.AddRows(ctx, []op.Row{alice}))
	stands, goesOn := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := lead.tx(ctx, func(tx *transaction) error {
			if err := tx.meet(ctx, op.Condition{Nodes: []op.Node{gw1, gw2}}); err != nil {
				return err
			}
			close(stands)
			<-goesOn
			return nil
		})
		is(t, err, op.ErrUnavailable)
	})
	<-stands
	start := time.Now()
	must(t, two.RemoveNode(ctx, gw1, op.Event{What: "node removed", Before: "gw1"}))
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
	after, err := two.Lead(ctx, gw2)
	must(t, err)
	defer after.Close()
	close(goesOn)
	wg.Wait()
	next := alice
	next.Generation++
	is(t, lead.Swap(ctx, 0, next, op.Operation{}, nil), op.ErrInUse)
	lead.writer.keep(ctx)
	select {
	case <-lead.Lost():
	default:
		t.Error("it does not know that it leads no more")
	}
	_, err = one.Beat(ctx, gw1)
	is(t, err, op.ErrNodes)
	must(t, after.Swap(ctx, 0, next, op.Operation{}, nil))
	must(t, lead.Close())

	// A node that leads again after it was removed, without having been followed by another, has a number of its own.
	must(t, one.RemoveNode(ctx, gw2, op.Event{What: "node removed"}))
	is(t, after.AddEvents(ctx, op.Event{What: "no"}), op.ErrInUse)
}

// postgresWire: requests reach the node that is meant, once or again, and answers come back; also behind a lost connection.
func postgresWire(t *testing.T, c *cluster) {
	url := c.fresh(t)
	one, two := nodeStore(t, url, "a"), nodeStore(t, url, "b")
	gw1, gw2 := joined(t, one, "gw1", "a.1", "east"), joined(t, two, "gw2", "b.1", "west")
	from, to := one.Wire(gw1), two.Wire(gw2)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	var ready sync.WaitGroup
	ready.Add(2)
	wg.Go(func() { _ = from.Serve(ctx, func(_ context.Context, b []byte) []byte { return b }, ready.Done) })
	wg.Go(func() {
		_ = to.Serve(ctx, func(ctx context.Context, b []byte) []byte {
			if string(b) == "hang" {
				<-ctx.Done()
			}
			return append([]byte("re: "), b...)
		}, ready.Done)
	})
	ready.Wait()
	ask := func(node op.Node, text string) (string, error) {
		short, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errLate)
		defer cancel()
		b, err := from.Ask(short, node, []byte(text))
		return string(b), err
	}
	start := time.Now()
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			if a, err := ask(gw2, fmt.Sprint(i)); err != nil || a != fmt.Sprint("re: ", i) {
				t.Errorf("%q %v", a, err)
			}
		})
	}
	all.Wait()
	t.Logf("50 requests at once took %v", time.Since(start))
	if a, err := ask(gw1, "myself"); err != nil || a != "myself" {
		t.Errorf("%q %v", a, err)
	}
	short, cancel := context.WithTimeoutCause(ctx, 50*time.Millisecond, errLate)
	defer cancel()
	_, err := from.Ask(short, gw2, []byte("hang"))
	is(t, err, errLate)
	_, err = ask(op.Node{Name: "gw2", Incarnation: "b.0"}, "former")
	is(t, err, op.ErrGone)

	c.sql(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+c.last()+"'")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if a, err := ask(gw2, "behind"); err == nil && a == "re: behind" {
			break
		} else if time.Now().After(end) {
			t.Fatalf("%q %v", a, err)
		}
	}
	// Who waits for a node that is removed is told.
	gone := make(chan error)
	go func() { _, err := ask(gw2, "hang"); gone <- err }()
	for n := 0; n < 2; time.Sleep(5 * time.Millisecond) { // the other is the one that was given up
		w, err := one.Waiting(ctx)
		must(t, err)
		if n = w["b.1"]; n == 1 {
			break
		}
	}
	must(t, one.RemoveNode(ctx, gw2, op.Event{What: "removed"}))
	is(t, <-gone, op.ErrGone)
}
