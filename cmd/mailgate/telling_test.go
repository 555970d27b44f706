package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/imapwire"
	"mailgate/op"
	"mailgate/router"
)

// fakeNodes are a Registry and a Wire with another node that leads in a term.
type fakeNodes struct {
	cutover.Registry // nothing else is asked
	term             int64
	ask              func(ctx context.Context, request []byte) ([]byte, error)
}

func (f *fakeNodes) Join(_ context.Context, n op.Node) (op.Node, error) { return n, nil }
func (f *fakeNodes) Leave(context.Context, op.Node) error               { return nil }
func (f *fakeNodes) Rows(context.Context, func(op.Row) error) error     { return nil }
func (f *fakeNodes) Rules(context.Context) (op.Rules, error)            { return op.Rules{}, nil }

func (f *fakeNodes) Beat(context.Context, op.Node) (op.Leader, error) {
	return op.Leader{Name: "gw2", Incarnation: "other.1", Term: f.term}, nil
}

func (f *fakeNodes) Ask(ctx context.Context, _ op.Node, request []byte) ([]byte, error) {
	return f.ask(ctx, request)
}

func (f *fakeNodes) Serve(ctx context.Context, _ func(context.Context, []byte) []byte, ready func()) error {
	ready()
	<-ctx.Done()
	return nil
}

// TestRefusedIsNotHeard: a delete of which not each message is known is told to who leads next where the one before has refused it, or was
// not asked, and left out where that one may have heard it: also where it refused at last what it had been told without an answer.
func TestRefusedIsNotHeard(t *testing.T) {
	t.Parallel()
	other := &gateway{} // it does not lead
	refuses := func(ctx context.Context, in []byte) ([]byte, error) {
		return (&cutover.Station{Call: other.answer}).Handle(ctx, in), nil
	}
	fails := func(err error) func(context.Context, []byte) ([]byte, error) {
		return func(context.Context, []byte) ([]byte, error) { return nil, err }
	}
	for what, x := range map[string]struct {
		asks []func(context.Context, []byte) ([]byte, error)
		told int
	}{
		"refused":               {[]func(context.Context, []byte) ([]byte, error){refuses}, 1},
		"not asked":             {[]func(context.Context, []byte) ([]byte, error){fails(op.ErrNotAsked)}, 1},
		"gone, perhaps later":   {[]func(context.Context, []byte) ([]byte, error){fails(op.ErrGone)}, 0},
		"silent":                {[]func(context.Context, []byte) ([]byte, error){fails(context.DeadlineExceeded)}, 0},
		"silent, and refused":   {[]func(context.Context, []byte) ([]byte, error){fails(context.DeadlineExceeded), refuses}, 0},
		"silent, and not asked": {[]func(context.Context, []byte) ([]byte, error){fails(context.DeadlineExceeded), fails(op.ErrNotAsked)}, 0},
	} {
		f := &fakeNodes{term: 1}
		g := &gateway{log: slog.New(slog.DiscardHandler)}
		people := router.New(router.Options{}, func(string) config.Side { return config.Old }, func(string, router.Place) {})
		g.member = cutover.NewMember(cutover.MemberOptions{Registry: f, Router: people, Newcomers: cutover.NewNewcomers(), Name: "gw1", Tag: "own",
			About: func() op.About { return op.About{} }, Wire: func(op.Node) cutover.Wire { return f }, Call: g.answer, Removed: func() {}, Log: g.log})
		tell := newTelling(g)
		join := func() {
			if err := errors.Join(g.member.Leave(t.Context()), g.member.Join(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		join()
		b := &batch{number: 1, list: []cutover.Note{{User: "u", Side: config.Old, Session: 7,
			Deletes: &imapwire.Deletes{UIDs: imapwire.Spans{{First: 3, Last: 4}}, Most: 1}}}}
		for _, f.ask = range x.asks {
			if err := tell.tell(t.Context(), b); err == nil {
				t.Fatalf("%s: told", what)
			}
		}
		f.term = 2
		join() // it hears of that
		f.ask = fails(op.ErrNotAsked)
		if err := tell.tell(t.Context(), b); err == nil || len(b.list) != x.told {
			t.Errorf("%s: %d are told to who leads next, not %d (%v)", what, len(b.list), x.told, err)
		}
		if err := g.member.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
