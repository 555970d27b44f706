package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

var confirmPairs = [][2]faulty.Product{ //nolint:gochecknoglobals // a constant
	{faulty.Dovecot(), faulty.Cyrus()}, {faulty.Courier(), faulty.Cyrus()}, {faulty.Courier(), faulty.Plain()}, {faulty.Plain(), faulty.Dovecot()},
}

// confirmed is a world with mail in two folders that a pass has brought together, and a second one that found nothing.
func confirmed(t *testing.T, pair [2]faulty.Product) *faultyWorld {
	t.Helper()
	w := newFaultyWorld(t, pair[0], pair[1], 1, func(o *syncer.Options) { o.Keep = time.Minute })
	w.hosts[config.Old].Account.Create(w.name(config.Old, "Work"))
	for range 8 {
		w.put(config.Old, "INBOX")
		w.put(config.Old, "Work")
	}
	for range 2 {
		if rep, err := w.pass(t); err != nil || len(rep.Errors) > 0 {
			t.Fatal(rep, err)
		}
	}
	return w
}

// put delivers a message that is like no other.
func (w *faultyWorld) put(side config.Side, path string) {
	w.n++
	w.hosts[side].Account.Append(w.name(side, path), nil, time.Unix(1_700_000_000+int64(w.n), 0), []byte(letter(w.n)))
}

// fenced is a pass under the fence.
func (w *faultyWorld) fenced(t *testing.T) *syncer.Report {
	t.Helper()
	rep, err := w.Run(t.Context(), "user", syncer.RunOptions{Fenced: true, NoSieve: true})
	if err != nil || len(rep.Errors) > 0 {
		t.Fatal(rep, err)
	}
	return rep
}

