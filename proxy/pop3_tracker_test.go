package proxy

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// popTalk is a dialogue: "C: " and "S: " lines, and what the tracker must say behind each.
type popTalk struct {
	line string
	want string // of: boundary, reads (ReadsOnly), pending (ReadsPending), held (stop holds the next command), changed
}

func (t *popTracker) say() string {
	var out []string
	for _, x := range []struct {
		is   bool
		name string
	}{{t.Boundary(), "boundary"}, {t.ReadsOnly(), "reads"}, {t.ReadsPending(), "pending"}} {
		if x.is {
			out = append(out, x.name)
		}
	}
	return strings.Join(out, " ")
}

// TestPopTracker: where a session may end.
func TestPopTracker(t *testing.T) {
	t.Parallel()
	const free = "boundary reads pending"
	for name, talk := range map[string][]popTalk{
		"single": {{"", free}, {"C: STAT", "reads pending"}, {"S: +OK 2 320", free}},
		"list": {{"C: LIST", "reads pending"}, {"S: +OK", "pending"}, {"S: 1 120", "pending"}, {"S: .", free},
			{"C: LIST 1", "reads pending"}, {"S: +OK 1 120", free}, {"C: UIDL  ", "reads pending"}, {"S: +OK", "pending"}, {"S: .", free}},
		"refused":        {{"C: RETR 7", "reads pending"}, {"S: -ERR no such message", free}},
		"stuffed":        {{"C: retr 1", "reads pending"}, {"S: +OK", "pending"}, {"S: ..", "pending"}, {"S: .x", "pending"}, {"S: +OK", "pending"}, {"S: .", free}},
		"pipelined":      {{"C: RETR 1\r\nC: RETR 2", "reads pending"}, {"S: +OK\r\nS: a", "pending"}, {"S: .", "reads pending"}, {"S: -ERR gone", free}},
		"deleted":        {{"C: DELE 1", ""}, {"S: +OK", ""}, {"C: NOOP", ""}, {"S: +OK", ""}, {"C: RSET", ""}, {"S: +OK", free}},
		"delete refused": {{"C: DELE 1", ""}, {"S: -ERR", free}},
		"quit":           {{"C: DELE 1\r\nC: QUIT", ""}, {"S: +OK", ""}, {"S: +OK bye", free}},
		"unknown":        {{"C: XTND XMIT", ""}, {"S: -ERR", free}},
		"capa":           {{"C: CAPA", "reads pending"}, {"S: +OK\r\nS: TOP", "pending"}, {"S: .", free}},
	} {
		var tr popTracker
		for _, x := range talk {
			for _, l := range strings.Split(x.line, "\r\n") {
				if c, ok := strings.CutPrefix(l, "C: "); ok {
					if n := tr.Client([]byte(c+"\r\n"), false); n != len(c)+2 {
						t.Errorf("%s: %q: %d passed on", name, c, n)
					}
				} else if s, ok := strings.CutPrefix(l, "S: "); ok {
					tr.Server([]byte(s + "\r\n"))
				}
			}
			if got := tr.say(); got != x.want {
				t.Errorf("%s: behind %q: %q, want %q", name, x.line, got, x.want)
			}
		}
	}
}

// TestPopTrackerStop: a session that is to end is let on to its QUIT where messages are marked as deleted, and nowhere else.
func TestPopTrackerStop(t *testing.T) {
	t.Parallel()
	var tr popTracker
	pass := func(line string, want int) {
		t.Helper()
		if n := tr.Client([]byte(line), true); n != want {
			t.Errorf("%q: %d passed on, want %d", line, n, want)
		}
	}
	pass("STAT\r\n", 0)
	tr.Client([]byte("DE"), false)
	pass("LE 1\r\nQUIT\r\n", 12)
	tr.Server([]byte("+OK\r\n"))
	if tr.Boundary() || tr.Leave() != "" || tr.ByeLine("x") == "" {
		t.Error("ends with marks")
	}
	tr.Server([]byte("+OK bye\r\n"))
	if !tr.Boundary() || tr.Changes() != 1 || tr.ByeLine("x") != "" || tr.Leave() != "" {
		t.Error("does not end behind QUIT")
	}
	pass("STAT\r\n", 0)
}

