package imapwire

import (
	"bytes"
	"testing"
)

// step is one piece of a dialogue: c from the client, s from the server; want is checked behind it.
type step struct {
	c, s     string
	pass     int // of c; 0 means all
	boundary bool
	reads    bool
}

func TestTracker(t *testing.T) {
	tests := []struct {
		name  string
		steps []step
	}{
		{"noop", []step{
			{c: "a1 NOOP\r\n", reads: true},
			{s: "a1 OK done\r\n", boundary: true, reads: true},
		}},
		{"a partial line has done nothing", []step{
			{c: "a1 STO", boundary: true, reads: true},
			{c: "RE 1 +FLAGS (x)\r\n"},
			{s: "* 1 FETCH (FLAGS (x))\r\n"},
			{s: "a1 OK done\r\n", boundary: true, reads: true},
		}},
		{"append with a synchronizing literal", []step{
			{c: "a1 APPEND INBOX {5}\r\nhello\r\n", pass: 21},
			{s: "+ go\r\n"},
			{c: "hel"},
			{c: "lo"},
			{c: "\r\n"},
			{s: "a1 OK [APPENDUID 1 1] done\r\n", boundary: true, reads: true},
		}},
		{"append refused before the literal", []step{
			{c: "a1 APPEND nope {5}\r\na2 NOOP\r\n", pass: 20},
			{s: "a1 NO [TRYCREATE] no\r\n", boundary: true, reads: true},
			{c: "a2 NOOP\r\n", reads: true},
			{s: "a2 OK\r\n", boundary: true, reads: true},
		}},
		{"append with LITERAL+ answered early", []step{
			{c: "a1 APPEND nope {5+}\r\nhe"},
			{s: "a1 NO [TRYCREATE] no\r\n"},
			{c: "llo\r\n", boundary: true, reads: true},
		}},
		{"multiappend", []step{
			{c: "a1 APPEND x {3+}\r\nabc {2+}\r\nde\r\n"},
			{s: "a1 OK\r\n", boundary: true, reads: true},
		}},
		{"idle", []step{
			{c: "a1 IDLE\r\n", boundary: true, reads: true},
			{s: "+ idling\r\n", boundary: true, reads: true},
			{s: "* 3 EXISTS\r\n", boundary: true, reads: true},
			{c: "DONE\r\n"},
			{s: "a1 OK idle\r\n", boundary: true, reads: true},
		}},
		{"idle refused, then another command", []step{
			{c: "a1 IDLE\r\n", boundary: true, reads: true},
			{s: "a1 BAD no\r\n", boundary: true, reads: true},
			{c: "a2 STORE 1 +FLAGS (x)\r\n"},
			{s: "a2 OK\r\n", boundary: true, reads: true},
		}},
		{"idle and a literal pipelined behind it", []step{
			{c: "a1 IDLE\r\nDONE\r\na2 APPEND x {1}\r\nz\r\n", pass: 9, boundary: true, reads: true},
			{s: "+ idling\r\n", boundary: true, reads: true},
			{c: "DONE\r\na2 APPEND x {1}\r\nz\r\n", pass: 23},
			{s: "a1 OK\r\n"},
			{s: "+ go\r\n"},
			{c: "z\r\n"},
			{s: "a2 OK\r\n", boundary: true, reads: true},
		}},
		{"idle refused while the client sends on", []step{
			{c: "a1 IDLE\r\na2 STORE 1 x\r\n", pass: 9, boundary: true, reads: true},
			{s: "a1 NO not now\r\n", boundary: true, reads: true},
			{c: "a2 STORE 1 x\r\n"},
			{s: "a2 OK\r\n", boundary: true, reads: true},
		}},
		{"idle ended by the server", []step{
			{c: "a1 IDLE\r\n", boundary: true, reads: true},
			{s: "+ idling\r\na1 OK enough\r\n", boundary: true, reads: true},
			{c: "a2 STORE 1 x\r\n"},
			{s: "a2 OK\r\n", boundary: true, reads: true},
		}},
		{"a literal refused behind an early answer", []step{
			{c: "a1 APPEND x {3+}\r\nab"},
			{s: "a1 NO [TRYCREATE] no\r\n"},
			{c: "c {2}\r\n", boundary: true, reads: true},
			{c: "a2 NOOP\r\n", reads: true},
			{s: "a2 OK\r\n", boundary: true, reads: true},
		}},
		{"a quoted string that looks like a literal", []step{
			{c: "a1 SELECT \"{5}\"\r\na2 STORE 1 x\r\n"},
			{s: "a1 OK\r\na2 OK\r\n", boundary: true, reads: true},
		}},
		{"an open quoted string hides no literal", []step{
			{c: "a1 SELECT \"x\\\"{99+}\r\na2 STORE 1 x\r\n"},
			{s: "a1 BAD\r\na2 OK\r\n", boundary: true, reads: true},
		}},
		{"{5-} is no literal", []step{
			{c: "a1 LIST \"\" {5-}\r\na2 STORE 1 x\r\n"},
			{s: "a1 BAD\r\na2 OK\r\n", boundary: true, reads: true},
		}},
		{"a tag that is none", []step{
			{c: "* STORE 1 x\r\n(a STORE 1 x\r\n"},
			{s: "* BAD no tag\r\n"},
			{s: "* BAD no tag\r\n", boundary: true, reads: true},
		}},
		{"catenate", []step{
			{c: "a1 APPEND x CATENATE (URL \"/y;UID=2\" TEXT {2}\r\nab URL \"z\")\r\n", pass: 47},
			{s: "+ go\r\n"},
			{c: "ab URL \"z\")\r\n"},
			{s: "a1 OK\r\n", boundary: true, reads: true},
		}},
		{"notify, bare LF and unknown untagged data", []step{
			{c: "a1 NOTIFY SET (SELECTED (MessageNew))\n"},
			{s: "* XLIST what {3}\r\na1 ever\n* 4 FETCH (X \"\")\na1 OK\n", boundary: true, reads: true},
			{s: "* STATUS x (MESSAGES 1)\r\n", boundary: true, reads: true},
		}},
		{"an answer to a tag that nobody used", []step{
			{c: "a1 STORE 1 x\r\n"},
			{s: "a9 OK\r\n"},
			{s: "a1 OK\r\n", boundary: true, reads: true},
		}},
		{"fetch with a literal that looks like lines", []step{
			{c: "a1 FETCH 1 BODY[]\r\n", reads: true},
			{s: "* 1 FETCH (BODY[] {14}\r\na1 OK done\r\n"},
			{s: "xx"},
			{s: ")\r\n", reads: true},
			{s: "a1 OK done\r\n", boundary: true, reads: true},
		}},
		{"status text that looks like a literal", []step{
			{c: "a1 STORE 1 x\r\n"},
			{s: "* OK odd {5}\r\na1 OK odd {7}\r\n", boundary: true, reads: true},
		}},
		{"uid fetch and uid store", []step{
			{c: "a1 UID FETCH 1 FLAGS\r\n", reads: true},
			{c: "a2 UID STORE 1 +FLAGS x\r\n"},
			{s: "a1 OK\r\n"},
			{s: "a2 OK\r\n", boundary: true, reads: true},
		}},
		{"same tag twice", []step{
			{c: "a NOOP\r\na NOOP\r\n", reads: true},
			{s: "a OK\r\n", reads: true},
			{s: "a OK\r\n", boundary: true, reads: true},
		}},
		{"empty literal", []step{
			{c: "a1 LIST \"\" {0+}\r\n\r\n", reads: true},
			{s: "a1 OK\r\n", boundary: true, reads: true},
		}},
		{"literal8", []step{
			{c: "a1 APPEND x ~{3+}\r\nabc\r\n"},
			{s: "a1 OK\r\n", boundary: true, reads: true},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 7, 1 << 20} {
				var tr Tracker
				for i, s := range tt.steps {
					want := len(s.c)
					if s.pass > 0 {
						want = s.pass
					}
					if got := feedClient(&tr, s.c, size); got != want {
						t.Fatalf("size %d, step %d: passed %d, want %d", size, i, got, want)
					}
					if got := feedServer(&tr, s.s, size); got != s.s {
						t.Fatalf("size %d, step %d: got %q", size, i, got)
					}
					if got := tr.Boundary(); got != s.boundary {
						t.Fatalf("size %d, step %d: boundary %v", size, i, got)
					}
					if got := tr.ReadsOnly(); got != s.reads {
						t.Fatalf("size %d, step %d: reads only %v", size, i, got)
					}
				}
			}
		})
	}
}

