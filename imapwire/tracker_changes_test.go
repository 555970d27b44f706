package imapwire

import "testing"

// TestTrackerChanges: what counts as a sign of change, byte by byte and whole.
func TestTrackerChanges(t *testing.T) {
	for _, x := range []struct {
		name    string
		c, s    []string // in turns
		want    uint64
		pending bool
	}{
		{"reads", []string{"a SELECT x\r\n", "b UID FETCH 1:* (FLAGS BODY.PEEK[] BODYSTRUCTURE)\r\n", "c UID SEARCH ALL\r\n", "d LOGOUT\r\n"},
			[]string{"* 3 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\na OK\r\n", "* 1 FETCH (FLAGS ())\r\nb OK\r\n", "* SEARCH 1\r\nc OK\r\n", "* BYE\r\nd OK\r\n"}, 0, false},
		{"idle, kept alive", []string{"a IDLE\r\n", "DONE\r\n"}, []string{"+ go\r\n* OK Still here\r\n", "a OK\r\n"}, 0, false},
		{"idle, new mail, and more behind DONE", []string{"a IDLE\r\n", "DONE\r\n"}, []string{"+ go\r\n* 4 EXISTS\r\n* 1 RECENT\r\n", "* 2 EXPUNGE\r\na OK\r\n"}, 3, false},
		{"notify", []string{"a NOTIFY SET (personal (MessageNew))\r\n"}, []string{"a OK\r\n* STATUS x (MESSAGES 1)\r\n* LIST () \"/\" y\r\n* VANISHED 4\r\n"}, 3, false},
		{"noop tells", []string{"a NOOP\r\n"}, []string{"* 5 EXISTS\r\na OK\r\n"}, 1, false},
		{"noop beside a fetch tells nothing sure", []string{"a NOOP\r\nb FETCH 1 FLAGS\r\n"}, []string{"* 1 FETCH (FLAGS ())\r\na OK\r\nb OK\r\n"}, 0, false},
		{"store", []string{"a STORE 1 +FLAGS (x)\r\n"}, []string{"* 1 FETCH (FLAGS (x))\r\na OK\r\n"}, 1, false},
		{"store, unanswered", []string{"a STORE 1 +FLAGS (x)\r\n"}, []string{"* 1 FETCH (FLAGS (x))\r\n"}, 0, true},
		{"append", []string{"a APPEND x {3+}\r\nabc\r\n"}, []string{"a OK\r\n"}, 1, false},
		{"append, half", []string{"a APPEND x {3+}\r\na"}, []string{""}, 0, true},
		{"fetch that marks as read", []string{"a UID FETCH 1 (UID body[])\r\n"}, []string{"a OK\r\n"}, 1, false},
		{"fetch that marks as read, behind one that does not", []string{"a FETCH 1 (BODY.PEEK[1] BINARY[2])\r\n"}, []string{"a OK\r\n"}, 1, false},
		{"search for the like", []string{"a SEARCH SUBJECT \"BODY[]\"\r\n"}, []string{"a OK\r\n"}, 0, false},
	} {
		for _, size := range []int{1, 5, 1000} {
			var tr Tracker
			for i, c := range x.c {
				feedClient(&tr, c, size)
				feedServer(&tr, x.s[i], size)
			}
			if tr.Changes() != x.want || tr.ChangesPending() != x.pending {
				t.Errorf("%s, size %d: %d changes, pending %v", x.name, size, tr.Changes(), tr.ChangesPending())
			}
		}
	}
}
