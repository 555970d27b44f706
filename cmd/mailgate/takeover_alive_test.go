package main

import (
	"os"
	"path/filepath"
	"testing"

	"mailgate/op"
)

// TestAliveReplaced: who looks while a process registers anew has the file of before in hand, and lets that of now be; the process runs,
// whichever of its incarnations is asked for.
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
	if _, runs, replaced, err := readAlive(path, looking); runs || !replaced || err != nil {
		t.Errorf("runs %v, replaced %v, %v", runs, replaced, err)
	}
	if list, err := alive(dir); err != nil || len(list) != 1 || list[0].Incarnation != "tag.2" {
		t.Errorf("%+v %v", list, err)
	}
	for n, want := range map[op.Node]bool{one: true, two: true, {Name: "gw/1", Incarnation: "other.1"}: false, {Name: "gw/2", Incarnation: "tag.1"}: false} {
		if runs(dir, n) != want {
			t.Errorf("%+v: not %v", n, want)
		}
	}
	second.Close()
	if runs(dir, two) {
		t.Error("it has ended")
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
}
