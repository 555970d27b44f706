package imapwire

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// nameBase64 is the alphabet of RFC 3501, section 5.1.3.
var nameBase64 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// DecodeName gives a mailbox name as people read it. raw is what the server sent, in modified UTF-7 (RFC 3501, section
// 5.1.3). ok means that raw is canonical: EncodeName(text) is raw again.
//
// Servers hold other names too, and those must go back to them byte for byte: keep raw. For them ok is false and text is
// for people, and for making a name on another host:
//   - UTF-8 (as with UTF8=ACCEPT, RFC 6855) is taken as it stands, "&" included;
//   - modified UTF-7 that could have been written shorter ("&AGE-" for "a") is decoded all the same;
//   - what is neither ("R&D", "&Jjo") is taken as it stands;
//   - bytes that are not UTF-8, and what cannot be printed, become \xNN.
//
// So two names may read alike when one of them is not ok.
func DecodeName(raw string) (text string, ok bool) {
	plain := true
	for i := 0; i < len(raw); i++ {
		if c := raw[i]; c < ' ' || c >= 0x7f {
			return printable(raw), false
		} else if c == '&' {
			plain = false
		}
	}
	if plain {
		return raw, true
	}
	text, ok = decodeShifts(raw)
	switch {
	case !ok:
		return raw, false
	case EncodeName(text) == raw:
		return text, true
	}
	return printable(text), false
}

// decodeShifts decodes each "&...-" of printable ASCII.
func decodeShifts(raw string) (string, bool) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(raw, "&")
		b.WriteString(before)
		if !found {
			return b.String(), true
		}
		code, after, closed := strings.Cut(rest, "-")
		if !closed {
			return "", false
		}
		raw = after
		if code == "" {
			b.WriteByte('&')
			continue
		}
		octets, err := nameBase64.DecodeString(code)
		if err != nil || len(octets)%2 != 0 || len(octets) == 0 {
			return "", false
		}
		for i := 0; i < len(octets); i += 2 {
			r := rune(octets[i])<<8 | rune(octets[i+1])
			if utf16.IsSurrogate(r) {
				if i += 2; i == len(octets) {
					return "", false
				}
				if r = utf16.DecodeRune(r, rune(octets[i])<<8|rune(octets[i+1])); r == utf8.RuneError {
					return "", false // half of a pair; U+FFFD itself is no surrogate
				}
			}
			b.WriteRune(r)
		}
	}
}

// printable escapes what is not UTF-8 and what cannot be printed.
func printable(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 || r != ' ' && !unicode.IsPrint(r) && !unicode.Is(unicode.Co, r) {
			for i := range n {
				fmt.Fprintf(&b, `\x%02x`, s[i])
			}
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// EncodeName writes a name in modified UTF-7, canonically. Bytes of text that are not UTF-8 become U+FFFD.
func EncodeName(text string) string {
	var b strings.Builder
	var octets []byte // of the shift that is open, UTF-16BE
	shut := func() {
		if len(octets) > 0 {
			b.WriteByte('&')
			b.WriteString(nameBase64.EncodeToString(octets))
			b.WriteByte('-')
			octets = octets[:0]
		}
	}
	for _, r := range text {
		switch {
		case r == '&':
			shut()
			b.WriteString("&-")
		case r >= ' ' && r < 0x7f:
			shut()
			b.WriteRune(r)
		default:
			if r1, r2 := utf16.EncodeRune(r); r1 != utf8.RuneError {
				octets = append(octets, byte(r1>>8), byte(r1))
				r = r2
			}
			octets = append(octets, byte(r>>8), byte(r))
		}
	}
	shut()
	return b.String()
}
