package imapwire

import (
	"bytes"
	"strings"
)

// Offerable returns the capabilities that a client of a spliced session may be told of, in order: not COMPRESS
// (RFC 4978) nor UNAUTHENTICATE (RFC 8437), which a splice cannot carry, and no referrals (RFC 2221, RFC 2193), which
// would lead clients past the gateway.
func Offerable(caps [][]byte) [][]byte {
	out := caps[:0:0]
	for _, c := range caps {
		if offerable(c) {
			out = append(out, c)
		}
	}
	return out
}

// OfferableStrings is Offerable for strings.
func OfferableStrings(caps []string) []string {
	var out []string
	for _, c := range caps {
		if offerable([]byte(c)) {
			out = append(out, c)
		}
	}
	return out
}

func offerable(c []byte) bool {
	for _, p := range []string{"COMPRESS=", "UNAUTHENTICATE", "LOGIN-REFERRALS", "MAILBOX-REFERRALS", "STARTTLS"} {
		if len(c) >= len(p) && bytes.EqualFold(c[:len(p)], []byte(p)) {
			return false
		}
	}
	return true
}

// Quote writes s as an IMAP quoted string, or false when it needs a literal. RFC 9051, section 4.3.
func Quote(s string) (string, bool) {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= 0x7f {
			return "", false
		}
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`, true
}
