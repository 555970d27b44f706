package corpus

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"mailgate/imapwire"
)

// maildirFlags are the letters of system flags in a file's name.
var maildirFlags = [...]struct{ flag, letter string }{{`\Draft`, "D"}, {`\Flagged`, "F"}, {`\Answered`, "R"}, {`\Seen`, "S"}, {`\Deleted`, "T"}}

// Product is whose Maildir is written: they agree but for names and keywords.
type Product int

// The products.
const (
	Dovecot Product = iota
	Courier
)

// LoadMaildir writes folders to the disk as a Maildir++ that belongs to uid; much quicker than IMAP. INTERNALDATE is the
// file's time. CRLF becomes LF, as both products keep it and give it back. What is in Refused could not be written:
// folders that the product could not open, and keywords beyond the 26 of a folder that Dovecot keeps in files' names.
func LoadMaildir(product Product, dir string, uid int, folders []Folder) (Loaded, error) {
	m := maildir{product: product, root: dir, uid: uid, made: map[string]bool{}}
	if err := m.mkdir(filepath.Dir(dir)); err != nil {
		return m.out, err
	}
	if err := m.box(dir); err != nil {
		return m.out, err
	}
	var subscribed []string
	for _, f := range folders {
		name, ok := m.name(f)
		if !ok {
			m.out.Refused = append(m.out.Refused, fmt.Sprintf("%q: no name for this Maildir", f.Levels))
			continue
		}
		at := dir
		if name != "INBOX" {
			at = filepath.Join(dir, "."+name)
		}
		if err := m.folder(at, f); err != nil {
			return m.out, fmt.Errorf("%q: %w", f.Levels, err)
		}
		m.out.Folders++
		if f.Subscribed && name != "INBOX" && product == Courier {
			name = "INBOX." + name
		}
		if f.Subscribed {
			subscribed = append(subscribed, name)
		}
	}
	list := "subscriptions"
	if product == Courier {
		list = "courierimapsubscribed"
	}
	return m.out, m.file(filepath.Join(dir, list), lineUp(subscribed))
}

// name is a folder's on the disk: in UTF-8 for Courier, as on the wire for Dovecot.
func (m *maildir) name(f Folder) (string, bool) {
	name, ok := f.Raw("", ".")
	if !ok || strings.ContainsAny(name, "/\x00\n") {
		return "", false
	}
	text, canonical := imapwire.DecodeName(name)
	if m.product == Courier {
		// a character beyond 16 bits makes it end the session at LIST
		return text, canonical && !strings.ContainsFunc(text, func(r rune) bool { return r > 0xffff })
	}
	return name, canonical && name[0] != '~' // it lists others, but does not open them
}

func lineUp(list []string) string {
	var b strings.Builder
	for _, s := range list {
		b.WriteString(s + "\n")
	}
	return b.String()
}

type maildir struct {
	product Product
	root    string
	uid     int
	made    map[string]bool
	next    int
	out     Loaded
}

func (m *maildir) mkdir(dir string) error {
	if m.made[dir] {
		return nil
	}
	m.made[dir] = true
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return errors.Join(err, os.Chown(dir, m.uid, m.uid))
}

func (m *maildir) box(dir string) error {
	if err := m.mkdir(dir); err != nil {
		return err
	}
	return errors.Join(m.mkdir(filepath.Join(dir, "cur")), m.mkdir(filepath.Join(dir, "new")), m.mkdir(filepath.Join(dir, "tmp")))
}

func (m *maildir) file(name, text string) error {
	return errors.Join(os.WriteFile(name, []byte(text), 0o600), os.Chown(name, m.uid, m.uid))
}

func (m *maildir) folder(dir string, f Folder) error {
	if err := m.box(dir); err != nil {
		return err
	}
	if dir != m.root {
		if err := m.file(filepath.Join(dir, "maildirfolder"), ""); err != nil {
			return err
		}
	}
	if f.Messages == nil {
		return nil
	}
	var keywords []string
	var courier strings.Builder
	for msg := range f.Messages {
		letters, numbers := "", []string(nil)
		for _, l := range maildirFlags {
			if slices.Contains(msg.Flags, l.flag) {
				letters += l.letter
			}
		}
		var small []byte
		for at, k := range msg.Flags {
			if strings.HasPrefix(k, `\`) {
				continue
			}
			i := slices.Index(keywords, k)
			room := 26
			if at > 10 {
				room = 16 // a message with many leaves some to the others
			}
			if i < 0 && m.product == Dovecot && len(keywords) >= room {
				m.out.Refused = append(m.out.Refused, fmt.Sprintf("%q: %s: keyword %s", f.Levels, msg.Name, k))
				continue
			}
			if i < 0 {
				i, keywords = len(keywords), append(keywords, k)
			}
			if m.product == Dovecot {
				small = append(small, byte('a'+i))
			}
			numbers = append(numbers, strconv.Itoa(i))
		}
		slices.Sort(small)
		m.next++
		base := fmt.Sprintf("%d.M%dP1.corpus", 1_600_000_000+m.next, m.next)
		if err := m.message(filepath.Join(dir, "cur", base+":2,"+letters+string(small)), msg); err != nil {
			return err
		}
		if len(numbers) > 0 {
			fmt.Fprintf(&courier, "%s:%s\n", base, strings.Join(numbers, " "))
		}
	}
	if len(keywords) == 0 {
		return nil
	}
	if m.product == Courier {
		c := filepath.Join(dir, "courierimapkeywords")
		return errors.Join(m.mkdir(c), m.file(filepath.Join(c, ":list"), lineUp(keywords)+"\n"+courier.String()))
	}
	var dovecot strings.Builder
	for i, k := range keywords {
		fmt.Fprintf(&dovecot, "%d %s\n", i, k)
	}
	return m.file(filepath.Join(dir, "dovecot-keywords"), dovecot.String())
}

func (m *maildir) message(name string, msg Message) error {
	r, n := msg.Reader()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if msg.Open == nil {
		_, err = f.Write(bytes.ReplaceAll(msg.Data, []byte("\r\n"), []byte("\n")))
	} else {
		err = withoutCR(f, r)
	}
	m.out.Messages++
	m.out.Bytes += n
	return errors.Join(err, f.Chown(m.uid, m.uid), f.Close(), os.Chtimes(name, msg.Date, msg.Date))
}

// withoutCR copies, CRLF as LF.
func withoutCR(w io.Writer, r io.Reader) error {
	in, out := bufio.NewReaderSize(r, 64<<10), bufio.NewWriterSize(w, 64<<10)
	for {
		piece, err := in.ReadSlice('\n')
		if line, found := bytes.CutSuffix(piece, []byte("\r\n")); found {
			_, _ = out.Write(line) // Flush tells
			_ = out.WriteByte('\n')
		} else {
			if errors.Is(err, bufio.ErrBufferFull) && piece[len(piece)-1] == '\r' {
				piece = piece[:len(piece)-1]
				_ = in.UnreadByte()
			}
			_, _ = out.Write(piece)
		}
		if errors.Is(err, io.EOF) {
			return out.Flush()
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}
