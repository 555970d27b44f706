package auth

import (
	"crypto/x509"
	"fmt"
)

// CertificateUser is the address that a client's certificate speaks of: its one rfc822Name (RFC 5280, section 4.2.1.6), or without any
// its common name. "" when it speaks of nobody, or of several.
func CertificateUser(c *x509.Certificate) string {
	switch len(c.EmailAddresses) {
	case 0:
		return c.Subject.CommonName
	case 1:
		return c.EmailAddresses[0]
	}
	return ""
}

// External is the mechanism EXTERNAL (RFC 4422, appendix A) of a connection that has shown whose it is. same tells whether an
// authorization identity means that user; there is no other that he could act as.
func External(user string, same func(authzid string) bool) Exchange {
	return single(func(authzid string) (*Credentials, error) {
		if authzid != "" && !same(authzid) {
			return nil, ErrAuthzid
		}
		if err := checkName(user); err != nil {
			return nil, fmt.Errorf("the certificate: %w", err)
		}
		return &Credentials{Mechanism: "EXTERNAL", Username: user}, nil
	})
}
