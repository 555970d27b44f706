package corpus

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"mailgate/mailtest/lab"
)

// Loaded is what came of loading.
type Loaded struct {
	Folders, Messages int
	Bytes             int64
	Refused           []string // folders and messages that the host did not take, and what it said
}

// Load fills the account of user n of a host in the quickest way there is: to the disk where that is a Maildir, else by
// IMAP. Nobody may be logged in to it, and the disk is written as for an account that is empty.
func Load(t testing.TB, h lab.Host, n int, folders []Folder) Loaded {
	t.Helper()
	var out Loaded
	var err error
	if strings.HasPrefix(h.Format, "maildir:") {
		product := Dovecot
		if h.Name == "courier" {
			product = Courier
		}
		out, err = LoadMaildir(product, filepath.Join(h.Home(n), "Maildir"), h.MailID, folders)
	} else {
		out, err = LoadIMAP(lab.Addr(h.IMAP), lab.User(n), lab.Password(n), folders)
	}
	if err != nil {
		t.Fatalf("loading %s: %v", h.Name, err)
	}
	return out
}

// Bounds of one APPEND command.
const (
	batchMessages = 100
	batchBytes    = 1 << 20
)

// LoadIMAP creates folders and appends their messages in order, over IMAP in clear: by MULTIAPPEND and LITERAL+ where the
// host has them. What the host refuses is left out and told; the error is of the connection.
func LoadIMAP(addr, user, pass string, folders []Folder) (Loaded, error) {
	l := loader{}
	var err error
	if l.conn, err = dial(addr, user, pass); err != nil {
		return l.out, err
	}
	defer l.close()
	for _, f := range folders {
		if err := l.folder(f); err != nil {
			return l.out, fmt.Errorf("%q: %w", f.Levels, err)
		}
	}
	return l.out, nil
}

type loader struct {
	*conn
	out Loaded
}

// tolerate notes a refusal; ok is false when there was one.
func (l *loader) tolerate(what string, err error) (ok bool, fatal error) {
	var no *refused
	if errors.As(err, &no) {
		l.out.Refused = append(l.out.Refused, what+": "+no.Error())
		return false, nil
	}
	return err == nil, err
}

func (l *loader) folder(f Folder) error {
	name, ok := f.Raw(l.prefix, l.sep)
	if !ok {
		l.out.Refused = append(l.out.Refused, fmt.Sprintf("%q: a level holds the separator", f.Levels))
		return nil
	}
	err := l.command(nil, "CREATE %s", quote(name))
	if no := (*refused)(nil); errors.As(err, &no) { // it may be there, as INBOX is
		if err := l.command(nil, "STATUS %s (MESSAGES)", quote(name)); err != nil {
			_, fatal := l.tolerate(fmt.Sprintf("%q", f.Levels), no)
			return fatal
		}
	} else if err != nil {
		return err
	}
	l.out.Folders++
	verb := "UNSUBSCRIBE" // some hosts subscribe what they make
	if f.Subscribed {
		verb = "SUBSCRIBE"
	}
	if ok, fatal := l.tolerate(fmt.Sprintf("subscription of %q", f.Levels), l.command(nil, "%s %s", verb, quote(name))); fatal != nil {
		return fatal
	} else if !ok && !f.Subscribed {
		l.out.Refused = l.out.Refused[:len(l.out.Refused)-1] // there was none
	}
	if f.Messages == nil {
		return nil
	}
	most := batchMessages
	if !l.caps["MULTIAPPEND"] {
		most = 1
	}
	var batch []Message
	var size int64
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		defer func() { batch, size = batch[:0], 0 }()
		return l.append(name, batch)
	}
	for m := range f.Messages {
		_, n := m.Reader()
		if len(batch) > 0 && size+n > batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		batch, size = append(batch, m), size+n
		if len(batch) == most {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// append appends a batch, and its messages one by one when the batch was refused.
func (l *loader) append(name string, batch []Message) error {
	err := l.try(name, batch)
	if no := (*refused)(nil); errors.As(err, &no) && len(batch) > 1 {
		for i := range batch {
			if err := l.append(name, batch[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	ok, fatal := l.tolerate(fmt.Sprintf("%s: %s", name, batch[0].Name), err)
	if ok {
		l.out.Messages += len(batch)
		for _, m := range batch {
			_, n := m.Reader()
			l.out.Bytes += n
		}
	}
	return fatal
}

func (l *loader) try(name string, batch []Message) error {
	if err := l.send("APPEND %s", quote(name)); err != nil {
		return err
	}
	plus := ""
	if l.caps["LITERAL+"] {
		plus = "+"
	}
	for _, m := range batch {
		r, n := m.Reader()
		if _, err := fmt.Fprintf(l.conn.out, " (%s) %s {%d%s}\r\n", strings.Join(m.Flags, " "), quote(m.Date.Format("02-Jan-2006 15:04:05 -0700")), n, plus); err != nil {
			return err
		}
		if plus == "" {
			if err := l.goAhead(); err != nil {
				return err
			}
		}
		if k, err := io.Copy(l.conn.out, r); err != nil || k != n {
			return fmt.Errorf("%s: %d of %d bytes: %w", m.Name, k, n, err)
		}
	}
	if _, err := io.WriteString(l.conn.out, "\r\n"); err != nil {
		return err
	}
	return l.answer(nil, "APPEND")
}

// goAhead waits for the continuation of a literal. A refusal in its place is *refused, and the command is over.
func (l *loader) goAhead() error {
	if err := l.conn.out.Flush(); err != nil {
		return err
	}
	for {
		first, err := l.word()
		if err != nil {
			return err
		}
		rest, err := l.rest()
		switch {
		case err != nil:
			return err
		case first == "+":
			return nil
		case first != "*":
			return &refused{"APPEND", rest}
		}
	}
}
