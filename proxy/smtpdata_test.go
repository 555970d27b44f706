package proxy

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// receive reads DATA as a strict server does: lines end with CRLF only. It returns the message and what lies behind it.
// It is the slow reference that messageFilter is held against.
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

// lax are the ways in which servers were seen to read lines (postfix.org/smtp-smuggling): each makes the bytes that
// reached them into lines.
var lax = map[string]func(string) []string{
	"LF":             func(s string) []string { return strings.Split(s, "\n") },
	"LF, CR dropped": func(s string) []string { return strings.Split(strings.ReplaceAll(s, "\r", ""), "\n") },
	"CR":             func(s string) []string { return strings.Split(strings.ReplaceAll(s, "\n", ""), "\r") },
	"CR or LF":       func(s string) []string { return strings.Split(strings.ReplaceAll(s, "\r", "\n"), "\n") },
	"NULs dropped": func(s string) []string {
		return strings.Split(strings.NewReplacer("\r", "", "\x00", "").Replace(s), "\n")
	},
	"C strings":        func(s string) []string { return cStrings(strings.Split(strings.ReplaceAll(s, "\r", ""), "\n")) },
	"CR CR LF is CRLF": func(s string) []string { return strings.Split(strings.ReplaceAll(s, "\r\r\n", "\r\n"), "\r\n") },
}

func cStrings(lines []string) []string {
	for i, l := range lines {
		lines[i], _, _ = strings.Cut(l, "\x00")
	}
	return lines
}

// laxEnd tells which lax server sees an end of message in what was forwarded before the end of the message.
func laxEnd(forwarded string) string {
	for name, lines := range lax {
		all := lines(forwarded)
		if slices.Contains(all[:len(all)-1], ".") { // the last one has no end yet
			return name
		}
	}
	return ""
}

// smuggling are messages, with their strict end, that some server takes for two.
var smuggling = func() []string {
	var all []string
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\n.\r", "\r.\n", "\n\n.\n\n",
		"\r\n.\r\r\n", "\r\r\n.\r\r\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n\x00.\x00\r\n", "\r\x00\n.\r\x00\n",
		"\r\n.\r\x00\n", "\r\n.\x00\n", "\n\x00.\n", "\r\n..\n.\r\n", "\r\n\n.\n\r\n", "\r\n.\n\r\n"} {
		all = append(all, "a"+end+"MAIL FROM:<x@example.com>\r\n.\r\n", end+"MAIL\r\n.\r\n", end[1:]+"MAIL\r\n.\r\n")
	}
	return append(all, ".\n.\r\n.\r\n", "\n.\r\n.\r\n", "\r.\r\n.\r\n", "a\r\n.\r\r\nb\r\n.\r\n")
}()

// filtered is what a message became.
type filtered struct {
	out   string // without the end of the message
	n     int
	done  bool
	fault string
	size  int64
}

// filter runs a message through in pieces of the given sizes, the last of which repeats.
func filter(in string, normalize, chunks bool, sizes ...int) (r filtered) {
	f := &messageFilter{normalize: normalize, chunks: chunks}
	for i := 0; len(in) > 0 && !r.done; i++ {
		k := min(len(in), sizes[min(i, len(sizes)-1)])
		n, out, done := f.add([]byte(in[:k]))
		if f.fault == "" {
			r.out += string(out)
		}
		r.n, r.done, in = r.n+n, done, in[n:]
	}
	if chunks {
		if out := f.end(); f.fault == "" {
			r.out += string(out)
		}
	}
	r.fault, r.size = f.fault, f.size
	return r
}

// canonical makes every line ending CRLF, the slow way.
func canonical(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.ReplaceAll(s, "\r", "\n")
	return strings.ReplaceAll(s, "\n", "\r\n")
}

// checkFilter holds what the filter makes of a message in DATA against the reference, and against every lax server.
func checkFilter(t *testing.T, in string, sizes ...int) {
	t.Helper()
	message, rest, ended := receive(in)
	strict := filter(in, false, false, sizes...)
	if strict.done != ended || ended && strict.n != len(in)-len(rest) {
		t.Fatalf("%q by %d: done %v after %d, a strict server ends (%v) before %q", in, sizes, strict.done, strict.n, ended, rest)
	}
	bare := strings.ContainsAny(strings.ReplaceAll(message, "\r\n", ""), "\r\n")
	if ended && bare != (strict.fault == bareRefusal) && strict.fault != nulRefusal {
		t.Fatalf("%q by %d: fault %q, bare %v", in, sizes, strict.fault, bare)
	}
	for _, r := range []filtered{strict, filter(in, true, false, sizes...)} {
		if who := laxEnd(r.out); who != "" {
			t.Fatalf("%q by %d became %q: %s sees an end", in, sizes, r.out, who)
		}
		if strings.ContainsAny(strings.ReplaceAll(r.out, "\r\n", ""), "\r\n") {
			t.Fatalf("%q by %d became %q: a bare one passed", in, sizes, r.out)
		}
		if !ended || r.fault != "" {
			continue
		}
		got, left, ok := receive(r.out + ".\r\n")
		if !ok || left != "" {
			t.Fatalf("%q by %d became %q: %q is behind its end", in, sizes, r.out, left)
		}
		if want := canonical(message); got != want || r.size != int64(len(want)) {
			t.Fatalf("%q by %d arrives as %q of %d, want %q", in, sizes, got, r.size, want)
		}
	}
}

