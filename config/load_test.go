package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// write puts a file into a folder and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificate writes cert.pem and key.pem.
func certificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail.example.com"},
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"mail.example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})))
}

const whole = `
hostname: mail.example.com
listen:
  - imaps://:993
  - imap+starttls://[::]:143
  - imap+starttls://0.0.0.0:143   # beside [::]: each its own family
  - submissions://[2001:db8::1]:465
  - submission+insecure://192.0.2.1
tls:
  certificates: [{cert: cert.pem, key: key.pem}]
  min_version: 1.3
backends:
  old:
    imap: imap+starttls://old.example.net
    submission: submission+starttls://old.example.net:2587
    login: "{local}"
    client_address: true
    tls:
      ca: cert.pem
      pins: [sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=]
      server_name: imap.old.example.net
    connect_timeout: 3s
    max_connections: 500
  new:
    hosts:
      - {name: n1, imap: "imaps://n1.münchen.example"}
      - {name: n2, imap: "imaps://[2001:db8::2]:994", submission: "submissions://n2.example.net"}
routes: {file: routes, local_part: exact, subaddress: "+-", default_domain: example.com, watch: 1s, approve_share: 0.5}
login: {mechanisms: [plain, oauthbearer], fail_delay: 0s}
limits: {line_length: 0x1000, sessions_per_user: 7}
log: {level: WARN, format: json}
submission: {bare_newlines: normalize, max_size: 104857600}
`

func load(t *testing.T, text string, o Overrides) (*Config, error) {
	t.Helper()
	dir := t.TempDir()
	certificate(t, dir)
	write(t, dir, "routes", "")
	return Load(write(t, dir, "mailgate.yaml", text), o)
}

func TestLoadWhole(t *testing.T) {
	c, err := load(t, strings.Replace(whole, "0x1000", "4096", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ got, want any }{
		{c.Hostname, "mail.example.com"},
		{len(c.Listen), 5},
		{c.Listen[0], Endpoint{URL: "imaps://:993", Protocol: IMAP, Mode: Implicit, Port: 993}},
		{c.Listen[1].Address(), "[::]:143"},
		{c.Listen[1].Network(), "tcp6"},
		{c.Listen[2].Network(), "tcp4"},
		{c.Listen[0].Network(), "tcp"},
		{c.Listen[4], Endpoint{URL: "submission+insecure://192.0.2.1", Protocol: Submission, Mode: Plain, Host: "192.0.2.1", Port: 587, Insecure: true}},
		{c.TLS.MinVersion, "1.3"},
		{c.TLS.Certificates, []Certificate{{filepath.Join(filepath.Dir(c.File), "cert.pem"), filepath.Join(filepath.Dir(c.File), "key.pem")}}},
		{c.Backends[Old].Hosts[0].Name, "old.example.net"},
		{c.Backends[Old].Hosts[0].Submission.Address(), "old.example.net:2587"},
		{c.Backends[Old].ServerName, "imap.old.example.net"},
		{c.Backends[Old].ClientAddress, true},
		{c.Backends[Old].ConnectTimeout, 3 * time.Second},
		{c.Backends[Old].LoginTimeout, 30 * time.Second},
		{c.Backends[New].Hosts[0].IMAP.Host, "n1.xn--mnchen-3ya.example"},
		{c.Backends[New].Hosts[1].IMAP.Address(), "[2001:db8::2]:994"},
		{c.Backends[New].Hosts[1].Endpoint(Submission).Port, 465},
		{c.Backends[New].Hosts[0].Submission.Host, ""},
		{c.Login.Mechanisms, []string{"PLAIN", "OAUTHBEARER"}},
		{c.Login.FailDelay, time.Duration(0)},
		{c.Log.Level.String(), "WARN"},
		{c.Submit.MaxSize, int64(100 << 20)},
		{c.Routes.Subaddress, "+-"},
		{filepath.IsAbs(c.Routes.File) && filepath.IsAbs(c.Store.Path) && filepath.IsAbs(c.Control.Socket), true},
	} {
		if !reflect.DeepEqual(x.got, x.want) {
			t.Errorf("got %v, want %v", x.got, x.want)
		}
	}
}

const small = `
hostname: file.example.com
listen: ["imap://127.0.0.1:1143"]
backends:
  old: {imap: "imaps://old.example.net", login: "{local}"}
  new: {imap: "imaps://new.example.net"}
routes: {file: routes}
log: {level: warn}
shutdown: 3s
`

func TestLayersFileEnvironmentFlags(t *testing.T) {
	for key, value := range map[string]string{"HOSTNAME": "env.example.com", "LOG_LEVEL": "error", "BACKENDS_OLD_LOGIN": "{address}",
		"BACKENDS_NEW_IMAP": "imap+starttls://env.example.net", "LOGIN_MECHANISMS": "PLAIN, XOAUTH2"} {
		t.Setenv("MAILGATE_"+key, value)
	}
	c, err := load(t, small, Overrides{"hostname": "flag.example.com", "listen": "imap://127.0.0.1:1,imap://127.0.0.1:2"})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ key, got, want, source string }{
		{"hostname", c.Hostname, "flag.example.com", "flag"},
		{"log.level", c.Log.Level.String(), "ERROR", "environment"},
		{"backends.old.login", c.Backends[Old].Login, "{address}", "environment"},
		{"backends.new.imap", c.Backends[New].Hosts[0].IMAP.URL, "imap+starttls://env.example.net", "environment"},
		{"login.mechanisms", strings.Join(c.Login.Mechanisms, " "), "PLAIN XOAUTH2", "environment"},
		{"listen", c.Listen[1].URL, "imap://127.0.0.1:2", "flag"},
		{"shutdown", c.Shutdown.String(), "3s", "file"},
		{"flip.deadline", c.Flip.Deadline.String(), "20s", ""},
	} {
		if x.got != x.want || c.source[x.key] != x.source {
			t.Errorf("%s: got %q from %q, want %q from %q", x.key, x.got, c.source[x.key], x.want, x.source)
		}
	}
}

