package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Errors of an address.
var (
	ErrAddress     = errors.New("not an address or login name")
	ErrAddressLong = errors.New("address is longer than 320 bytes")
)

// maxAddress is 64 bytes of local part, "@" and 255 of domain (RFC 5321, section 4.5.3.1).
const maxAddress = 320

// Addresses compares addresses as the configuration says: domains case-folded and by IDNA, local parts folded or
// exact, sub-addresses as their user.
type Addresses struct {
	exact         bool
	separators    string
	defaultDomain string
}

// NewAddresses takes the rules from the routes section.
func NewAddresses(r Routes) Addresses {
	return Addresses{exact: r.LocalPart == "exact", separators: r.Subaddress, defaultDomain: r.DefaultDomain}
}

// DefaultDomain is the one that is appended to names without "@", as it stands in addresses; "" when there is none.
func (a Addresses) DefaultDomain() string {
	if a.defaultDomain == "" {
		return ""
	}
	d, err := appendDomain(nil, a.defaultDomain)
	if err != nil {
		return ""
	}
	return string(d)
}

// AppendCanonical appends the one spelling of a login name: the same user always gives the same bytes. Addresses in
// lower-case ASCII do not allocate beyond dst.
func (a Addresses) AppendCanonical(dst []byte, login string) ([]byte, error) {
	if login == "" {
		return dst, ErrAddress
	}
	if len(login) > maxAddress {
		return dst, ErrAddressLong
	}
	if err := checkBytes(login); err != nil {
		return dst, err
	}
	local, domain := login, a.defaultDomain
	if i := lastAt(login); i >= 0 {
		local, domain = login[:i], login[i+1:]
		if local == "" || domain == "" {
			return dst, fmt.Errorf("%w: nothing before or behind @", ErrAddress)
		}
	}
	local = unquote(local)
	if local[0] != '"' && a.separators != "" {
		if i := strings.IndexAny(local, a.separators); i > 0 {
			local = local[:i]
		}
	}
	start := len(dst)
	out := a.appendLocal(dst, local)
	if domain != "" {
		var err error
		if out, err = appendDomain(append(out, '@'), domain); err != nil {
			return dst, err
		}
	}
	if len(out)-start > maxAddress {
		return dst, ErrAddressLong
	}
	return out, nil
}

// checkBytes refuses what could be a command, a line end or a trick of writing direction in a log or at a backend.
func checkBytes(s string) error {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c <= ' ' || c == 0x7f:
			return fmt.Errorf("%w: control character or space", ErrAddress)
		case c >= utf8.RuneSelf:
			if !utf8.ValidString(s) {
				return fmt.Errorf("%w: not UTF-8", ErrAddress)
			}
			if strings.ContainsFunc(s[i:], invisible) {
				return fmt.Errorf("%w: control character or space", ErrAddress)
			}
			return nil
		}
	}
	return nil
}

func invisible(r rune) bool {
	return unicode.IsControl(r) || unicode.IsSpace(r) || unicode.Is(unicode.Bidi_Control, r)
}

// lastAt is the @ before the domain, -1 without one. One within quotes is part of the local part (RFC 5321, section
// 4.1.2).
func lastAt(s string) int {
	i := strings.LastIndexByte(s, '@')
	if i < 0 || s[0] != '"' || s[i-1] == '"' {
		return i
	}
	if s[len(s)-1] == '"' {
		return -1
	}
	return i
}

// unquote takes needless quotes off a local part: "bob"@example.com is bob@example.com (RFC 5321, section 4.1.2: quoted
// and unquoted forms are to be treated as equivalent). What needs its quotes keeps them, with no needless backslash.
func unquote(local string) string {
	n := len(local)
	if local[0] != '"' {
		return local
	}
	if n < 3 || local[n-1] != '"' {
		return local
	}
	var b strings.Builder
	bare := true
	for i := 1; i < n-1; i++ {
		c := local[i]
		if c == '"' {
			return local // not one quoted string; compared as it is
		}
		if c == '\\' {
			if i++; i == n-1 {
				return local
			}
			c = local[i]
		}
		if c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		bare = bare && c >= '!' && !strings.ContainsRune(`()<>[]:;@\,"`, rune(c))
		b.WriteByte(c)
	}
	s := b.String()
	if !bare || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return `"` + s + `"`
	}
	return s
}

// appendLocal folds case unless told not to, and composes characters (NFC): é is one user however it was typed (RFC
// 6532, section 3.1).
func (a Addresses) appendLocal(dst []byte, local string) []byte {
	for i := 0; i < len(local); i++ {
		if local[i] >= utf8.RuneSelf {
			local = norm.NFC.String(local)
			if !a.exact {
				local = norm.NFC.String(strings.Map(unicode.ToLower, local))
			}
			return append(dst, local...)
		}
	}
	for i := 0; i < len(local); i++ {
		c := local[i]
		if !a.exact && c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// appendDomain writes the A-label form in lower case (RFC 5891), without the dot of the root.
func appendDomain(dst []byte, domain string) ([]byte, error) {
	start := len(dst)
	for i := 0; i < len(domain); i++ {
		if domain[i] >= utf8.RuneSelf {
			d, err := idna.Lookup.ToASCII(domain)
			if err != nil {
				return dst, fmt.Errorf("%w: domain: %w", ErrAddress, err)
			}
			domain = d
			break
		}
	}
	domain = strings.TrimSuffix(domain, ".")
	for i := 0; i < len(domain); i++ {
		c := domain[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	if len(dst) == start || dst[len(dst)-1] == '.' {
		return dst[:start], fmt.Errorf("%w: empty label in the domain", ErrAddress)
	}
	return dst, nil
}

// Canonical is AppendCanonical as a string.
func (a Addresses) Canonical(login string) (string, error) {
	var b [maxAddress]byte
	out, err := a.AppendCanonical(b[:0], login)
	if err != nil {
		return "", err
	}
	return string(out), nil
}
