package acmetest

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// Zone is example.test at DNS servers on 127.0.0.1 and 127.0.0.2, both on Port: ns1, the primary, and ns2, which has a change once it
// is told to (Held). All names of the zone are at 127.0.0.1. It is safe for concurrent use.
type Zone struct {
	Port string

	mu      sync.Mutex
	records []dns.RR // TXT
	second  []dns.RR // what ns2 has
	held    bool     // ns2 stays as it is
	changes int
	refuse  bool
}

// Name of the zone, and the key that its changes must be signed with.
const (
	ZoneName = "example.test"
	KeyName  = "mailgate"
	Key      = "c2l4dGVlbiBieXRlcyBhbmQgc2l4dGVlbiBtb3JlISE="
)

// NewZone starts the servers; they end with the test.
func NewZone(t testing.TB) *Zone {
	t.Helper()
	z := &Zone{}
	for range 50 { // the port of one socket must be free for three others
		if z.listen(t) {
			return z
		}
	}
	t.Fatal("no port is free on both addresses")
	return nil
}

func (z *Zone) listen(t testing.TB) bool {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, z.Port, _ = net.SplitHostPort(l.Addr().String())
	u, err1 := net.ListenPacket("udp", "127.0.0.1:"+z.Port)
	l2, err2 := net.Listen("tcp", "127.0.0.2:"+z.Port)
	u2, err3 := net.ListenPacket("udp", "127.0.0.2:"+z.Port)
	if err1 != nil || err2 != nil || err3 != nil {
		l.Close()
		if err1 == nil {
			u.Close()
		}
		if err2 == nil {
			l2.Close()
		}
		if err3 == nil {
			u2.Close()
		}
		return false
	}
	serve := func(l net.Listener, u net.PacketConn, h dns.HandlerFunc) {
		for _, s := range []*dns.Server{{Listener: l}, {PacketConn: u}} {
			s.Handler, s.TsigSecret = h, map[string]string{dns.Fqdn(KeyName): Key}
			s.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept } // updates too
			up, down := make(chan struct{}), make(chan struct{})
			s.NotifyStartedFunc = func() { close(up) }
			go func() {
				defer close(down)
				if err := s.ActivateAndServe(); err != nil {
					t.Error(err)
				}
			}()
			<-up
			t.Cleanup(func() { _ = s.Shutdown(); <-down })
		}
	}
	serve(l, u, func(w dns.ResponseWriter, m *dns.Msg) { z.answer(w, m, true) })
	serve(l2, u2, func(w dns.ResponseWriter, m *dns.Msg) { z.answer(w, m, false) })
	return true
}

// Server is the primary.
func (z *Zone) Server() string { return "127.0.0.1:" + z.Port }

// Hold keeps changes from ns2, or lets them go there.
func (z *Zone) Hold(on bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.held = on
	if !on {
		z.second = append([]dns.RR(nil), z.records...)
	}
}

// Refuse makes the primary refuse changes.
func (z *Zone) Refuse(on bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.refuse = on
}

// Changes is how many updates with records were taken, and Left the records that are there.
func (z *Zone) Changes() (changes, left int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.changes, len(z.records)
}

func (z *Zone) answer(w dns.ResponseWriter, m *dns.Msg, primary bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	r := new(dns.Msg)
	r.SetReply(m)
	r.Authoritative = true
	if t := m.IsTsig(); t != nil {
		if err := w.TsigStatus(); err != nil {
			r.Rcode = dns.RcodeNotAuth
			code := uint16(dns.RcodeBadSig)
			if t.Hdr.Name != dns.Fqdn(KeyName) {
				code = dns.RcodeBadKey
			}
			r.Extra = append(r.Extra, &dns.TSIG{Hdr: dns.RR_Header{Name: t.Hdr.Name, Rrtype: dns.TypeTSIG, Class: dns.ClassANY}, Algorithm: t.Algorithm,
				TimeSigned: t.TimeSigned, Fudge: t.Fudge, OrigId: m.Id, Error: code})
			b, _ := r.Pack()
			_, _ = w.Write(b) // unsigned, as RFC 8945, section 5.3.2, has it
			return
		}
		r.SetTsig(t.Hdr.Name, t.Algorithm, 300, int64(t.TimeSigned))
	}
	switch {
	case m.Opcode == dns.OpcodeUpdate:
		r.Rcode = z.update(m, primary)
	case len(m.Question) == 1:
		z.find(m.Question[0], r, primary)
	}
	_ = w.WriteMsg(r)
}

// update takes a change (RFC 2136, section 3.4).
func (z *Zone) update(m *dns.Msg, primary bool) int {
	switch {
	case !primary, m.IsTsig() == nil, z.refuse && len(m.Ns) > 0:
		return dns.RcodeRefused
	case len(m.Question) != 1 || m.Question[0].Name != ZoneName+".":
		return dns.RcodeNotAuth
	case len(m.Ns) > 0:
		z.changes++
	}
	for _, rr := range m.Ns {
		txt, ok := rr.(*dns.TXT)
		if !ok || !strings.HasSuffix(strings.ToLower(txt.Hdr.Name), "."+ZoneName+".") {
			return dns.RcodeNotZone
		}
		var kept []dns.RR
		for _, old := range z.records {
			if o := old.(*dns.TXT); !strings.EqualFold(o.Hdr.Name, txt.Hdr.Name) || strings.Join(o.Txt, "") != strings.Join(txt.Txt, "") {
				kept = append(kept, old)
			}
		}
		if txt.Hdr.Class == dns.ClassINET {
			kept = append(kept, txt)
		}
		z.records = kept
	}
	if !z.held {
		z.second = append([]dns.RR(nil), z.records...)
	}
	return dns.RcodeSuccess
}

// find answers a question.
func (z *Zone) find(q dns.Question, r *dns.Msg, primary bool) {
	name := strings.ToLower(q.Name)
	head := func(kind uint16) dns.RR_Header {
		return dns.RR_Header{Name: q.Name, Rrtype: kind, Class: dns.ClassINET, Ttl: 1}
	}
	switch {
	case q.Qtype == dns.TypeNS && name == ZoneName+".":
		for _, ns := range []string{"ns1.", "ns2."} {
			r.Answer = append(r.Answer, &dns.NS{Hdr: head(dns.TypeNS), Ns: ns + ZoneName + "."})
		}
	case q.Qtype == dns.TypeSOA && name == ZoneName+".":
		r.Answer = append(r.Answer, &dns.SOA{Hdr: head(dns.TypeSOA), Ns: "ns1." + ZoneName + ".", Mbox: "root." + ZoneName + ".", Serial: 1})
	case q.Qtype == dns.TypeA && strings.HasSuffix(name, ZoneName+"."):
		ip := net.IPv4(127, 0, 0, 1)
		if name == "ns2."+ZoneName+"." {
			ip = net.IPv4(127, 0, 0, 2)
		}
		r.Answer = append(r.Answer, &dns.A{Hdr: head(dns.TypeA), A: ip})
	case q.Qtype == dns.TypeTXT:
		records := z.second
		if primary {
			records = z.records
		}
		for _, rr := range records {
			if strings.EqualFold(rr.Header().Name, q.Name) {
				r.Answer = append(r.Answer, rr)
			}
		}
	}
}
