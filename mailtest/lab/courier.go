package lab

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Courier is a Courier IMAP 5.0 that runs: separator ".", prefix "INBOX.", Maildir below Home. It has no master login.
type Courier struct {
	Host
	CA string // PEM file

	processes
	settings []string
}

// StartCourier runs a Courier until the test ends. It has the users of Start. Settings are more lines of its environment,
// such as `IMAP_KEYWORDS=2`, or `MAXPERIP=4` for connections from one address; the last one of a name holds.
func StartCourier(t testing.TB, settings ...string) *Courier {
	t.Helper()
	opt, pop := unpacked(t, "courier"), unpacked(t, "pop3")
	var c *Courier
	begin(t, "Courier", func() (*processes, error) {
		c = &Courier{Host: Host{Name: "courier", Format: "maildir:~/Maildir", Sep: ".", Prefix: "INBOX.", MailID: mailUID}, settings: settings}
		return &c.processes, c.start(opt, pop)
	})
	return c
}

func (c *Courier) start(opt, pop string) error {
	if err := c.folder(); err != nil {
		return err
	}
	if strings.HasPrefix(c.dir, "/run/") {
		return errors.New("the folder for temporary files may not be below /run: Courier gets a /run of its own")
	}
	c.Dir, c.Certs = c.dir, filepath.Join(c.dir, "certs")
	var err error
	if c.CA, err = certificates(c.Certs); err != nil {
		return err
	}
	ports, err := c.ports.take(3)
	if err != nil {
		return err
	}
	c.IMAP, c.IMAPS, c.POP3 = ports[0], ports[1], ports[2]
	if err := errors.Join(makeDirs(c.dir, 0, "etc", "run", "run/authdaemon"), makeDirs(c.dir, mailUID, "home")); err != nil {
		return err
	}
	both := filepath.Join(c.dir, "etc", "server.pem")
	key, err1 := os.ReadFile(filepath.Join(c.Certs, "key.pem"))
	cert, err2 := os.ReadFile(filepath.Join(c.Certs, "cert.pem"))
	data := map[string]any{"Host": c.Host, "Opt": opt, "Pop3": filepath.Join(pop, "usr/lib/courier/courier"), "Libraries": libraries(opt), "Settings": strings.Join(c.settings, "\n")}
	run := filepath.Join(c.dir, "run.sh")
	err = errors.Join(err1, err2, os.WriteFile(both, append(key, cert...), 0o600), os.Chown(both, mailUID, mailUID), c.users(),
		render("courier-env", filepath.Join(c.dir, "etc", "courier.env"), data), render("courier-run.sh", run, data))
	if err != nil {
		return err
	}
	for i := 1; i <= Accounts; i++ {
		if err := c.account(i); err != nil {
			return err
		}
	}
	if err := c.run("courier", isolated, "bash", run); err != nil {
		return err
	}
	end := time.Now().Add(deadline)
	for _, p := range ports {
		if err := c.wait(p, end); err != nil {
			return err
		}
	}
	// The daemon that checks passwords has no port. A login that comes too early is answered late.
	err = c.until(end, func() error {
		_, err := os.Stat(filepath.Join(c.dir, "run", "authdaemon", "socket"))
		return err
	})
	if err != nil {
		return err
	}
	return c.until(end, c.logsIn)
}

// users writes the two databases as text, from which the script makes the files that Courier reads.
func (c *Courier) users() error {
	var passwords, db, shadow strings.Builder
	for i := 1; i <= Accounts; i++ {
		fmt.Fprintln(&passwords, Password(i))
	}
	cmd := exec.Command("openssl", "passwd", "-1", "-stdin")
	cmd.Stdin = strings.NewReader(passwords.String())
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("openssl: %w", err)
	}
	hashes := strings.Fields(string(out))
	if len(hashes) != Accounts {
		return fmt.Errorf("openssl gave %d hashes", len(hashes))
	}
	for i, h := range hashes {
		home := c.Home(i + 1)
		fmt.Fprintf(&db, "%s\tuid=%d|gid=%d|home=%s|mail=%s/Maildir\n", User(i+1), mailUID, mailUID, home, home)
		fmt.Fprintf(&shadow, "%s\tsystempw=%s\n", User(i+1), h)
	}
	etc := filepath.Join(c.dir, "etc")
	return errors.Join(os.WriteFile(filepath.Join(etc, "userdb.txt"), []byte(db.String()+".\n"), 0o600),
		os.WriteFile(filepath.Join(etc, "userdbshadow.txt"), []byte(shadow.String()+".\n"), 0o600))
}

// account makes an empty Maildir.
func (c *Courier) account(n int) error {
	user := filepath.Base(c.Home(n))
	return makeDirs(filepath.Join(c.dir, "home"), mailUID, user, user+"/Maildir", user+"/Maildir/cur", user+"/Maildir/new", user+"/Maildir/tmp")
}

func (c *Courier) logsIn() error {
	conn, err := net.DialTimeout("tcp", Addr(c.IMAP), time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(conn, "a LOGIN %s %s\r\n", User(1), Password(1)); err != nil {
		return err
	}
	for in := bufio.NewReader(conn); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if answer, found := strings.CutPrefix(line, "a "); found {
			if !strings.HasPrefix(answer, "OK") {
				return errors.New(answer)
			}
			return nil
		}
	}
}

// Reset empties the account of user n. Nobody may be logged in to it.
func (c *Courier) Reset(t testing.TB, n int) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(c.Home(n)), c.account(n)); err != nil {
		t.Fatal(err)
	}
}
