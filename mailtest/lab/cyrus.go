package lab

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Cyrus is a Cyrus IMAP 3.6 that runs. Accounts come into being at the first login, with Sent, Drafts and Trash.
type Cyrus struct {
	Host
	CA string // PEM file

	processes
	classic bool
	extra   string
}

// CyrusOption changes a Cyrus before it starts.
type CyrusOption func(*Cyrus)

// Classic names mailboxes as Debian's package does: separator ".", prefix "INBOX.". Otherwise it is "/" without a prefix,
// Cyrus' own default.
func Classic() CyrusOption {
	return func(c *Cyrus) { c.classic, c.Sep, c.Prefix = true, ".", "INBOX." }
}

// CyrusSetting is one more line of imapd.conf. Cyrus does not start with an option that is given twice.
func CyrusSetting(line string) CyrusOption { return func(c *Cyrus) { c.extra += line + "\n" } }

// cyrusRealm is Cyrus' servername, under which it looks up passwords: it strips its default domain from the user's name.
const cyrusRealm = "cyrus.example.com"

// StartCyrus runs a Cyrus until the test ends. It has the users of Start, and MasterUser.
func StartCyrus(t testing.TB, options ...CyrusOption) *Cyrus {
	t.Helper()
	opt, pop := unpacked(t, "cyrus"), unpacked(t, "pop3")
	if _, err := exec.LookPath("saslpasswd2"); err != nil {
		t.Fatalf("%v; run make setup", err)
	}
	var c *Cyrus
	begin(t, "Cyrus", func() (*processes, error) {
		c = &Cyrus{Host: Host{Name: "cyrus", Sep: "/", MailID: mailUID, Master: true}}
		for _, o := range options {
			o(c)
		}
		return &c.processes, c.start(opt, pop)
	})
	return c
}

func (c *Cyrus) start(opt, pop string) error {
	if err := c.folder(); err != nil {
		return err
	}
	c.Dir, c.Certs = c.dir, filepath.Join(c.dir, "certs")
	var err error
	if c.CA, err = certificates(c.Certs); err != nil {
		return err
	}
	ports, err := c.ports.take(5)
	if err != nil {
		return err
	}
	c.IMAP, c.IMAPS, c.LMTP, c.Sieve, c.POP3 = ports[0], ports[1], ports[2], ports[3], ports[4]
	// Without conf/db and conf/socket it runs, half of it broken.
	err = makeDirs(c.dir, mailUID, "conf", "conf/db", "conf/socket", "conf/log", "conf/msg", "spool", "sieve", "proc", "lock", "sock", "dev")
	key := filepath.Join(c.Certs, "key.pem")
	data := map[string]any{"Host": c.Host, "Bin": filepath.Join(opt, "usr/lib/cyrus/bin"), "Pop3": filepath.Join(pop, "usr/lib/cyrus/bin/pop3d"), "Realm": cyrusRealm, "Master": MasterUser,
		"Alt": map[bool]string{true: "no", false: "yes"}[c.classic], "Extra": c.extra}
	run := filepath.Join(c.dir, "run.sh")
	err = errors.Join(err, os.Chown(key, mailUID, mailUID), render("cyrus-imapd.conf", filepath.Join(c.dir, "imapd.conf"), data),
		render("cyrus-master.conf", filepath.Join(c.dir, "cyrus.conf"), data), render("cyrus-run.sh", run, data), c.passwords(), c.syslog())
	if err != nil {
		return err
	}
	libs := libraries(opt)
	if err := c.run("cyrus", func(cmd *exec.Cmd) { isolated(cmd); cmd.Env = append(os.Environ(), libs) }, "bash", run); err != nil {
		return err
	}
	end := time.Now().Add(deadline)
	for _, p := range ports {
		if err := c.wait(p, end); err != nil {
			return err
		}
	}
	return c.until(end, func() error { return greets(c.IMAP) })
}

// libraries is the environment variable that lets unpacked programs find their libraries.
func libraries(opt string) string {
	dirs, _ := filepath.Glob(filepath.Join(opt, "usr/lib/*-linux-gnu"))
	return "LD_LIBRARY_PATH=" + strings.Join(append([]string{filepath.Join(opt, "usr/lib")}, dirs...), ":")
}

// greets tells whether a port gives a greeting.
func greets(port int) error {
	c, err := net.DialTimeout("tcp", Addr(port), time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "* OK") {
		err = fmt.Errorf("the greeting is %q", line)
	}
	return err
}

// passwords makes the database of passwords.
func (c *Cyrus) passwords() error {
	db := filepath.Join(c.dir, "sasldb2")
	add := func(user, password string) error {
		cmd := exec.Command("saslpasswd2", "-p", "-c", "-f", db, "-u", cyrusRealm, user)
		cmd.Stdin = strings.NewReader(password)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("saslpasswd2: %w: %s", err, out)
		}
		return nil
	}
	err := errors.Join(add("cyrus", MasterPassword), add(MasterUser, MasterPassword))
	for i := 1; i <= Accounts; i++ {
		err = errors.Join(err, add("user"+strconv.Itoa(i), Password(i)))
	}
	return errors.Join(err, os.Chown(db, mailUID, mailUID))
}

// syslog writes down what Cyrus says: it knows only syslog(3), and gets a /dev of its own whose log is our socket.
func (c *Cyrus) syslog() error {
	at := filepath.Join(c.dir, "sock", "log")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(c.dir, "syslog"))
	if err = errors.Join(err, os.Chmod(at, 0o666)); err != nil {
		conn.Close()
		return err
	}
	done := make(chan struct{})
	go func() { // ends when the socket is closed
		defer close(done)
		b := make([]byte, 64<<10)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			fmt.Fprintf(log, "%s\n", strings.TrimRight(string(b[:n]), "\n\x00"))
		}
	}()
	c.ending = func(t testing.TB, showLogs bool) {
		if b, _ := os.ReadFile(log.Name()); showLogs {
			t.Logf("Cyrus' syslog:\n%s", tail(b, 4000))
		}
	}
	c.ended = func() { conn.Close(); <-done; log.Close() }
	return nil
}

// Reset deletes the account of user n with all that it holds; the next login makes a new one. Nobody may be logged in to
// it. Deleting an account that there is not is no failure.
func (c *Cyrus) Reset(t testing.TB, n int) {
	t.Helper()
	root := "user" + map[bool]string{true: ".", false: "/"}[c.classic] + "user" + strconv.Itoa(n)
	conn, err := net.DialTimeout("tcp", Addr(c.IMAP), deadline)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute)) // a hundred thousand files
	in := bufio.NewReader(conn)
	command := func(line string) string {
		if _, err := fmt.Fprintf(conn, "x %s\r\n", line); err != nil {
			t.Fatal(err)
		}
		for {
			s, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if answer, found := strings.CutPrefix(s, "x "); found {
				return strings.TrimSpace(answer)
			}
		}
	}
	for _, line := range []string{"LOGIN cyrus " + MasterPassword, "SETACL " + root + " cyrus lrswipkxtecda", "DELETE " + root} {
		answer := command(line)
		if strings.HasPrefix(line, "SETACL") && strings.Contains(answer, "does not exist") {
			return
		}
		if !strings.HasPrefix(answer, "OK") {
			t.Fatalf("%s: %s", strings.Fields(line)[0], answer)
		}
	}
}
