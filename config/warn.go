package config

import (
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"strings"
)

// Warnings are what is allowed and yet dangerous, in plain words, one each; it reads the certificates.
func (c *Config) Warnings() []string { return append(c.OldDevices(), c.HookWarnings()...) }

// OldDevices are the warnings about listeners that take old TLS.
func (c *Config) OldDevices() (out []string) {
	old := ""
	for _, e := range c.Listen {
		if e.OldTLS == "" {
			continue
		}
		old = e.URL
		out = append(out, fmt.Sprintf("%s takes TLS %s and its ciphers, which can be broken: who is on the way can force a device down to them and read its "+
			"password. Let only the devices that need it use this listener, keep it away from the internet where you can, and take it away with the last of them",
			e.URL, e.OldTLS))
	}
	if old != "" && !c.TLS.hasRSA() {
		out = append(out, fmt.Sprintf("%s: no certificate has an RSA key, and devices that old mostly take no other; add one under tls.certificates, or write "+
			"tls.acme.key_type: rsa2048", old))
	}
	return out
}

// hasRSA tells whether a certificate that can be read has an RSA key, or will have one.
func (t TLS) hasRSA() bool {
	if t.ACME.On() && strings.HasPrefix(t.ACME.KeyType, "rsa") {
		return true
	}
	for _, k := range t.Certificates {
		pair, err := tls.LoadX509KeyPair(k.Cert, k.Key)
		if err != nil {
			continue
		}
		if _, ok := pair.PrivateKey.(*rsa.PrivateKey); ok {
			return true
		}
	}
	return false
}
