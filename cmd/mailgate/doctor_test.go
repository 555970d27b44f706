package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// clinic is a configuration before two hosts in memory, for the doctor.
type clinic struct {
	t     *testing.T
	dir   string
	hosts [2]*mailtest.Memory
}

func newClinic(t *testing.T) *clinic {
	t.Helper()
	c := &clinic{t: t, dir: t.TempDir()}
	for _, side := range config.Sides {
		m, err := mailtest.StartMemory(side.String()+".example.net", demoUsers())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		c.hosts[side] = m
	}
	if err := writeDemo(c.dir, c.hosts); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *clinic) file() string { return filepath.Join(c.dir, "mailgate.yaml") }

// change replaces text in mailgate.yaml.
func (c *clinic) change(pairs ...string) {
	c.t.Helper()
	b, err := os.ReadFile(c.file())
	if err != nil {
		c.t.Fatal(err)
	}
	text := strings.NewReplacer(pairs...).Replace(string(b))
	if text == string(b) {
		c.t.Fatalf("nothing to change: %q", pairs)
	}
	if err := os.WriteFile(c.file(), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// doctor runs the verb.
func (c *clinic) doctor(args ...string) (code int, out, errOut string) {
	c.t.Helper()
	var o, e bytes.Buffer
	code = run(c.t.Context(), append([]string{"-c", c.file(), "doctor"}, args...), strings.NewReader("wonderland\n"), &o, &e)
	if c.t.Failed() {
		c.t.Log(o.String(), e.String())
	}
	return code, o.String(), e.String()
}

// examined is a doctor with a known world around, behind its look.
func (c *clinic) examined(insertion bool, set func(*doctor)) (*doctor, error) {
	c.t.Helper()
	p := &program{in: strings.NewReader(""), out: &bytes.Buffer{}, err: &bytes.Buffer{}, file: c.file(), output: "table"}
	conf, err := p.load()
	if err != nil {
		c.t.Fatal(err)
	}
	d := newDoctor(p, conf)
	d.dial = func(context.Context, string) error { return errors.New("closed") }
	d.resolve = func(context.Context, string) ([]string, error) { return []string{"192.0.2.7"}, nil }
	d.mine = func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.IPv4(192, 0, 2, 7), Mask: net.CIDRMask(24, 32)}}, nil
	}
	if set != nil {
		set(d)
	}
	return d, d.look(c.t.Context(), "", "", insertion)
}

// finding is the check of a name.
func (d *doctor) finding(t *testing.T, name string) check {
	t.Helper()
	for _, c := range d.checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %q among %+v", name, d.checks)
	return check{}
}

func want(t *testing.T, c check, verdict string, words ...string) {
	t.Helper()
	text := c.Detail + fmt.Sprint(c.Lists)
	if c.Verdict != verdict {
		t.Errorf("%s: %s, want %s: %s", c.Name, c.Verdict, verdict, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s does not say %q: %s", c.Name, w, text)
		}
	}
}

func TestDoctor(t *testing.T) {
	c := newClinic(t)
	code, out, errOut := c.doctor("--user", "alice@example.com", "--password-file", "-")
	if code != exitUnknown || !strings.Contains(errOut, "are unknown") { // who trusts a self-signed certificate
		t.Errorf("exit %d, %s", code, errOut)
	}
	for _, w := range []string{"FRONT\n", "BACKENDS\n", "LOGIN\n", "imap: in", "submission: in", "free, serve can listen here",
		"3 users, 0 patterns, default old", "signed by itself", "imap after login", "EHLO of the gateway", "offers: 8BITMIME, "} {
		if !strings.Contains(out, w) {
			t.Errorf("%q is missing in\n%s", w, out)
		}
	}
	if strings.Contains(out+errOut, "wonderland") || strings.Contains(out, "BEFORE INSERTION") {
		t.Errorf("got\n%s%s", out, errOut)
	}
	for _, line := range strings.Split(out, "\n") {
		if len(line) > screen+40 { // one word may be long
			t.Errorf("a line of %d: %s", len(line), line)
		}
	}
}

func TestDoctorJSON(t *testing.T) {
	c := newClinic(t)
	_, out, _ := c.doctor("-o", "json", "--before-insertion")
	var checks []check
	if err := json.Unmarshal([]byte(out), &checks); err != nil {
		t.Fatal(err)
	}
	areas := map[string]int{}
	for _, k := range checks {
		areas[k.Area]++
		if k.Verdict != pass && k.Verdict != fail && k.Verdict != unknown || k.Name == "" || k.Detail == "" {
			t.Errorf("%+v", k)
		}
	}
	if len(areas) != 6 || areas["doors"] != 4 || areas["behind the doors"] != 2 || areas["before insertion"] < 5 {
		t.Errorf("%v", areas)
	}
}

