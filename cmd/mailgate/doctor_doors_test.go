package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/mailtest/lab"
)

var updateGolden = flag.Bool("update", false, "write the golden files of doctor's doors")

// examineDoors is a doctor that has seen two hosts and logged somebody in, without asking anybody.
func examineDoors(t *testing.T, in entered) *doctor {
	t.Helper()
	c := newClinic(t)
	c.change(`listen: [`, `proxy_networks: [10.1.2.0/24]`+"\n"+`listen: ["pop3s://127.0.0.1:995", "pop3+starttls://127.0.0.1:110", "imaps+proxy://127.0.0.1:993", "sieve+starttls://127.0.0.1:4190", "submission+starttls://127.0.0.1:587", `,
		"imap: imap://"+c.hosts[config.Old].IMAP, "imap: imap://"+c.hosts[config.Old].IMAP+"\n    pop3: pop3://127.0.0.1:1\n    sieve: sieve://127.0.0.1:1",
		"imap: imap://"+c.hosts[config.New].IMAP, "imap: imap://"+c.hosts[config.New].IMAP+"\n    pop3: pop3://127.0.0.1:1\n    sieve: sieve://127.0.0.1:1")
	p := &program{in: strings.NewReader(""), out: &bytes.Buffer{}, err: &bytes.Buffer{}, file: c.file(), output: "table"}
	conf, err := p.load()
	if err != nil {
		t.Fatal(err)
	}
	d := newDoctor(p, conf)
	d.area = "doors"
	if d.dialer, err = backend.NewDialer(conf.Backends, slog.New(slog.DiscardHandler), nil); err != nil {
		t.Fatal(err)
	}
	both := func(old, new *backend.Seen) [2]*backend.Seen { return [2]*backend.Seen{old, new} }
	d.doors(map[config.Protocol][2]*backend.Seen{
		config.IMAP: both(&backend.Seen{Capabilities: strings.Fields("IMAP4rev1 ID IDLE AUTH=PLAIN")}, &backend.Seen{Capabilities: strings.Fields("IMAP4rev1 AUTH=PLAIN STARTTLS")}),
		config.POP3: both(&backend.Seen{Capabilities: []string{"UIDL", "TOP", "SASL PLAIN LOGIN", "EXPIRE 60"}}, nil),
		config.Sieve: both(&backend.Seen{Sieve: &backend.SieveCapabilities{Extensions: []string{"fileinto", "vacation"}}},
			&backend.Seen{Sieve: &backend.SieveCapabilities{Extensions: []string{"fileinto", "imap4flags"}}}),
		config.Submission: both(&backend.Seen{Extensions: map[string]string{"SIZE": "100"}}, &backend.Seen{Extensions: map[string]string{"DSN": ""}}),
	}, in)
	return d
}

// TestDoors: each door is shown with how it is opened and what a client sees, as text and as JSON.
func TestDoors(t *testing.T) {
	for name, in := range map[string]entered{"hosts": nil, "user": {
		config.IMAP: {strings.Fields("IMAP4rev1 IDLE SORT THREAD=REFS CONDSTORE XLIST"), strings.Fields("IMAP4rev1 IDLE NOTIFY")},
		config.POP3: {{"UIDL", "TOP"}, {"TOP", "LANG"}},
	}} {
		t.Run(name, func(t *testing.T) {
			d := examineDoors(t, in)
			var b bytes.Buffer
			d.table(&b)
			js, err := json.MarshalIndent(d.checks, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			id := regexp.MustCompile(`\(mailgate/[0-9a-f]{12}\)`)
			for file, got := range map[string]string{name + ".txt": b.String(), name + ".json": string(js) + "\n"} {
				got = id.ReplaceAllString(got, "(mailgate/ID)")
				file = filepath.Join("testdata", "doors", file)
				if *updateGolden {
					if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil || got != string(want) {
					t.Errorf("%s: %v\n%s", file, err, got)
				}
			}
		})
	}
}

// TestNoDoor: a protocol without a listener is named, when somebody may miss it.
func TestNoDoor(t *testing.T) {
	c := newClinic(t)
	c.change("imap: imap://"+c.hosts[config.Old].IMAP, "imap: imap://"+c.hosts[config.Old].IMAP+"\n    pop3: pop3://127.0.0.1:1\n    sieve: sieve://127.0.0.1:1")
	d, err := c.examined(false, nil)
	if exitCode(err) != exitDifference {
		t.Errorf("got %v", err)
	}
	want(t, d.finding(t, "no door for pop3"), fail, "OLD has POP3 and NEW has none", "find nobody")
	want(t, d.finding(t, "no door for sieve"), pass, "nothing listens for ManageSieve")
	c.change("imap: imap://"+c.hosts[config.New].IMAP, "imap: imap://"+c.hosts[config.New].IMAP+"\n    pop3: pop3://127.0.0.1:1")
	d, _ = c.examined(false, nil)
	want(t, d.finding(t, "no door for pop3"), unknown, "both sides have POP3")
}

// TestDoctorFindsACircle: a backend whose name leads to a listener of the gateway, by whatever name, is no backend.
func TestDoctorFindsACircle(t *testing.T) {
	c := newClinic(t)
	at := port(t)
	_, number, _ := net.SplitHostPort(at)
	c.change(`listen: [`, `listen: ["imaps://:`+number+`", `, "imap: imap://"+c.hosts[config.New].IMAP, "imap: imaps://new.example.net:"+number)
	lead := func(to string) *doctor {
		d, _ := c.examined(false, func(d *doctor) {
			d.resolve = func(_ context.Context, name string) ([]string, error) { return []string{"198.51.100.9", to}, nil }
		})
		return d
	}
	circle := func(d *doctor) bool {
		for _, k := range d.checks {
			if k.Verdict == fail && strings.Contains(k.Detail, "round in a circle") {
				return true
			}
		}
		return false
	}
	for to, want := range map[string]bool{"192.0.2.7": true, "::ffff:192.0.2.7": true, "127.0.0.1": true, "192.0.2.8": false} {
		if got := circle(lead(to)); got != want {
			t.Errorf("leading to %s: %v", to, got)
		}
	}
}

// TestDoctorSeesItself: a backend behind which the gateway that runs greets is no backend, and one that is another gateway is worth a word, by
// whatever way they are reached.
func TestDoctorSeesItself(t *testing.T) {
	c, ports := newClinic(t), []string{port(t), port(t)}
	c.change(`"imaps://127.0.0.1:0"`, `"imaps://`+ports[0]+`"`, `"imap+starttls://127.0.0.1:0"`, `"imap+starttls://`+ports[1]+`"`)
	for own, want := range map[bool][2]string{true: {fail, "is this gateway itself"}, false: {unknown, "it is a mailgate too"}} {
		way, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c.runs(func(log *syncBuffer) {
			go func() { // it ends with the listener
				for {
					k, err := way.Accept()
					if err != nil {
						return
					}
					if !own {
						_, _ = io.WriteString(k, "* OK [CAPABILITY IMAP4rev1] mail.example.com ready (mailgate/0123456789ab)\r\n")
						_, _ = k.Read(make([]byte, 100)) // LOGOUT
					} else if to, err := net.Dial("tcp", ports[1]); err == nil {
						b := make([]byte, 1024)
						n, _ := to.Read(b)
						_, _ = k.Write(b[:n])
						to.Close()
					}
					k.Close()
				}
			}()
			before, err := os.ReadFile(c.file())
			if err != nil {
				t.Fatal(err)
			}
			c.change("imap: imap://"+c.hosts[config.New].IMAP, "imap: imap://"+way.Addr().String())
			d, _ := c.examined(false, nil)
			if k := d.finding(t, "new imap 127.0.0.1"); k.Verdict != want[0] || !strings.Contains(k.Detail, want[1]) {
				t.Errorf("%+v", k)
			}
			for end := time.Now().Add(30 * time.Second); own && !strings.Contains(log.String(), "mail loop: "); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("serve does not tell after the reload:\n%s", log)
				}
			}
			if err := os.WriteFile(c.file(), before, 0o600); err != nil {
				t.Fatal(err)
			}
		})
		way.Close()
	}
}