func (w *faultyWorld) confirm(t *testing.T, o syncer.ConfirmOptions) *syncer.Confirmation {
	t.Helper()
	c, err := w.Confirm(t.Context(), "user", o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestConfirm: what is brought together is equal, also with what a pass has just written; what is done past it is found, by its kind.
func TestConfirm(t *testing.T) {
	t.Parallel()
	for _, pair := range confirmPairs {
		t.Run(pair[0].Name+" to "+pair[1].Name, func(t *testing.T) {
			t.Parallel()
			w := confirmed(t, pair)
			old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
			if c := w.confirm(t, syncer.ConfirmOptions{Blind: true}); c.Different != 0 || c.Pairs != 16 || c.Messages != [2]int64{16, 16} || c.Late != [2]int64{} {
				t.Errorf("equal: %+v", c)
			}
			// What a pass under the fence writes is looked at.
			w.put(config.Old, "INBOX")
			old.Flag("INBOX", 2, []string{`\Answered`}, nil)
			old.Expunge(w.name(config.Old, "Work"), 3)
			w.put(config.New, "INBOX")
			rep := w.fenced(t)
			if c := w.confirm(t, syncer.ConfirmOptions{Wrote: rep.Touched()}); c.Different != 0 || c.Pairs != 17 || c.Looked == 0 {
				t.Errorf("carried: %+v", c)
			}
			// Mail that arrives now is late, on either side.
			w.put(config.Old, "INBOX")
			w.put(config.New, "Work")
			if c := w.confirm(t, syncer.ConfirmOptions{Wrote: rep.Touched()}); c.Different != 0 || c.Late != [2]int64{1, 1} {
				t.Errorf("late: %+v", c)
			}
			w.fenced(t)
			for _, x := range []struct {
				what, kind string
				do         func()
			}{
				{"a flag on OLD", "flags", func() { old.Flag("INBOX", 0, []string{`\Flagged`}, nil) }},
				{"a flag on NEW", "flags", func() { now.Flag("INBOX", 1, []string{`\Draft`}, nil) }},
				{"gone from OLD", "gone", func() { old.Expunge("INBOX", 4) }},
				{"gone from NEW", "gone", func() { now.Expunge("INBOX", 5) }},
				{"the last one gone from NEW", "gone", func() { now.Expunge("INBOX", now.Count("INBOX")-1) }},
				{"a folder on OLD", "folder", func() { old.Create(w.name(config.Old, "More")) }},
			} {
				before := w.confirm(t, syncer.ConfirmOptions{Blind: true})
				x.do()
				c := w.confirm(t, syncer.ConfirmOptions{Blind: true})
				if before.Different != 0 || c.Different != 1 || c.Differences[0].Kind != x.kind {
					t.Errorf("%s: before %+v, after %+v", x.what, before, c)
				}
				rep := w.fenced(t)
				if c = w.confirm(t, syncer.ConfirmOptions{Wrote: rep.Touched()}); c.Different != 0 {
					t.Errorf("%s, carried: %+v", x.what, c)
				}
			}
		})
	}
}

// TestConfirmStore: what the store says wrongly is found too, where no number of a host has changed.
func TestConfirmStore(t *testing.T) {
	t.Parallel()
	w := confirmed(t, confirmPairs[0])
	boxes, err := w.store.Mailboxes(t.Context(), "user")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(boxes, func(m syncer.Mailbox) bool { return m.Name[0] == "INBOX" })
	chunks, err := w.store.Chunks(t.Context(), boxes[i].ID)
	if err != nil {
		t.Fatal(err)
	}
	pairs, err := syncer.DecodePairs(nil, chunks[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	chunks[0].Data = syncer.EncodePairs(pairs[1:])
	boxes[i].Pairs--
	token, err := w.store.Acquire(t.Context(), "user", "test", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.Apply(t.Context(), syncer.Change{User: "user", Token: token, Mailboxes: boxes[i : i+1], Chunks: chunks}); err != nil {
		t.Fatal(err)
	}
	if c := w.confirm(t, syncer.ConfirmOptions{}); c.Different != 2 || c.Differences[0].Kind != "count" {
		t.Errorf("%+v", c)
	}
	// A pass that counts heals it: both messages are there and are paired by their content.
	rep, err := w.Run(t.Context(), "user", syncer.RunOptions{Recount: true})
	if err != nil || rep.Paired != 1 || rep.Copied != [2]int64{} {
		t.Errorf("%+v %v", rep, err)
	}
	if c := w.confirm(t, syncer.ConfirmOptions{}); c.Different != 0 {
		t.Errorf("healed: %+v", c)
	}
}

// TestLeave: what a job takes from the follower is left alone by passes of the kind that come all the time, which carries nothing back
// wrongly either; the pass before a flip makes it again, in the order of the side that decides.
func TestLeave(t *testing.T) {
	t.Parallel()
	for _, pair := range confirmPairs {
		t.Run(pair[0].Name+" to "+pair[1].Name, func(t *testing.T) {
			t.Parallel()
			w := confirmed(t, pair)
			now := w.hosts[config.New].Account
			for range 3 {
				now.Expunge("INBOX", 1)
			}
			w.hosts[config.Old].Account.Flag("INBOX", 2, []string{`\Flagged`}, nil) // in the same pass: it must be known when the message is made again
			for range 3 {
				rep, err := w.Run(t.Context(), "user", syncer.RunOptions{Leave: true})
				if err != nil || rep.Copied != [2]int64{} || rep.Expunged != [2]int64{} {
					t.Fatal(rep, err)
				}
			}
			w.put(config.Old, "INBOX")
			now.Move("INBOX", 0, w.name(config.New, "Work")) // what was moved there is no loss: it goes back
			if rep, err := w.Run(t.Context(), "user", syncer.RunOptions{Leave: true}); err != nil || rep.Copied[config.Old] != 0 || rep.Missing != 3 || now.Count("INBOX") != 6 {
				t.Errorf("%+v %v, %d on NEW", rep, err, now.Count("INBOX"))
			}
			if c := w.confirm(t, syncer.ConfirmOptions{Blind: true}); c.Different == 0 {
				t.Error("what is missing is not seen")
			}
			rep, err := w.Run(t.Context(), "user", syncer.RunOptions{Recount: true})
			if err != nil || rep.Copied != [2]int64{0, 3} {
				t.Errorf("%+v %v", rep, err)
			}
			if c := w.confirm(t, syncer.ConfirmOptions{Blind: true}); c.Different != 0 || c.Pairs != 17 {
				t.Errorf("%+v", c)
			}
			var want, got []string
			for _, m := range w.hosts[config.Old].Account.Contents()["INBOX"][1:4] {
				want = append(want, strings.Join(m.Flags, " ")+string(m.Body))
			}
			list := now.Contents()["INBOX"]
			for _, m := range list[len(list)-3:] {
				got = append(got, strings.Join(m.Flags, " ")+string(m.Body))
			}
			if !slices.Equal(want, got) && pair[1].Name != "plain" {
				t.Errorf("made again in another order: %q, want %q", got, want)
			}
		})
	}
}

// TestGoneAtOnce: a folder that is gone waits for its time of grace, unless a person says that deletes are meant.
func TestGoneAtOnce(t *testing.T) {
	t.Parallel()
	for _, deletes := range []bool{false, true} {
		w := newFaultyWorld(t, faulty.Dovecot(), faulty.Cyrus(), 1, func(o *syncer.Options) { o.Grace = time.Hour })
		w.hosts[config.Old].Account.Create("Work")
		w.put(config.Old, "Work")
		w.put(config.Old, "INBOX")
		for _, gone := range []bool{false, true} {
			if gone {
				w.hosts[config.Old].Account.Delete("Work")
			}
			for range 2 {
				if _, err := w.Run(t.Context(), "user", syncer.RunOptions{Deletes: deletes}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, there := w.hosts[config.New].Account.Contents()["Work"]; there == deletes {
			t.Errorf("deletes %v: the folder is on NEW: %v", deletes, there)
		}
	}
}

// TestDecides: a pass of a flip goes on while the row is the flip's, and ends when it is not, whoever decides by Options.Route.
func TestDecides(t *testing.T) {
	t.Parallel()
	moving := errors.New("he is being moved")
	w := newFaultyWorld(t, faulty.Dovecot(), faulty.Dovecot(), 1, func(o *syncer.Options) {
		o.Route = func(context.Context, string) (config.Side, int64, error) { return 0, 0, moving }
	})
	w.put(config.Old, "INBOX")
	if _, err := w.Run(t.Context(), "user", syncer.RunOptions{}); !errors.Is(err, moving) {
		t.Errorf("%v", err)
	}
	n := 0
	decides := func(context.Context, string) (config.Side, int64, error) {
		n++
		return config.Old, int64(n / 3), nil // the flip is over amid the pass
	}
	if _, err := w.Run(t.Context(), "user", syncer.RunOptions{Decides: decides}); !errors.Is(err, syncer.ErrMoved) {
		t.Errorf("%v", err)
	}
	decides = func(context.Context, string) (config.Side, int64, error) { return config.Old, 0, nil }
	if rep, err := w.Run(t.Context(), "user", syncer.RunOptions{Decides: decides}); err != nil || len(rep.Errors) > 0 {
		t.Errorf("%+v %v", rep, err)
	}
	if c := w.confirm(t, syncer.ConfirmOptions{Decides: decides}); c.Different != 0 || c.Pairs != 1 {
		t.Errorf("%+v", c)
	}
}

// TestInterruptedFence ends passes under the fence at random moments; the flip is called off, people go on working, and the next one
// is right: nothing is lost or doubled.
func TestInterruptedFence(t *testing.T) {
	t.Parallel()
	for i, pair := range confirmPairs {
		t.Run(pair[0].Name+" to "+pair[1].Name, func(t *testing.T) {
			t.Parallel()
			w := confirmed(t, pair)
			seed := crashSeed(t)
			rnd := rand.New(rand.NewPCG(seed, uint64(i)))
			took := 20 * time.Millisecond
			ended := 0
			for range 12 {
				for k := range 4 {
					w.put(config.Side(k/3), []string{"INBOX", "Work"}[k%2])
				}
				old := w.hosts[config.Old].Account
				old.Flag("INBOX", rnd.IntN(old.Count("INBOX")), []string{`\Answered`}, nil)
				old.Move(w.name(config.Old, "Work"), 0, "INBOX")
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Duration(rnd.Int64N(int64(took))), errors.New("called off"))
				began := time.Now()
				_, err := w.Run(ctx, "user", syncer.RunOptions{Fenced: true, NoSieve: true})
				cancel()
				if err == nil {
					took = time.Since(began)
				} else {
					ended++
				}
			}
			if ended < 3 {
				t.Errorf("only %d passes were ended", ended)
			}
			var last error
			for range 100 { // logins that were cut short may count against the host for a moment
				rep, err := w.Run(t.Context(), "user", syncer.RunOptions{Recount: true})
				if err == nil && len(rep.Errors)+len(rep.Held) > 0 {
					t.Fatal(rep)
				}
				if last = err; err == nil {
					break
				}
				time.Sleep(200 * time.Millisecond)
			}
			if last != nil {
				t.Fatal(last)
			}
			rep := w.fenced(t)
			c := w.confirm(t, syncer.ConfirmOptions{Wrote: rep.Touched()})
			if c.Different != 0 || c.Aside != 0 {
				t.Errorf("%+v", c)
			}
			want := 16 + 12*4
			for _, side := range config.Sides {
				seen := map[string]int{}
				for _, list := range w.hosts[side].Account.Contents() {
					for _, m := range list {
						seen[fmt.Sprint(m.Date.Unix())+string(m.Body)]++
					}
				}
				n := 0
				for _, k := range seen {
					n += k
				}
				if n != want {
					t.Errorf("%s has %d messages, want %d", side, n, want)
				}
			}
		})
	}
}
