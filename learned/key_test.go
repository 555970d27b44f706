package learned

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailgate/config"
)

// TestSealed: what was sealed opens for the same user, side and key, and for nobody else; its length does not tell that of the password.
func TestSealed(t *testing.T) {
	k, other := newKey(t), newKey(t)
	size := 0
	for _, password := range []string{"x", "hunter2", "p\xe4ss wörd €", strings.Repeat("long", 40)} {
		sealed, err := k.Seal(anna, config.Old, config.Secret(password))
		if err != nil {
			t.Fatal(err)
		}
		if !Sealed(sealed) || bytes.Contains(sealed, []byte(password)) && len(password) > 3 {
			t.Errorf("%q: %q", password, sealed)
		}
		if got, err := k.Open(anna, config.Old, sealed); err != nil || got.Reveal() != password {
			t.Errorf("%q comes back as %q, %v", password, got.Reveal(), err)
		}
		if size == 0 {
			size = len(sealed)
		}
		if len(sealed) != size {
			t.Errorf("%d bytes for %q, %d for another", len(sealed), password, size)
		}
		for who, open := range map[string]func() (config.Secret, error){
			"another user": func() (config.Secret, error) { return k.Open(bert, config.Old, sealed) },
			"another side": func() (config.Secret, error) { return k.Open(anna, config.New, sealed) },
		} {
			if got, err := open(); !errors.Is(err, ErrOtherPlace) || got != "" {
				t.Errorf("%s: %q, %v", who, got.Reveal(), err)
			}
		}
		if got, err := other.Open(anna, config.Old, sealed); !errors.Is(err, ErrOtherKey) || got != "" {
			t.Errorf("another key: %q, %v", got.Reveal(), err)
		}
		for _, i := range []int{0, len(sealed) / 2, len(sealed) - 1} {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1
			if got, err := k.Open(anna, config.Old, bad); !errors.Is(err, ErrOtherKey) || got != "" {
				t.Errorf("byte %d changed: %q, %v", i, got.Reveal(), err)
			}
			if got, err := k.Open(anna, config.Old, sealed[:i]); !errors.Is(err, ErrOtherKey) || got != "" {
				t.Errorf("cut at %d: %q, %v", i, got.Reveal(), err)
			}
		}
	}
	long, err := k.Seal(anna, config.Old, config.Secret(strings.Repeat("p", 8<<10)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Open(anna, config.Old, long); err != nil || len(got.Reveal()) != 8<<10 {
		t.Errorf("%d bytes, %v", len(got.Reveal()), err)
	}
}

// TestKeyFile: it is made once, for its owner alone, and read only so.
func TestKeyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	public, err := WriteKey(file, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(file)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	before, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(public, "age1") || !strings.Contains(string(before), public) {
		t.Errorf("public key %q, %v", public, err)
	}
	if _, err := WriteKey(file, time.Now()); !errors.Is(err, os.ErrExist) {
		t.Errorf("written twice: %v", err)
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
		t.Error("the key was written over")
	}
	secret := strings.TrimSpace(string(before[bytes.Index(before, []byte("AGE-SECRET")):]))
	k, err := ReadKey(file)
	if err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&shown, verb+verb+"\n", k, *k)
	}
	slog.New(slog.NewTextHandler(&shown, nil)).Info("key", "key", k, "value", *k)
	if strings.Contains(shown.String(), secret[:20]) || !strings.Contains(shown.String(), "***") {
		t.Errorf("shown: %s", shown.String())
	}
	refused := func(name, text string, mode os.FileMode, says string) {
		t.Helper()
		bad := filepath.Join(t.TempDir(), "bad")
		if err := errors.Join(os.WriteFile(bad, []byte(text), 0o600), os.Chmod(bad, mode)); err != nil {
			t.Fatal(err)
		}
		_, err := ReadKey(bad)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), secret[16:30]) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused("others read it", string(before), 0o644, "others can read")
	refused("a group writes it", string(before), 0o620, "others can read")
	refused("nothing", "", 0o600, "does not hold one age identity")
	refused("two", string(before)+secret, 0o600, "does not hold one age identity")
	refused("a letter too many", secret+"Q", 0o600, "does not hold one age identity")
	refused("a password", "hunter2", 0o600, "does not hold one age identity")
	if _, err := ReadKey(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := ReadKey(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
}
