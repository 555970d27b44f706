package faulty

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// TestNotify: what others do is told between commands, until NONE; what the product does not know is refused.
func TestNotify(t *testing.T) {
	p := Dovecot()
	p.Capabilities += " NOTIFY"
	p.Events = "MessageNew MessageExpunge"
	h := Start(t, p)
	c, err := net.Dial("tcp", h.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(c)
	expect := func(prefix string) {
		t.Helper()
		if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, prefix) {
			t.Fatalf("%q, %v, want %q", line, err, prefix)
		}
	}
	say := func(text, answer string) {
		t.Helper()
		fmt.Fprintf(c, "a %s\r\n", text)
		expect(answer)
	}
	expect("* OK")
	say("LOGIN anna "+Password, "a OK")
	say("NOTIFY SET (personal (MessageNew FlagChange))", "a NO [BADEVENT (MessageNew MessageExpunge)]")
	say("NOTIFY SET (personal (MessageNew MessageExpunge))", "a OK")
	say("NOOP", "a OK")
	h.Account.Append("INBOX", nil, time.Now(), []byte("x"))
	expect(`* STATUS "INBOX" (MESSAGES 1 UIDNEXT 2 `)
	h.Account.Create("Work")
	expect(`* LIST () "/" "Work"`)
	h.Account.Delete("Work")
	expect(`* LIST (\NonExistent) "/" "Work"`)
	say("NOTIFY SET (personal (MessageNew MessageExpunge))", "a OK") // in place of the one before
	h.Account.Expunge("INBOX", 0)
	expect(`* STATUS "INBOX" (MESSAGES 0 `)
	say("NOTIFY NONE", "a OK")
	h.Account.Append("INBOX", nil, time.Now(), []byte("y"))
	say("NOOP", "a OK")
}
