package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
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

// TestReloadTellsWhence: a changed routes file that is seen, and one that a SIGHUP has read, are in the history as that.
func TestReloadTellsWhence(t *testing.T) {
	const nowhere = "{imap: 'imap://127.0.0.1:1', submission: 'submission://127.0.0.1:1'}"
	for what, want := range map[string]string{"watch": `\(file changed\) +routes file +1 lines`, "SIGHUP": `\(SIGHUP\) +SIGHUP +1 lines`} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, nowhere, nowhere, "alice@example.com old\n", "")
			if what == "SIGHUP" {
				g.write(g.file, strings.Replace(mustRead(t, g.file), "watch: 100ms", "watch: 0s", 1))
			}
			g.start()
			defer g.stop()
			g.write(g.routes, "alice@example.com old\nbob@example.com old\n")
			if what == "SIGHUP" {
				_ = g.cmd.Process.Signal(syscall.SIGHUP)
			}
			until(t, "the reload", func() bool {
				return regexp.MustCompile("routes imported .*" + want).MatchString(g.run(0, "history"))
			})
		})
	}
}
