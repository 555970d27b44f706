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

// SharedError means that two users have one name on NEW: the password of one would open the mailbox of the other.
type SharedError struct{ Name, One, Other string }

// Error is in plain words.
func (e *SharedError) Error() string {
	return fmt.Sprintf("%s and %s would both be %q, and the password of one would open the mailbox of the other: write {domain} or {address} into the name, or export by --wave or --user",
		e.One, e.Other, e.Name)
}

// own notes whose a name is; a *SharedError when it is another's already. Case does not tell names apart.
func own(names map[string]string, name, user string) error {
	k := strings.ToLower(name)
	if other, taken := names[k]; taken {
		return &SharedError{name, other, user}
	}
	names[k] = user
	return nil
}

func writeDovecot(w io.Writer, list []Exported) error {
	names := map[string]string{}
	for _, x := range list {
		if x.Login == "" || strings.ContainsAny(x.Login, ":\r\n\x00") || x.Login[0] == '#' {
			return &NameError{x.Login, "dovecot"}
		}
		if err := own(names, x.Login, x.User); err != nil {
			return err
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
