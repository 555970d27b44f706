package syncer_test

import (
	"slices"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestTakenBackBehindCutPass: a change of flags was carried, and the pass ended before it was written down that it was. Who takes it back
// before the next pass has it taken back on both sides: it does not return to him as if somebody had made it on the other.
func TestTakenBackBehindCutPass(t *testing.T) {
	t.Parallel()
	for _, side := range config.Sides { // where people work
		for _, first := range [][2][]string{{{`\Seen`, "work"}, nil}, {nil, {`\Seen`, "work"}}} { // added; taken off
			for _, product := range []faulty.Product{faulty.Dovecot(), faulty.Courier()} {
				add, remove := first[0], first[1]
				w := &asideWorld{newFaultyWorld(t, product, product, 1), t}
				w.put(side, "INBOX", "a", 10)
				here, there := w.hosts[side].Account, w.hosts[side.Other()].Account
				here.Flag("INBOX", 0, append([]string{`\Flagged`}, remove...), nil)
				w.run()
				w.run()
				m, _ := here.Flag("INBOX", 0, nil, nil)
				before := slices.Sorted(slices.Values(m.Flags))
				here.Flag("INBOX", 0, add, remove)
				w.hosts[side.Other()].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Lost}, Only: "UID STORE 1"})
				if r, err := w.Run(t.Context(), "user", syncer.RunOptions{}); err == nil && len(r.Errors) == 0 {
					t.Fatal("the pass did not end early")
				}
				w.hosts[side.Other()].Fail(nil)
				m, _ = there.Flag("INBOX", 0, nil, nil)
				if slices.Equal(slices.Sorted(slices.Values(m.Flags)), before) {
					t.Fatal("nothing was carried")
				}
				here.Flag("INBOX", 0, remove, add)
				w.run()
				for _, a := range []*faulty.Account{here, there} {
					if m, _ := a.Flag("INBOX", 0, nil, nil); !slices.Equal(slices.Sorted(slices.Values(m.Flags)), before) {
						t.Errorf("%s, at work on %s, +%v -%v: %v on one side, want %v", product.Name, side, add, remove, m.Flags, before)
					}
				}
			}
		}
	}
}
