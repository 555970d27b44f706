package proxy

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

// Errors of a command line of SMTP.
var (
	errLineLength = errors.New("command line too long")
	errLineForm   = errors.New("line does not end in CRLF, or holds a bare CR, LF or NUL")
)

// maxCommand is the longest command line that we take: RFC 5321, section 4.5.3.1.4 says 512, extensions add to it
// (RFC 4954 up to 12288 for AUTH).
const maxCommand = 12288

// readCommand reads one line up to CRLF. Nothing else ends a line (RFC 5321, section 2.3.8): a bare LF within one would
// let two readers see different commands. woken is asked when the read deadline passes: nil means go on.
func readCommand(r *bufio.Reader, woken func(error) error) (string, error) {
	var line []byte
	long := false
	for {
		b, err := r.ReadSlice('\n')
		if len(line)+len(b) > maxCommand {
			long = true
		}
		if !long {
			line = append(line, b...)
		}
		switch {
		case err == nil && long:
			return "", errLineLength
		case err == nil:
			return checkLine(line)
		case errors.Is(err, bufio.ErrBufferFull):
			if long && len(b) == 0 {
				return "", errLineLength
			}
		case isTimeout(err) && woken != nil:
			if err := woken(err); err != nil {
				return "", err
			}
		case errors.Is(err, io.EOF) && len(line) > 0:
			return "", io.ErrUnexpectedEOF
		default:
			return "", err
		}
		if long {
			return "", errLineLength // what follows belongs to no line that we would answer
		}
	}
}

func checkLine(line []byte) (string, error) {
	n := len(line)
	if n < 2 || line[n-2] != '\r' {
		return "", errLineForm
	}
	s := string(line[:n-2])
	if strings.ContainsAny(s, "\r\x00") {
		return "", errLineForm
	}
	return s, nil
}

// verb splits a command line; the verb is upper case.
func verb(line string) (name, args string) {
	name, args, _ = strings.Cut(line, " ")
	return strings.ToUpper(name), strings.TrimSpace(args)
}
