package syncer_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestThrottled: a server that asks to be left alone, at whatever command, by NO or by BYE, is: the pass ends at that. Nothing of it is
// held against a message or a folder, and the next pass goes on.
func TestThrottled(t *testing.T) {
	t.Parallel()
	const text = "Request is throttled. Suggested Backoff Time: 299961 milliseconds"
	ended := 0
	for seed := range uint64(30) {
		kind := []faulty.Kind{faulty.Refuse, faulty.Bye}[seed%2]
		side := config.Side(seed / 2 % 2)
		t.Run(fmt.Sprint(seed, " ", kind, " ", side), func(t *testing.T) {
			w := newFaultyWorld(t, faulty.Dovecot(), faulty.Dovecot(), seed, func(o *syncer.Options) { o.Connections = 1 })
			for range 10 {
				w.deliver(config.Old, "INBOX")
			}
			w.hosts[config.Old].Account.Create(w.name(config.Old, "Work"))
			for range 10 {
				w.deliver(config.Old, "Work")
			}
			if seed%3 > 0 { // not the first copy
				if _, err := w.pass(t); err != nil {
					t.Fatal(err)
				}
				for range 15 {
					w.work()
				}
				w.deliver(config.Old, "INBOX")
			}
			f := &faulty.Faults{Seed: seed, Rate: 0.15, Kinds: []faulty.Kind{kind}, Text: text}
			w.hosts[side].Fail(f)
			rep, err := w.Run(t.Context(), "user", syncer.RunOptions{})
			w.hosts[side].Sound()
			hits := f.Hit[kind]
			if hits > 0 {
				var status *backend.StatusError
				var login *backend.Error
				if !(errors.As(err, &status) && status.Text == text) && !(errors.As(err, &login) && strings.Contains(login.Reply, text)) {
					t.Errorf("throttled %d times, and the pass ends with %v", hits, err)
				}
				ended++
			}
			if most := map[faulty.Kind]int{faulty.Refuse: 9, faulty.Bye: 1}[kind]; hits > most { // commands that were sent together
				t.Errorf("throttled %d times", hits)
			}
			if rep != nil && len(rep.Quarantine) > 0 {
				t.Errorf("held against messages: %+v", rep.Quarantine)
			}
			w.settle(t, "throttled")
			w.check(t, "throttled", true)
		})
	}
	if ended < 20 {
		t.Errorf("only %d passes were throttled", ended)
	}
}

// TestThrottledAppend: a message that is refused so is not tried alone, or in another form.
func TestThrottledAppend(t *testing.T) {
	t.Parallel()
	w := newFaultyWorld(t, faulty.Dovecot(), faulty.Dovecot(), 1, func(o *syncer.Options) { o.Connections, o.Batch = 1, 100 })
	for range 5 {
		w.deliver(config.Old, "INBOX")
	}
	f := &faulty.Faults{Seed: 1, Rate: 1, Kinds: []faulty.Kind{faulty.Refuse}, Only: "APPEND INBOX", Text: "Suggested Backoff Time: 5000 milliseconds"}
	w.hosts[config.New].Fail(f)
	_, err := w.Run(t.Context(), "user", syncer.RunOptions{})
	w.hosts[config.New].Sound()
	var status *backend.StatusError
	if !errors.As(err, &status) || status.Text != f.Text || f.Hit[faulty.Refuse] != 1 {
		t.Errorf("throttled %d times, ended with %v", f.Hit[faulty.Refuse], err)
	}
	w.settle(t, "throttled")
	w.check(t, "throttled", true)
}
