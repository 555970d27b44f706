package store

import (
	"context"
	"sync"
	"testing"
	"time"

	"mailgate/op"
	"mailgate/syncer"
)

// postgresRename: a node goes on under another name, as the node that it was: its registration has no gap, what it was asked is answered, and
// nothing that others know by its incarnation changes. It comes back in place of an earlier process that has ended, of no other one.
func postgresRename(t *testing.T, c *cluster) {
	url, ctx := c.fresh(t), t.Context()
	one, two := nodeStore(t, url, "a"), nodeStore(t, url, "b")
	gw1, gw2 := joined(t, one, "gw1", "a.1", "east /run/m"), joined(t, two, "gw2", "b.1", "west /run/m")
	lead, err := one.Lead(ctx, gw1)
	must(t, err)
	must(t, lead.AddRows(ctx, []op.Row{alice}))
	term := lead.Term()
	must(t, lead.Close())

	serve, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	asked, goesOn := make(chan struct{}), make(chan struct{})
	from, to := two.Wire(gw2), one.Wire(gw1)
	var ready sync.WaitGroup
	ready.Add(2)
	wg.Go(func() { _ = from.Serve(serve, func(context.Context, []byte) []byte { return nil }, ready.Done) })
	wg.Go(func() {
		_ = to.Serve(serve, func(_ context.Context, b []byte) []byte {
			if string(b) == "amid" {
				close(asked)
				<-goesOn
			}
			return b
		}, ready.Done)
	})
	ready.Wait()
	amid := make(chan error, 1)
	go func() { _, err := from.Ask(ctx, gw1, []byte("amid")); amid <- err }()
	<-asked

	gw1.About.HandedOver = true
	must(t, one.Rename(ctx, gw1, "gw1/7", false))
	must(t, one.Rename(ctx, gw1, "gw1/7", false)) // as one whose answer was lost
	time.Sleep(wireLook + wireLook/4)             // who asks looks whether it is a node still
	close(goesOn)
	must(t, <-amid)
	_, err = from.Ask(ctx, gw1, []byte("by the name of before"))
	must(t, err)
	l, err := one.Beat(ctx, gw1) // it may not have heard the answer
	must(t, err)
	same(t, []any{l.Name, l.Incarnation, l.Term}, []any{"", "", term})
	must(t, one.AddRowsOf(ctx, gw1, []op.Row{{User: "b@example.com"}}))

	// A commit needs its word under the new name, and that of who has come under the old one.
	old := op.Node{Name: "gw1/7", Incarnation: "a.1"}
	third := nodeStore(t, url, "c")
	next := joined(t, third, "gw1", "c.1", "east /run/m")
	right, err := third.Lead(ctx, next)
	must(t, err)
	commit := func(nodes ...op.Node) error {
		row := alice
		row.Generation++
		return right.Commit(ctx, 0, row, op.Operation{}, nil, op.Condition{Nodes: nodes}, op.Event{})
	}
	is(t, commit(gw1, gw2), op.ErrNodes)
	is(t, commit(gw1, next, gw2), op.ErrNodes)
	is(t, commit(old, gw2), op.ErrNodes)
	must(t, commit(old, next, gw2))

	// The registration of the one under the old name is its own, and so are its connections.
	_, err = third.Acquire(ctx, "a@example.com", "gw1", time.Minute)
	must(t, err)
	is(t, one.Rename(ctx, old, "gw1", false), op.ErrNodeName)
	is(t, one.Rename(ctx, old, "gw2", true), op.ErrNodeName) // elsewhere
	is(t, two.Rename(ctx, op.Node{Name: "gw3", Incarnation: "x.1"}, "gw4", false), op.ErrNodes)
	l, err = one.Beat(ctx, old)
	must(t, err)
	same(t, []any{l.Name, l.Incarnation}, []any{"gw1", "c.1"})
	must(t, right.Close())
	old.About = op.About{Place: "east /run/m"}
	must(t, one.Rename(ctx, old, "gw1", true))
	nodes, err := two.Nodes(ctx)
	must(t, err)
	same(t, []any{len(nodes), nodes[0].Name, nodes[0].Incarnation, nodes[0].About}, []any{2, "gw1", "a.1", old.About})
	_, err = two.Acquire(ctx, "a@example.com", "gw2", time.Minute) // who was there has ended
	must(t, err)
	_, err = third.Acquire(ctx, "a@example.com", "gw1", time.Minute)
	is(t, err, syncer.ErrFenced)

	// Taking out a name ends the connections of its process alone.
	must(t, one.Rename(ctx, gw1, "gw1/7", false))
	next = joined(t, third, "gw1", "c.2", "east /run/m")
	kept, err := one.write.Conn(ctx)
	must(t, err)
	defer kept.Close()
	must(t, two.RemoveNode(ctx, next, op.Event{What: "node removed"}))
	must(t, kept.PingContext(ctx))
}
