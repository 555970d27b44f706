package corpus

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maildirFlags are the letters of system flags in a file's name.
var maildirFlags = [...]struct{ flag, letter string }{{`\Draft`, "D"}, {`\Flagged`, "F"}, {`\Answered`, "R"}, {`\Seen`, "S"}, {`\Deleted`, "T"}}

// LoadMaildir writes folders to the disk as a Maildir++ of Dovecot and of Courier alike, which belongs to uid; much quicker
// than IMAP. INTERNALDATE is the file's time. A folder has at most 26 keywords, as Dovecot keeps them; what is beyond, and
// folders that a Maildir cannot name, are in Refused.
func LoadMaildir(dir string, uid int, folders []Folder) (Loaded, error) {
	m := maildir{root: dir, uid: uid, made: map[string]bool{}}
	if err := m.mkdir(filepath.Dir(dir)); err != nil {
		return m.out, err
	}
	if err := m.box(dir); err != nil {
		return m.out, err
	}
	var dovecot, courier []string
	for _, f := range folders {
		name, ok := f.Raw("", ".")
		if !ok || strings.ContainsAny(name, "/\x00\n") || len(name) > 250 {
			m.out.Refused = append(m.out.Refused, fmt.Sprintf("%q: no name for a Maildir", f.Levels))
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
		if f.Subscribed && name == "INBOX" {
			dovecot, courier = append(dovecot, name), append(courier, name)
		} else if f.Subscribed {
			dovecot, courier = append(dovecot, name), append(courier, "INBOX."+name)
		}
	}
	err := errors.Join(m.file(filepath.Join(dir, "subscriptions"), lineUp(dovecot)),
		m.file(filepath.Join(dir, "courierimapsubscribed"), lineUp(courier)))
	return m.out, err
}

func lineUp(list []string) string {
	var b strings.Builder
	for _, s := range list {
		b.WriteString(s + "\n")
	}
	return b.String()
}

type maildir struct {
	root string
	uid  int
	made map[string]bool
	next int
	out  Loaded
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
		for _, k := range msg.Flags {
			if strings.HasPrefix(k, `\`) {
				continue
			}
			i := slices.Index(keywords, k)
			if i < 0 && len(keywords) == 26 {
				m.out.Refused = append(m.out.Refused, fmt.Sprintf("%q: %s: keyword %s", f.Levels, msg.Name, k))
				continue
			}
			if i < 0 {
				i, keywords = len(keywords), append(keywords, k)
			}
			small, numbers = append(small, byte('a'+i)), append(numbers, strconv.Itoa(i))
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
	var dovecot strings.Builder
	for i, k := range keywords {
		fmt.Fprintf(&dovecot, "%d %s\n", i, k)
	}
	c := filepath.Join(dir, "courierimapkeywords")
	return errors.Join(m.file(filepath.Join(dir, "dovecot-keywords"), dovecot.String()), m.mkdir(c),
		m.file(filepath.Join(c, ":list"), lineUp(keywords)+"\n"+courier.String()))
}

func (m *maildir) message(name string, msg Message) error {
	r, n := msg.Reader()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if msg.Open == nil {
		_, err = f.Write(msg.Data)
	} else {
		w := bufio.NewWriterSize(f, 64<<10)
		_, err = io.Copy(w, r)
		err = errors.Join(err, w.Flush())
	}
	m.out.Messages++
	m.out.Bytes += n
	return errors.Join(err, f.Chown(m.uid, m.uid), f.Close(), os.Chtimes(name, msg.Date, msg.Date))
}
