package corpus

import (
	"bytes"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"time"

	"mailgate/imapwire"
)

// Folder is a mailbox to be made. Its name is by levels, raw as on the wire (modified UTF-7), below the host's prefix.
type Folder struct {
	Levels     []string // {"INBOX"} is the inbox
	Subscribed bool
	Count      int               // messages
	Messages   iter.Seq[Message] // gives the same each time; nil means none
}

// Raw is the name on a host; ok is false when a level holds the separator, so that the host cannot have it.
func (f Folder) Raw(prefix, sep string) (name string, ok bool) {
	if len(f.Levels) == 1 && strings.EqualFold(f.Levels[0], "INBOX") {
		return "INBOX", true
	}
	for _, l := range f.Levels {
		if sep != "" && strings.Contains(l, sep) {
			return "", false
		}
	}
	return prefix + strings.Join(f.Levels, sep), true
}

// Names are the names of folders that copying programs and servers stumble over. Some hosts refuse some of them.
func Names() [][]string {
	deep := make([]string, 12)
	for i := range deep {
		deep[i] = fmt.Sprintf("d%d", i)
	}
	return [][]string{
		{"Sent", "2023"}, {"Sent", "2023", "Q1"}, {"Drafts", "old"}, {"Trash", "2022"}, // children of special folders
		{"Entw&APw-rfe"}, {"&ZeVnLIqe-"}, {"&2D3eAA-"}, {"R&-D"}, // Entwürfe, 日本語, an emoji, R&D
		{"R&D"}, {"&AGE-"}, {"&Jjo"}, // not canonical
		{"50% off"}, {`say "hello"`}, {"a*b"}, {`back\slash`}, {"two  spaces"}, {" leading"}, {"trailing "}, {"~tilde"}, {"#hash"},
		{"(paren)"}, {"{brace}"}, {"[bracket]"}, {"quo'te"}, {"a+b=c"}, {"-dash"}, {"NIL"},
		{"Work"}, {"work"}, {"Work", "Sub"}, {"work", "sub"}, // the same but for the case
		deep, {"only", "the", "leaf"},
		{"slash/inside"}, {"v1.2"}, {"2023", "v1.0 final"}, // which the other separator cannot hold
		{strings.Repeat("n", 200)},
	}
}

// Options of Mailbox.
type Options struct {
	Mean  int  // bytes of a message, on the average; 0 means 22,400: 20,000 messages are about 437 MB
	Plain bool // without Nasty and Names
}

// Mailbox is an account that looks like a real one: so many messages in so many folders, sizes from half a kilobyte to
// megabytes. INBOX is the first folder, Sent the second. Unless o.Plain, INBOX begins with Nasty, and folders have Names as
// far as there is room. The same arguments give the same bytes.
func Mailbox(messages, folders int, seed uint64, o Options) []Folder {
	names := [][]string{{"INBOX"}, {"Sent"}}
	if !o.Plain {
		names = append(names, Names()...)
	}
	for i := 0; len(names) < folders; i++ {
		names = append(names, []string{"Projects", fmt.Sprintf("%c%d", 'A'+i%26, i)})
	}
	names = names[:max(1, min(folders, len(names)))]
	var nasty []Message
	if !o.Plain {
		nasty = Nasty()
	}
	mean := o.Mean
	if mean <= 0 {
		mean = 22_400
	}
	out := make([]Folder, len(names))
	for i, n := range shares(messages, names, len(nasty)) {
		var first []Message
		if i == 0 {
			first = nasty[:min(n, len(nasty))]
		}
		out[i] = Folder{Levels: names[i], Subscribed: i%3 != 2, Count: n, Messages: generated(seed, uint64(i), first, n, mean)}
	}
	return out
}

// shares tells how many messages each folder has: INBOX a quarter, and all nasty ones; Sent an eighth of what is left; a
// folder that many hosts refuse twenty at most, so that no large part of an account is missing there; the others the same.
func shares(messages int, names [][]string, nasty int) []int {
	out := make([]int, len(names))
	left := messages
	give := func(i, n int) { out[i], left = n, left-n }
	if len(names) > 1 {
		give(0, max(messages/4, min(messages, nasty)))
	}
	if len(names) > 2 {
		give(1, left/8)
	}
	var others []int
	for i := min(len(names)-1, 2); i < len(names); i++ {
		if hard(names[i]) {
			give(i, min(20, left/len(names)))
		} else {
			others = append(others, i)
		}
	}
	for n, i := range others {
		give(i, left/(len(others)-n))
	}
	out[0] += left
	return out
}

