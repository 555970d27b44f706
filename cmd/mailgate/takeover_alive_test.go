package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailgate/op"
)

// TestAliveReplaced: who looks while a process registers anew has the file of before in hand, and lets that of now be; the process runs,
// whichever of its incarnations is asked for, also of those from before it handed over again.
func TestAliveReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two := op.Node{Name: "gw/1", Incarnation: "tag.1"}, op.Node{Name: "gw/1", Incarnation: "tag.2"}
	first, err := sayAlive(dir, "tag", one, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tag")
	looking, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer looking.Close()
	second, err := sayAlive(dir, "tag", two, first)
	if err != nil {
		t.Fatal(err)
	}
	soon(t, "the lock of the first file is free", func() bool { // a child that another test starts has it for a moment
		_, runs, replaced, err := readAlive(path, looking)
		if err != nil || !runs && !replaced {
			t.Fatalf("runs %v, replaced %v, %v", runs, replaced, err)
		}
		return replaced
	})
	if list, err := alive(dir); err != nil || len(list) != 1 || list[0].Incarnation != "tag.2" {
		t.Errorf("%+v %v", list, err)
	}
	for n, want := range map[op.Node]bool{one: true, two: true, {Name: "gw/1", Incarnation: "other.1"}: true, {Name: "gw/2", Incarnation: "tag.1"}: false} {
		if runs(dir, n) != want {
			t.Errorf("%+v: not %v", n, want)
		}
	}
	second.Close()
	soon(t, "it has ended", func() bool { return !runs(dir, two) })
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
}

// soon waits until something is so.
func soon(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so in 20 s: %s", what)
		}
	}
}

// TestEnded: only a file that is there and not locked tells that a process has ended, and it stays until somebody takes it away.
func TestEnded(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "nodes")
	if list, err := ended(dir); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
	f, err := sayAlive(dir, "tag", op.Node{Name: "gw/1", Incarnation: "tag.1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := ended(dir); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
	f.Close()
	for range 2 {
		soon(t, "it has ended", func() bool {
			list, err := ended(dir)
			if err != nil {
				t.Fatal(err)
			}
			return list[filepath.Join(dir, "tag")].Name == "gw/1"
		})
	}
}
