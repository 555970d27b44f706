package acme

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"mailgate/config"
)

// By dns-01: a name and the one with a star, whose records have one name. The authority is asked only when both servers of the zone
// have the record, and no record stays.
func TestDNS01(t *testing.T) {
	t.Parallel()
	r := newRig(t, config.DNS01, 0, "example.test", "*.example.test")
	r.zone.Hold(true)
	r.run()
	r.until("the record", func() bool { n, _ := r.zone.Changes(); return n == 1 })
	solver := r.m.issuer.solver.(*dnsSolver)
	servers, err := solver.servers(t.Context())
	if err != nil || len(servers) != 2 || servers[1].addresses[0] != "127.0.0.2:"+r.zone.Port {
		t.Fatalf("servers: %+v, %v", servers, err)
	}
	if len(r.certs.Leaves()) > 0 || r.status("example.test").Error != "" {
		t.Error("the authority was asked before all servers had the record")
	}
	r.zone.Hold(false)
	r.has("example.test", "any.example.test")
	r.until("the records are gone", func() bool { _, left := r.zone.Changes(); return left == 0 })
}

// A server of the zone that never has the record: it is named, and the record is taken away.
func TestDNS01NotEverywhere(t *testing.T) {
	t.Parallel()
	r := newRig(t, config.DNS01, 0, "mail.example.test")
	r.conf.DNS.Wait = time.Second
	r.zone.Hold(true)
	r.run()
	f := r.fails("mail.example.test", "has not come to all servers of the zone within 1s", "ns2.example.test")
	if !strings.HasPrefix(f.Error, ErrPropagation.Error()) {
		t.Errorf("how we came to it stands before what it is: %s", f.Error)
	}
	if _, left := r.zone.Changes(); left != 0 {
		t.Errorf("%d records stay", left)
	}
}

// What a zone's server says no to is explained.
func TestDNS01Refused(t *testing.T) {
	t.Parallel()
	other := base64.StdEncoding.EncodeToString([]byte("thirty-two bytes of another key!"))
	for name, x := range map[string]struct {
		change func(*rig)
		says   string
		proves bool
	}{
		"another key": {func(r *rig) {
			if err := os.WriteFile(r.conf.DNS.KeyFile, []byte(other), 0o600); err != nil {
				t.Error(err)
			}
		}, "has another key by the name of mailgate", false},
		"no such key":    {func(r *rig) { r.conf.DNS.Key = "nobody" }, "does not know the key nobody", false},
		"another zone":   {func(r *rig) { r.conf.DNS.Zone = "test" }, "is no primary server of test", false},
		"not allowed":    {func(r *rig) { r.zone.Refuse(true) }, "does not let the key mailgate change TXT records", true},
		"nobody listens": {func(r *rig) { r.conf.DNS.Server = "127.0.0.3:" + r.zone.Port }, "connection refused", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, config.DNS01, 0, "mail.example.test")
			x.change(r)
			r.run()
			r.fails("mail.example.test", ErrUpdate.Error(), x.says)
			if strings.Contains(r.logged(), other) {
				t.Error("the log shows the key")
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := r.m.issuer.solver.(*dnsSolver).prove(ctx)
			if (err == nil) != x.proves || err != nil && (!errors.Is(err, ErrUpdate) || !strings.Contains(err.Error(), x.says)) {
				t.Errorf("prove: %v", err)
			}
		})
	}
}
