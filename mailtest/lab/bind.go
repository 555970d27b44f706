package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// BIND is a BIND 9.18 that runs: the primary server of a zone that takes updates by a key.
type BIND struct {
	Port int // on 127.0.0.1, by UDP and TCP

	processes
}

// BINDZone is what a BIND serves, and who may change what of it.
type BINDZone struct {
	Name   string // without the dot at its end; it and all below are at 127.0.0.1
	Key    string // name of the key
	Secret string // base64, for hmac-sha256
	Policy string // of the key, such as "name _acme-challenge.example.test. TXT"
}

// StartBIND runs a BIND until the test ends.
func StartBIND(t testing.TB, z BINDZone) *BIND {
	t.Helper()
	opt := unpacked(t, "bind")
	var b *BIND
	begin(t, "BIND", func() (*processes, error) {
		b = &BIND{}
		return &b.processes, b.start(opt, z)
	})
	return b
}

func (b *BIND) start(opt string, z BINDZone) error {
	if err := b.folder(); err != nil {
		return err
	}
	ports, err := b.ports.take(1)
	if err != nil {
		return err
	}
	b.Port = ports[0]
	conf := fmt.Sprintf(`options {
	directory "%s"; listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no; notify no; pid-file none; session-keyfile none;
};
controls { };
key "%[3]s" { algorithm hmac-sha256; secret "%[4]s"; };
zone "%[5]s" { type primary; file "zone.db"; update-policy { grant %[3]s %[6]s; }; };
`, b.dir, b.Port, z.Key, z.Secret, z.Name, z.Policy)
	zone := "$TTL 60\n@ SOA ns1 root 1 3600 600 86400 60\n@ NS ns1\n@ A 127.0.0.1\n* A 127.0.0.1\nns1 A 127.0.0.1\n"
	if err := os.WriteFile(filepath.Join(b.dir, "named.conf"), []byte(conf), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.dir, "zone.db"), []byte(zone), 0o600); err != nil {
		return err
	}
	libs, err := filepath.Glob(filepath.Join(opt, "usr/lib/*-linux-gnu"))
	if err != nil || len(libs) != 1 {
		return fmt.Errorf("libraries of BIND: %v, %v", libs, err)
	}
	b.ports.release() // it is held by UDP, which BIND takes itself
	err = b.run("named", func(c *exec.Cmd) { c.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libs[0]) }, filepath.Join(opt, "usr/sbin/named"), "-g", "-n", "1",
		"-c", filepath.Join(b.dir, "named.conf"))
	if err != nil {
		return err
	}
	return b.wait(b.Port, time.Now().Add(30*time.Second))
}
