package syncer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/mailtest/faulty"
	"mailgate/op"
	"mailgate/syncer"
)

// dyingAmid is a store whose process dies before it has written down that an append is through, or right behind what it is about to append.
type dyingAmid struct {
	syncer.Store
	atEnd, atBegin atomic.Bool
}

func (d *dyingAmid) Apply(ctx context.Context, c syncer.Change) (syncer.Applied, error) {
	if len(c.DropIntents) > 0 && d.atEnd.CompareAndSwap(true, false) {
		return syncer.Applied{}, op.ErrUnavailable
	}
	a, err := d.Store.Apply(ctx, c)
	if err == nil && len(c.AddIntents) > 0 && d.atBegin.CompareAndSwap(true, false) {
		return syncer.Applied{}, op.ErrUnavailable
	}
	return a, err
}

// TestDeletedBeforeRecovered ends passes that bring late mail to where people work. What its owner deletes there before the next pass looks does not
// come back, and what has not arrived is not lost.
func TestDeletedBeforeRecovered(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what     string
		arrived  bool
		act      func(w *asideWorld, p *syncer.Proofs)
		old, new int // messages in the end
		aside    int
	}{
		{"nothing", true, func(*asideWorld, *syncer.Proofs) {}, 4, 4, 0},
		{"not arrived", false, func(w *asideWorld, _ *syncer.Proofs) { w.put(config.Old, "INBOX", "other", 10) }, 5, 5, 0},
		{"the last", true, func(w *asideWorld, _ *syncer.Proofs) { w.hosts[0].Account.Expunge("INBOX", 3) }, 3, 4, 1},
		{"all", true, func(w *asideWorld, _ *syncer.Proofs) {
			for range 3 {
				w.hosts[0].Account.Expunge("INBOX", 1)
			}
		}, 1, 4, 3},
		{"the middle", true, func(w *asideWorld, _ *syncer.Proofs) { w.hosts[0].Account.Expunge("INBOX", 2) }, 3, 4, 1},
		{"the middle, proven", true, func(w *asideWorld, p *syncer.Proofs) {
			m, _ := w.hosts[0].Account.Expunge("INBOX", 2)
			p.Note("user", config.Old, 1, imapwire.Deletes{Mailbox: imapwire.NameHash("INBOX"), Validity: w.hosts[0].Account.Contents()["INBOX"][0].Validity,
				UIDs: imapwire.Spans{{First: m.UID, Last: m.UID}}, Most: 1})
		}, 3, 4, 1},
	} {
		proofs, d := &syncer.Proofs{}, &dyingAmid{}
		w := &asideWorld{newFaultyWorld(t, faulty.Dovecot(), faulty.Dovecot(), 1, func(o *syncer.Options) {
			d.Store, o.Proofs, o.Batch = o.Store, proofs, 8
			o.Store = d
		}), t}
		w.put(config.Old, "INBOX", "a", 10)
		w.run()
		for _, what := range []string{"b", "c", "d"} {
			w.put(config.New, "INBOX", what, 10)
		}
		if d.atEnd.Store(c.arrived); !c.arrived {
			d.atBegin.Store(true)
		}
		if _, err := w.Run(t.Context(), "user", syncer.RunOptions{}); !errors.Is(err, op.ErrUnavailable) {
			t.Fatalf("%s: %v", c.what, err)
		}
		if n := w.hosts[0].Account.Count("INBOX"); (n == 4) != c.arrived {
			t.Fatalf("%s: OLD has %d messages", c.what, n)
		}
		c.act(w, proofs)
		for range 3 {
			w.run()
		}
		if old, new := w.hosts[0].Account.Count("INBOX"), w.hosts[1].Account.Count("INBOX"); old != c.old || new != c.new || len(w.rows()) != c.aside {
			t.Errorf("%s: OLD has %d messages and NEW %d, %d set aside; want %d, %d, %d", c.what, old, new, len(w.rows()), c.old, c.new, c.aside)
		}
	}
}

// TestDeletedBesideRefused: mail that OLD refuses between two late messages is not taken for what its owner has deleted there, though as many
// are gone in its place and the delete is known of: that was other mail.
func TestDeletedBesideRefused(t *testing.T) {
	t.Parallel()
	proofs, d := &syncer.Proofs{}, &dyingAmid{}
	w := &asideWorld{newFaultyWorld(t, faulty.Courier(), faulty.Dovecot(), 1, func(o *syncer.Options) {
		d.Store, o.Proofs, o.Batch = o.Store, proofs, 8
		o.Store = d
	}), t}
	old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
	w.put(config.Old, "INBOX", "a", 10)
	w.run()
	old.Limit(1000)
	w.put(config.New, "INBOX", "b", 10)
	w.put(config.New, "INBOX", "refused", 2000)
	w.put(config.New, "INBOX", "d", 10)
	d.atEnd.Store(true)
	other := uint32(0)
	_, err := w.Run(t.Context(), "user", syncer.RunOptions{Progress: func(g syncer.Progress) {
		if other == 0 && g.Messages[0] == 2 { // the second of three is under way: the first has been answered, for Courier lets literals wait
			other = old.Append("INBOX", nil, time.Now(), []byte("Subject: other\r\n\r\nother\r\n"))
		}
	}})
	list := old.Contents()["INBOX"]
	if !errors.Is(err, op.ErrUnavailable) || len(list) != 4 || list[2].UID != other {
		t.Fatalf("%v, OLD has %d messages, the other one is %d", err, len(list), other)
	}
	old.Expunge("INBOX", 2)
	proofs.Note("user", config.Old, 1, imapwire.Deletes{Mailbox: imapwire.NameHash("INBOX"), Validity: list[0].Validity,
		UIDs: imapwire.Spans{{First: other, Last: other}}, Most: 1})
	for range 3 {
		w.run()
	}
	if n := [2]int{old.Count("INBOX"), new.Count("INBOX")}; n != [2]int{3, 4} {
		t.Errorf("OLD and NEW have %v messages, want 3 and 4", n)
	}
	if rows := w.rows(); len(rows) != 1 || rows[0].Reason != "suspect" || rows[0].Side != config.New {
		t.Errorf("in quarantine: %+v", rows)
	}
}
