package auth

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadSecretFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("correct horse \r\n", 0o600)
	if s, err := ReadSecretFile(path); err != nil || string(s) != "correct horse " {
		t.Fatalf("password of %d bytes, %v", len(s), err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		write("hidden\n", mode)
		_, err := ReadSecretFile(path)
		if err == nil || !strings.Contains(err.Error(), "chmod 600") || strings.Contains(err.Error(), "hidden") {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	write("\n", 0o600)
	if _, err := ReadSecretFile(path); !errors.Is(err, ErrMalformed) {
		t.Errorf("empty: %v", err)
	}
	write("hid\x00den\n", 0o600)
	if _, err := ReadSecretFile(path); !errors.Is(err, ErrControl) || strings.Contains(err.Error(), "hid") {
		t.Errorf("NUL: %v", err)
	}
}
