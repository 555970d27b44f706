package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
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
	separator     string
	defaultDomain string
}

// NewAddresses takes the rules from the routes section.
func NewAddresses(r Routes) Addresses {
	return Addresses{exact: r.LocalPart == "exact", separator: r.Subaddress, defaultDomain: r.DefaultDomain}
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
	ascii := true
	for i := 0; i < len(login); i++ {
		c := login[i]
		if c <= ' ' || c == 0x7f {
			return dst, fmt.Errorf("%w: control character or space", ErrAddress)
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if !ascii && !utf8.ValidString(login) {
		return dst, fmt.Errorf("%w: not UTF-8", ErrAddress)
	}
	local, domain := login, a.defaultDomain
	if i := strings.LastIndexByte(login, '@'); i >= 0 {
		local, domain = login[:i], login[i+1:]
		if local == "" || domain == "" {
			return dst, fmt.Errorf("%w: nothing before or behind @", ErrAddress)
		}
	}
	if a.separator != "" && local[0] != '"' {
		if i := strings.Index(local, a.separator); i > 0 {
			local = local[:i]
		}
	}
	dst = a.appendLocal(dst, local)
	if domain == "" {
		return dst, nil
	}
	return appendDomain(append(dst, '@'), domain)
}

func (a Addresses) appendLocal(dst []byte, local string) []byte {
	if a.exact {
		return append(dst, local...)
	}
	for _, r := range local {
		if r < utf8.RuneSelf {
			if r >= 'A' && r <= 'Z' {
				r += 'a' - 'A'
			}
			dst = append(dst, byte(r))
			continue
		}
		dst = utf8.AppendRune(dst, unicode.ToLower(r))
	}
	return dst
}

// appendDomain writes the A-label form in lower case (RFC 5891).
func appendDomain(dst []byte, domain string) ([]byte, error) {
	for i := 0; i < len(domain); i++ {
		if domain[i] >= utf8.RuneSelf {
			d, err := idna.Lookup.ToASCII(domain)
			if err != nil {
				return dst, fmt.Errorf("%w: domain: %w", ErrAddress, err)
			}
			return append(dst, d...), nil
		}
	}
	for i := 0; i < len(domain); i++ {
		c := domain[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return bytes.TrimSuffix(dst, []byte(".")), nil
}

// Canonical is AppendCanonical as a string.
func (a Addresses) Canonical(login string) (string, error) {
	var b [maxAddress]byte
	out, err := a.AppendCanonical(b[:0], login)
	return string(out), err
}
