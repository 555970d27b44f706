package imapwire

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// reference is a second, slow tracker: it keeps whole lines and reads them by regular expressions. It is written from
// the RFCs, not from the first.
type reference struct {
	// client
	line   string // the present line
	first  string // the first line of the present command, "" unless it had a literal
	lit    uint64
	wait   bool
	idle   bool
	early  bool
	out    []refCommand
	writes uint64
	marks  bool  // a line of the present command asks FETCH for what marks as read
	taken  int   // bytes
	starts []int // where commands begin in what was taken
	// server
	sline string
	sdata bool // within a response that had a literal
	slit  uint64
	sent  strings.Builder // what the client gets
	bye   bool

	changes uint64
}

type refCommand struct{ tag, kind, effect string }

var (
	refLiteral = regexp.MustCompile(`\{([0-9]{1,18})(\+?)\}\r?\n$`)
	refRead    = regexp.MustCompile(`(?i)^[^ ]+ +(?:UID +)?(FETCH|SEARCH|SORT|THREAD|NOOP|CHECK|STATUS|LIST|LSUB|XLIST|` +
		`CAPABILITY|ID|NAMESPACE|SELECT|EXAMINE|GETQUOTA|GETQUOTAROOT|GETACL|MYRIGHTS|LISTRIGHTS|GETMETADATA)(?: |\r?\n)`)
	refStill  = regexp.MustCompile(`(?i)^[^ ]+ +(?:UID +)?(NOOP|CHECK|IDLE)(?: |\r?\n)`)
	refNone   = regexp.MustCompile(`(?i)^[^ ]+ +(?:UID +)?(LOGOUT|ENABLE|NOTIFY|UNSELECT|GENURLAUTH|URLFETCH)(?: |\r?\n)`)
	refFetch  = regexp.MustCompile(`(?i)^[^ ]+ +(?:UID +)?FETCH(?: |\r?\n)`)
	refMarks  = regexp.MustCompile(`(?i)y\[`)
	refTold   = regexp.MustCompile(`(?i)^\* *([0-9][^ ]*|VANISHED|STATUS|LIST)(?: |\r?\n)`)
	refIdle   = regexp.MustCompile(`(?i)^[^ ]+ +(?:UID +)?IDLE(?: |\r?\n)`)
	refSpoilt = regexp.MustCompile(`(?i)^([^ \n]* +)(COMPRESS|STARTTLS|LOGIN|UNAUTHENTICATE|AUTHENTICATE)`)
	refTag    = regexp.MustCompile(`^[!#$&',\-./0-9:;<=>?@A-Z\[\]^_` + "`" + `a-z|}~]+$`)
	refCaps   = regexp.MustCompile(`(?i)^(\* CAPABILITY )([^\n]*?)(\r*\n)$`)
	refCode   = regexp.MustCompile(`(?i)^((?:\*|[^ +*][^ ]{0,79}) OK \[CAPABILITY )([^\]]*)(\].*\n)$`)
	refHidden = regexp.MustCompile(`(?i)^(COMPRESS=|UNAUTHENTICATE|LOGIN-REFERRALS|MAILBOX-REFERRALS|STARTTLS)`)
)

