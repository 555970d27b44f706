package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailgate/config"
)

// TestTakeBack: an edit that was refused is undone, and what somebody else wrote meanwhile is not.
func TestTakeBack(t *testing.T) {
	c := &config.Config{Routes: config.Routes{File: filepath.Join(t.TempDir(), "routes")}}
	before, mine := "a@example.com old\n", "a@example.com new\n"
	for now, want := range map[string]string{mine: before, mine + "b@example.com new\n": mine + "b@example.com new\n"} {
		if err := os.WriteFile(c.Routes.File, []byte(now), 0o600); err != nil {
			t.Fatal(err)
		}
		err := takeBack(c, []byte(before), []byte(mine))
		got, rerr := os.ReadFile(c.Routes.File)
		if rerr != nil || string(got) != want {
			t.Errorf("%q became %q, %v", now, got, rerr)
		}
		if (err != nil) != (now == want) || err != nil && !strings.Contains(err.Error(), "meanwhile") {
			t.Errorf("%q: %v", now, err)
		}
	}
}
