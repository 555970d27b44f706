package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// errSieveSyntax means that a command is none; its line was read to the end.
var errSieveSyntax = errors.New("not a command of ManageSieve")

// sieveArg is an argument of a command: a word, or a string.
type sieveArg struct {
	text   string
	quoted bool
}

// readSieve reads one command before login: words, strings in quotes, literals that do not wait ("{5+}", RFC 5804, section 4). most bounds
// a literal. Behind errLineLength and errLineEnd nothing more may be read.
func readSieve(r *bufio.Reader, most int) (args []sieveArg, err error) {
	for {
		line, err := readCommand(r, nil)
		if err != nil {
			return nil, err
		}
		var n int
		var literal bool
		if args, n, literal, err = scanSieve(args, line); err != nil || !literal {
			return args, err
		}
		if n > most || len(args) >= maxSieveArgs {
			return nil, errLineLength // its bytes are on their way
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		if !utf8.Valid(b) || strings.ContainsRune(string(b), 0) {
			return nil, errLineForm
		}
		args = append(args, sieveArg{string(b), true})
	}
}

// maxSieveArgs is more than any command before login has.
const maxSieveArgs = 8

// scanSieve takes a line, or what follows a literal; n is the size of the one that it ends in.
func scanSieve(args []sieveArg, line string) (out []sieveArg, n int, literal bool, err error) {
	for {
		line = strings.TrimLeft(line, " ")
		switch {
		case line == "":
			return args, 0, false, nil
		case len(args) >= maxSieveArgs:
			return nil, 0, false, errSieveSyntax
		case line[0] == '"':
			text, rest, ok := sieveQuoted(line)
			if !ok {
				return nil, 0, false, errSieveSyntax
			}
			args, line = append(args, sieveArg{text, true}), rest
		case line[0] == '{':
			digits, ok := strings.CutSuffix(line[1:], "+}")
			size, err := strconv.ParseUint(digits, 10, 31)
			if !ok || err != nil {
				return nil, 0, false, fmt.Errorf("%w: literal %.20q", errLineLength, line)
			}
			return args, int(size), true, nil
		default:
			end := strings.IndexAny(line, " \"{")
			if end < 0 {
				end = len(line)
			}
			args, line = append(args, sieveArg{line[:end], false}), line[end:]
		}
	}
}

// sieveQuoted takes a quoted string off the front of s.
func sieveQuoted(s string) (text, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], utf8.ValidString(b.String())
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// sieveString writes a string in quotes.
func sieveString(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
