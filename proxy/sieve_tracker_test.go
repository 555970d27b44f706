package proxy

import (
	"fmt"
	"strings"
	"testing"
)

func (t *sieveTracker) say() string {
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

// TestSieveTracker: where a session may end.
func TestSieveTracker(t *testing.T) {
	t.Parallel()
	const free = "boundary reads pending"
	type step struct{ text, want string }
	for name, talk := range map[string][]step{
		"list":       {{"C: LISTSCRIPTS\r\n", "reads pending"}, {"S: \"a\" ACTIVE\r\n", "reads pending"}, {"S: {2+}\r\n", "pending"}, {"S: OK", "pending"}, {"S: \r\n", "reads pending"}, {"S: OK\r\n", free}},
		"get":        {{"C: getscript \"x\"\r\n", "reads pending"}, {"S: {10}\r\nOK\r\nNO\r\nxx", "pending"}, {"S: \r\nOK \"done\"\r\n", free}},
		"put":        {{"C: PUTSCRIPT \"x\" {12+}\r\n", ""}, {"C: OK\r\nLOGOUT\r\n", ""}, {"C: \r\n", ""}, {"S: NO {6}\r\nOK\r\nx\r", ""}, {"S: \r\n", free}},
		"quoted":     {{"C: PUTSCRIPT \"a {3+}\" \"\\\"{5+}\"\r\n", ""}, {"S: OK (WARNINGS) \"\\\"OK\"\r\n", free}},
		"not closed": {{"C: HAVESPACE \"x\r\n", ""}, {"S: NO \"what\r\n", free}},
		"half":       {{"C: DELETESC", free}, {"C: RIPT \"x\"\r\n", ""}, {"S: O", ""}, {"S: K\r\n", free}},
		"pipelined":  {{"C: NOOP\r\nC: SETACTIVE \"x\"\r\n", ""}, {"S: OK\r\n", ""}, {"S: NO\r\n", free}},
		"empty line": {{"C: \r\n", free}},
		"no number":  {{"C: PUTSCRIPT \"x\" {a+}\r\n", ""}, {"S: NO\r\n", free}},
		"bye":        {{"S: BYE \"idle\"\r\n", free}},
	} {
		var tr sieveTracker
		for _, x := range talk {
			for _, part := range strings.SplitAfter(x.text, "\r\nC: ") {
				part = strings.TrimSuffix(part, "C: ")
				if c, ok := strings.CutPrefix(part, "S: "); ok {
					tr.Server([]byte(c))
				} else {
					tr.Client([]byte(strings.TrimPrefix(part, "C: ")), false)
				}
			}
			if name == "not closed" && strings.HasPrefix(x.text, "C: HAVE") {
				x.want = "reads pending" // HAVESPACE only reads
			}
			if got := tr.say(); got != x.want {
				t.Errorf("%s: behind %q: %q, want %q", name, x.text, got, x.want)
			}
		}
		if name == "bye" && tr.ByeLine("x") != "" || name != "bye" && tr.ByeLine(`a"b`) != "BYE (TRYLATER) \"a\\\"b\"\r\n" {
			t.Errorf("%s: %q", name, tr.ByeLine("x"))
		}
	}
}

// TestSieveTrackerStop: no new command is passed on while the session is to end; one that has begun is.
func TestSieveTrackerStop(t *testing.T) {
	t.Parallel()
	var tr sieveTracker
	tr.Client([]byte("PUTSCRIPT \"x\" {3+}\r\nab"), false)
	if n := tr.Client([]byte("c\r\nLOGOUT\r\n"), true); n != 3 || tr.Boundary() {
		t.Errorf("%d bytes", n)
	}
	tr.Server([]byte("OK\r\n"))
	if !tr.Boundary() || tr.Changes() != 1 || tr.Writes() != 1 || tr.Leave() != "LOGOUT\r\n" {
		t.Errorf("%+v", tr)
	}
}

// TestSieveTrackerWords: what has no place in a session is spoilt, wherever the chunks end.
func TestSieveTrackerWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"STARTTLS\r\n": "STARTTLX\r\n", "authenticate \"PLAIN\"\r\n": "authenticatX \"PLAIN\"\r\n",
		"UNAUTHENTICATE\r\n": "UNAUTHENTICATX\r\n", "NOOP {5}\r\nSTARTTLS\r\n": "NOOP {5X\r\nSTARTTLX\r\n", "xclient \"ADDR=1\"\r\n": "xclienX \"ADDR=1\"\r\n", "NOOP \"{5}\"\r\n": "NOOP \"{5}\"\r\n", "PUTSCRIPT \"STARTTLS\" {8+}\r\nSTARTTLS\r\nNOOP\r\n": "PUTSCRIPT \"STARTTLS\" {8+}\r\nSTARTTLS\r\nNOOP\r\n"} {
		for cut := range len(in) {
			var tr sieveTracker
			a, b := []byte(in[:cut]), []byte(in[cut:])
			tr.Client(a, false)
			tr.Client(b, false)
			if got := string(a) + string(b); got != want {
				t.Errorf("%q cut at %d: %q, want %q", in, cut, got, want)
			}
		}
	}
}

func FuzzSieveTracker(f *testing.F) {
	f.Add("PUTSCRIPT \"x\" {3+}\r\nabc\r\nNOOP\r\n", "OK {2}\r\nOK\r\nOK\r\n", 3)
	f.Add("\"\n{5+}\n", "NO (QUOTA) \"a\\\"\r\n", 1)
	f.Fuzz(func(t *testing.T, up, down string, cut int) {
		whole, parts := &sieveTracker{}, &sieveTracker{}
		a := []byte(up)
		n := whole.Client(a, false)
		whole.Server([]byte(down))
		b := []byte(up[:n])
		c := min(max(cut, 0), n)
		parts.Client(b[:c], false)
		parts.Client(b[c:], false)
		cut = min(max(cut, 0), len(down))
		parts.Server([]byte(down[:cut]))
		parts.Server([]byte(down[cut:]))
		if x, y := fmt.Sprintf("%+v%s", whole, a[:n]), fmt.Sprintf("%+v%s", parts, b); x != y {
			t.Fatalf("%s\n%s", x, y)
		}
	})
}
