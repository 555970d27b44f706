package lab

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// session speaks IMAP by the line.
type session struct {
	t  *testing.T
	c  net.Conn
	in *bufio.Reader
}

// open connects; ca is a PEM file for TLS, or "".
func open(t *testing.T, port int, ca string) *session {
	t.Helper()
	c, err := net.Dial("tcp", Addr(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		c = tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "mail.example.com"})
	}
	s := &session{t, c, bufio.NewReader(c)}
	if line := s.line(); !strings.HasPrefix(line, "* OK") {
		t.Fatalf("greeting %q", line)
	}
	return s
}

func (s *session) line() string {
	s.t.Helper()
	line, err := s.in.ReadString('\n')
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimRight(line, "\r\n")
}

// ok sends a command that must succeed, and gives all lines of the answer.
func (s *session) ok(command string) string {
	s.t.Helper()
	fmt.Fprintf(s.c, "x %s\r\n", command)
	var all []string
	for {
		line := s.line()
		all = append(all, line)
		if strings.HasPrefix(line, "x ") {
			if !strings.HasPrefix(line, "x OK") {
				s.t.Fatalf("%s: %q", command, all)
			}
			return strings.Join(all, "\n")
		}
	}
}

// as logs the master in as somebody else.
func (s *session) as(authzid string) {
	s.t.Helper()
	fmt.Fprintf(s.c, "x AUTHENTICATE PLAIN\r\n")
	if line := s.line(); !strings.HasPrefix(line, "+") {
		s.t.Fatal(line)
	}
	response := base64.StdEncoding.EncodeToString([]byte(authzid + "\x00" + MasterUser + "\x00" + MasterPassword))
	fmt.Fprintf(s.c, "%s\r\n", response)
	for line := ""; !strings.HasPrefix(line, "x "); {
		if line = s.line(); strings.HasPrefix(line, "x ") && !strings.HasPrefix(line, "x OK") {
			s.t.Fatal(line)
		}
	}
}

func (s *session) append(mailbox string) {
	s.t.Helper()
	const text = "Subject: x\r\n\r\nx\r\n"
	fmt.Fprintf(s.c, "x APPEND %s {%d}\r\n", mailbox, len(text))
	for line := s.line(); !strings.HasPrefix(line, "+"); line = s.line() {
		if strings.HasPrefix(line, "x ") {
			s.t.Fatal(line)
		}
	}
	s.finish(text)
}

// finish sends the rest of a command that must succeed.
func (s *session) finish(rest string) {
	s.t.Helper()
	fmt.Fprintf(s.c, "%s\r\n", rest)
	for {
		if line := s.line(); strings.HasPrefix(line, "x OK") {
			return
		} else if strings.HasPrefix(line, "x ") {
			s.t.Fatal(line)
		}
	}
}

// testHost tries what every host has.
func testHost(t *testing.T, h Host, ca string, reset func(testing.TB, int)) {
	want := fmt.Sprintf(`(("%s" "%s"`, h.Prefix, h.Sep)
	for _, s := range []*session{open(t, h.IMAP, ""), open(t, h.IMAPS, ca)} {
		s.ok("LOGIN " + User(3) + " " + Password(3))
		if got := s.ok("NAMESPACE"); !strings.Contains(got, want) && !strings.Contains(got, `(("INBOX`+h.Sep+`" "`+h.Sep+`"`) {
			t.Errorf("%s: %s, want %s", h.Name, got, want)
		}
		s.append("INBOX")
		s.ok("CREATE " + h.Prefix + "a" + h.Sep + "b")
		s.ok("DELETE " + h.Prefix + "a" + h.Sep + "b")
		s.ok("CREATE " + h.Prefix + "stays" + fmt.Sprint(len(ca)))
		ca = ""
		s.ok("LOGOUT")
	}
	if h.Master {
		s := open(t, h.IMAP, "")
		s.as(User(3))
		if got := s.ok("EXAMINE INBOX"); !strings.Contains(got, "* 2 EXISTS") {
			t.Errorf("%s: the master sees %s", h.Name, got)
		}
		s.ok("LOGOUT")
		s = open(t, h.IMAP, "")
		s.as(User(17)) // who was never there
		s.ok("EXAMINE INBOX")
		s.ok("LOGOUT")
	}
	reset(t, 3)
	reset(t, 4) // there may be no such account
	s := open(t, h.IMAP, "")
	s.ok("LOGIN " + User(3) + " " + Password(3))
	if got := s.ok("EXAMINE INBOX"); !strings.Contains(got, "* 0 EXISTS") {
		t.Errorf("%s is not empty: %s", h.Name, got)
	}
	if got := s.ok(`LIST "" *`); strings.Contains(got, "stays") {
		t.Errorf("%s is not empty: %s", h.Name, got)
	}
	s.ok("LOGOUT")
}

func TestDovecotMasters(t *testing.T) {
	t.Parallel()
	l := Start(t)
	for _, h := range []Host{l.Old, l.New} {
		testHost(t, h, l.CA, l.Reset)
		s := open(t, h.IMAP, "")
		s.ok("LOGIN " + User(5) + "*" + MasterUser + " " + MasterPassword)
	}
}

func TestCyrus(t *testing.T) {
	t.Parallel()
	c := StartCyrus(t)
	testHost(t, c.Host, c.CA, c.Reset)
}

func TestCyrusClassic(t *testing.T) {
	t.Parallel()
	c := StartCyrus(t, Classic(), CyrusSetting("maxmessagesize: 1000"))
	testHost(t, c.Host, c.CA, c.Reset)
	s := open(t, c.IMAP, "")
	s.ok("LOGIN " + User(6) + " " + Password(6))
	fmt.Fprintf(s.c, "x APPEND INBOX {2000}\r\n")
	if line := s.line(); !strings.HasPrefix(line, "x NO") {
		t.Errorf("the setting is not heeded: %s", line)
	}
}

func TestCourier(t *testing.T) {
	t.Parallel()
	c, d := StartCourier(t), StartCourier(t, "IMAP_KEYWORDS=0")
	testHost(t, c.Host, c.CA, c.Reset)
	for want, h := range map[string]Host{`\*`: c.Host, "": d.Host} {
		s := open(t, h.IMAP, "")
		s.ok("LOGIN " + User(6) + " " + Password(6))
		if got := s.ok("SELECT INBOX"); !strings.Contains(got, want) || want == "" && strings.Contains(got, `\*`) {
			t.Errorf("want %q: %s", want, got)
		}
	}
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	for want, dsn := range map[string]string{"off": StartPostgres(t), "on": StartPostgres(t, "fsync=on")} {
		out, err := exec.Command("psql", dsn, "-Atc", "CREATE TABLE t (x int); SHOW fsync").CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "CREATE TABLE\n"+want {
			t.Errorf("%v: %s", err, out)
		}
	}
}

func TestPostgresComesBack(t *testing.T) {
	t.Parallel()
	p := NewPostgres(t, "fsync=on", "synchronous_commit=on", "full_page_writes=on")
	psql := func(sql string) (string, error) {
		out, err := exec.Command("psql", p.DSN, "-Atc", sql).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	if out, err := psql("CREATE TABLE t (x int); INSERT INTO t VALUES (7)"); err != nil {
		t.Fatal(err, out)
	}
	p.Stop(t)
	if out, err := psql("SELECT x FROM t"); err == nil {
		t.Fatal("it is still there: ", out)
	}
	p.Start(t)
	if out, err := psql("SELECT x FROM t"); err != nil || out != "7" {
		t.Fatal(err, out)
	}
}