func feedClient(tr *Tracker, s string, size int) (passed int) {
	for b := []byte(s); len(b) > 0; {
		n := min(size, len(b))
		got := tr.Client(b[:n], false)
		passed += got
		if got < n {
			return passed
		}
		b = b[n:]
	}
	return passed
}

func feedServer(tr *Tracker, s string, size int) string {
	var out bytes.Buffer
	for b := []byte(s); len(b) > 0; {
		n := min(size, len(b))
		out.Write(tr.Server(b[:n]))
		b = b[n:]
	}
	return out.String()
}

func TestTrackerStopsBeforeTheNextCommand(t *testing.T) {
	var tr Tracker
	tr.Client([]byte("a1 APPEND x {3+}\r\na"), false)
	if got := tr.Client([]byte("bc\r\na2 NOOP\r\n"), true); got != 4 {
		t.Fatalf("passed %d bytes, want the 4 that end the APPEND", got)
	}
	if tr.Boundary() {
		t.Fatal("the APPEND is not answered")
	}
	tr.Server([]byte("a1 OK\r\n"))
	if !tr.Boundary() {
		t.Fatal("the APPEND is answered")
	}
}

func TestTrackerSpoilsWhatASpliceCannotCarry(t *testing.T) {
	for in, want := range map[string]string{
		"a1 COMPRESS DEFLATE\r\n":   "a1 COMPRESX DEFLATE\r\n",
		"a1 compress deflate\r\n":   "a1 compresX deflate\r\n",
		"a1 UNAUTHENTICATE\r\n":     "a1 UNAUTHENTICATX\r\n",
		"a1 STARTTLS\r\n":           "a1 STARTTLX\r\n",
		"a1 AUTHENTICATE PLAIN\r\n": "a1 AUTHENTICATX PLAIN\r\n",
		"a1 login u p\r\n":          "a1 logiX u p\r\n",
		"a1  COMPRESS DEFLATE\r\n":  "a1  COMPRESX DEFLATE\r\n",
		"a1 SELECT COMPRESS\r\n":    "a1 SELECT COMPRESS\r\n",
		"a1 UID COMPRESS x\r\n":     "a1 UID COMPRESS x\r\n",
		"COMPRESS NOOP\r\n":         "COMPRESS NOOP\r\n",
		"a1 LIST \"\" COMPRESS\r\n": "a1 LIST \"\" COMPRESS\r\n",
	} {
		for _, size := range []int{1, 4, 100} {
			var tr Tracker
			b := []byte(in)
			for i := 0; i < len(b); i += size {
				tr.Client(b[i:min(i+size, len(b))], false)
			}
			if string(b) != want {
				t.Errorf("%q became %q", in, b)
			}
		}
	}
}

