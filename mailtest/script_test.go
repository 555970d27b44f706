package mailtest

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// note is a TB that keeps what is said to it.
type note struct {
	testing.TB
	errors []string
}

func (n *note) Errorf(format string, args ...any) {
	n.errors = append(n.errors, fmt.Sprintf(format, args...))
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDialogueFromBothEnds(t *testing.T) {
	_, _, server, client := Certificate(t, t.TempDir())
	text := `
		# the same conversation for both
		S: * OK ready
		C: a1 LOGIN "u" {4}
		S: + go
		C" "p ss\r\n"
		S: * 1 EXISTS
		S~ a1 OK done
		C: a2 LOGOUT
		S: * BYE
	`
	s := StartScript(t, server, func(k *Talk) {
		k.Dialogue(text)
		k.Dialogue("!close")
	})
	k := Dial(t, s.Addr, client)
	k.Dialogue(text)
	k.Dialogue("!end")
	if s.Said("LOGOUT") != 1 {
		t.Errorf("received %q", s.Received())
	}
}

func TestPatterns(t *testing.T) {
	k := newTalk(nil, false)
	for _, tt := range []struct {
		pattern, line string
		want          bool
	}{
		{"$t LOGIN ...", "g1 LOGIN u p", true},
		{"$t OK", "g2 OK", false},
		{"$t OK", "g1 OK", true},
		{"a $$x", "a $x", true},
		{"* OK...", "* OK", true},
		{"a.b", "axb", false},
		{"ID ($key \"v\")", `ID ("k" "v")`, true},
	} {
		if got := k.match(tt.pattern, tt.line); got != tt.want {
			t.Errorf("%q, %q: %v", tt.pattern, tt.line, got)
		}
	}
	if got := k.expand("$t $key $$ $other"); got != `g1 "k" $ $other` {
		t.Error(got)
	}
}

func TestScriptTellsOfASurprise(t *testing.T) {
	n := &note{TB: t}
	s := StartScript(n, nil, func(k *Talk) { k.Dialogue("S: hello\nC: one") })
	k := Dial(t, s.Addr, nil)
	k.Dialogue("S: hello\nC: two\n!end")
	s.Close()
	if len(n.errors) != 1 || !strings.Contains(n.errors[0], `got "two", want "one"`) {
		t.Errorf("errors: %q", n.errors)
	}
}

func TestFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		check  func(k *Talk) bool
	}{
		"silent":  {"!silent", func(k *Talk) bool { return quiet(k) }},
		"close":   {"!close", func(k *Talk) bool { return k.ExpectEnd() == "" }},
		"reset":   {"C: x\n!reset", func(k *Talk) bool { k.Send("x\r\n"); return k.ExpectEnd() == "" }},
		"eof":     {"!eof\nC: x", func(k *Talk) bool { defer k.Send("x\r\n"); return k.ExpectEnd() == "" }},
		"garbage": {"!garbage 5000", func(k *Talk) bool { return len(k.ReadN(5000)) == 5000 }},
		"endless": {"!endless 300000", func(k *Talk) bool { return k.ExpectEnd() == strings.Repeat("x", 300000) }},
		"slow": {"!slow 5ms\nS: 12345678", func(k *Talk) bool {
			start := time.Now()
			return k.Line() == "12345678" && time.Since(start) > 25*time.Millisecond
		}},
		"late": {"!late 50ms\nS: x", func(k *Talk) bool {
			start := time.Now()
			return k.Line() == "x" && time.Since(start) > 30*time.Millisecond
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := StartScript(t, nil, func(k *Talk) { k.Dialogue(tt.script) })
			if !tt.check(Dial(t, s.Addr, nil)) {
				t.Error("not so")
			}
		})
	}
}

// quiet tells whether nothing comes for a while.
func quiet(k *Talk) bool {
	_ = k.raw.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	_, err := k.raw.Read(make([]byte, 1))
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

func TestCloseEndsConversations(t *testing.T) {
	s := StartScript(t, nil, func(k *Talk) { k.Deaf("never") })
	k := Dial(t, s.Addr, nil)
	s.Await("accept 1")
	s.Close()
	if k.ExpectEnd() != "" || s.Open() != 0 || s.Count() != 1 {
		t.Error("a conversation is left")
	}
}
