package main

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"mailgate/op"
	"mailgate/syncer"
)

// TestPassIsAnOperation: while it runs it is counted, shown with how far it is, and not called interrupted at any moment.
func TestPassIsAnOperation(t *testing.T) {
	const user = "alice@example.com"
	m := newMemory(t, user)
	m.deliver(0, user, 30)
	g := m.serve()
	look := func() (all []op.Operation) {
		list, err := g.store.Operations(t.Context(), op.Filter{Kind: op.Sync})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list {
			all = append(all, g.api().Live(t.Context(), o))
		}
		return all
	}
	for range 10 {
		done := make(chan error, 1)
		go func() {
			_, err := g.syncing.Sync(t.Context(), "run", url.Values{"user": {user}, "by": {"test"}}, func(any) {})
			done <- err
		}()
		for over := false; !over; {
			select {
			case err := <-done:
				over = true
				if err != nil {
					t.Fatal(err)
				}
			default:
			}
			for _, o := range look() {
				if o.Status != op.Running && o.Status != op.Done {
					t.Fatalf("a pass that is well is shown as %+v", o)
				}
			}
		}
	}

	m.relay.block()
	done := make(chan error, 1)
	go func() {
		_, err := g.syncing.Sync(t.Context(), "run", url.Values{"user": {user}, "by": {"kim"}, "from": {"her desk"}}, func(any) {})
		done <- err
	}()
	id := ""
	for end := time.Now().Add(scriptTime); id == "" && time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, o := range look() {
			if o.Status == op.Running && strings.Contains(o.Reason, "for ") {
				id = o.ID
			}
		}
	}
	if n := g.sources().Operations()[op.Sync][op.Running]; n != 1 || id == "" {
		t.Errorf("%d running, %q", n, id)
	}
	if g.syncing.Cancel("", "test", "") || g.syncing.Cancel("op-999", "test", "") || !g.syncing.Cancel(id, "test", "there") {
		t.Error("the wrong pass was cancelled")
	}
	if err := <-done; exitCode(err) != exitPartly || !strings.Contains(err.Error(), "cancelled by test") {
		t.Error(err)
	}
	m.relay.unblock()
	if n := g.sources().Operations()[op.Sync][op.Running]; n != 0 {
		t.Errorf("%d running behind the end", n)
	}
	o, err := g.store.Operation(t.Context(), id)
	if err != nil || o.Status != op.Cancelled || o.Reason != "by test" || o.Took <= 0 || o.By != "kim" || o.From != "her desk" {
		t.Errorf("%+v, %v", o, err)
	}
	list, err := g.store.History(t.Context(), op.HistoryFilter{Limit: 1})
	if err != nil || len(list) != 1 || list[0].Op != id || list[0].By != "test" || list[0].From != "there" {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestNextPassWaits: whoever ended a pass may ask for the next one at once; it begins when the other has ended.
func TestNextPassWaits(t *testing.T) {
	const user = "alice@example.com"
	m := newMemory(t, user)
	m.deliver(0, user, 30)
	g := m.serve()
	for range 5 {
		m.relay.block()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := g.syncing.Sync(ctx, "run", url.Values{"user": {user}}, func(any) {})
			done <- err
		}()
		for end := time.Now().Add(scriptTime); g.syncing.running() == 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		m.relay.unblock()
		cancel()
		if _, err := g.syncing.Sync(t.Context(), "run", url.Values{"user": {user}}, func(any) {}); err != nil {
			t.Error(err)
		}
		<-done
	}
}

// TestPassEnds: what is left undone is told with the operation, and a failure in one line.
func TestPassEnds(t *testing.T) {
	r := &syncer.Report{Held: make([]syncer.Held, 2), Errors: make([]syncer.FolderError, 1)}
	for _, test := range []struct {
		cause, err error
		r          *syncer.Report
		status     op.Status
		reason     string
	}{
		{nil, nil, &syncer.Report{}, op.Done, ""},
		{nil, nil, r, op.Done, "0 set aside, 2 held back, 1 folders not done"},
		{errFlip, nil, &syncer.Report{}, op.Done, ""},
		{errFlip, errFlip, nil, op.Cancelled, "he is being moved; the next pass goes on where this one was"},
		{errClosing, errFlip, r, op.Interrupted, "mailgate is ending; the next pass goes on where this one was"},
		{cancelled{by: "me"}, errFlip, r, op.Cancelled, "by me"},
		{nil, &syncer.SideError{Err: syncer.ErrNoLogin}, nil, op.Failed, "old: " + syncer.ErrNoLogin.Error()},
	} {
		if status, reason, _ := passEnd(test.cause, test.r, test.err); status != test.status || reason != test.reason {
			t.Errorf("%v, %v: %s %q", test.cause, test.err, status, reason)
		}
	}
}