func TestTrackerFiltersCapabilities(t *testing.T) {
	in := "* 1 EXISTS\r\n* CAPABILITY IMAP4rev1 COMPRESS=DEFLATE IDLE UNAUTHENTICATE\r\na1 OK done\r\n" +
		"* 1 FETCH (BODY[] {30}\r\n* CAPABILITY COMPRESS=DEFLATE\r\n)\r\n" +
		"a2 OK [CAPABILITY IMAP4rev1 COMPRESS=DEFLATE] in {5}\r\n* ok [capability A STARTTLS] x\n" +
		"* OK [CAPABILITY COMPRESS=DEFLATE\r\n* NO [CAPABILITY COMPRESS=DEFLATE] x\r\n+ OK [CAPABILITY COMPRESS=DEFLATE] x\r\n" +
		"* CAPABILITY COMPRESS=DEFLATE\n\r\na3 OK\r\n"
	want := "* 1 EXISTS\r\n* CAPABILITY IMAP4rev1 IDLE\r\na1 OK done\r\n" +
		"* 1 FETCH (BODY[] {30}\r\n* CAPABILITY COMPRESS=DEFLATE\r\n)\r\n" +
		"a2 OK [CAPABILITY IMAP4rev1] in {5}\r\n* ok [capability A] x\n" +
		"* OK [CAPABILITY COMPRESS=DEFLATE\r\n* NO [CAPABILITY COMPRESS=DEFLATE] x\r\n+ OK [CAPABILITY COMPRESS=DEFLATE] x\r\n" +
		"* CAPABILITY \n\r\na3 OK\r\n"
	for size := 1; size <= len(in); size++ {
		var tr Tracker
		if got := feedServer(&tr, in, size); got != want {
			t.Fatalf("size %d: %q", size, got)
		}
	}
}