// client takes one byte, or says that it must wait.
func (r *reference) client(c byte, stop bool) bool {
	start := r.line == "" && r.first == "" && !r.idle
	if r.wait || start && stop && r.lit == 0 {
		return false
	}
	if r.taken++; r.line == "" && r.first == "" {
		r.starts = append(r.starts, r.taken-1)
	}
	if r.lit > 0 {
		r.lit--
		return true
	}
	r.line += string([]byte{c})
	if c != '\n' {
		return true
	}
	line := r.line
	r.line = ""
	if r.idle {
		r.idle = false
		for i := range r.out {
			if r.out[i].kind == "idle" {
				r.out[i].kind = "other"
			}
		}
		return true
	}
	first, rest := r.first, line
	if first == "" {
		first, r.marks = line, false
		rest = line[len(refFetch.FindString(line)):]
	}
	r.marks = r.marks || refFetch.MatchString(first) && refMarks.MatchString(rest)
	if m := refLiteral.FindStringSubmatch(line); m != nil && !openQuote(line, r.first == "") {
		if r.early && m[2] == "" {
			r.first, r.early = "", false
			return true
		}
		r.lit, _ = strconv.ParseUint(m[1], 10, 64)
		r.wait, r.first = m[2] == "", first
		return true
	}
	over := r.early
	r.first, r.early = "", false
	tag := refTagOf(first)
	if over || tag == "" {
		return true
	}
	kind, effect := "other", "change"
	switch {
	case !refTag.MatchString(tag):
		kind = "odd"
	case refRead.MatchString(first):
		kind = "read"
	case refIdle.MatchString(first):
		kind, r.idle, r.wait = "idle", true, true
	}
	switch {
	case refStill.MatchString(first):
		effect = "still"
	case refNone.MatchString(first), refRead.MatchString(first) && !r.marks:
		effect = "none"
	}
	r.out = append(r.out, refCommand{tag, kind, effect})
	return true
}

func refTagOf(line string) string {
	tag, _, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
	return tag
}

// openQuote tells whether a line ends within a quoted string. A command's first word is no string.
func openQuote(line string, first bool) bool {
	if first {
		_, line, _ = strings.Cut(line, " ")
	}
	open := false
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '"':
			open = !open
		case line[i] == '\\' && open:
			i++
		}
	}
	return open
}

func (r *reference) server(c byte) {
	if r.slit > 0 {
		r.slit--
		r.sent.WriteByte(c)
		return
	}
	r.sline += string([]byte{c})
	if c != '\n' {
		return
	}
	line := r.sline
	r.sline = ""
	if !r.sdata {
		r.sent.WriteString(refFilter(line))
	} else {
		r.sent.WriteString(line)
	}
	word := strings.ToUpper(strings.TrimLeft(strings.TrimPrefix(strings.TrimRight(line, "\r\n"), "*"), " "))
	word, _, _ = strings.Cut(word, " ")
	m := refLiteral.FindStringSubmatch(line)
	if !r.sdata && refTold.MatchString(line) && !slices.ContainsFunc(r.out, func(c refCommand) bool { return c.effect != "still" }) {
		r.changes++
	}
	switch {
	case r.sdata || line[0] == '*' && !slices.Contains([]string{"OK", "NO", "BAD", "BYE", "PREAUTH", "CAPABILITY"}, word):
		if r.sdata = m != nil; r.sdata {
			r.slit, _ = strconv.ParseUint(m[1], 10, 64)
		}
	case line[0] == '*':
		r.bye = r.bye || word == "BYE"
		if i := slices.IndexFunc(r.out, func(c refCommand) bool { return c.kind == "odd" }); word == "BAD" && i >= 0 {
			r.out = slices.Delete(r.out, i, i+1)
		}
	case line[0] == '+':
		r.wait = false
	case refTagOf(line) != "":
		r.answered(refTagOf(line))
	}
}

func (r *reference) answered(tag string) {
	i := slices.IndexFunc(r.out, func(c refCommand) bool { return c.tag == tag })
	switch {
	case i >= 0:
		switch r.out[i].kind {
		case "idle":
			r.idle, r.wait = false, false
		case "other":
			r.writes++
		}
		if r.out[i].effect == "change" {
			r.changes++
		}
		r.out = slices.Delete(r.out, i, i+1)
	case r.first != "" && refTagOf(r.first) == tag && r.wait:
		r.first, r.wait, r.lit, r.early = "", false, 0, false
	case r.first != "" && refTagOf(r.first) == tag:
		r.early = true
	}
}

