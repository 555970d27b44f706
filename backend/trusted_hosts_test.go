package backend

import (
	"bufio"
	"io"
	"log/slog"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/lab"
)

// trusting shows what a real Dovecot that trusts us makes of what it is told, in each protocol: it takes the client's address from us, and heeds
// nothing of what a client says in ID behind the login.
func trusting(t *testing.T, l *lab.Lab) {
	h := l.New
	host := config.Host{Name: "h"}
	for at, e := range map[*config.Endpoint]config.Endpoint{&host.IMAP: {Protocol: config.IMAP, Port: h.IMAP}, &host.POP3: {Protocol: config.POP3, Port: h.POP3},
		&host.Submission: {Protocol: config.Submission, Port: h.Submission}, &host.Sieve: {Protocol: config.Sieve, Port: h.Sieve}} {
		e.Host = "127.0.0.1"
		*at = e
	}
	b := config.Backend{ClientAddress: true, ConnectTimeout: 30 * time.Second, LoginTimeout: 30 * time.Second, Hosts: []config.Host{host}}
	log := &strings.Builder{}
	d, err := NewDialer([2]config.Backend{b, b}, slog.New(slog.NewTextHandler(log, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	said := popWho(t, lab.User(4), lab.Password(4))
	a := Account{Credentials: said.Credentials, LoginName: said.LoginName}
	imap, err := d.DialIMAP(t.Context(), config.Old, "", LoginIMAP{Credentials: said.Credentials, LoginName: said.LoginName, ClientAddr: said.ClientAddr, Hops: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer imap.Close()
	pop, err := d.DialPOP3(t.Context(), config.Old, "", said)
	if err != nil {
		t.Fatal(err)
	}
	defer pop.Close()
	sieve, err := d.DialSieveSession(t.Context(), config.Old, "", a, said.ClientAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer sieve.Close()
	smtp, err := d.DialSubmission(t.Context(), config.Old, "", LoginSubmission{Credentials: said.Credentials, LoginName: said.LoginName, ClientAddr: said.ClientAddr,
		Helo: "pc", GatewayName: "gate"})
	if err != nil {
		t.Fatal(err)
	}
	defer smtp.Close()

	_ = imap.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(imap, "x ID (\"name\" \"n\" \"x-originating-ip\" \"203.0.113.6\" \"x-originating-port\" \"1\")\r\n"); err != nil {
		t.Fatal(err)
	}
	for r := bufio.NewReader(imap); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "x OK") {
			break
		}
	}
	out, err := exec.Command("doveadm", "-c", filepath.Join(h.Dir, "dovecot.conf"), "who", "-1", lab.User(4)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	var seen []string
	for _, line := range strings.Split(string(out), "\n") {
		f := strings.Fields(line)
		if len(f) > 3 && f[0] == lab.User(4) {
			seen = append(seen, f[1])
			if f[3] != said.ClientAddr.Addr().String() {
				t.Errorf("it takes %s for the client's address: %s", f[3], line)
			}
		}
	}
	slices.Sort(seen)
	if want := "imap pop3 sieve submission"; strings.Join(seen, " ") != want {
		t.Errorf("sessions %q, want %s\n%s", seen, want, out)
	}
	if log.Len() > 0 {
		t.Errorf("log: %s", log)
	}
}