// TestPopTrackerWords: what has no place in a session is spoilt, wherever the chunks end.
func TestPopTrackerWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"STLS\r\n": "STLX\r\n", " stls\r\n": " stlX\r\n", "AUTH PLAIN\r\n": "AUTX PLAIN\r\n", "Pass STLS\r\n": "PasX STLS\r\n",
		"XCLIENT ADDR=1\r\n": "XCLIENX ADDR=1\r\n", "RETR 1\r\n": "RETR 1\r\n", "UTF8\r\n": "UTFX\r\n", "STAT STLS\r\nSTLS\r\n": "STAT STLS\r\nSTLX\r\n"} {
		for cut := range len(in) {
			var tr popTracker
			a, b := []byte(in[:cut]), []byte(in[cut:])
			tr.Client(a, false)
			tr.Client(b, false)
			if got := string(a) + string(b); got != want {
				t.Errorf("%q cut at %d: %q, want %q", in, cut, got, want)
			}
		}
	}
}

// TestPopTrackerPending: a client that pipelines without end is held until the server answers.
func TestPopTrackerPending(t *testing.T) {
	t.Parallel()
	var tr popTracker
	many := []byte(strings.Repeat("NOOP\r\n", 2*maxPopPending))
	n := tr.Client(many, false)
	if n != maxPopPending*6 || tr.Client(many[n:], false) != 0 {
		t.Fatalf("%d bytes passed on", n)
	}
	tr.Server([]byte("+OK\r\n+OK\r\n"))
	if n := tr.Client(many[n:], false); n != 12 {
		t.Errorf("%d bytes passed on, want 12", n)
	}
}

// TestPopTrackerChunks: the tracker says the same however the bytes are cut.
func TestPopTrackerChunks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var up, down strings.Builder
		for range 1 + rnd.IntN(8) {
			c := []string{"STAT", "LIST", "LIST 2", "RETR 1", "TOP 1 0", "DELE 1", "RSET", "UIDL", "CAPA", "NOOP", "FOO"}[rnd.IntN(11)]
			up.WriteString(c + "\r\n")
			if rnd.IntN(3) == 0 {
				down.WriteString("-ERR no\r\n")
				continue
			}
			down.WriteString("+OK fine\r\n")
			if c == "LIST" || c == "UIDL" || c == "CAPA" || c == "RETR 1" || c == "TOP 1 0" {
				for range rnd.IntN(4) {
					down.WriteString([]string{"..\r\n", ".\n", "\n.\n", "a\r\n", "\r\n", "\r", "x.\r\n", ".\r.\r\n", "+OK\r\n", ".\rx\n"}[rnd.IntN(10)])
				}
				if down.String()[down.Len()-2:] != "\r\n" {
					down.WriteString("\r\n")
				}
				down.WriteString(".\r\n")
			}
		}
		whole, parts := &popTracker{}, &popTracker{}
		whole.Client([]byte(up.String()), false)
		whole.Server([]byte(down.String()))
		for s := up.String(); s != ""; {
			n := 1 + rnd.IntN(min(5, len(s)))
			parts.Client([]byte(s[:n]), false)
			s = s[n:]
		}
		for s := down.String(); s != ""; {
			n := 1 + rnd.IntN(min(3, len(s)))
			parts.Server([]byte(s[:n]))
			s = s[n:]
		}
		if len(whole.out) != 0 || !whole.atStart() {
			t.Errorf("seed %d: not over: %+v\n%q\n%q", seed, whole, up.String(), down.String())
		}
		whole.out, parts.out = nil, nil
		if !reflect.DeepEqual(whole, parts) {
			t.Errorf("seed %d: %+v and %+v\n%q", seed, whole, parts, down.String())
		}
	}
}

func FuzzPopTracker(f *testing.F) {
	f.Add("STAT\r\nRETR 1\r\n", "+OK\r\n+OK\r\n..\r\n.\r\n", 3)
	f.Add("DELE 1\nQUIT\n", "-ERR\n+OK\n", 1)
	f.Fuzz(func(t *testing.T, up, down string, cut int) {
		whole, parts := &popTracker{}, &popTracker{}
		n := whole.Client([]byte(up), false)
		whole.Server([]byte(down))
		cut = min(max(cut, 0), len(down))
		if k := parts.Client([]byte(up[:n]), false); k != n {
			t.Fatalf("%d and %d", n, k)
		}
		parts.Server([]byte(down[:cut]))
		parts.Server([]byte(down[cut:]))
		if a, b := fmt.Sprintf("%+v", whole), fmt.Sprintf("%+v", parts); a != b {
			t.Fatalf("%s\n%s", a, b)
		}
	})
}

// BenchmarkPopTracker follows a message of 64 KiB.
func BenchmarkPopTracker(b *testing.B) {
	body := []byte("+OK\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 900) + ".\r\n")
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	var t popTracker
	for b.Loop() {
		t.Client([]byte("RETR 1\r\n"), false)
		t.Server(body)
	}
}
