package config

import (
	"fmt"
	"os"
	"strings"

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
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		text += user + " " + side.String() + "\n"
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

func replace(file, text string) error {
	if err := renameio.WriteFile(file, []byte(text), 0o640, renameio.WithExistingPermissions()); err != nil {
		return fmt.Errorf("write routes file: %w", err)
	}
	return nil
}