// checkChunks does the same for a message in chunks.
func checkChunks(t *testing.T, in string, sizes ...int) {
	t.Helper()
	bare := strings.ContainsAny(strings.ReplaceAll(in, "\r\n", ""), "\r\n")
	for _, normalize := range []bool{false, true} {
		r := filter(in, normalize, true, sizes...)
		if who := laxEnd(r.out); who != "" {
			t.Fatalf("%q by %d became %q: %s sees an end", in, sizes, r.out, who)
		}
		if !normalize && bare != (r.fault == bareRefusal) && r.fault != nulRefusal {
			t.Fatalf("%q by %d: fault %q, bare %v", in, sizes, r.fault, bare)
		}
		if r.fault != "" {
			continue
		}
		want := canonical(in)
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		got, left, ok := receive(r.out + ".\r\n")
		if !ok || left != "" || got != want || r.size != int64(len(want)) {
			t.Fatalf("%q by %d became %q, arrives as %q of %d (left %q), want %q", in, sizes, r.out, got, r.size, left, want)
		}
	}
}

func TestFilterPassesToTheLetter(t *testing.T) {
	for _, in := range []string{".\r\n", "a\r\n.\r\n", "a\r\n..\r\n.\r\n", "..b\r\n.\r\n", "\r\n\r\n.\r\n", "a\x00b\r\n.\r\n",
		"Subject: x\r\n\r\n..\r\n...\r\n\r\n.\r\n"} {
		for size := 1; size <= len(in); size++ {
			if r := filter(in+"RSET\r\n", false, false, size); r.out+".\r\n" != in || r.fault != "" || r.n != len(in) {
				t.Errorf("%q by %d: %+v", in, size, r)
			}
		}
	}
}

func TestFilterHoldsBack(t *testing.T) {
	for _, c := range []struct{ in, out string }{
		{"a\r", "a"}, {"a\r\n", "a\r\n"}, {"a\r\n.", "a\r\n"}, {"a\r\n.\r", "a\r\n"}, {"a\r\n.\r\n", "a\r\n"}, {"a\r\n.\rb", "a\r\n"},
		{"a\r\n..", "a\r\n.."}, {".", ""}, {".\r", ""}, {"a\rb", "a"}, {"a\nb", "a"},
	} {
		f := &messageFilter{}
		out := ""
		for i := range len(c.in) { // a byte at a time
			if _, o, _ := f.add([]byte(c.in[i : i+1])); f.fault == "" {
				out += string(o)
			}
		}
		if out != c.out {
			t.Errorf("%q: %q was forwarded, want %q", c.in, out, c.out)
		}
	}
}

func TestNoSmugglingForm(t *testing.T) {
	for _, in := range smuggling {
		for size := 1; size <= len(in); size++ {
			checkFilter(t, in, size)
			checkChunks(t, in, size)
			checkFilter(t, in, size, 1000) // split once, at each byte
			checkChunks(t, in, size, 1000)
		}
		for edge := range 8 { // at the edge of a buffer
			pad := strings.Repeat("x", 4096-edge)
			checkFilter(t, pad+in, 4096)
			checkChunks(t, pad+in, 4096)
		}
	}
}

func TestFilterRefusesHiddenDots(t *testing.T) {
	for in, fault := range map[string]string{
		"a\r\n\x00.\r\nb\r\n.\r\n": nulRefusal, "\x00\x00.\x00\r\n.\r\n": nulRefusal, "a\r\n\x00.b\r\n.\r\n": "",
		"a\r\n.\x00\r\n.\r\n": "", // the dot is stuffing, and goes
		"\x00\r\n.\r\n":       "", "a\x00.\r\n.\r\n": "", "\x00..\r\n.\r\n": "",
	} {
		if r := filter(in, false, false, 1); r.fault != fault || !r.done {
			t.Errorf("%q: %q", in, r.fault)
		}
	}
}

func TestBareChecker(t *testing.T) {
	for in, want := range map[string]bool{"": false, "a\r\nb": false, "a\rb": true, "a\nb": true, "\n": true, "a\r\r\n": true,
		"a\r": true, "\r\n\r\n": false, "a\r\n\n": true} {
		for size := 1; size <= max(1, len(in)); size++ {
			var k bareChecker
			got := false
			for i := 0; i < len(in); i += size {
				got = k.add([]byte(in[i:min(i+size, len(in))])) || got
			}
			if got = got || k.cr; got != want {
				t.Errorf("%q by %d: %v", in, size, got)
			}
		}
	}
}

// TestFilterAtRandom makes messages of the bytes that matter and splits them anywhere.
func TestFilterAtRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		in := make([]byte, r.IntN(12))
		for i := range in {
			in[i] = "\r\r\n\n..\x00a"[r.IntN(8)]
		}
		sizes := []int{1 + r.IntN(5), 1 + r.IntN(5), 1 + r.IntN(20)}
		checkFilter(t, string(in)+"\r\n.\r\n", sizes...)
		checkChunks(t, string(in), sizes...)
	}
}

func FuzzMessageFilter(f *testing.F) {
	for i, s := range smuggling {
		f.Add([]byte(s), byte(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, size byte) {
		sizes := []int{1 + int(size&7), 1 + int(size>>3&7), 1 + int(size>>6)*100}
		checkFilter(t, string(b), sizes...)
		checkFilter(t, string(b)+"\r\n.\r\nRSET\r\n", sizes...)
		checkChunks(t, string(b), sizes...)
	})
}

func BenchmarkMessageFilter(b *testing.B) {
	line := strings.Repeat("x", 76) + "\r\n"
	message := []byte(strings.Repeat(line, 52))
	b.SetBytes(int64(len(message)))
	f := &messageFilter{}
	for b.Loop() {
		if n, _, _ := f.add(message); n != len(message) {
			b.Fatal(fmt.Sprint(n))
		}
	}
	if !bytes.Equal(f.out, message) {
		b.Fatal("not passed to the letter")
	}
}
