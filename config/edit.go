package config

import (
	"bytes"
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
	if r := f.Users[user]; r != nil {
		was, listed = r.Side, true
	}
	return was, listed, editRoutes(c, b, f, []string{user}, side)
}

// EditRoutes is EditRoute of many users: all of them in one write, or none.
func EditRoutes(c *Config, users []string, side Side) error {
	b, err := os.ReadFile(c.Routes.File)
	if err != nil {
		return fmt.Errorf("routes file: %w", err)
	}
	f, err := ParseRoutes(c.Routes.File, b, c)
	if err != nil {
		return err
	}
	return editRoutes(c, b, f, users, side)
}

func editRoutes(c *Config, b []byte, f *RouteFile, users []string, side Side) error {
	lines, end := strings.SplitAfter(string(b), "\n"), "\n"
	if bytes.Contains(b, []byte("\r\n")) {
		end = "\r\n"
	}
	changed := false
	var added strings.Builder
	for _, user := range users {
		r := f.Users[user]
		switch {
		case r == nil:
			added.WriteString(user + " " + side.String() + end)
		case r.Side != side:
			lines[r.Line-1], changed = replaceSide(lines[r.Line-1], side), true
		}
	}
	text := strings.Join(lines, "")
	if added.Len() > 0 {
		if text != "" && text != bom && !strings.HasSuffix(text, "\n") {
			text += end
		}
		text += added.String()
		g, err := ParseRoutes(c.Routes.File, []byte(text), c)
		if err != nil {
			return err
		}
		for _, user := range users {
			if g.Users[user] == nil { // "default" and patterns are no users
				return fmt.Errorf("%q: %w", user, ErrAddress)
			}
		}
	} else if !changed {
		return nil
	}
	return replace(c.Routes.File, text)
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
