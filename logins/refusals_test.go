package logins

import (
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// TestRegression: a password that worked on OLD and is refused by NEW is told of, counted, and over when NEW lets him in.
func TestRegression(t *testing.T) {
	bubble(t, Settings{}, func(t *testing.T, r *rig) {
		r.login(anna, config.Old, config.IMAP, "hunter2")
		first := time.Now()
		for range 3 {
			r.refusal(anna, config.New, config.IMAP, "hunter2")
		}
		r.settle()
		want := Refusal{anna, config.New, config.IMAP, first, first, 3}
		if len(r.store.snap().refusals) != 1 || r.store.snap().refusals[0] != want {
			t.Fatalf("%+v, want %+v", r.store.snap().refusals, want)
		}
		if n := r.n.get("regression new"); n != 3 || r.n.users() != [2]int{0, 1} {
			t.Errorf("counted %d, of users %v", n, r.n.users())
		}
		if log := r.log.String(); strings.Count(log, "a password that worked on OLD is refused by NEW") != 1 || !strings.Contains(log, anna) ||
			!strings.Contains(log, "mailgate rollback "+anna) {
			t.Errorf("log: %s", log)
		}
		r.refusal(anna, config.New, config.POP3, "hunter2")
		r.settle()
		r.login(anna, config.New, config.IMAP, "hunter4") // POP3 is another matter
		r.settle()
		if len(r.store.snap().refusals) != 1 || r.store.snap().refusals[0].Protocol != config.POP3 || r.n.users() != [2]int{0, 1} {
			t.Errorf("%+v %v", r.store.snap().refusals, r.n.users())
		}
		r.login(anna, config.New, config.POP3, "hunter4")
		r.settle()
		if len(r.store.snap().refusals) != 0 || r.n.users() != [2]int{} {
			t.Errorf("%+v %v", r.store.snap().refusals, r.n.users())
		}
		if got := r.store.what(); !slices.Equal(got, []string{anna + ": login refused that worked", anna + ": login refused that worked",
			anna + ": login works again", anna + ": login works again"}) {
			t.Errorf("history: %q", got)
		}
	})
}

// TestTypingError: what never worked is no regression, nor what the other side has refused since, nor what worked on the same side, nor
// somebody else's password.
func TestTypingError(t *testing.T) {
	bubble(t, Settings{}, func(t *testing.T, r *rig) {
		r.login(anna, config.Old, config.IMAP, "hunter2")
		r.login(bert, config.Old, config.IMAP, "hunter3")
		r.refusal(anna, config.New, config.IMAP, "hunter22")
		r.refusal(anna, config.New, config.IMAP, "hunter3") // bert's
		r.refusal(anna, config.Old, config.IMAP, "hunter2") // changed on OLD
		r.refusal(anna, config.New, config.IMAP, "hunter2")
		r.login(anna, config.New, config.IMAP, "hunter4")
		r.refusal(anna, config.New, config.IMAP, "hunter4")
		r.settle()
		if len(r.store.snap().refusals) != 0 || r.n.get("regression new") != 0 || len(r.store.snap().events) != 0 {
			t.Errorf("%+v %v %+v", r.store.snap().refusals, r.n.n, r.store.snap().events)
		}
	})
}

// TestChangedOnNew: who changes his password on NEW, and has a phone that goes on with the one that both sides took, is told of to nobody.
func TestChangedOnNew(t *testing.T) {
	bubble(t, Settings{}, func(t *testing.T, r *rig) {
		r.login(anna, config.Old, config.IMAP, "hunter2")
		r.login(anna, config.New, config.IMAP, "hunter2")
		for range 3 {
			r.refusal(anna, config.New, config.IMAP, "hunter2")
			r.login(anna, config.New, config.IMAP, "hunter3")
			r.settle()
		}
		if len(r.store.snap().refusals) != 0 || r.n.get("regression new") != 0 || len(r.store.snap().events) != 0 {
			t.Errorf("%+v %v %+v", r.store.snap().refusals, r.n.n, r.store.snap().events)
		}
		r.refusal(anna, config.New, config.Submission, "hunter2") // there it was never taken
		if r.n.get("regression new") != 1 {
			t.Error("another service of NEW refuses what OLD took, and nobody hears of it")
		}
	})
}

// TestRegressionForgotten: a password that has not been seen for as long as things are kept counts no more; nor does the fifth newest.
func TestRegressionForgotten(t *testing.T) {
	bubble(t, Settings{}, func(t *testing.T, r *rig) {
		for _, p := range []string{"hunter1", "hunter2", "hunter3", "hunter4", "hunter5"} {
			r.login(anna, config.Old, config.IMAP, p)
		}
		r.refusal(anna, config.New, config.IMAP, "hunter1")
		if r.n.get("regression new") != 0 {
			t.Error("the oldest of five is remembered")
		}
		r.refusal(anna, config.New, config.IMAP, "hunter2")
		if r.n.get("regression new") != 1 {
			t.Error("the second of five is not remembered")
		}
		r.pass(life + tidyEvery)
		r.refusal(anna, config.New, config.IMAP, "hunter5")
		if r.n.get("regression new") != 1 {
			t.Error("one of long ago is remembered")
		}
		if len(r.people) != 0 {
			t.Errorf("%d people are remembered", len(r.people))
		}
	})
}

// TestRegressionLearned: behind a restart the learned password tells that one has worked; what nobody knows is no regression.
func TestRegressionLearned(t *testing.T) {
	bubble(t, Settings{}, func(t *testing.T, r *rig) {
		r.known[anna+" old"] = "hunter2"
		r.refusal(anna, config.New, config.IMAP, "hunter3")
		r.refusal(anna, config.Old, config.IMAP, "hunter2") // the other side is NEW, of which nothing is known
		r.settle()
		if len(r.store.snap().refusals) != 0 || r.asked != 2 {
			t.Fatalf("%+v, asked %d times", r.store.snap().refusals, r.asked)
		}
		r.refusal(anna, config.New, config.IMAP, "hunter2")
		r.settle()
		if len(r.store.snap().refusals) != 1 {
			t.Errorf("%+v", r.store.snap().refusals)
		}
		r.refusal(anna, config.New, config.IMAP, "hunter2")
		r.settle()
		if r.store.snap().refusals[0].Count != 2 || r.asked != 3 {
			t.Errorf("%+v, asked %d times", r.store.snap().refusals, r.asked)
		}
		r.refusal(bert, config.New, config.IMAP, "hunter5")
		r.known[bert+" old"] = "hunter5"
		r.pass(time.Millisecond)
		r.login(bert, config.New, config.IMAP, "hunter6") // before anybody was asked
		r.settle()
		if list, _ := r.store.Refusals(t.Context(), bert); len(list) != 0 {
			t.Errorf("he was let in since: %+v", list)
		}
	})
}

// TestRegressionStands: what stands is known behind a restart: it goes on, and is over at the next login. A store that cannot be read or
// written is waited for.
func TestRegressionStands(t *testing.T) {
	bubble(t, Settings{}, func(t *testing.T, r *rig) {
		for _, user := range []string{anna, bert} {
			r.login(user, config.Old, config.IMAP, "hunter2")
			r.refusal(user, config.New, config.IMAP, "hunter2")
		}
		r.stop()
		if len(r.store.snap().refusals) != 2 {
			t.Fatalf("%+v", r.store.snap().refusals)
		}
		r.store.fail(op.ErrUnavailable)
		r.begin(Settings{})
		r.login(anna, config.New, config.IMAP, "hunter4")
		r.login(bert, config.Old, config.IMAP, "hunter2")
		r.refusal(bert, config.New, config.IMAP, "hunter2")
		r.pass(time.Minute)
		r.store.fail(nil)
		r.pass(2 * again)
		if len(r.store.snap().refusals) != 1 || r.store.snap().refusals[0].User != bert || r.store.snap().refusals[0].Count != 2 {
			t.Errorf("%+v", r.store.snap().refusals)
		}
		if r.n.users() != [2]int{0, 1} || strings.Contains(r.log.String(), "is refused by") {
			t.Errorf("%v %s", r.n.users(), r.log)
		}
		if got := r.store.what(); len(got) != 3 || got[2] != anna+": login works again" {
			t.Errorf("history: %q", got)
		}
	})
}
