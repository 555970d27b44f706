package tlsconf

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"mailgate/config"
)

// ErrPin means that no key of the server's chain is pinned.
var ErrPin = errors.New("the server's key is not one of the pinned keys")

// Client is the policy towards a service of a backend. Nothing is opportunistic: the chain is verified against the
// system's roots or the CA file, and the name. With pins one key of the chain must be pinned besides; with pins and
// no CA file a pinned leaf is enough, whoever signed it and whatever its name.
func Client(b config.Backend, e config.Endpoint) (*tls.Config, error) {
	c := &tls.Config{ServerName: e.Host, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(64)}
	if b.ServerName != "" {
		c.ServerName = b.ServerName
	}
	if b.CA != "" {
		pem, err := os.ReadFile(b.CA)
		if err != nil {
			return nil, fmt.Errorf("CA file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file %s holds no certificate", b.CA)
		}
	}
	if len(b.Pins) == 0 {
		return c, nil
	}
	pins, leafOnly := b.Pins, b.CA == ""
	c.InsecureSkipVerify = leafOnly // the pin is the verification: see VerifyConnection
	c.VerifyConnection = func(s tls.ConnectionState) error {
		// Only verified chains count (RFC 7469, section 2.6): what else the server sends along proves nothing.
		chains := s.VerifiedChains
		if leafOnly {
			chains = [][]*x509.Certificate{s.PeerCertificates[:1]}
		}
		for _, crt := range slices.Concat(chains...) {
			if slices.Contains(pins, Pin(crt)) {
				return nil
			}
		}
		return fmt.Errorf("%w; it is %s", ErrPin, Pin(s.PeerCertificates[0]))
	}
	return c, nil
}

// Pin is the pin of a certificate's key, as the configuration has it (RFC 7469, section 2.4).
func Pin(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return "sha256/" + base64.StdEncoding.EncodeToString(sum[:])
}

// Explain words an error of a handshake with a backend for the operator.
func Explain(err error) string {
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("its certificate is valid from %s to %s only", invalid.Cert.NotBefore.Format(time.DateOnly),
			invalid.Cert.NotAfter.Format(time.DateOnly))
	case errors.As(err, &host):
		return fmt.Sprintf("its certificate is for %s, not for %s; set tls.server_name if that is right",
			cmp.Or(strings.Join(Names(host.Certificate), ", "), "no name at all"), host.Host)
	case errors.As(err, &unknown):
		return "its certificate is signed by nobody we trust; set tls.ca or tls.pins"
	case errors.As(err, &record):
		return "it does not speak TLS on this port from the first byte; use the +starttls scheme, or another port"
	case strings.Contains(err.Error(), "unsupported protocol version"), strings.Contains(err.Error(), "protocol version not supported"):
		return "it speaks TLS 1.1 or older only, which nobody should trust with passwords; bring it to TLS 1.2"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "it closed the connection within the handshake"
	}
	return err.Error()
}

// Names are what a certificate is for: DNS names and addresses.
func Names(c *x509.Certificate) []string {
	out := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}
