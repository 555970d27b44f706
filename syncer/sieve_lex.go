package syncer

import (
	"errors"
	"fmt"
	"strings"
)

// sieveKind is what a token of a Sieve script is (RFC 5228, section 8.1).
type sieveKind uint8

const (
	sieveSpace  sieveKind = iota // white space and comments
	sieveWord                    // an identifier
	sieveTag                     // ":" and an identifier
	sieveNumber                  //
	sieveString                  // quoted, or text:
	sievePunct                   // one of ;,{}[]()
)

// sieveToken is a piece of a script. The tokens of a script, one behind the other, are the script.
type sieveToken struct {
	kind sieveKind
	raw  string // as it stands there
	text string // sieveString: what it means; sieveWord and sieveTag: in lower case
	line int    // from 1
}

// errSieve means that a text is no Sieve script.
var errSieve = errors.New("not a Sieve script")

// lexSieve cuts a script into tokens. Line ends may be CRLF or LF, as servers take both.
func lexSieve(script string) ([]sieveToken, error) {
	var out []sieveToken
	line := 1
	for rest := script; rest != ""; {
		t, err := nextSieve(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", errSieve, line, err)
		}
		t.line = line
		line += strings.Count(t.raw, "\n")
		rest = rest[len(t.raw):]
		out = append(out, t)
	}
	return out, nil
}

func nextSieve(s string) (sieveToken, error) {
	switch c := s[0]; {
	case strings.IndexByte(" \t\r\n", c) >= 0:
		return sieveToken{kind: sieveSpace, raw: s[:len(s)-len(strings.TrimLeft(s, " \t\r\n"))]}, nil
	case c == '#':
		end := strings.IndexByte(s, '\n')
		return sieveToken{kind: sieveSpace, raw: s[:orEnd(end, 1, s)]}, nil
	case strings.HasPrefix(s, "/*"):
		end := strings.Index(s[2:], "*/")
		if end < 0 {
			return sieveToken{}, errors.New("a comment has no end")
		}
		return sieveToken{kind: sieveSpace, raw: s[:end+4]}, nil
	case c == '"':
		return quotedSieve(s)
	case strings.IndexByte(";,{}[]()", c) >= 0:
		return sieveToken{kind: sievePunct, raw: s[:1], text: s[:1]}, nil
	case c == ':':
		n := identifierLen(s[1:])
		if n == 0 {
			return sieveToken{}, errors.New("a colon stands alone")
		}
		return sieveToken{kind: sieveTag, raw: s[:n+1], text: strings.ToLower(s[:n+1])}, nil
	case '0' <= c && c <= '9':
		n := len(s) - len(strings.TrimLeft(s, "0123456789"))
		if n < len(s) && strings.IndexByte("KkMmGg", s[n]) >= 0 {
			n++
		}
		return sieveToken{kind: sieveNumber, raw: s[:n]}, nil
	}
	n := identifierLen(s)
	if n == 0 {
		return sieveToken{}, fmt.Errorf("%q has no meaning there", s[:1])
	}
	if strings.EqualFold(s[:n], "text") && strings.HasPrefix(s[n:], ":") {
		return textSieve(s, n+1)
	}
	return sieveToken{kind: sieveWord, raw: s[:n], text: strings.ToLower(s[:n])}, nil
}

func orEnd(at, more int, s string) int {
	if at < 0 {
		return len(s)
	}
	return at + more
}

func identifierLen(s string) int {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}

// quotedSieve reads "...": a backslash makes the next byte stand for itself (RFC 5228, section 2.4.2).
func quotedSieve(s string) (sieveToken, error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return sieveToken{kind: sieveString, raw: s[:i+1], text: b.String()}, nil
		case '\\':
			if i++; i == len(s) {
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return sieveToken{}, errors.New("a string has no end")
}

// textSieve reads text: up to the line with a dot alone; at is behind the colon. Dots at the beginning of lines are doubled within.
func textSieve(s string, at int) (sieveToken, error) {
	rest := strings.TrimLeft(s[at:], " \t")
	begin := strings.IndexByte(rest, '\n')
	if head := strings.TrimSuffix(rest[:max(begin, 0)], "\r"); begin < 0 || head != "" && head[0] != '#' {
		return sieveToken{}, errors.New("text: stands without a line end")
	}
	at = len(s) - len(rest) + begin + 1
	var b strings.Builder
	for at < len(s) {
		end := orEnd(strings.IndexByte(s[at:], '\n'), 1, s[at:])
		line := s[at : at+end]
		at += end
		switch strings.TrimRight(line, "\r\n") {
		case ".":
			return sieveToken{kind: sieveString, raw: s[:at], text: b.String()}, nil
		default:
			if strings.HasPrefix(line, "..") {
				line = line[1:]
			}
			b.WriteString(line)
		}
	}
	return sieveToken{}, errors.New("text: has no end")
}

// quoteSieve writes a string in quotes.
func quoteSieve(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
