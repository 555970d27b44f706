package acme

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/acmetest"
)

const one = "mail.example.test"

// An authority that is down: said, tried again sooner than one that says no, and at once when somebody says so. One that began anew
// knows no account of ours, and gets another.
func TestAuthorityDown(t *testing.T) {
	t.Parallel()
	r := newRig(t, config.HTTP01, 0, one)
	r.ca.Kill()
	r.run()
	s := r.fails(one, "connection refused")
	if d := s.Next.Sub(s.Tried); d < time.Minute || d > 2*time.Minute {
		t.Errorf("again in %s", d)
	}
	r.ca.Run()
	r.m.Again()
	r.has(one)
	r.until("the failure is forgotten", func() bool { return r.status(one).Error == "" })
	if r.count("failed") != 1 || r.count("obtained") != 1 {
		t.Errorf("counted %v", r.counts)
	}

	r.ca.Kill()
	r.ca.Run()
	r.m.Configure([]string{one, "smtp.example.test"})
	r.has(one, "smtp.example.test")
	r.m.Configure([]string{"smtp.example.test"})
	if r.leaf(one) != nil || r.leaf("smtp.example.test") == nil {
		t.Error("a name that was taken away is still there, or the other is not")
	}
}

// An authority that says no is quoted, and asked again late; other names have theirs.
func TestAuthorityRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, config.HTTP01, 0, acmetest.Blocked, one)
	r.run()
	r.has(one)
	s := r.fails(acmetest.Blocked, "the authority says: ", "policy", "rejectedIdentifier")
	if d := s.Next.Sub(s.Tried); d < 10*time.Minute {
		t.Errorf("again in %s", d)
	}
	if !s.NotAfter.IsZero() {
		t.Errorf("status: %+v", s)
	}
}

// An authority that does not get through to us says where it looked.
func TestAuthorityDoesNotGetThrough(t *testing.T) {
	t.Parallel()
	r := newRig(t, config.HTTP01, 0, one)
	r.conf.HTTPListen = "127.0.0.1:" + acmetest.FreePort(t)
	r.run()
	r.fails(one, "the authority says: ", "http://"+one, "/.well-known/acme-challenge/", "connection refused")
}

// A port that another program has is named by its key.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	for challenge, key := range map[string]string{config.HTTP01: "tls.acme.http_listen", config.TLSALPN01: "tls.acme.tls_listen"} {
		r := newRig(t, challenge, 0, one)
		r.conf.HTTPListen, r.conf.TLSListen = r.zone.Server(), r.zone.Server()
		r.run()
		r.fails(one, key, "address already in use")
	}
}

// An authority whose own certificate we do not trust gets nothing.
func TestAuthorityIsNotTrusted(t *testing.T) {
	t.Parallel()
	r := newRig(t, config.HTTP01, 0, one)
	r.conf.CA = ""
	r.run()
	r.fails(one, "certificate signed by unknown authority")
}

// A profile that the authority does not have is named, with those that it has.
func TestProfile(t *testing.T) {
	t.Parallel()
	r := newRig(t, config.HTTP01, 0, one)
	r.conf.Profile = "none such"
	r.run()
	r.fails(one, "unknown profile name 'none such'", "of tests")
	r.stop()
	r.conf.Profile = "other"
	r.run()
	r.has(one)
}

// An authority that has customers gives certificates to them.
func TestCustomers(t *testing.T) {
	t.Parallel()
	const mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	r := newRig(t, config.HTTP01, 0, one)
	_, port, _ := strings.Cut(r.conf.HTTPListen, ":")
	ca := acmetest.Start(t, pebble(t), acmetest.Options{HTTPPort: port, DNS: r.zone.Server(), Customers: map[string]string{"customer-7": mac}})
	r.conf.Directory, r.conf.CA = ca.Directory, ca.CA
	r.run()
	r.fails(one, "the authority says: ", "externalAccountRequired")
	r.stop()
	r.conf.EAB = config.ACMEEAB{KeyID: "customer-7", KeyFile: filepath.Join(t.TempDir(), "mac")}
	if err := os.WriteFile(r.conf.EAB.KeyFile, []byte(mac+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.run()
	r.has(one)
	if strings.Contains(r.logged(), mac) {
		t.Error("the log shows the key")
	}
}

func TestBackOff(t *testing.T) {
	t.Parallel()
	for _, said := range []bool{false, true} {
		inHour, at := 0, time.Duration(0)
		for n := range 30 {
			if at < time.Hour {
				inHour++
			}
			d := backOff(n, said)
			if d < time.Minute || d > 8*time.Hour {
				t.Errorf("failure %d: %s", n, d)
			}
			at += d
		}
		if said && inHour > 4 {
			t.Errorf("%d requests in an hour", inHour)
		}
	}
}

func TestReach(t *testing.T) {
	t.Parallel()
	r := newRig(t, config.DNS01, 0, one)
	if terms, err := Reach(t.Context(), r.conf); err != nil || terms == "" {
		t.Errorf("%q, %v", terms, err)
	}
	r.conf.CA = ""
	r.conf.Directory += "/" // acmez remembers directories by their URL
	if _, err := Reach(t.Context(), r.conf); err == nil {
		t.Error("an authority that is not trusted is reached")
	}
	r.conf.DNS.KeyFile = "none"
	if _, err := New(Options{Config: r.conf}); err == nil {
		t.Error("a key file that is not there is taken")
	}
}

// A certificate that is due as soon as it was had, as with a clock that is wrong, is not asked for again at once.
func TestClockIsWrong(t *testing.T) {
	t.Parallel()
	r := newRigAt(t, "127.0.0.1:1", config.HTTP01, 0, one)
	r.make()
	r.m.state[one].cert = selfSigned(t, time.Now().Add(-91*24*time.Hour), time.Now().Add(-24*time.Hour))
	if err := r.m.took(one, nil); err != nil {
		t.Fatal(err)
	}
	if at, ok := r.m.when(one); !ok || time.Until(at) < 50*time.Minute {
		t.Errorf("again at %s", at)
	}
	if !strings.Contains(r.logged(), "is the clock of this machine right?") {
		t.Error("nothing is said")
	}
}
