package syncer_test

import (
	"slices"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestFlagRefusedForNow: NEW refuses a change of flags for a trouble of the moment, together and each by itself. None of them is taken for one that it does not
// keep: the next pass carries them.
func TestFlagRefusedForNow(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{`\Flagged`, "work"} {
		w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
		w.put(config.Old, "INBOX", "a", 10)
		w.run()
		w.run()
		w.hosts[config.Old].Account.Flag("INBOX", 0, []string{flag}, nil)
		w.hosts[config.New].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Refuse}, Only: "UID STORE 1", Text: "[UNAVAILABLE] later"})
		if r, err := w.Run(t.Context(), "user", syncer.RunOptions{}); err != nil || len(r.Errors) != 1 || len(r.Lost) > 0 {
			t.Errorf("%s: %v, errors %v, lost %v", flag, err, r.Errors, r.Lost)
		}
		w.hosts[config.New].Fail(nil)
		w.run()
		if list := w.hosts[config.New].Account.Contents()["INBOX"]; !slices.Equal(list[0].Flags, []string{flag}) {
			t.Errorf("%s: NEW has %v", flag, list[0].Flags)
		}
	}
}
