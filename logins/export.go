package logins

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Exported is a user's hash on its way to NEW.
type Exported struct {
	User    string    `json:"user"`
	Login   string    `json:"login"` // his name on NEW
	Hash    string    `json:"hash"`
	Side    string    `json:"side"` // that let him in with the password
	Learned time.Time `json:"learned"`
	Seen    time.Time `json:"last_login"`
}

// Formats are those that Write knows.
func Formats() []string { return []string{"dovecot", "ldif", "csv"} }

// ErrFormat means that there is no such format.
var ErrFormat = errors.New("unknown format; dovecot, ldif or csv")

// NameError means that a name cannot stand in a format.
type NameError struct{ Login, Format string }

// Error is in plain words.
func (e *NameError) Error() string {
	return fmt.Sprintf("the login name %q cannot stand in the format %s", e.Login, e.Format)
}

// Write writes hashes: as a passwd-file of Dovecot, name:{ARGON2ID}hash; as LDIF (RFC 2849) that replaces userPassword of the entries
// that dn gives, {ARGON2}hash as OpenLDAP's module takes it; or as CSV (RFC 4180) with a line of titles. dn is a template with {address},
// {local}, {domain} and {login} in it, and is for LDIF only.
func Write(w io.Writer, format, dn string, list []Exported) error {
	switch format {
	case "dovecot":
		return writeDovecot(w, list)
	case "ldif":
		return writeLDIF(w, dn, list)
	case "csv":
		return writeCSV(w, list)
	}
	return ErrFormat
}

func writeDovecot(w io.Writer, list []Exported) error {
	for _, x := range list {
		if x.Login == "" || strings.ContainsAny(x.Login, ":\r\n\x00") || x.Login[0] == '#' {
			return &NameError{x.Login, "dovecot"}
		}
		if _, err := fmt.Fprintf(w, "%s:{ARGON2ID}%s\n", x.Login, x.Hash); err != nil {
			return err
		}
	}
	return nil
}

func writeCSV(w io.Writer, list []Exported) error {
	c := csv.NewWriter(w)
	_ = c.Write([]string{"user", "login", "password", "side", "learned", "last_login"})
	for _, x := range list {
		_ = c.Write([]string{x.User, x.Login, "{ARGON2ID}" + x.Hash, x.Side, x.Learned.UTC().Format(time.RFC3339), x.Seen.UTC().Format(time.RFC3339)})
	}
	c.Flush()
	return c.Error()
}
