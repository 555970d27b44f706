package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// Errors of a command line of SMTP.
var (
	errLineLength = errors.New("command line too long")
	errLineForm   = errors.New("line holds a bare CR or NUL")
	errLineEnd    = errors.New("line ends in a bare LF")
)

// maxCommand is the longest command line that we take: RFC 5321, section 4.5.3.1.4 says 512, extensions add to it
// (RFC 4954 up to 12288 for AUTH).
const maxCommand = 12288

// readCommand reads one line up to CRLF. Nothing else ends a line (RFC 5321, section 2.3.8): behind errLineEnd and
// errLineLength two readers would disagree on where the next one begins, and the caller must read no more. woken is
// asked when the read deadline passes: nil means go on.
func readCommand(r *bufio.Reader, woken func(error) error) (string, error) {
	var line []byte
	for {
		b, err := r.ReadSlice('\n')
		if len(line)+len(b) > maxCommand {
			return "", errLineLength
		}
		if err == nil && line == nil {
			return checkLine(b)
		}
		line = append(line, b...)
		switch {
		case err == nil:
			return checkLine(line)
		case errors.Is(err, bufio.ErrBufferFull):
		case isTimeout(err) && woken != nil:
			if err := woken(err); err != nil {
				return "", err
			}
		case errors.Is(err, io.EOF) && len(line) > 0:
			return "", io.ErrUnexpectedEOF
		default:
			return "", err
		}
	}
}

func checkLine(line []byte) (string, error) {
	line, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return "", errLineEnd
	}
	if bytes.ContainsAny(line, "\r\x00") {
		return "", errLineForm
	}
	return string(line), nil
}

// verb splits a command line; the verb is upper case.
func verb(line string) (name, args string) {
	name, args, _ = strings.Cut(line, " ")
	return strings.ToUpper(name), strings.TrimSpace(args)
}

// parameters are what follows the path of MAIL FROM:<path> or RCPT TO:<path>, and where they begin in the line. The
// path may hold a quoted string, and that a ">" (RFC 5321, section 4.1.2).
func parameters(line string) (params []string, at int) {
	at = strings.IndexByte(line, ':') + 1
	for at < len(line) && line[at] == ' ' {
		at++
	}
	angle, quoted := at < len(line) && line[at] == '<', false
loop:
	for ; at < len(line); at++ {
		switch c := line[at]; {
		case quoted && c == '\\':
			at++
		case c == '"':
			quoted = !quoted
		case quoted:
		case angle && c == '>':
			at++
			break loop
		case !angle && c == ' ':
			break loop
		}
	}
	at = min(at, len(line))
	return strings.Fields(line[at:]), at
}

// hasParameter tells whether a MAIL or RCPT command has a parameter, given in upper case.
func hasParameter(line, want string) bool {
	params, _ := parameters(line)
	for _, p := range params {
		if strings.EqualFold(p, want) {
			return true
		}
	}
	return false
}

// ascii tells whether s is, and if not whether it is UTF-8 at least.
func ascii(s string) (yes, valid bool) {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false, utf8.ValidString(s)
		}
	}
	return true, true
}