// An error names what was written where: not a line of the file when the environment or a flag is at fault.
func TestErrorsOfLayers(t *testing.T) {
	t.Setenv("MAILGATE_LOG_LEVEL", "loud")
	_, err := load(t, small, Overrides{"listen": "imap://127.0.0.1:1,nntp://:1", "shutdwon": "1s", "flip.hold": "soon"})
	want := `command line: --set: unknown key "shutdwon"; did you mean "shutdown"?
command line: --set flip.hold: "soon" is no duration; write for example 20s, 5m or 1h30m
command line: --set listen: unknown scheme "nntp" in "nntp://:1"; known here: imap, imap+starttls, imaps, pop3, pop3+starttls, pop3s, submission, submission+starttls, submissions, sieve, sieve+starttls, sieves
environment: MAILGATE_LOG_LEVEL: "loud" is no level; known here: debug, info, warn, error`
	if err == nil || sorted(err.Error()) != sorted(want) {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func sorted(lines string) string {
	s := strings.Split(lines, "\n")
	sortStrings(s)
	return strings.Join(s, "\n")
}

func TestLoadMissingFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"), nil)
	if err == nil || IsErrors(err) || !strings.Contains(err.Error(), "mailgate init") {
		t.Errorf("got %v", err)
	}
}

// What config show prints is a configuration that means the same.
func TestShowParsesAgain(t *testing.T) {
	for name, text := range map[string]string{"whole": strings.Replace(whole, "0x1000", "4096", 1), "small": small,
		"localhost": strings.Replace(small, "127.0.0.1", "localhost", 1)} {
		t.Run(name, func(t *testing.T) {
			c, err := load(t, text, nil)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := c.Show(&b); err != nil {
				t.Fatal(err)
			}
			again, err := Load(write(t, t.TempDir(), "shown.yaml", b.String()), nil)
			if err != nil {
				t.Fatalf("%v\n%s", err, b.String())
			}
			again.File, again.source = c.File, c.source
			if !reflect.DeepEqual(c, again) {
				t.Errorf("%s\ngot  %+v\nwant %+v", b.String(), again, c)
			}
			for _, s := range settings() {
				if last := s.key[strings.LastIndexByte(s.key, '.')+1:]; !strings.Contains(b.String(), last+": ") {
					t.Errorf("%s is not shown", s.key)
				}
			}
		})
	}
}

func TestShowSaysWhereFrom(t *testing.T) {
	t.Setenv("MAILGATE_LOG_LEVEL", "error")
	c, err := load(t, small, Overrides{"shutdown": "9s"})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.Show(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"hostname: \"file.example.com\"\n", "  level: \"error\" # environment\n", "shutdown: \"9s\" # flag\n",
		"  parallel: 16 # default\n", `listen: ["imap://127.0.0.1:1143"]` + "\n", "{name: \"old.example.net\", imap: \"imaps://old.example.net\"}]\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}

// A listener on localhost is both families where the machine has both.
func TestListenLocalhost(t *testing.T) {
	e, err := ParseEndpoint("imap://localhost:1143", true)
	if err != nil {
		t.Fatal(err)
	}
	list := e.expand()
	if list[0].Address() != "127.0.0.1:1143" {
		t.Errorf("got %v", list)
	}
	b, err := os.ReadFile("/proc/net/if_inet6")
	if v6 := err == nil && strings.Contains(string(b), strings.Repeat("0", 31)+"1 "); v6 != (len(list) == 2) || v6 && list[1].Address() != "[::1]:1143" {
		t.Errorf("IPv6 loopback %v, got %v", v6, list)
	}
}

func TestNeedsRestart(t *testing.T) {
	a, err := load(t, small, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := *a
	if got := NeedsRestart(a, &b); len(got) != 0 {
		t.Errorf("same: %v", got)
	}
	b.Listen = append([]Endpoint{{URL: "imaps://:993"}}, a.Listen...)
	b.Log.Format, b.Store.Path, b.Shutdown = "json", "elsewhere", time.Minute
	if got := fmt.Sprint(NeedsRestart(a, &b)); got != "[listen log store.path]" {
		t.Errorf("got %v", got)
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	type login struct {
		Name     string
		Password Secret
	}
	s := Secret("hunter2")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T %p", "%10.3s"} { // %w is refused by go vet
		for _, x := range []any{s, &s, login{"a", s}, &login{"a", s}, []Secret{s}, map[string]Secret{"a": s}, fmt.Errorf("%v", s)} {
			if got := fmt.Sprintf(verb, x); strings.Contains(got, "hunter2") || strings.Contains(got, "68756e74") || strings.Contains(got, "hun") {
				t.Errorf("%s of %T prints %s", verb, x, got)
			}
		}
	}
	if s.Reveal() != "hunter2" {
		t.Error("Reveal does not")
	}
}