func TestDoctorUsage(t *testing.T) {
	c := newClinic(t)
	for _, args := range [][]string{{"--user", "alice@example.com"}, {"--user", "a\nb", "--password-file", "-"}, {"extra"}, {"-o", "xml"}, {"--nonsense"}} {
		if code, _, _ := c.doctor(args...); code != exitUsage {
			t.Errorf("%q: exit %d", args, code)
		}
	}
	c.change("imap: imap://", "imap: imapx://")
	if code, _, errOut := c.doctor(); code != exitRefused || !strings.Contains(errOut, "unknown scheme") {
		t.Errorf("exit %d, %s", code, errOut)
	}
}

func TestDoctorFindsADeadBackendAndAWrongPassword(t *testing.T) {
	c := newClinic(t)
	pw := filepath.Join(c.dir, "pw")
	if err := os.WriteFile(pw, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.hosts[config.New].Close()
	code, out, _ := c.doctor("--user", "alice@example.com", "--password-file", pw)
	if code != exitDifference {
		t.Errorf("exit %d", code)
	}
	for _, w := range []string{"fail     new imap 127.0.0.1", "connect: ", "unknown  imap before login", "a side could not be reached",
		"fail     old imap as alice@example.com"} {
		if !strings.Contains(out, w) {
			t.Errorf("%q is missing in\n%s", w, out)
		}
	}
}

// The listeners: free, taken by another program, not an address of ours, held by serve.
func TestDoctorListeners(t *testing.T) {
	c := newClinic(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c.change(`"imaps://127.0.0.1:0"`, `"imaps://`+taken.Addr().String()+`", "imaps://192.0.2.200:1993"`)
	d, err := c.examined(false, nil)
	if exitCode(err) != exitDifference {
		t.Errorf("got %v", err)
	}
	want(t, d.finding(t, "port imaps://"+taken.Addr().String()), fail, "another program listens here, and serve does not run")
	want(t, d.finding(t, "port imaps://192.0.2.200:1993"), fail, "cannot assign requested address")
	want(t, d.finding(t, "port submissions://127.0.0.1:0"), pass, "free")
}

func TestDoctorWhileServeRuns(t *testing.T) {
	c := newClinic(t)
	ports := []string{port(t), port(t), port(t)}
	c.change(`"imaps://127.0.0.1:0"`, `"imaps://`+ports[0]+`"`, `"imap+starttls://127.0.0.1:0"`, `"imap+starttls://`+ports[1]+`"`,
		`"submissions://127.0.0.1:0"`, `"submissions://`+ports[2]+`"`)
	ctx, cancel := context.WithCancel(t.Context())
	served, ready := make(chan error, 1), make(chan struct{})
	p := &program{in: strings.NewReader(""), out: &bytes.Buffer{}, err: &syncBuffer{}, file: c.file(), output: "table"}
	go func() { served <- p.serve(ctx, func(*gateway) { close(ready) }) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-ready:
	case err := <-served:
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() {
		for {
			k, err := other.Accept()
			if err != nil {
				return
			}
			_, _ = k.Write([]byte("* OK another server\r\n"))
			k.Close()
		}
	}()
	c.change(`listen: [`, `listen: ["imap://`+other.Addr().String()+`", "imap://`+port(t)+`", `)
	d, _ := c.examined(false, nil)
	for _, e := range d.conf.Listen[2:5] {
		want(t, d.finding(t, "port "+e.URL), pass, "serve listens here and answers")
	}
	want(t, d.finding(t, "port "+d.conf.Listen[0].URL), fail, "is not it", "another server")
	want(t, d.finding(t, "port "+d.conf.Listen[1].URL), fail, "does not listen here")
}

func TestDoctorBeforeInsertion(t *testing.T) {
	c := newClinic(t)
	d, err := c.examined(true, nil)
	if exitCode(err) != exitUnknown {
		t.Errorf("got %v", err)
	}
	want(t, d.finding(t, "stable name"), pass, "leads to this machine", "192.0.2.7")
	want(t, d.finding(t, "name of old"), pass)
	want(t, d.finding(t, "everybody on OLD"), pass)
	want(t, d.finding(t, "ports of 127.0.0.1"), pass)
	want(t, d.finding(t, "old sees"), unknown, "all logins from the address of this machine", "mail_max_userip_connections", "fail2ban")

	c.change("hostname: mail.example.com", "hostname: localhost", "imap: imap://"+c.hosts[config.Old].IMAP, "client_address: true\n    imap: "+
		strings.Replace("imap://"+c.hosts[config.Old].IMAP, "127.0.0.1", "localhost", 1))
	routes := "alice@example.com new\n*@example.com new\n"
	if err := os.WriteFile(filepath.Join(c.dir, "routes"), []byte(routes), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err = c.examined(true, func(d *doctor) {
		d.resolve = func(context.Context, string) ([]string, error) { return []string{"198.51.100.1", "2001:db8::1"}, nil }
		d.dial = func(_ context.Context, address string) error {
			if strings.HasSuffix(address, ":995") || strings.HasSuffix(address, ":25") {
				return nil
			}
			return errors.New("closed")
		}
	})
	if exitCode(err) != exitDifference {
		t.Errorf("got %v", err)
	}
	want(t, d.finding(t, "stable name"), unknown, "leads elsewhere", "TTL", "198.51.100.1", "2001:db8::1")
	want(t, d.finding(t, "name of old"), fail, "will lead to the gateway itself", "imap://localhost:")
	want(t, d.finding(t, "name of new"), pass)
	want(t, d.finding(t, "everybody on OLD"), fail, "1 users", "*@example.com")
	want(t, d.finding(t, "ports of localhost"), fail, "995 (POP3 over TLS)", "25 (SMTP")
	want(t, d.finding(t, "old sees by submission"), fail, "does not offer XCLIENT")
	want(t, d.finding(t, "new sees"), unknown)
	d, _ = c.examined(true, func(d *doctor) {
		d.resolve = func(context.Context, string) ([]string, error) { return []string{"192.0.2.7", "198.51.100.1"}, nil }
	})
	want(t, d.finding(t, "stable name"), fail, "pass the gateway by", "198.51.100.1")
	d, _ = c.examined(true, func(d *doctor) {
		d.resolve = func(context.Context, string) ([]string, error) { return nil, errors.New("no such host") }
	})
	want(t, d.finding(t, "stable name"), unknown, "no such host")
}

// signed makes a certificate for tests of chains.
func signed(t *testing.T, name string, by *x509.Certificate, byKey *ecdsa.PrivateKey, change func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	if change != nil {
		change(c)
	}
	if by == nil {
		by, byKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, byKey)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

func TestChains(t *testing.T) {
	root, rootKey := signed(t, "Root", nil, nil, nil)
	middle, middleKey := signed(t, "Middle", root, rootKey, nil)
	leaf, _ := signed(t, "leaf", middle, middleKey, nil)
	public, _ := signed(t, "public", middle, middleKey, func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://ca.example/m.crt"} })
	for _, x := range []struct {
		name, verdict, text string
		chain               []*x509.Certificate
	}{
		{"self-signed", unknown, "signed by itself", []*x509.Certificate{root}},
		{"private", unknown, "no public authority", []*x509.Certificate{leaf, middle, root}},
		{"private, no root", unknown, `"CN=Root" is not in the file`, []*x509.Certificate{leaf, middle}},
		{"order", fail, "certificate 2 of the file did not sign", []*x509.Certificate{leaf, root, middle}},
		{"intermediate missing", fail, "http://ca.example/m.crt", []*x509.Certificate{public}},
	} {
		if verdict, text := chainOf(x.chain); verdict != x.verdict || !strings.Contains(text, x.text) {
			t.Errorf("%s: %s, %s", x.name, verdict, text)
		}
	}
	now := time.Now()
	for _, x := range []struct {
		from, until time.Duration
		verdict     string
		text        string
	}{
		{-time.Hour, 100 * 24 * time.Hour, pass, "99 days"}, {-time.Hour, 3*24*time.Hour + time.Hour, pass, "only 3 days; renew it"},
		{-2 * time.Hour, -time.Hour, fail, "expired on"}, {time.Hour, 2 * time.Hour, fail, "valid only from"},
	} {
		c := &x509.Certificate{NotBefore: now.Add(x.from), NotAfter: now.Add(x.until)}
		if verdict, text := dates(c, now.Add(time.Minute)); verdict != x.verdict || !strings.Contains(text, x.text) {
			t.Errorf("%v: %s, %s", x, verdict, text)
		}
	}
}

func TestDoctorCertificates(t *testing.T) {
	c := newClinic(t)
	c.change("hostname: mail.example.com", "hostname: post.example.com")
	if err := os.Chmod(filepath.Join(c.dir, "key.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	d, _ := c.examined(false, nil)
	want(t, d.finding(t, "certificate name"), fail, "none is for post.example.com")
	want(t, d.finding(t, "certificate key"), fail, "chmod")
	want(t, d.finding(t, "certificate"), pass, "mail.example.com localhost 127.0.0.1")
}

func TestWrap(t *testing.T) {
	got := wrap("pass     name  ", "               ", strings.Repeat("0123456789 ", 20)+"end", " ")
	for i, line := range strings.Split(strings.TrimSuffix(got, "\n"), "\n") {
		if len(line) > screen || i > 0 && !strings.HasPrefix(line, "               0") {
			t.Errorf("%q", line)
		}
	}
	if wrap("a  ", "   ", "", " ") != "a\n" {
		t.Error("an empty text")
	}
}
