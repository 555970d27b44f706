package acme

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/acmetest"
	"mailgate/mailtest/lab"
)

// By dns-01 with a real BIND, whose policy lets our key change the record of one name only.
func TestBIND(t *testing.T) {
	t.Parallel()
	const other = "smtp.example.test"
	b := lab.StartBIND(t, lab.BINDZone{Name: acmetest.ZoneName, Key: acmetest.KeyName, Secret: acmetest.Key, Policy: "name _acme-challenge." + one + ". TXT"})
	port := strconv.Itoa(b.Port)
	r := newRigAt(t, lab.Addr(b.Port), config.DNS01, 0, one, other)
	r.makeAt(port)
	r.goOn()
	r.has(one)
	r.fails(other, "does not let the key mailgate change TXT records there (REFUSED)")
	s := r.m.issuer.solver.(*dnsSolver)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	answer, err := ask(ctx, s.conf.Server, "_acme-challenge."+one, 16)
	if err != nil || len(answer.Answer) > 0 {
		t.Errorf("the record stays: %v, %v", answer, err)
	}
	if err := s.prove(ctx); err != nil {
		t.Errorf("the key is proven by %v", err)
	}
	if silent, err := s.silent(ctx); err != nil || len(silent) > 0 {
		t.Errorf("servers: %v, %v", silent, err)
	}
	for says, change := range map[string]func(*dnsSolver){
		"another key by the name of mailgate, or another algorithm (BADSIG)": func(s *dnsSolver) { s.key = "dGhpcnR5LXR3byBieXRlcyBvZiBhbm90aGVyIGtleSE=" },
		"does not know the key nobody with hmac-sha256 (BADKEY)":             func(s *dnsSolver) { s.conf.Key = "nobody" },
		"does not know the key mailgate with hmac-sha512 (BADKEY)":           func(s *dnsSolver) { s.conf.Algorithm = "hmac-sha512" },
		"is no primary server of example.org":                                func(s *dnsSolver) { s.conf.Zone = "example.org" },
	} {
		x := *s
		change(&x)
		if err := x.prove(ctx); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}