// runs has serve run meanwhile.
func (c *clinic) runs(f func(log *syncBuffer)) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	served, ready := make(chan error, 1), make(chan struct{})
	log := &syncBuffer{}
	p := &program{in: strings.NewReader(""), out: &bytes.Buffer{}, err: log, file: c.file(), output: "table"}
	go func() { served <- p.serve(ctx, func(*gateway) { close(ready) }) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			c.t.Error(err)
		}
	}()
	select {
	case <-ready:
		f(log)
	case err := <-served:
		c.t.Fatal(err)
	}
}

// TestDoctorDoorsOfHosts looks at real hosts: Dovecot, Cyrus and Courier.
func TestDoctorDoorsOfHosts(t *testing.T) {
	l := lab.Start(t)
	cyrus, courier := lab.StartCyrus(t), lab.StartCourier(t)
	for name, x := range map[string]struct {
		old, new lab.Host
		sieve    bool
		say      []string // words of the doors, one space between
	}{
		"Dovecot to Cyrus": {l.Old, cyrus.Host, true, []string{"sieve+starttls://127.0.0.1:0 ManageSieve, in clear until STARTTLS", "in clear until STLS",
			"extracttext (NEW refuses scripts that need it)", "IMAP as the hosts say behind the login", "POP3 as the hosts say behind the login",
			"NOTIFY (changes in other folders show when the client looks for them)", "offered on NEW: IMAP4rev1, LITERAL+, ID, ENABLE"}},
		"Courier to Dovecot": {courier.Host, l.New, false, []string{"log in by: USER and PASS, SASL PLAIN, SASL LOGIN", "offered on OLD: IMAP4rev1, UIDPLUS,", "no door for sieve NEW has ManageSieve and OLD has none",
			"ACL (clients cannot show or change who shares a folder)"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClinic(t)
			listen := `listen: ["pop3s://127.0.0.1:0", "pop3+starttls://127.0.0.1:0", `
			services := func(h lab.Host) string {
				s := "imap: imap://" + lab.Addr(h.IMAP) + "\n    pop3: pop3://" + lab.Addr(h.POP3)
				if h.Sieve > 0 {
					s += "\n    sieve: sieve://" + lab.Addr(h.Sieve)
				}
				return s
			}
			if x.sieve {
				listen += `"sieve+starttls://127.0.0.1:0", `
			}
			c.change("listen: [", listen, "imap: imap://"+c.hosts[config.Old].IMAP, services(x.old), "imap: imap://"+c.hosts[config.New].IMAP, services(x.new))
			pw := filepath.Join(c.dir, "pw")
			if err := os.WriteFile(pw, []byte(lab.Password(1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(c.dir, "routes"), []byte(lab.User(1)+" old\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, h := range []lab.Host{x.old, x.new} { // Cyrus makes mailboxes at the first login, and two at once meet
				k := lab.Dial(t, h, 1)
				k.Do("SELECT INBOX")
				k.Close()
			}
			_, out, errOut := c.doctor("--user", lab.User(1), "--password-file", pw)
			_, doors, ok := strings.Cut(out, "DOORS\n")
			flat := strings.Join(strings.Fields(doors), " ")
			for _, w := range x.say {
				if !ok || !strings.Contains(flat, w) {
					t.Errorf("%q is missing in\n%s%s", w, out, errOut)
				}
			}
		})
	}
}
