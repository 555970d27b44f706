package traffic

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"mailgate/mailtest/lab"
)

// maildir delivers to user n's INBOX as any delivery agent does: into tmp, then by a rename into new. Names begin with the time in seconds: Courier
// puts the difference of two such numbers into 32 bits, and with larger ones it does not find files in its list of UIDs, and gives them others each time.
func maildir(h lab.Host, n int, text []byte) error {
	dir, now := filepath.Join(h.Home(n), "Maildir"), time.Now()
	f, err := os.CreateTemp(filepath.Join(dir, "tmp"), fmt.Sprintf("%d.M%dP*.mx", now.Unix(), now.Nanosecond()/1000))
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

// Files names the files of a Maildir that hold the letters of which something is said, for who has to find out why.
func (c *Crowd) Files(n int, odd []string) string {
	var b strings.Builder
	for _, h := range c.Hosts {
		if !strings.HasPrefix(h.Format, "maildir:") {
			continue
		}
		for _, text := range odd[:min(len(odd), 10)] {
			if f := strings.Fields(text); len(f) > 3 && strings.HasPrefix(f[3], "t-") {
				out, _ := exec.Command("grep", "-rl", "Subject: "+f[3], h.Home(n)).Output()
				fmt.Fprintf(&b, "%s: %s", f[3], out)
				for file := range strings.Lines(string(out)) { // Courier's UIDs
					name, _, _ := strings.Cut(filepath.Base(strings.TrimSpace(file)), ":")
					uid, _ := exec.Command("grep", "-F", name, filepath.Join(filepath.Dir(filepath.Dir(file)), "courierimapuiddb")).Output()
					fmt.Fprintf(&b, "  uid %s", uid)
				}
			}
		}
	}
	return b.String()
}
