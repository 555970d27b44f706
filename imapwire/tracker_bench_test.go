package imapwire

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkTracker has a client read the flags of a thousand messages, mark one as read and wait, over and over.
func BenchmarkTracker(b *testing.B) {
	var lines strings.Builder
	for n := 1; n <= 1000; n++ {
		fmt.Fprintf(&lines, "* %d FETCH (UID %d FLAGS (\\Seen))\r\n", n, n+7)
	}
	talk := [][2][]byte{
		{[]byte("a1 UID FETCH 1:* (FLAGS)\r\n"), []byte(lines.String() + "a1 OK Fetch completed.\r\n")},
		{[]byte("a2 UID STORE 17 +FLAGS.SILENT (\\Seen)\r\n"), []byte("a2 OK Store completed.\r\n")},
		{[]byte("a3 IDLE\r\n"), []byte("+ idling\r\n* 1001 EXISTS\r\n")},
		{[]byte("DONE\r\n"), []byte("a3 OK Idle completed.\r\n")},
	}
	var t Tracker
	t.Client([]byte("a0 SELECT INBOX\r\n"), false)
	t.Server([]byte("* 1000 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n* OK [UIDNEXT 1008] x\r\na0 OK [READ-WRITE] x\r\n"))
	b.SetBytes(int64(lines.Len()))
	b.ReportAllocs()
	for b.Loop() {
		for _, x := range talk {
			t.Client(x[0], false)
			t.Server(x[1])
		}
	}
	if t.Outstanding() > 0 {
		b.Fatal("commands left")
	}
}
