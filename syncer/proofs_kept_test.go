package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestProofsKept: what a client has deleted before the process dies is carried by the next one, also when a pass was under way, and is let go
// when that is done.
func TestProofsKept(t *testing.T) {
	t.Parallel()
	for _, amid := range []bool{false, true} {
		d, proofs := &dyingAmid{}, &syncer.Proofs{}
		w := &asideWorld{newFaultyWorld(t, faulty.Dovecot(), faulty.Dovecot(), 1, func(o *syncer.Options) {
			d.Store, o.Proofs = o.Store, proofs
			o.Store = d
		}), t}
		for i := range 20 {
			w.put(config.Old, "INBOX", fmt.Sprint(i), 10)
		}
		w.run()
		old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
		validity := old.Contents()["INBOX"][0].Validity
		for range 20 {
			old.Expunge("INBOX", 0)
		}
		keep := func(p *syncer.Proofs) map[string][]byte { // what stands in the store when a process that has it dies
			ctx, end := context.WithCancel(t.Context())
			var mu sync.Mutex
			out := map[string][]byte{}
			end() // a last time
			p.Run(ctx, func(_ context.Context, list map[string][]byte) error {
				mu.Lock()
				defer mu.Unlock()
				for user, text := range list {
					out[user] = text
				}
				return nil
			}, slog.New(slog.DiscardHandler))
			return out
		}
		proofs.Note("user", config.Old, 1, imapwire.Deletes{Mailbox: imapwire.NameHash("INBOX"), Validity: validity, UIDs: imapwire.Spans{{First: 1, Last: 20}}, Most: 20})
		stored := map[string][]byte{}
		if !amid {
			stored = keep(proofs)
		} else {
			_, err := w.Run(t.Context(), "user", syncer.RunOptions{Progress: func(g syncer.Progress) {
				if g.Phase == "copy" && len(stored) == 0 {
					stored = keep(proofs)
					d.atBegin.Store(true) // it dies before it expunges
				}
			}})
			if err == nil {
				t.Fatal("the pass went on")
			}
		}
		if len(stored["user"]) == 0 {
			t.Fatalf("amid %v: nothing is kept", amid)
		}
		proofs.Forget("user") // as the process that dies does
		keep(proofs)
		proofs.Load(stored)
		if r := w.run(); new.Count("INBOX") > 0 || len(r.Held) > 0 {
			t.Errorf("amid %v: NEW has %d messages, %+v are held back", amid, new.Count("INBOX"), r.Held)
		}
		if text, told := keep(proofs)["user"]; !told || len(text) > 0 {
			t.Errorf("amid %v: kept behind the pass: %s", amid, text)
		}
	}
}

// TestProofsReplaced: a process that begins to make the passes knows what the one before has written down, and nothing of what it knew
// itself when it made them last; what the store does not take is written with the next write.
func TestProofsReplaced(t *testing.T) {
	t.Parallel()
	deletes := imapwire.Deletes{Mailbox: 1, Validity: 2, UIDs: imapwire.Spans{{First: 1, Last: 20}}, Most: 20}
	stored := map[string]string{}
	fails := errors.New("no room")
	save := func(_ context.Context, list map[string][]byte) error {
		if fails != nil {
			return fails
		}
		for user, text := range list {
			if stored[user] = string(text); text == nil {
				delete(stored, user)
			}
		}
		return nil
	}
	one, two := &syncer.Proofs{}, &syncer.Proofs{}
	one.Note("a", config.Old, 1, deletes)
	two.Note("b", config.Old, 1, deletes) // when it led before
	if err := one.Write(t.Context(), save); !errors.Is(err, fails) || len(stored) > 0 {
		t.Errorf("%v: %v", err, stored)
	}
	fails = nil
	if err := one.Write(t.Context(), save); err != nil || len(stored) != 1 {
		t.Errorf("%v: %v", err, stored)
	}
	two.Replace(map[string][]byte{"a": []byte(stored["a"])})
	if err := two.Write(t.Context(), save); err != nil || len(stored) != 1 {
		t.Errorf("%v: %v", err, stored)
	}
	two.Note("a", config.Old, 3, deletes)
	if err := two.Write(t.Context(), save); err != nil || strings.Count(stored["a"], `"uids"`) != 1 {
		t.Errorf("%v: what is sure is one, whoever says it: %s", err, stored["a"])
	}
	two.Forget("a")
	if err := two.Write(t.Context(), save); err != nil || len(stored) != 0 {
		t.Errorf("%v: %v", err, stored)
	}
}