func refFilter(line string) string {
	for _, re := range []*regexp.Regexp{refCaps, refCode} {
		if m := re.FindStringSubmatch(line); m != nil && len(line) <= 16<<10 {
			caps := slices.DeleteFunc(strings.Fields(m[2]), refHidden.MatchString)
			return m[1] + strings.Join(caps, " ") + m[3]
		}
	}
	return line
}

func (r *reference) between(kind string) bool {
	if r.sline != "" || r.sdata || r.first != "" {
		return false
	}
	return !slices.ContainsFunc(r.out, func(c refCommand) bool { return c.kind != "idle" && c.kind != kind })
}

// agree runs a dialogue through both trackers, cut as told, and compares after each cut.
func agree(t *testing.T, client, server, cuts []byte) {
	t.Helper()
	var tr, bytewise Tracker
	var ref reference
	var got, want strings.Builder // what the server gets
	var out strings.Builder       // what the client gets
	for len(cuts) > 0 && len(client)+len(server) > 0 {
		cut := cuts[0]
		cuts = cuts[1:]
		n := 1 + int(cut>>3)
		if cut&1 == 0 {
			b := bytes.Clone(client[:min(n, len(client))])
			stop := cut&6 == 6
			passed := 0
			for passed < len(b) && ref.client(b[passed], stop) {
				passed++
			}
			if p := tr.Client(b, stop); p != passed {
				t.Fatalf("client %q: passed %d, want %d, behind %q and %q", b, p, passed, want.String(), out.String())
			}
			for _, c := range client[:passed] {
				bytewise.Client([]byte{c}, false)
			}
			got.Write(b[:passed])
			want.Write(client[:passed])
			client = client[passed:]
		} else {
			b := bytes.Clone(server[:min(n, len(server))])
			for _, c := range b {
				ref.server(c)
				bytewise.Server([]byte{c})
			}
			server = server[len(b):]
			out.Write(tr.Server(b))
		}
		if len(tr.server.held)+len(bytewise.server.held) == 0 {
			if a, b := tr.TakeDeletes(), bytewise.TakeDeletes(); !reflect.DeepEqual(a, b) {
				t.Fatalf("deletes %v, byte by byte %v, behind %q and %q", a, b, want.String(), out.String())
			}
		}
		if b := tr.Boundary(); b != ref.between("idle") {
			t.Fatalf("boundary %v, behind %q and %q", b, want.String(), out.String())
		}
		if b := tr.ReadsOnly(); b != ref.between("read") {
			t.Fatalf("reads only %v, behind %q and %q", b, want.String(), out.String())
		}
		if c := tr.Changes(); ref.sline == "" && c != ref.changes {
			t.Fatalf("changes %d, want %d, behind %q and %q", c, ref.changes, want.String(), out.String())
		}
		if tr.Idling() != ref.idle || ref.sline == "" && tr.Bye() != ref.bye || tr.Writes() != ref.writes {
			t.Fatalf("idling %v, bye %v, writes %d, behind %q and %q", tr.Idling(), tr.Bye(), tr.Writes(), want.String(), out.String())
		}
	}
	out.Write(tr.Flush())
	if w := ref.sent.String() + ref.sline; out.String() != w {
		t.Fatalf("client got %q, want %q", out.String(), w)
	}
	if w := ref.spoil(want.String()); got.String() != w {
		t.Fatalf("server got %q, want %q", got.String(), w)
	}
}

// spoil makes of what the client sent what the server gets.
func (r *reference) spoil(s string) string {
	b := []byte(s)
	for _, at := range r.starts {
		if m := refSpoilt.FindStringIndex(s[at:]); m != nil {
			b[at+m[1]-1] = 'X'
		}
	}
	return string(b)
}

// tame takes what the reference does not model out of fuzzed input: bare CR.
func tame(b []byte) []byte {
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(b, []byte("\r"), []byte("r"))
}

