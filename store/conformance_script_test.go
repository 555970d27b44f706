package store

import (
	"path/filepath"
	"strings"
	"testing"

	"mailgate/syncer"
)

// sampleScripts have every field set, with bytes that are no text, in the order of their names.
func sampleScripts() []syncer.Script {
	a, b := strings.Repeat("a1", 32), strings.Repeat("0f", 32)
	return []syncer.Script{
		{Name: "Ferien \xff\x00\"", Base: [2]string{a, b}, Active: [2]bool{true, false}, State: syncer.ScriptRefused, Why: "NO \x00\xfe", Tried: b, Seen: alice.Since},
		{Name: "a", Active: [2]bool{false, true}, State: syncer.ScriptEqual},
	}
}

// conformScripts: scripts are replaced and dropped by name, are one user's only, and are written by who owns the account.
func conformScripts(t *testing.T, s, two syncer.Store) {
	ctx := t.Context()
	token := acquire(t, s, anna, "p1")
	other := acquire(t, s, bert, "p1")
	apply := func(c syncer.Change) {
		t.Helper()
		_, err := s.Apply(ctx, c)
		must(t, err)
	}
	list := func(user string) []syncer.Script {
		t.Helper()
		all, err := two.Scripts(ctx, user)
		must(t, err)
		return all
	}
	all := sampleScripts()
	apply(syncer.Change{User: anna, Token: token, Scripts: []syncer.Script{all[1], all[0]}})
	apply(syncer.Change{User: bert, Token: other, Scripts: all[1:]})
	same(t, list(anna), all)
	same(t, list(bert), all[1:])
	changed := all[0]
	changed.State, changed.Why, changed.Tried, changed.Active = syncer.ScriptEqual, "", "", [2]bool{}
	changed.Base[0] = changed.Base[1]
	apply(syncer.Change{User: anna, Token: token, Scripts: []syncer.Script{changed}})
	same(t, list(anna), []syncer.Script{changed, all[1]})
	_, err := s.Apply(ctx, syncer.Change{User: anna, Token: token + 1, DropScripts: []string{"a"}})
	is(t, err, syncer.ErrFenced)
	apply(syncer.Change{User: anna, Token: token, DropScripts: []string{"a", "never was", changed.Name}, Scripts: all[:1]})
	same(t, list(anna), all[:1])
	same(t, list(bert), all[1:])
}

// TestCheckScripts finds what cannot be right in the rows of scripts.
func TestCheckScripts(t *testing.T) {
	for name, x := range map[string]struct {
		change func(list []syncer.Script)
		want   string // "" means that nothing is found
	}{
		"good":         {func([]syncer.Script) {}, ""},
		"no hash":      {func(l []syncer.Script) { l[0].Base[1] = strings.Repeat("A1", 32) }, "is no hash"},
		"short":        {func(l []syncer.Script) { l[0].Base[1] = "0f" }, "is no hash"},
		"half":         {func(l []syncer.Script) { l[0].Base[0] = "" }, "in agreement with nothing"},
		"two are used": {func(l []syncer.Script) { l[0].Active[1] = true }, "two active ones on NEW"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			s := openAt(t, path)
			defer s.Close()
			list := sampleScripts()
			x.change(list)
			_, err := s.Apply(t.Context(), syncer.Change{User: anna, Token: acquire(t, s, anna, "p1"), Scripts: list})
			must(t, err)
			look, err := Look(t.Context(), path)
			must(t, err)
			defer look.Close()
			f, err := look.Check(t.Context())
			must(t, err)
			if text := strings.Join(f.Problems, "\n"); (x.want == "") != (text == "") || !strings.Contains(text, x.want) {
				t.Errorf("got %q, want %q", text, x.want)
			}
		})
	}
}
