package syncer

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// utf7 is modified BASE64 (RFC 3501, section 5.1.3).
func utf7Encoding() *base64.Encoding {
	return base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding).Strict()
}

// encodeUTF7 writes text, which must be valid UTF-8, as modified UTF-7.
func encodeUTF7(text string) string {
	var b strings.Builder
	var run []uint16
	flush := func() {
		if len(run) == 0 {
			return
		}
		raw := make([]byte, 0, 2*len(run))
		for _, u := range run {
			raw = append(raw, byte(u>>8), byte(u))
		}
		b.WriteString("&" + utf7Encoding().EncodeToString(raw) + "-")
		run = run[:0]
	}
	for _, r := range text {
		switch {
		case r == '&':
			flush()
			b.WriteString("&-")
		case r >= ' ' && r <= '~':
			flush()
			b.WriteByte(byte(r))
		default:
			run = utf16.AppendRune(run, r)
		}
	}
	flush()
	return b.String()
}

// decodeUTF7 reads modified UTF-7. ok is false when raw is not exactly what encodeUTF7 would write: servers have such names.
func decodeUTF7(raw string) (text string, ok bool) {
	if !strings.Contains(raw, "&") && printable(raw) {
		return raw, true
	}
	var b strings.Builder
	for rest := raw; rest != ""; {
		i := strings.IndexByte(rest, '&')
		if i < 0 {
			b.WriteString(rest)
			break
		}
		b.WriteString(rest[:i])
		coded, after, found := strings.Cut(rest[i+1:], "-")
		if !found {
			return "", false
		}
		rest = after
		if coded == "" {
			b.WriteByte('&')
			continue
		}
		data, err := utf7Encoding().DecodeString(coded)
		if err != nil || len(data)%2 != 0 {
			return "", false
		}
		units := make([]uint16, 0, len(data)/2)
		for i := 0; i < len(data); i += 2 {
			units = append(units, uint16(data[i])<<8|uint16(data[i+1]))
		}
		b.WriteString(string(utf16.Decode(units)))
	}
	text = b.String()
	return text, utf8.ValidString(text) && encodeUTF7(text) == raw
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
