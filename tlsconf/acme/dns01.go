package acme

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"

	"mailgate/config"
)

// ErrUpdate means that the server of the zone did not take a change.
var ErrUpdate = errors.New("the record was not taken")

// dnsError is either of them with what is the matter.
type dnsError struct {
	kind error
	text string
	err  error // may be nil
}

func (e *dnsError) Error() string { return e.kind.Error() + e.text }

func (e *dnsError) Unwrap() []error {
	if e.err == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.err}
}

// dnsSolver answers dns-01 (RFC 8555, section 8.4) by dynamic updates (RFC 2136), signed with a key (RFC 8945), and waits until all
// servers of the zone have the record. It implements acmez.Solver and acmez.Waiter and is safe for concurrent use.
type dnsSolver struct {
	conf config.ACMEDNS
	key  config.Secret
	log  *slog.Logger
	port string        // of the zone's servers
	look time.Duration // between two looks at them
}

func newDNSSolver(c config.ACMEDNS, log *slog.Logger) (*dnsSolver, error) {
	key, err := config.TSIGKey(c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls.acme.dns.key_file: %w", err)
	}
	return &dnsSolver{conf: c, key: key, log: log, port: "53", look: 2 * time.Second}, nil
}

// Times of the challenge's record and of talks with servers.
const (
	recordTTL   = 60 // seconds
	tsigFudge   = 300
	answerTime  = 10 * time.Second
	cleanUpTime = 15 * time.Second
)

// record is the challenge's TXT.
func record(c acme.Challenge) *dns.TXT {
	return &dns.TXT{Hdr: dns.RR_Header{Name: dns.Fqdn(c.DNS01TXTRecordName()), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: recordTTL},
		Txt: []string{c.DNS01KeyAuthorization()}}
}

// Present implements acmez.Solver. Other records of the name stay: *.example.com and example.com have one each.
func (s *dnsSolver) Present(ctx context.Context, c acme.Challenge) error {
	m := new(dns.Msg)
	m.SetUpdate(dns.Fqdn(s.conf.Zone))
	m.Insert([]dns.RR{record(c)})
	return s.update(ctx, m)
}

// CleanUp implements acmez.Solver. It goes on when ctx has ended: a record that is left behind is for everybody to see.
func (s *dnsSolver) CleanUp(ctx context.Context, c acme.Challenge) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	m := new(dns.Msg)
	m.SetUpdate(dns.Fqdn(s.conf.Zone))
	m.Remove([]dns.RR{record(c)})
	err := s.update(ctx, m)
	if err != nil {
		s.log.Warn("the record of a challenge stays in the zone", "name", c.DNS01TXTRecordName(), "err", err)
	}
	return err
}

// update sends a change to the zone's server and explains a no.
func (s *dnsSolver) update(ctx context.Context, m *dns.Msg) error {
	key := dns.CanonicalName(s.conf.Key)
	m.SetTsig(key, dns.Fqdn(s.conf.Algorithm), tsigFudge, time.Now().Unix())
	client := &dns.Client{Net: "tcp", Timeout: answerTime, TsigSecret: map[string]string{key: s.key.Reveal()}}
	r, _, err := client.ExchangeContext(ctx, m, s.conf.Server)
	if r != nil && (r.Rcode != dns.RcodeSuccess || tsigError(r) != 0) {
		return &dnsError{kind: ErrUpdate, text: ": " + s.explain(r)}
	}
	if err == nil && r.IsTsig() == nil {
		err = errors.New("its answer is not signed")
	}
	if err != nil {
		return &dnsError{ErrUpdate, fmt.Sprintf(": %s: %v", s.conf.Server, err), err}
	}
	return nil
}

func tsigError(r *dns.Msg) int {
	if t := r.IsTsig(); t != nil {
		return int(t.Error)
	}
	return 0
}

// explain words the answer of a server that says no.
func (s *dnsSolver) explain(r *dns.Msg) string {
	switch tsigError(r) {
	case dns.RcodeBadSig:
		return fmt.Sprintf("%s has another key by the name of %s, or another algorithm (BADSIG)", s.conf.Server, s.conf.Key)
	case dns.RcodeBadKey:
		return fmt.Sprintf("%s does not know the key %s with %s (BADKEY)", s.conf.Server, s.conf.Key, s.conf.Algorithm)
	case dns.RcodeBadTime:
		return fmt.Sprintf("the clock of %s is more than %d seconds from ours (BADTIME)", s.conf.Server, tsigFudge)
	}
	switch r.Rcode {
	case dns.RcodeNotAuth:
		return fmt.Sprintf("%s is no primary server of %s, or does not know the key %s (NOTAUTH)", s.conf.Server, s.conf.Zone, s.conf.Key)
	case dns.RcodeNotZone:
		return fmt.Sprintf("%s: the name is not in the zone %s (NOTZONE)", s.conf.Server, s.conf.Zone)
	case dns.RcodeRefused:
		return fmt.Sprintf("%s does not let the key %s change TXT records there (REFUSED); allow it, as by update-policy", s.conf.Server, s.conf.Key)
	}
	return fmt.Sprintf("%s says %s", s.conf.Server, dns.RcodeToString[r.Rcode])
}

// prove sends an empty change: it shows whether the server takes the key, and changes nothing (RFC 2136, section 3.4).
func (s *dnsSolver) prove(ctx context.Context) error {
	m := new(dns.Msg)
	m.SetUpdate(dns.Fqdn(s.conf.Zone))
	return s.update(ctx, m)
}

// ErrPropagation means that servers of the zone have not got the record in time.
var ErrPropagation = errors.New("the record has not come to all servers of the zone")

// Wait implements acmez.Waiter: it returns when each server of the zone that answers has the record.
func (s *dnsSolver) Wait(ctx context.Context, c acme.Challenge) error {
	until, cancel := context.WithTimeout(ctx, s.conf.Wait)
	defer cancel()
	want := record(c)
	for {
		missing, err := s.left(ctx, want) // not cut short by until: a server whose answer is not waited for would look like one that is silent
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			missing = []string{err.Error()}
		case len(missing) == 0:
			return nil
		}
		select {
		case <-until.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &dnsError{kind: ErrPropagation, text: fmt.Sprintf(" within %s: %s", s.conf.Wait, strings.Join(missing, ", "))}
		case <-time.After(s.look):
		}
	}
}

// left gives the servers of the zone that keep the authority from being asked. Those that do not answer do not count where another has
// the record: the authority asks whoever answers.
func (s *dnsSolver) left(ctx context.Context, want *dns.TXT) ([]string, error) {
	servers, err := s.servers(ctx)
	if err != nil {
		return nil, err
	}
	missing, silent := s.without(ctx, servers, want)
	if len(missing) > 0 || len(silent) == len(servers) {
		return append(missing, silent...), nil
	}
	if len(silent) > 0 {
		s.log.Warn("servers of the zone do not answer", "zone", s.conf.Zone, "servers", strings.Join(silent, ", "))
	}
	return nil, nil
}
