package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLearnKey: a key that others can reach, that is none, or that is not alone in its file is refused, and not told.
func TestLearnKey(t *testing.T) {
	dir := t.TempDir()
	const key = "AGE-SECRET-KEY-1QQQQ"
	for name, x := range map[string]struct {
		text string
		mode os.FileMode
		want string // "" means that it is taken
	}{
		"as it should be":  {"# created by hand\n\n" + key + "\n", 0o600, ""},
		"no line end":      {key, 0o400, ""},
		"read by a group":  {key, 0o640, "others can read or change"},
		"written by all":   {key, 0o602, "others can read or change"},
		"empty":            {"", 0o600, "holds no age identity"},
		"only comments":    {"# " + key + "\n", 0o600, "holds no age identity"},
		"two":              {key + "\n" + key + "\n", 0o600, "or several"},
		"beside something": {key + "\nhunter2\n", 0o600, "or several"},
		"a password":       {"hunter2\n", 0o600, "holds no age identity"},
		"another kind":     {"AGE-SECRET-KEY-PQ-1QQQQ\n", 0o600, "holds no age identity"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			if err := os.WriteFile(file, []byte(x.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, x.mode); err != nil {
				t.Fatal(err)
			}
			err := checkIdentity(file)
			switch {
			case x.want == "" && err != nil:
				t.Error(err)
			case x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)):
				t.Errorf("%v, want %q", err, x.want)
			case err != nil && (strings.Contains(err.Error(), "QQQ") || strings.Contains(err.Error(), "hunter2")):
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkIdentity(fifo); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a FIFO: %v", err)
	}
}

// TestLearnDefaults: nothing is learned unless it is asked for, and what is learned ends.
func TestLearnDefaults(t *testing.T) {
	c := Default()
	if c.Login.Learn.Key != "" || c.Login.Learn.Expire != 30*24*time.Hour || c.Backends[Old].Sync.Learned || c.Backends[New].Sync.Learned {
		t.Errorf("%+v", c.Login.Learn)
	}
}
