package auth

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailgate/config"
)

// TestSecretsFile: what is written into the file, another file in its place, and a mode that lets others in are noticed at the next read,
// also when nothing but the letters has changed; a file that stands still is not taken apart again.
func TestSecretsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets")
	f := SecretsFile{grain: 200 * time.Millisecond}
	standStill := func() { time.Sleep(f.grain + 50*time.Millisecond) } // long enough to be believed
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := func(password string) map[string]config.Secret {
		t.Helper()
		all, err := f.Read(path)
		if err != nil || all["alice@example.com"].Reveal() != password {
			t.Fatalf("%d passwords, %v", len(all), err)
		}
		return all
	}
	write("alice@example.com one\n")
	want("one")
	for _, password := range []string{"two", "six", "ten"} { // within a tick of the clock, and of the same length
		write("alice@example.com " + password + "\n")
		want(password)
		if f.secrets != nil {
			t.Error("a file that has just changed is believed to stand still")
		}
	}
	standStill()
	first := want("ten")
	first["marked"] = "x"
	if want("ten")["marked"] != "x" {
		t.Error("a file that stands still is taken apart again")
	}

	write("alice@example.com new\n")
	want("new")
	standStill()
	want("new")
	was, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write("alice@example.com old\n")
	if err := os.Chtimes(path, was.ModTime(), was.ModTime()); err != nil {
		t.Fatal(err)
	}
	want("old") // whatever the file's own time says

	standStill()
	want("old")
	other := path + ".other"
	if err := os.WriteFile(other, []byte("alice@example.com far\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	want("far")

	standStill()
	want("far")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(path); err == nil {
		t.Error("a file that others may read is taken from memory")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(path); err == nil {
		t.Error("a file that is gone is taken from memory")
	}
}
