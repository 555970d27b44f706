package syncer_test

import (
	"context"
	"errors"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/store"
	"mailgate/syncer"
)

var errKilled = errors.New("killed") //nolint:gochecknoglobals // a constant

// dying is a store that ends the pass before the outcome of an intent is written.
type dying struct {
	*store.SQLite
	on bool
}

func (d *dying) Apply(ctx context.Context, c syncer.Change) (syncer.Applied, error) {
	if d.on && len(c.DropIntents) > 0 {
		return syncer.Applied{}, errKilled
	}
	return d.SQLite.Apply(ctx, c)
}

// TestParentRenamed kills a pass after it has appended to a folder; then a person renames the folder above and deletes the
// original. What was under way in the folder is still known: the message is not taken for new mail of NEW.
func TestParentRenamed(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	d := &dying{}
	r := newRig(t, l.Old, l.New, 1, func(o *syncer.Options) {
		d.SQLite = o.Store.(*store.SQLite)
		o.Store = d
	})
	x := lab.Dial(t, l.Old, 1)
	for _, name := range []string{"INBOX.Work", "INBOX.Work.Sub", "INBOX.Work.Sub.Deep"} {
		x.Do(`CREATE "%s"`, name)
		x.Append(name, "", letter(len(name)))
	}
	x.Do(`SUBSCRIBE "INBOX.Work.Sub"`)
	r.pass(t)
	x.Append("INBOX.Work.Sub", "", letter(100))
	d.on = true
	if _, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{}); !errors.Is(err, errKilled) {
		t.Fatalf("the pass was to be killed: %v", err)
	}
	d.on = false
	if open, err := r.store.Intents(t.Context(), lab.User(1)); err != nil || len(open) != 1 {
		t.Fatalf("the kill was to leave an intent: %v %v", open, err)
	}
	x.Do(`SELECT "INBOX.Work.Sub"`)
	uids := x.UIDs()
	x.Do(`UID STORE %d +FLAGS (\Deleted)`, uids[len(uids)-1])
	x.Do(`UID EXPUNGE %d`, uids[len(uids)-1])
	x.Do(`RENAME "INBOX.Work" "INBOX.Arbeit"`)
	x.Close()
	want := r.snapshot(t, config.Old)

	// Looking at it first changes nothing, and names everything by what it is called as yet.
	rep, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{DryRun: true})
	if err != nil || len(rep.Errors) > 0 || rep.Renamed != [2]int{0, 1} {
		t.Errorf("dry run: %+v %v", rep, err)
	}
	v, err := r.Verify(t.Context(), lab.User(1), syncer.VerifyOptions{Deep: true})
	if err != nil || v.Compared != 3 || v.Equal {
		t.Errorf("verify: %+v %v", v, err)
	}

	if rep := r.pass(t); rep.Renamed != [2]int{0, 1} || rep.Copied != [2]int64{} || rep.Expunged != [2]int64{0, 1} {
		t.Errorf("after the kill: %+v", rep)
	}
	r.same(t)
	r.quiet(t)
	for side, name := range []string{"OLD", "NEW"} {
		for _, d := range corpus.Diff(want, r.snapshot(t, config.Side(side)), corpus.DiffOptions{NoSubscriptions: true,
			OnlyB: func(_ corpus.Path, c *corpus.Contents) bool { return c.Count == 0 }}) {
			t.Errorf("%s: %s", name, d)
		}
	}
	plan, err := r.Plan(t.Context(), lab.User(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range plan.Folders {
		if want := f.Name[config.New] == "Arbeit/Sub"; f.Subscribed != [2]bool{want, want} {
			t.Errorf("subscription of %q: %v", f.Name, f.Subscribed)
		}
	}
}

// TestBegunAnew has a folder begin anew on the side that decides, under its name and with less mail, while nothing has changed on the
// other: what is not there any more is held for a person.
func TestBegunAnew(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newRig(t, l.Old, l.New, 1, nil)
	x := lab.Dial(t, l.Old, 1)
	x.Do(`CREATE "INBOX.Work"`)
	for i := range 4 {
		x.Append("INBOX.Work", "", letter(i))
	}
	r.pass(t)
	r.quiet(t)
	x.Do(`DELETE "INBOX.Work"`)
	x.Do(`CREATE "INBOX.Work"`)
	for i := range 3 {
		x.Append("INBOX.Work", "", letter(i))
	}
	rep := r.pass(t)
	if rep.Copied != [2]int64{} || rep.Expunged != [2]int64{} || len(rep.Held) != 1 || rep.Held[0].Messages != 1 || rep.Held[0].Side != "new" {
		t.Errorf("%+v", rep)
	}
	rep = r.pass(t)
	if rep.Copied != [2]int64{} || rep.Expunged != [2]int64{} || len(rep.Quarantine) != 1 || rep.Quarantine[0].Side != config.New {
		t.Errorf("once more: %+v", rep)
	}
}

// TestBothSidesRename renames a folder on one side and the one above it on the other, with mail arriving in between.
func TestBothSidesRename(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newRig(t, l.Old, l.New, 1, nil)
	x, y := lab.Dial(t, l.Old, 1), lab.Dial(t, l.New, 1)
	for i, name := range []string{"A", "A.x", "A.x.z", "B", "B.x"} {
		x.Do(`CREATE "INBOX.%s"`, name)
		x.Do(`SUBSCRIBE "INBOX.%s"`, name)
		for j := range i + 1 {
			x.Append("INBOX."+name, "", letter(10*i+j))
		}
	}
	r.pass(t)
	x.Do(`RENAME "INBOX.A" "INBOX.C"`)
	x.Append("INBOX.C.x", "", letter(100))
	y.Do(`RENAME "A/x" "A/y"`)
	y.Do(`RENAME "B" "A/D"`)
	y.Append("A/D/x", "", letter(101))
	x.Do(`CREATE "INBOX.B.new"`)
	x.Append("INBOX.B.new", "", letter(102))
	rep := r.pass(t)
	if rep.Renamed != [2]int{2, 1} || rep.Created != [2]int{0, 1} || rep.Copied != [2]int64{1, 2} || rep.Deleted != [2]int{} || rep.Expunged != [2]int64{} {
		t.Errorf("%+v", rep)
	}
	r.same(t)
	r.quiet(t)
	want := map[string]int{"INBOX": 0, "C": 1, "C/y": 3, "C/y/z": 3, "C/D": 4, "C/D/x": 6, "C/D/new": 1}
	plan, err := r.Plan(t.Context(), lab.User(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range plan.Folders {
		if n, ok := want[f.Shown[config.New]]; ok && (f.Messages != [2]uint32{uint32(n), uint32(n)} || n > 1 && f.Subscribed != [2]bool{true, true}) {
			t.Errorf("%q holds %d, subscribed %v", f.Shown, f.Messages, f.Subscribed)
		} else if ok {
			delete(want, f.Shown[config.New])
		} else if f.Messages != [2]uint32{} {
			t.Errorf("%q is not expected", f.Shown)
		}
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}
