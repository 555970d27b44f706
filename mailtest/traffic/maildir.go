package traffic

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"mailgate/mailtest/lab"
)

// maildir delivers to user n's INBOX as any delivery agent does: into tmp, then by a rename into new.
func maildir(h lab.Host, n int, text []byte) error {
	dir := filepath.Join(h.Home(n), "Maildir")
	f, err := os.CreateTemp(filepath.Join(dir, "tmp"), fmt.Sprintf("%d.*.mx", time.Now().UnixNano()))
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = os.Chown(f.Name(), h.MailID, h.MailID)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, "new", filepath.Base(f.Name())))
}
