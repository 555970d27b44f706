package backend

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of a SieveClient.
var (
	// ErrNoCheckScript means that the server has no CHECKSCRIPT: it is of a time before RFC 5804.
	ErrNoCheckScript = errors.New("the server has no CHECKSCRIPT")
	// ErrScriptSize means that a script is larger than MaxScript. The connection can be used all the same.
	ErrScriptSize = fmt.Errorf("the script is larger than %d MiB", MaxScript>>20)

	errSieveGrammar = errors.New("not ManageSieve")
)

// SieveError is a NO or BYE of a ManageSieve server (RFC 5804, section 1.2).
type SieveError struct {
	Command string // such as "PUTSCRIPT"
	Status  string // "NO" or "BYE"
	Code    string // response code in upper case, such as "QUOTA/MAXSIZE"; "" for none (RFC 5804, section 1.3)
	Text    string // for people, printable; lines are parted by "; "
}

// Error implements error.
func (e *SieveError) Error() string {
	s := e.Command + ": " + e.Status
	if e.Code != "" {
		s += " (" + e.Code + ")"
	}
	if e.Text != "" {
		s += " " + e.Text
	}
	return s
}

// Has tells whether the code is name, or a kind of it: QUOTA/MAXSIZE is a QUOTA.
func (e *SieveError) Has(name string) bool {
	kind, _, _ := strings.Cut(e.Code, "/")
	return e.Code == name || kind == name
}

// SieveRefused is the server's NO in err, nil when err is something else: then nothing more can be had of the connection.
func SieveRefused(err error) *SieveError {
	var e *SieveError
	if errors.As(err, &e) && e.Status == "NO" {
		return e
	}
	return nil
}

// sieveWords makes what a server says to people fit for a line of a report.
func sieveWords(s string) string {
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(s, "\r", "\n")) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return printable(strings.Join(lines, "; "))
}
