package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEditRoute(t *testing.T) {
	for _, x := range []struct {
		name, before, user string
		side               Side
		after              string
		was                Side
		listed             bool
	}{
		{"side", "# who\n\nalice@example.com   old\twave=old # old\nbob@example.com old\n", "alice@example.com", New,
			"# who\n\nalice@example.com   new\twave=old # old\nbob@example.com old\n", Old, true},
		{"as written", "Old@Example.com new\n", "old@example.com", Old, "Old@Example.com old\n", New, true},
		{"crlf", "a@example.com old\r\nb@example.com old\r\n", "b@example.com", New, "a@example.com old\r\nb@example.com new\r\n", Old, true},
		{"last line", "a@example.com old", "a@example.com", New, "a@example.com new", Old, true},
		{"bom", "\ufeffa@example.com old\n", "a@example.com", New, "\ufeffa@example.com new\n", Old, true},
		{"indented", "\t a@example.com\told#1 \n", "a@example.com", New, "", Old, false}, // refused: the side is "old#1"
		{"same", "a@example.com new # here\n", "a@example.com", New, "a@example.com new # here\n", New, true},
		{"added", "# who\na@example.com old", "b@example.com", New, "# who\na@example.com old\nb@example.com new\n", Old, false},
		{"added crlf", "a@example.com old\r\n", "b@example.com", New, "a@example.com old\r\nb@example.com new\r\n", Old, false},
		{"added to none", "", "b@example.com", New, "b@example.com new\n", Old, false},
		{"not a user", "a@example.com old\n", "default", New, "", Old, false},
		{"not canonical", "a@example.com old\n", "A@example.com", New, "", Old, false},
		{"no domain", "", "bob", New, "", Old, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := twoSides()
			c.Routes.File = write(t, t.TempDir(), "routes", x.before)
			was, listed, err := EditRoute(c, x.user, x.side)
			got, _ := os.ReadFile(c.Routes.File)
			if x.after == "" {
				if x.name == "not a user" && err == nil { // "default new" is a line, but no user's
					t.Errorf("taken: %q", got)
				}
				if err == nil || string(got) != x.before && x.before != "" {
					t.Errorf("got %q, %v", got, err)
				}
				return
			}
			if err != nil || string(got) != x.after || was != x.was || listed != x.listed {
				t.Errorf("got %q, %v, %v, %v", got, was, listed, err)
			}
		})
	}
}

// TestEditRoutes: many lines in one write; order, comments and everybody else stay, and one that cannot be written leaves all alone.
func TestEditRoutes(t *testing.T) {
	c := twoSides()
	const before = "# pilot\na@example.com\told wave=pilot # first\n\nb@example.com new wave=pilot\nx@example.com old\nc@example.com old wave=pilot"
	c.Routes.File = write(t, t.TempDir(), "routes", before)
	read := func() string {
		b, err := os.ReadFile(c.Routes.File)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if err := EditRoutes(c, []string{"a@example.com", "default"}, New); err == nil || read() != before {
		t.Errorf("%v: %q", err, read())
	}
	if err := EditRoutes(c, []string{"c@example.com", "a@example.com", "b@example.com", "d@example.com"}, New); err != nil {
		t.Fatal(err)
	}
	const after = "# pilot\na@example.com\tnew wave=pilot # first\n\nb@example.com new wave=pilot\nx@example.com old\nc@example.com new wave=pilot\nd@example.com new\n"
	if read() != after {
		t.Errorf("%q", read())
	}
	st, err := os.Stat(c.Routes.File)
	if err != nil {
		t.Fatal(err)
	}
	if err := EditRoutes(c, []string{"a@example.com", "b@example.com"}, New); err != nil {
		t.Fatal(err)
	}
	if again, err := os.Stat(c.Routes.File); err != nil || !os.SameFile(st, again) { // nothing to change is no write
		t.Errorf("written anew (%v)", err)
	}
}

// The file stays what it was but for the word: permissions, and the symbolic link that leads to it.
func TestEditRouteKeepsTheFile(t *testing.T) {
	dir := t.TempDir()
	real := filepath.Join(dir, "git", "routes")
	if err := os.Mkdir(filepath.Dir(real), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Dir(real), "routes", "a@example.com old\n")
	if err := os.Chmod(real, 0o604); err != nil {
		t.Fatal(err)
	}
	c := twoSides()
	c.Routes.File = filepath.Join(dir, "routes")
	if err := os.Symlink(filepath.Join("git", "routes"), c.Routes.File); err != nil {
		t.Fatal(err)
	}
	if _, _, err := EditRoute(c, "a@example.com", New); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Lstat(c.Routes.File); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v %v", st, err)
	}
	st, err := os.Stat(real)
	if b, _ := os.ReadFile(real); err != nil || string(b) != "a@example.com new\n" || st.Mode().Perm() != 0o604 {
		t.Errorf("got %q, %v, %v", b, st.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(real))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// A file that is wrong elsewhere is not touched: it would not be taken over.
func TestEditRouteOfABadFile(t *testing.T) {
	c := twoSides()
	c.Routes.File = write(t, t.TempDir(), "routes", "a@example.com old\nb@example.com nwe\n")
	if _, _, err := EditRoute(c, "a@example.com", New); !IsErrors(err) || !strings.Contains(err.Error(), ":2:") {
		t.Errorf("got %v", err)
	}
	if b, _ := os.ReadFile(c.Routes.File); !strings.HasPrefix(string(b), "a@example.com old\n") {
		t.Errorf("got %q", b)
	}
}
