package backend

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Limits of what a ManageSieve server may say. Beyond them the connection ends with a *LimitError.
const (
	// MaxScript is the largest script that is read or written, in bytes.
	MaxScript = 4 << 20

	maxSieveAnswer = 1 << 20   // bytes of an answer, besides a script
	maxSieveSkip   = 256 << 20 // bytes of a script that is passed over
	maxSieveTokens = 100       // of a line
	maxSieveLines  = 10000     // of an answer: scripts, capabilities
	maxSieveDepth  = 10        // of parentheses
)

// sieveToken is a word or a string of an answer.
type sieveToken struct {
	text   string
	quoted bool // a string: in quotes or a literal. Otherwise an atom, "(" or ")"
}

// sieveLine is a line of an answer, with its literals.
type sieveLine struct {
	raw    string // up to the first literal
	tokens []sieveToken
	bad    bool // it is not as RFC 5804 has it; raw is all there is
}

// atom is the i-th token in upper case when it is no string, "" otherwise.
func (l sieveLine) atom(i int) string {
	if i >= len(l.tokens) || l.tokens[i].quoted {
		return ""
	}
	return strings.ToUpper(l.tokens[i].text)
}

// string is the i-th token when it is a string.
func (l sieveLine) string(i int) (string, bool) {
	if i >= len(l.tokens) || !l.tokens[i].quoted {
		return "", false
	}
	return l.tokens[i].text, true
}

// sieveAnswer is everything up to OK, NO or BYE.
type sieveAnswer struct {
	lines  []sieveLine
	status string
	code   string // upper case, "" for none
	data   string // the code's first string: of SASL, TAG, REFERRAL
	text   string
	big    bool // a literal was passed over
}

// sieveReader reads one answer. Most bounds its one literal that may be large; 0 is for none.
type sieveReader struct {
	c    *conn
	most int
	big  bool
}

// answer reads up to a status line; more is called for each line before, and true ends the answer there.
func (r *sieveReader) answer(more func(sieveLine) bool) (sieveAnswer, error) {
	var a sieveAnswer
	r.c.left, r.big = maxSieveAnswer, false
	for {
		l, err := r.line()
		if err != nil {
			return a, err
		}
		switch s := l.atom(0); {
		case s == "OK" || s == "NO" || s == "BYE":
			a.status, a.big = s, r.big
			return a, a.finish(l)
		case more != nil && more(l):
			a.lines = append(a.lines, l)
			return a, nil
		}
		if a.lines = append(a.lines, l); len(a.lines) > maxSieveLines {
			return a, tooMany("lines of an answer", maxSieveLines)
		}
	}
}

// finish takes the response code and the text of a status line.
func (a *sieveAnswer) finish(l sieveLine) error {
	if l.bad {
		return fmt.Errorf("%w: %q", errSieveGrammar, printable(l.raw))
	}
	i := 1
	if l.atom(i) == "(" {
		a.code = l.atom(i + 1)
		for depth := 0; i < len(l.tokens); i++ {
			if s, ok := l.string(i); ok && a.data == "" {
				a.data = s
			}
			if l.atom(i) == "(" {
				depth++
			} else if l.atom(i) == ")" {
				if depth--; depth == 0 {
					break
				}
			}
		}
		i++
	}
	a.text, _ = l.string(i)
	return nil
}

// line reads a line and its literals.
func (r *sieveReader) line() (sieveLine, error) {
	text, err := r.c.line()
	if err != nil {
		return sieveLine{raw: text}, err
	}
	l := sieveLine{raw: text}
	for depth := 0; ; {
		n, literal, ok := l.scan(text, &depth)
		if !ok {
			l.bad = true
			return l, nil
		}
		if !literal {
			return l, nil
		}
		s, err := r.literal(n)
		if err != nil {
			return l, err
		}
		l.tokens = append(l.tokens, sieveToken{s, true})
		if text, err = r.c.line(); err != nil {
			return l, err
		}
	}
}

// literal reads n bytes, or passes them over when they are more than is kept.
func (r *sieveReader) literal(n int64) (string, error) {
	most := int64(r.most)
	switch {
	case n <= int64(r.c.left):
		r.c.left -= int(n)
	case n <= most:
		r.most = 0 // one of an answer
	case most > 0 && n <= maxSieveSkip:
		r.most, r.big = 0, true
		_, err := io.CopyN(io.Discard, r.c.r, n)
		return "", err
	default:
		return "", tooMany("bytes of a literal", max(most, maxSieveAnswer))
	}
	if n <= 4096 {
		b := make([]byte, n)
		_, err := io.ReadFull(r.c.r, b)
		return string(b), err
	}
	var b bytes.Buffer // grows with what is there: a server that only announces much costs nothing
	_, err := io.CopyN(&b, r.c.r, n)
	return b.String(), err
}

// scan takes the tokens of a piece of a line (RFC 5804, section 4); literal tells that n bytes follow.
func (l *sieveLine) scan(s string, depth *int) (n int64, literal, ok bool) {
	for {
		s = strings.TrimLeft(s, " ")
		if s == "" {
			return 0, false, *depth == 0
		}
		if len(l.tokens) >= maxSieveTokens {
			return 0, false, false
		}
		switch s[0] {
		case '"':
			text, rest, ok := sieveQuoted(s)
			if !ok {
				return 0, false, false
			}
			l.tokens, s = append(l.tokens, sieveToken{text, true}), rest
		case '{':
			digits, ok := strings.CutSuffix(s[1:], "}")
			n, err := strconv.ParseUint(strings.TrimSuffix(digits, "+"), 10, 62)
			return int64(n), true, ok && err == nil
		case '(', ')':
			if *depth += map[byte]int{'(': 1, ')': -1}[s[0]]; *depth < 0 || *depth > maxSieveDepth {
				return 0, false, false
			}
			l.tokens, s = append(l.tokens, sieveToken{s[:1], false}), s[1:]
		default:
			end := strings.IndexAny(s, " \"{()")
			if end < 0 {
				end = len(s)
			}
			l.tokens, s = append(l.tokens, sieveToken{s[:end], false}), s[end:]
		}
	}
}

// sieveQuoted takes a quoted string: a backslash stands before a quote or a backslash only.
func sieveQuoted(s string) (text, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}
