package tlsconf

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"

	"mailgate/config"
)

func managed(x *issued) *tls.Certificate {
	c := x.tls()
	c.Leaf = x.cert
	return &c
}

// Certificates that are had while we serve come first for their names, files first for who names none; what has expired comes last.
func TestManagedBesideFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, other := issue(t, nil, soon(), "mail.example.com"), issue(t, nil, soon(), "mail.example.org")
	had, more := issue(t, nil, soon(), "mail.example.com"), issue(t, nil, soon(), "smtp.example.com")
	late := issue(t, nil, time.Now().Add(-time.Hour), "mail.example.com")
	f := gatewayWith(t, config.TLS{Certificates: []config.Certificate{file.put(t, dir, "a"), other.put(t, dir, "b")}})
	want := func(what string, names map[string]*issued) {
		t.Helper()
		for name, x := range names {
			if got := presented(t, f, name); got != serial(x) {
				t.Errorf("%s: %q: got %s, want %s", what, name, got, serial(x))
			}
		}
	}
	want("before", map[string]*issued{"mail.example.com": file, "smtp.example.com": file, "": file})
	f.SetManaged([]*tls.Certificate{managed(had), managed(more)})
	want("beside", map[string]*issued{"mail.example.com": had, "smtp.example.com": more, "mail.example.org": other, "": file, "x": file})
	if n := len(f.Leaves()); n != 4 {
		t.Errorf("%d leaves", n)
	}
	f.SetManaged([]*tls.Certificate{managed(late)})
	want("expired", map[string]*issued{"mail.example.com": file})

	f = gatewayWith(t, config.TLS{Certificates: []config.Certificate{late.put(t, dir, "c")}})
	want("a file that has expired, alone", map[string]*issued{"mail.example.com": late, "": late})
	f.SetManaged([]*tls.Certificate{managed(had)})
	want("and what was had", map[string]*issued{"mail.example.com": had, "": had})

	f = gatewayWith(t, config.TLS{})
	f.SetManaged([]*tls.Certificate{managed(had)})
	want("no files", map[string]*issued{"mail.example.com": had, "x": had, "": had})
}

// An authority that looks is answered by its challenge, and nobody else is disturbed.
func TestChallenge(t *testing.T) {
	t.Parallel()
	own, answer := issue(t, nil, soon(), "mail.example.com"), issue(t, nil, soon(), "mail.example.com")
	f := gatewayWith(t, config.TLS{})
	f.SetManaged([]*tls.Certificate{managed(own)})
	look := func(name string, protos ...string) (tls.ConnectionState, error) {
		return shake(t, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: protos}, f.Config())
	}
	if _, err := look("mail.example.com", ChallengeProtocol); err == nil {
		t.Error("answered without a challenge")
	}
	f.Present("Mail.Example.com", managed(answer))
	s, err := look("mail.example.com", ChallengeProtocol)
	if err != nil || !IsChallenge(s) || s.PeerCertificates[0].SerialNumber.Cmp(answer.cert.SerialNumber) != 0 {
		t.Errorf("look: %v, %+v", err, s.NegotiatedProtocol)
	}
	if _, err := look("other.example.com", ChallengeProtocol); err == nil {
		t.Error("another name is answered")
	}
	for _, protos := range [][]string{nil, {"imap"}, {"imap", ChallengeProtocol}} {
		s, err := look("mail.example.com", protos...)
		if err != nil || IsChallenge(s) || s.PeerCertificates[0].SerialNumber.Cmp(own.cert.SerialNumber) != 0 {
			t.Errorf("a client with %v: %v, %q", protos, err, s.NegotiatedProtocol)
		}
	}
	f.Withdraw("mail.example.com")
	if _, err := look("mail.example.com", ChallengeProtocol); err == nil {
		t.Error("answered behind the challenge")
	}
	if _, err := f.challenge(&tls.ClientHelloInfo{SupportedProtos: []string{ChallengeProtocol}}); !errors.Is(err, ErrNoChallenge) {
		t.Errorf("without a name: %v", err)
	}
}