// hard tells whether many hosts refuse a name.
func hard(levels []string) bool {
	for _, l := range levels {
		text, canonical := imapwire.DecodeName(l)
		if !canonical || strings.ContainsAny(l, `~/.%"\{`) || strings.ContainsFunc(text, func(r rune) bool { return r > 0xffff }) {
			return true
		}
	}
	return false
}

// Small is a folder of n messages of half a kilobyte.
func Small(n int, seed uint64, levels ...string) Folder {
	return Folder{Levels: levels, Subscribed: true, Count: n, Messages: generated(seed, 1<<32, nil, n, 0)}
}

// generated gives first, and then made-up messages until there are n. A mean of 0 makes small ones.
func generated(seed, folder uint64, first []Message, n, mean int) iter.Seq[Message] {
	return func(yield func(Message) bool) {
		for _, m := range first {
			if !yield(m) {
				return
			}
		}
		r := rand.New(rand.NewPCG(seed, folder))
		var pool []byte
		if mean > 0 {
			pool = words(r, 1<<16)
		}
		date := ordinary.AddDate(-10, 0, 0)
		step := min(10_000, int(ordinary.Sub(date)/time.Second)/max(1, n)) // none is of tomorrow: hosts take that for today
		for i := len(first); i < n; i++ {
			date = date.Add(time.Duration(r.IntN(step)) * time.Second)
			m := Message{Name: fmt.Sprintf("%d of folder %d", i, folder), Date: date, Flags: flags(r)}
			m.Data = body(r, pool, folder, i, date, size(r, mean))
			if !yield(m) {
				return
			}
		}
	}
}

// size is mostly small, sometimes large.
func size(r *rand.Rand, mean int) int {
	f := 0.15
	switch x := r.IntN(100); {
	case x >= 95:
		f = 13.9
	case x >= 70:
		f = 0.8
	}
	return int(r.ExpFloat64() * f * float64(mean))
}

// flags: most mail is read, some is answered or flagged, a little has keywords.
func flags(r *rand.Rand) []string {
	var out []string
	for _, f := range []struct {
		flag    string
		percent int
	}{{`\Seen`, 85}, {`\Answered`, 15}, {`\Flagged`, 4}, {`\Deleted`, 1}, {`\Draft`, 1}, {"$Forwarded", 3}, {"$Label1", 3}, {"NonJunk", 10}, {"$MDNSent", 1}} {
		if r.IntN(100) < f.percent {
			out = append(out, f.flag)
		}
	}
	return out
}

func words(r *rand.Rand, n int) []byte {
	list := strings.Fields("the of and to in is that for it as was with be by on not he this are or his from at which but have an had they you were their one all we can her has there been if more when will would who so no")
	var b []byte
	for start := 0; len(b) < n; {
		b = append(b, list[r.IntN(len(list))]...)
		if len(b)-start > 65 {
			b = append(b, '\r', '\n')
			start = len(b)
		} else {
			b = append(b, ' ')
		}
	}
	return b
}

func body(r *rand.Rand, pool []byte, folder uint64, i int, date time.Time, size int) []byte {
	b := make([]byte, 0, 600+size)
	b = fmt.Appendf(b, "Return-Path: <p%d@example.org>\r\nReceived: from mx.example.org by mx.example.com with ESMTPS id %016x;\r\n\t%s\r\n"+
		"From: Person %d <p%d@example.org>\r\nTo: User <user@example.com>\r\nSubject: Message %d of folder %d\r\nDate: %s\r\n"+
		"Message-ID: <%d.%d.%08x@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
		i%97, r.Uint64(), date.Format(time.RFC1123Z), i%97, i%97, i, folder, date.Format(time.RFC1123Z), folder, i, r.Uint32())
	for size > 0 && len(pool) > 0 {
		at := r.IntN(len(pool))
		n := min(size, len(pool)-at)
		b, size = append(b, whole(pool[at:at+n])...), size-n
	}
	return append(b, "\r\n"...)
}

// whole takes off the CR and LF of a line end that was cut in two.
func whole(b []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimPrefix(b, []byte("\n")), []byte("\r"))
}
