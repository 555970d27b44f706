package tlsconf

import (
	"crypto/tls"

	"mailgate/config"
)

// configs makes what listeners shake hands with, by the oldest version that they take.
func (f *Certificates) configs(c config.TLS) map[string]*tls.Config {
	newest := uint16(tls.VersionTLS12)
	if c.MinVersion == "1.3" {
		newest = tls.VersionTLS13
	}
	out := map[string]*tls.Config{}
	for oldest, version := range map[string]uint16{"": newest, "1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11} {
		out[oldest] = &tls.Config{MinVersion: version, GetCertificate: f.get, GetConfigForClient: f.challenge}
		if oldest != "" {
			out[oldest].CipherSuites = oldSuites()
		}
	}
	return out
}

// oldSuites are those of crypto/tls that are on by default, and the least bad of those that devices from before TLS 1.2 have: without
// forward secrecy, or with 3DES. RC4 stays off.
func oldSuites() (ids []uint16) {
	for _, s := range tls.CipherSuites() {
		ids = append(ids, s.ID)
	}
	return append(ids, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA,
		tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA)
}
