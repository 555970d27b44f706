package logins

import (
	"testing"
	"time"

	"mailgate/config"
)

// TestMissing: what a user lacks, by what is asked for.
func TestMissing(t *testing.T) {
	t.Parallel()
	now := time.Now()
	in := []Login{{anna, config.Old, config.IMAP, now.Add(-9 * time.Hour), now.Add(-time.Hour)}, {anna, config.Old, config.POP3, now.Add(-9 * time.Hour), now.Add(-2 * time.Hour)}}
	hook, hash := Settings{Hook: []string{"x"}}, Settings{Hash: true}
	refused := []Refusal{{anna, config.New, config.IMAP, now, now, 1}}
	for name, x := range map[string]struct {
		k     *Known
		s     Settings
		since time.Time
		want  []Reason
	}{
		"unknown":                 {nil, hook, now, []Reason{Never}},
		"was refused only":        {&Known{Refusals: refused}, Settings{}, time.Time{}, []Reason{Never}},
		"logged in":               {&Known{Logins: in}, Settings{}, time.Time{}, nil},
		"within":                  {&Known{Logins: in}, Settings{}, now.Add(-90 * time.Minute), nil},
		"too long ago":            {&Known{Logins: in}, Settings{}, now.Add(-30 * time.Minute), []Reason{NotSince}},
		"refused":                 {&Known{Logins: in, Refusals: refused}, Settings{}, time.Time{}, []Reason{Refused}},
		"no hash":                 {&Known{Logins: in}, hash, time.Time{}, []Reason{NoHash}},
		"a hash":                  {&Known{Logins: in, Kept: &Kept{}}, hash, time.Time{}, nil},
		"no password for a hook":  {&Known{Logins: in}, hook, time.Time{}, []Reason{HookWaits}},
		"the hook waits":          {&Known{Logins: in, Kept: &Kept{}}, hook, time.Time{}, []Reason{HookWaits}},
		"the hook has failed":     {&Known{Logins: in, Kept: &Kept{Hook: HookState{Tries: 2, Error: "no"}}}, hook, time.Time{}, []Reason{HookFailed}},
		"the hook is done":        {&Known{Logins: in, Kept: &Kept{Hook: HookState{Done: now}}}, hook, time.Time{}, nil},
		"refused, and the hook":   {&Known{Logins: in, Refusals: refused, Kept: &Kept{}}, hook, now, []Reason{NotSince, Refused, HookWaits}},
		"failed, and off by now":  {&Known{Logins: in, Kept: &Kept{Hook: HookState{Tries: 2, Error: "no"}}}, hash, time.Time{}, nil},
		"nothing is asked of him": {&Known{Logins: in, Kept: &Kept{Hook: HookState{Tries: 2, Error: "no"}}}, Settings{}, time.Time{}, nil},
	} {
		got := x.k.Missing(x.s, x.since)
		if len(got) != len(x.want) {
			t.Errorf("%s: %+v, want %v", name, got, x.want)
			continue
		}
		for i := range got {
			if got[i].Reason != x.want[i] || got[i].Text == "" {
				t.Errorf("%s: %+v, want %v", name, got, x.want)
			}
		}
	}
	if last := (&Known{Logins: in}).Last(); last.Protocol != config.IMAP {
		t.Errorf("%+v", last)
	}
}
