package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailgate/config"
)

// What init writes is taken by config check once certificate and key are there.
func TestInitWritesWhatCheckTakes(t *testing.T) {
	dir := t.TempDir()
	var out, errOut bytes.Buffer
	// .invalid never resolves (RFC 6761, section 6.4): what cannot be reached is written as it should be.
	code := run(t.Context(), []string{"init", "--dir", dir}, strings.NewReader("mail.example.com\nold.invalid\nnew.invalid\n"), &out, &errOut)
	if code != exitOK || !strings.Contains(out.String(), "doctor") || !strings.Contains(errOut.String(), "Host name of OLD: ") {
		t.Fatalf("exit %d, %s%s", code, out.String(), errOut.String())
	}
	file := filepath.Join(dir, "mailgate.yaml")
	b, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(b), "could not be reached") || strings.Count(string(b), "#") < 5 {
		t.Fatalf("%v\n%s", err, b)
	}
	if _, err := config.Load(file, nil); !config.IsErrors(err) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "tls.certificates[0]") {
		t.Errorf("more than the certificate is missing: %v", err)
	}
	if err := selfSigned(filepath.Join(dir, "c.pem"), filepath.Join(dir, "c.key")); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("/etc/mailgate/tls/mail.example.com.pem", "c.pem", "/etc/mailgate/tls/mail.example.com.key", "c.key",
		"    # sync:", "    sync:").Replace(string(b)) // and with what it proposes for later
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if code := run(t.Context(), []string{"-c", file, "config", "check"}, nil, &out, &errOut); code != exitOK || !strings.Contains(out.String(), "4 listeners") {
		t.Errorf("exit %d, %s%s", code, out.String(), errOut.String())
	}
	c, err := config.Load(file, nil)
	if err != nil || c.Backends[config.Old].Hosts[0].IMAP.URL != "imaps://old.invalid:993" || c.Backends[config.New].Hosts[0].Submission.Mode != config.Implicit ||
		c.Backends[config.Old].Sync.Secrets != filepath.Join(dir, "secrets") || c.Backends[config.New].Sync.Secrets == "" {
		t.Errorf("%v %+v", err, c)
	}
}

// Nothing is overwritten, and half answers write nothing.
func TestInitRefuses(t *testing.T) {
	for _, exists := range []string{"mailgate.yaml", "routes"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, exists), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errOut bytes.Buffer
		code := run(t.Context(), []string{"init", "--dir", dir, "--hostname", "m", "--old", "o.invalid", "--new", "n.invalid"}, nil, &out, &errOut)
		b, _ := os.ReadFile(filepath.Join(dir, exists))
		left, _ := os.ReadDir(dir)
		if code != exitRefused || string(b) != "mine" || len(left) != 1 || !strings.Contains(errOut.String(), "nothing was written") {
			t.Errorf("%s: exit %d, %s, %q, %d files", exists, code, errOut.String(), b, len(left))
		}
	}
	for _, in := range []string{"", "mail.example.com\n", "mail.example.com\n\nnew.invalid\n"} {
		dir := t.TempDir()
		var out, errOut bytes.Buffer
		code := run(t.Context(), []string{"init", "--dir", dir}, strings.NewReader(in), &out, &errOut)
		if left, _ := os.ReadDir(dir); code != exitUsage || len(left) != 0 {
			t.Errorf("%q: exit %d, %d files", in, code, len(left))
		}
	}
}
