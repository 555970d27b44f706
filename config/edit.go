package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
)

// EditRoute changes the side in a user's line of the routes file, and nothing else of it; without a line one is added
// at the end. The file is replaced in one step. It returns the side that stood there, and whether there was a line.
func EditRoute(c *Config, user string, side Side) (was Side, listed bool, err error) {
	b, err := os.ReadFile(c.Routes.File)
	if err != nil {
		return Old, false, fmt.Errorf("routes file: %w", err)
	}
	f, err := ParseRoutes(c.Routes.File, b, c)
	if err != nil {
		return Old, false, err
	}
	text := string(b)
	r := f.Users[user]
	if r == nil {
		end := "\n"
		if strings.Contains(text, "\r\n") {
			end = "\r\n"
		}
		if text != "" && text != bom && !strings.HasSuffix(text, "\n") {
			text += end
		}
		text += user + " " + side.String() + end
		if f, err = ParseRoutes(c.Routes.File, []byte(text), c); err != nil {
			return Old, false, err
		}
		if f.Users[user] == nil { // "default" and patterns are no users
			return Old, false, fmt.Errorf("%q: %w", user, ErrAddress)
		}
		return Old, false, replace(c.Routes.File, text)
	}
	if r.Side == side {
		return side, true, nil
	}
	lines := strings.SplitAfter(text, "\n")
	lines[r.Line-1] = replaceSide(lines[r.Line-1], side)
	return r.Side, true, replace(c.Routes.File, strings.Join(lines, ""))
}

// replaceSide puts the side in place of the second word.
func replaceSide(line string, side Side) string {
	word, rest := nextWord(line)
	start := strings.Index(line, word) + len(word)
	old, _ := nextWord(rest)
	old = strings.TrimRight(old, "\r\n")
	at := start + strings.Index(line[start:], old)
	return line[:at] + side.String() + line[at+len(old):]
}

// RestoreRoutes puts back what the routes file held before an edit.
func RestoreRoutes(c *Config, text []byte) error { return replace(c.Routes.File, string(text)) }

// replace writes the file anew in one step: through symbolic links, with its permissions, and its owner where we may.
func replace(file, text string) error {
	target, err := filepath.EvalSymlinks(file)
	if err != nil {
		return fmt.Errorf("write routes file: %w", err)
	}
	st, err := os.Stat(target)
	if err != nil {
		return fmt.Errorf("write routes file: %w", err)
	}
	if err := renameio.WriteFile(target, []byte(text), 0o640, renameio.WithExistingPermissions()); err != nil {
		return fmt.Errorf("write routes file: %w", err)
	}
	if own, ok := st.Sys().(*syscall.Stat_t); ok && (int(own.Uid) != os.Geteuid() || int(own.Gid) != os.Getegid()) {
		_ = os.Chown(target, int(own.Uid), int(own.Gid)) // only root may
	}
	return nil
}
