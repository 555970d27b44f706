package syncer

import (
	"testing"

	"mailgate/config"
)

// TestRefusedStaysActive: the user's filter that NEW never took is not turned off on OLD when NEW, which has a default of its own active, comes
// to decide.
func TestRefusedStaysActive(t *testing.T) {
	t.Parallel()
	held := [2]sieveHeld{{scripts: map[string]sieveText{"x": {text: "a"}, "default": {text: "keep;"}}, active: "x"},
		{scripts: map[string]sieveText{"default": {text: "keep;"}}, active: "default"}}
	known := []Script{{Name: "x", State: ScriptRefused}, {Name: "default", State: ScriptEqual, Base: [2]string{"h", "h"}}}
	if m := mergeMarks(config.New, held, known, false); m.carry || !m.hold || m.why == "" {
		t.Errorf("%+v", m)
	}
	// and `verify` says why the marks differ
	x := &sievePass{pass: &pass{authority: config.New}, known: known, sides: [2]*sieveSide{{held: held[0]}, {held: held[1]}}}
	var v SieveVerification
	if x.compareMarks(&v); v.Explained != 1 || v.Different != 0 {
		t.Errorf("%+v", v)
	}
}