func FuzzTracker(f *testing.F) {
	f.Add([]byte("a1 APPEND x {5}\r\nhello\r\na2 IDLE\r\nDONE\r\n"), []byte("+ go\r\na1 OK\r\n+ idling\r\na2 OK\r\n"), []byte{0xf0, 0xf1, 0xf0, 0xf1})
	f.Add([]byte("a {99999999999999999999}\r\n"), []byte("* CAPABILITY COMPRESS=DEFLATE\r\n* BYE {3}\r\n"), []byte{8, 9, 8, 9, 0xff, 0xff})
	f.Add([]byte("a \"{3+}\r\nb X {3+}\r\nabc\r\n"), []byte("a BAD\r\nb NO\r\n* 1 FETCH {2}\r\nb )\r\n"), []byte{0xf0, 9, 17, 0x46, 0xff})
	f.Fuzz(func(t *testing.T, c, s, cuts []byte) { agree(t, tame(c), tame(s), cuts) })
}

// TestTrackerAgreesWithTheReference runs dialogues made of likely and unlikely pieces, cut anywhere.
func TestTrackerAgreesWithTheReference(t *testing.T) {
	clients := []string{"a1 NOOP\n", "a2 UID FETCH 1:* (BODY[])\n", "a3 APPEND x {5}\n", "hello\n", "a3 APPEND y {3+}\nabc\n", " {2+}\nde",
		"a4 IDLE\n", "DONE\n", "a1 STORE 1 +FLAGS (x)\n", "a5 SELECT \"{5}\"\n", "b1 FETCH 1 BODY[1]\n", "b2 FETCH 1 (BODY.PEEK[] X[])\n", "b3 CHECK\n", "b3 LOGOUT\n", "a6 LIST \"\" \"x\\\"{4+}\n", "\n", "( x\n", "a7 ~{1}\nz\n", "a8",
		"c1 SELECT Trash\n", "c1 SELECT {5}\n", "Trash\n", "c2 UID STORE 1:9 +FLAGS (\\Deleted)\n", "c3 EXPUNGE\n", "c3 CLOSE\n", "c2 STORE 1:* +FLAGS (\\Deleted)\n", "c3 UID MOVE 3:5 {1+}\nx\n", "c4 DELETE x\n",
		"a9 uid  store {0+}\n\n", "a1 login u p\n", "a2  COMPRESS DEFLATE\n", "a {99999999999999999999+}\n", " ", "{7}\n"}
	servers := []string{"+ go\n", "+\n", "a1 OK done\n", "a2 OK {3}\n", "a3 NO [TRYCREATE] no\n", "a4 OK idle\n", "a4 BAD\n", "a5 OK [CAPABILITY A STARTTLS] x\n",
		"a6 BAD\n", "a7 OK\n", "a8 BAD\n", "a9 OK\n", "b1 OK\n", "b2 OK\n", "b3 OK\n", "c1 OK x\n", "c2 OK\n", "c3 OK [X] x\n", "c4 OK\n", "* OK [UIDVALIDITY 8] x\n* OK [UIDNEXT 90] x\n", "* 4 EXPUNGE\n", "* VANISHED 3\n", "* OK still\n", "* BAD what\n", "* 1 FETCH (X {7}\na1 OK\n\n)\n", "* OK odd {9}\n", "* CAPABILITY COMPRESS=DEFLATE IDLE\n",
		"* 3 EXISTS\n", "*", " ", "\n", "* LIST () \"/\" {3}\n", "abc\n", "a"}
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var c, s, cuts []byte
		for range 12 {
			c = append(c, clients[rnd.IntN(len(clients))]...)
			s = append(s, servers[rnd.IntN(len(servers))]...)
		}
		if seed%2 == 0 {
			c, s = bytes.ReplaceAll(c, []byte("\n"), []byte("\r\n")), bytes.ReplaceAll(s, []byte("\n"), []byte("\r\n"))
		}
		for range 400 {
			cuts = append(cuts, byte(rnd.Uint32())&[]byte{0xff, 0x1f, 0x0f}[seed%3])
		}
		agree(t, c, s, cuts)
	}
}
