package main

import (
	"context"
	"os"
	"testing"
	"time"
)

// TestScramAtHost: a real host can be measured directly and through a proxy.
func TestScramAtHost(t *testing.T) {
	b, _ := rig(t)
	dir, err := os.MkdirTemp("", "mgb") // the owner of the mail must get through to it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	b.dir = dir
	if err := b.scramRound(context.Background(), 0, bare, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{bare, direct} {
		if v := b.results.values(key{scramHost, false, name}, "p50_us"); len(v) != 1 || v[0] <= 0 {
			t.Errorf("%s: %v", name, v)
		}
	}
}
