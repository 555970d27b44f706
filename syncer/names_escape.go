package syncer

import (
	"strings"
	"unicode/utf8"
)

// escaper writes and reads the components of names that a side cannot hold.
//
// A character that the side cannot hold stands as a mark and its code in two hexadecimal digits, "=2F" for a slash; an
// empty component as "=00". So that this can be read back without doubt, text that looks like such a code already gets the
// mark's own code in between: the name "a=2Fb" is written "a=3D2Fb" where a slash must be escaped, and stays as it is where
// none must be. In detail: with m the code of the mark and c a code of something that is escaped here, "=" m^n c is written
// "=" m^(n+1) c. It is a bijection from all text but a lone NUL to the text that the side can hold. A character that cannot be
// the first one is escaped there only, and its code means something there only.
//
// Bytes that are no UTF-8 travel within this package as the runes from rawByte up, and are escaped on every side.
type escaper struct {
	mark  byte
	bad   [128]bool
	first [128]bool // not as the first character
}

// rawByte is where the runes that stand for a byte of unknown meaning begin, at the end of the last private plane.
const rawByte = 0x10FF00

const hexDigits = "0123456789ABCDEF"

// newEscaper makes one for a side with a separator (0 for none), which cannot hold the characters in bad, nor
// those in first at the beginning.
func newEscaper(separator byte, bad, first string) escaper {
	e := escaper{mark: '='}
	for c := range byte(' ') {
		e.bad[c] = true
	}
	e.bad[0x7F] = true
	for _, c := range []byte(bad) {
		if c < 0x80 && !alphanumeric(c) {
			e.bad[c] = true
		}
	}
	for _, c := range []byte(first) {
		if c < 0x80 && !alphanumeric(c) {
			e.first[c] = true
		}
	}
	if separator < 0x80 && separator != 0 {
		e.bad[separator] = true
	}
	for _, m := range []byte("=~_-+,;:!#$()@^[]<>|'`?.&{}/\\\"%*z") { // every side can hold a letter
		if !e.bad[m] && !e.first[m] {
			e.mark = m
			break
		}
	}
	return e
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// code reads two digits at the beginning of s; ok when they stand for something that this side escapes, at the beginning of a
// component or within.
func (e *escaper) code(s string, begins bool) (c byte, ok bool) {
	if len(s) < 2 {
		return 0, false
	}
	hi, lo := strings.IndexByte(hexDigits, s[0]), strings.IndexByte(hexDigits, s[1])
	if hi < 0 || lo < 0 {
		return 0, false
	}
	c = byte(hi<<4 | lo)
	return c, c >= 0x80 || e.bad[c] || begins && e.first[c]
}

// escaped tells whether an escape begins at the mark in front of s, with how many codes of the mark, and how long it is.
// The mark itself begins the component or does not.
func (e *escaper) escaped(s string, begins bool) (c byte, marks, length int, ok bool) {
	for length = 0; ; length += 2 {
		if c, ok = e.code(s[length:], begins); ok {
			return c, marks, length + 2, true
		}
		if len(s) < length+2 || s[length] != hexDigits[e.mark>>4] || s[length+1] != hexDigits[e.mark&15] {
			return 0, 0, 0, false
		}
		marks++
	}
}

func (e *escaper) appendCode(b *strings.Builder, c byte) {
	b.WriteByte(e.mark)
	b.WriteByte(hexDigits[c>>4])
	b.WriteByte(hexDigits[c&15])
}

// escape writes a component.
func (e *escaper) escape(s string) string {
	if s == "" {
		s = "\x00"
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == rune(e.mark):
			b.WriteByte(e.mark)
			if _, _, _, ok := e.escaped(s[i+1:], i == 0); ok {
				b.WriteByte(hexDigits[e.mark>>4])
				b.WriteByte(hexDigits[e.mark&15])
			}
		case r < 0x80 && (e.bad[r] || i == 0 && e.first[r]):
			e.appendCode(&b, byte(r))
		case r >= rawByte+0x80:
			e.appendCode(&b, byte(r-rawByte))
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// unescape reads what escape wrote.
func (e *escaper) unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != e.mark {
			b.WriteByte(s[i])
			continue
		}
		c, marks, n, ok := e.escaped(s[i+1:], i == 0)
		switch {
		case !ok:
			b.WriteByte(e.mark)
		case marks > 0:
			b.WriteByte(e.mark)
			b.WriteString(s[i+3 : i+1+n])
			i += n
		case c >= 0x80:
			b.WriteRune(rawByte + rune(c))
			i += n
		default:
			b.WriteByte(c)
			i += n
		}
	}
	if s := b.String(); s != "\x00" {
		return s
	}
	return ""
}
