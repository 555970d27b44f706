package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// shortSilence is what these tests put up with.
const shortSilence = 400 * time.Millisecond

// brokenRig is a rig whose OLD stands behind a relay, with mail in four mailboxes on both sides.
func brokenRig(t *testing.T, change ...func(*syncer.Options)) (*rig, *relay, *lab.Talk) {
	t.Helper()
	l := lab.Start(t, lab.MailboxesOnly())
	behind := newRelay(t, lab.Addr(l.Old.IMAP))
	far := l.Old
	far.IMAP = behind.port()
	r := newRig(t, far, l.New, 1, func(o *syncer.Options) {
		for _, c := range change {
			c(o)
		}
	})
	x := lab.Dial(t, l.Old, 1)
	for _, name := range []string{"INBOX.Apples", "INBOX.Broken", "INBOX.Cherries"} {
		x.Do(`CREATE "%s"`, name)
		x.Append(name, "", letter(1))
	}
	r.pass(t)
	return r, behind, x
}

// silentRig is one whose connections to OLD are in a hurry.
func silentRig(t *testing.T) (*rig, *relay, *lab.Talk) {
	t.Helper()
	return brokenRig(t, func(o *syncer.Options) {
		open := o.Open
		o.Open = func(ctx context.Context, side config.Side, user string) (*backend.Client, error) {
			c, err := open(ctx, side, user)
			if err == nil && side == config.Old {
				c.SetSilence(shortSilence)
			}
			return c, err
		}
	})
}

// TestBrokenMailbox: a mailbox that takes each connection along, or at which the host falls silent, is left for later, and the others are
// done.
func TestBrokenMailbox(t *testing.T) {
	r, behind, x := silentRig(t)
	for n, what := range []string{"cut", "mute"} {
		for _, name := range []string{"INBOX", "INBOX.Apples", "INBOX.Broken", "INBOX.Cherries"} {
			x.Append(name, "", letter(10+n))
		}
		if what == "cut" {
			behind.breaks("INBOX.Broken", "")
		} else {
			behind.breaks("", "INBOX.Broken")
		}
		began := time.Now()
		rep, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{})
		if err != nil || rep.Copied[config.New] != 3 || len(rep.Errors) != 1 || !strings.HasSuffix(rep.Errors[0].Folder, "Broken") {
			t.Errorf("%s: %v, %+v", what, err, rep)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: it took %s", what, took)
		}
		behind.breaks("", "")
		if rep := r.pass(t); rep.Copied[config.New] != 1 {
			t.Errorf("behind %s: %+v", what, rep)
		}
	}
}

// TestBrokenNeighbours: several mailboxes that take connections along are left for later all the same.
func TestBrokenNeighbours(t *testing.T) {
	r, behind, x := brokenRig(t)
	for _, name := range []string{"INBOX.Broken2", "INBOX.Broken3"} {
		x.Do(`CREATE "%s"`, name)
	}
	r.pass(t)
	for _, name := range []string{"INBOX", "INBOX.Apples", "INBOX.Broken", "INBOX.Broken2", "INBOX.Broken3", "INBOX.Cherries"} {
		x.Append(name, "", letter(10))
	}
	behind.breaks("INBOX.Broken", "")
	if rep, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{}); err != nil || rep.Copied[config.New] != 3 || len(rep.Errors) != 3 {
		t.Errorf("%v, %+v", err, rep)
	}
	behind.breaks("", "")
	if rep := r.pass(t); rep.Copied[config.New] != 3 {
		t.Errorf("behind it: %+v", rep)
	}
}

// TestMailboxBreaksAmidCopy: a mailbox that takes connections along only after it was looked at, so that what was under way cannot be looked for
// either, or only when a certain message is read, is left for later, and the others are done: also what was under way with it on its connection.
func TestMailboxBreaksAmidCopy(t *testing.T) {
	for _, lines := range []int{1, 3} {
		for _, word := range []string{"INBOX.Broken", "UID FETCH 5 (UID BODY.PEEK[])"} {
			t.Run(fmt.Sprintf("%d %s", lines, word), func(t *testing.T) {
				r, behind, x := brokenRig(t, func(o *syncer.Options) { o.Connections = lines })
				for n := range 6 { // the largest stays open behind its look
					if x.Append("INBOX.Cherries", "", letter(2+n)); n < 3 {
						x.Append("INBOX.Broken", "", letter(2+n))
					}
				}
				r.pass(t)
				for _, name := range []string{"INBOX", "INBOX.Apples", "INBOX.Broken", "INBOX.Cherries"} {
					x.Append(name, "", letter(10))
				}
				asked := 0
				rep, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{Decides: func(context.Context, string) (config.Side, int64, error) {
					if asked++; asked == 2 { // all was looked at, nothing is copied
						behind.breaks(word, "")
					}
					return config.Old, 0, nil
				}})
				if err != nil || len(rep.Errors) != 1 || !strings.HasSuffix(rep.Errors[0].Folder, "Broken") || !strings.HasPrefix(rep.Errors[0].Error, "old: ") || rep.Pairs != 1+2+4+8 {
					t.Errorf("%v, %+v", err, rep)
				}
				rep, err = r.Run(t.Context(), lab.User(1), syncer.RunOptions{})
				if err != nil || len(rep.Errors) != 1 || !strings.HasSuffix(rep.Errors[0].Folder, "Broken") {
					t.Errorf("again: %v, %+v", err, rep)
				}
				behind.breaks("", "")
				if rep := r.pass(t); rep.Copied[config.New] != 1 {
					t.Errorf("behind it: %+v", rep)
				}
			})
		}
	}
}

// TestSilentHost: a host that lets everybody in and then says nothing ends a pass after the first silence, and is left alone by the
// syncer for a while when that goes on. People are not kept from it.
func TestSilentHost(t *testing.T) {
	r, behind, x := silentRig(t)
	x.Append("INBOX.Apples", "", letter(20))
	behind.breaks("", "LIST")
	began := time.Now()
	for range 3 {
		if _, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{}); !syncer.Silent(err) || !strings.Contains(err.Error(), "has said nothing for") {
			t.Errorf("%v", err)
		}
	}
	if took := time.Since(began); took > 12*shortSilence {
		t.Errorf("three passes were held up for %s", took)
	}
	began = time.Now()
	if _, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{}); !errors.Is(err, backend.ErrDown) || time.Since(began) > shortSilence {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	if h := r.dialer.Health(config.Old, config.IMAP); h[0].Error != "" {
		t.Errorf("the syncer's trouble shuts people out: %v", h)
	}
}

// TestSilentLook: a look at numbers ends after one silence too, though its connection was kept.
func TestSilentLook(t *testing.T) {
	r, behind, _ := silentRig(t)
	r.pass(t)
	changed, err := r.Peek(t.Context(), lab.User(1))
	for range 3 { // what nothing is known of is told once
		if err == nil && changed {
			changed, err = r.Peek(t.Context(), lab.User(1))
		}
	}
	if err != nil || changed {
		t.Fatal(changed, err)
	}
	behind.breaks("", "LIST")
	began := time.Now()
	if _, err := r.Peek(t.Context(), lab.User(1)); !syncer.Silent(err) || time.Since(began) > 4*shortSilence {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}
