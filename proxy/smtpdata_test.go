package proxy

import (
	"bytes"
	"strings"
	"testing"
)

// receive reads DATA as a strict server does: lines end with CRLF only. It returns the message and what lies behind it.
func receive(b string) (message, rest string, ok bool) {
	for {
		line, after, found := strings.Cut(b, "\r\n")
		if !found {
			return message, b, false
		}
		if line == "." {
			return message, after, true
		}
		message += strings.TrimPrefix(line, ".") + "\r\n"
		b = after
	}
}

var smuggling = []string{
	"a\n.\nMAIL FROM:<x>\r\n.\r\n", "a\n.\r\nMAIL\r\n.\r\n", "a\r.\rMAIL\r\n.\r\n", "a\r.\r\nMAIL\r\n.\r\n",
	"a\r\n.\nMAIL\r\n.\r\n", "a\r\n.\rMAIL\r\n.\r\n", "a\r\n\n.\n\r\nb\r\n.\r\n", "\n.\r\n.\r\n", ".\n.\r\n.\r\n",
	"a\r\r\n.\r\n.\r\n", "a\r\n.\r\r\nb\r\n.\r\n", "a\r\n.\x00\r\n.\r\n", "a\n\r\n.\r\n", "\r.\r\n.\r\n",
}

func TestDataScanner(t *testing.T) {
	for in, bare := range map[string]bool{
		".\r\n": false, "a\r\n.\r\n": false, "a\r\n..\r\n.\r\n": false, "a\r\n.b\r\n.\r\n": false, "\r\n\r\n.\r\n": false,
		"a\nb\r\n.\r\n": true, "a\rb\r\n.\r\n": true, "a\r\r\n.\r\n": true,
	} {
		for size := 1; size <= len(in); size++ {
			var d dataScanner
			n, done := scanAll(&d, in+"RSET\r\n", size)
			if n != len(in) || !done || d.bare != bare {
				t.Errorf("%q by %d: n %d, done %v, bare %v", in, size, n, done, d.bare)
			}
		}
	}
	for _, in := range smuggling {
		var d dataScanner
		n, done := scanAll(&d, in, 3)
		_, rest, ok := receive(in)
		if !done || !ok || n != len(in)-len(rest) {
			t.Errorf("%q ends at %d (%v), a strict server leaves %q", in, n, done, rest)
		}
	}
}

func scanAll(d *dataScanner, s string, size int) (total int, done bool) {
	for i := 0; i < len(s); i += size {
		n, done := d.scan([]byte(s[i:min(i+size, len(s))]))
		if total += n; done {
			return total, true
		}
	}
	return total, false
}

func normalizeAll(s string, size int) (out string, n int, done bool) {
	z := newNormalizer()
	for i := 0; i < len(s) && !done; i += size {
		k, o, d := z.add([]byte(s[i:min(i+size, len(s))]))
		out, n, done = out+string(o), n+k, d
	}
	return out, n, done
}

func checkNormalized(t *testing.T, in string) {
	t.Helper()
	_, rest, ok := receive(in)
	if !ok {
		return
	}
	want := in[:len(in)-len(rest)]
	message, _, _ := receive(want)
	message = canonical(strings.TrimSuffix(message, "\r\n"))
	for _, size := range []int{1, 2, 5, 1000} {
		out, n, done := normalizeAll(in, size)
		if !done || n != len(want) {
			t.Fatalf("%q: took %d of %d, done %v", in, n, len(want), done)
		}
		got, left, ok := receive(out)
		if !ok || left != "" {
			t.Fatalf("%q became %q: a second message %q", in, out, left)
		}
		if bytes.ContainsAny([]byte(strings.ReplaceAll(out, "\r\n", "")), "\r\n") {
			t.Fatalf("%q became %q: a bare one is left", in, out)
		}
		if strings.TrimSuffix(got, "\r\n") != message {
			t.Fatalf("%q arrives as %q, want %q", in, got, message)
		}
	}
}

// canonical makes every line ending CRLF.
func canonical(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\x01")
	s = strings.NewReplacer("\r", "\x01", "\n", "\x01").Replace(s)
	return strings.ReplaceAll(s, "\x01", "\r\n")
}

func TestNormalizer(t *testing.T) {
	for _, in := range append(smuggling, "a\r\n.\r\n", "..a\r\n.\r\n", ".a\r\n.\r\n", "a\n.b\r\n.\r\n", "a\n..b\r\n.\r\n") {
		checkNormalized(t, in)
	}
}

func FuzzNormalizer(f *testing.F) {
	for _, s := range smuggling {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsRune(s, '\x01') {
			return
		}
		checkNormalized(t, s+"\r\n.\r\n")
		var d dataScanner
		n, done := scanAll(&d, s+"\r\n.\r\n", 4)
		_, rest, ok := receive(s + "\r\n.\r\n")
		if done != ok || n != len(s)+5-len(rest) {
			t.Fatalf("%q: scanner ends at %d, strict server leaves %q", s, n, rest)
		}
	})
}
