package syncer

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// specimen is a message of the nasty corpus.
type specimen struct {
	name   string
	body   string
	binary bool // sent as literal8
	date   time.Time
	flags  []string
	odd    bool // its date is one that products need not keep
}

// Names of specimens that the probe looks at again.
const (
	plainMail   = "ordinary"
	flaggedMail = "all flags"
	binaryMail  = "NUL by literal8"
)

// ordinaryDate is the date of every specimen that is not about dates.
var ordinaryDate = time.Date(2021, 3, 4, 5, 6, 7, 0, time.FixedZone("", 3600))

// corpus lists the specimens in the order in which they are appended.
func corpus() []specimen {
	head := func(name string, more ...string) string {
		return "From: Probe <probe@example.com>\r\nTo: probe@example.com\r\nSubject: " + name +
			"\r\nDate: Thu, 4 Mar 2021 05:06:07 +0100\r\nMessage-ID: <" + strings.Map(atom, name) + "@probe.example.com>\r\n" + strings.Join(more, "")
	}
	list := []specimen{
		{name: plainMail, body: head("ordinary") + "\r\nHello.\r\n"},
		{name: flaggedMail, body: head("flags") + "\r\nHello.\r\n",
			flags: []string{`\Answered`, `\Flagged`, `\Deleted`, `\Seen`, `\Draft`, "$Forwarded", "MgProbe"}},
		{name: "bare LF", body: strings.ReplaceAll(head("bare LF")+"\r\none\r\ntwo\r\n", "\r\n", "\n")},
		{name: "bare LF in the body", body: head("one bare LF") + "\r\none\ntwo\r\n"},
		{name: "bare CR", body: head("bare CR") + "\r\none\rtwo\r\n"},
		{name: "8-bit headers", body: head("8-bit", "X-Name: caf\xc3\xa9 caf\xe9\r\n") + "\r\nHello.\r\n"},
		{name: "8-bit body", body: head("8-bit body") + "\r\ncaf\xe9 caf\xc3\xa9 \xff\r\n"},
		{name: "lines of 10 kB", body: head("long", "X-Long: "+strings.Repeat("h", 10<<10)+"\r\n") + "\r\n" + strings.Repeat("b", 10<<10) + "\r\n"},
		{name: "no Date", body: "From: probe@example.com\r\nSubject: no date\r\n\r\nHello.\r\n"},
		{name: "NUL", body: head("NUL") + "\r\none\x00two\r\n"},
		{name: binaryMail, body: head("NUL8") + "\r\none\x00two\r\n", binary: true},
		{name: "From line", body: "From probe@example.com Thu Mar  4 05:06:07 2021\r\n" + head("From") + "\r\nHello.\r\nFrom here on.\r\n"},
		{name: "X-UID, Status, Content-Length", body: head("mbox", "X-UID: 4711\r\nStatus: RO\r\nX-Status: A\r\nX-Keywords: mgprobe\r\nContent-Length: 3\r\n") +
			"\r\nHello, more than three bytes.\r\n"},
		{name: "no final CRLF", body: head("no end") + "\r\nHello."},
		{name: "empty body", body: head("empty body") + "\r\n"},
		{name: "headers only", body: head("headers only")},
		{name: "no headers", body: "\r\nHello.\r\n"},
		{name: "text without headers", body: "Hello, this is no header.\r\nNor is this.\r\n"},
		{name: "empty message"},
	}
	for i := range list {
		list[i].date = ordinaryDate
	}
	for _, d := range []struct {
		name string
		at   time.Time
		odd  bool
	}{
		{"date in zone +0530", time.Date(2003, 2, 1, 4, 5, 6, 0, time.FixedZone("", 5*3600+1800)), false},
		{"date in zone -0800", time.Date(2013, 10, 11, 12, 13, 14, 0, time.FixedZone("", -8*3600)), false},
		{"date of 2 Jan 1970", time.Date(1970, 1, 2, 3, 4, 5, 0, time.UTC), false},
		{"date of 2040", time.Date(2040, 5, 6, 7, 8, 9, 0, time.UTC), true}, // Dovecot takes a date to come for a mistake
		{"date of 1 Jan 1970, 00:00 UTC", time.Unix(0, 0).UTC(), true},
		{"date of 1969", time.Date(1969, 7, 20, 20, 17, 40, 0, time.UTC), true},
	} {
		list = append(list, specimen{name: d.name, body: head(d.name) + "\r\nHello.\r\n", date: d.at, odd: d.odd})
	}
	return list
}

// atom makes a word of a name.
func atom(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}

// alteration says in words how a body came back; "" when it is the same.
func alteration(sent, got []byte) string {
	if bytes.Equal(sent, got) {
		return ""
	}
	ended := func(b []byte) []byte {
		if bytes.HasSuffix(b, []byte("\r\n")) {
			return b
		}
		return append(bytes.Clone(b), "\r\n"...)
	}
	// Each is a habit of some product; the first chain of them that explains the difference is told.
	habits := []struct {
		words string
		apply func([]byte) []byte
	}{
		{"a bare LF becomes CRLF", crlf},
		{"a bare CR is dropped", func(b []byte) []byte {
			return bytes.ReplaceAll(bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\r"), nil), []byte("\n"), []byte("\r\n"))
		}},
		{"a bare CR becomes CRLF", func(b []byte) []byte {
			return crlf(bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n")))
		}},
		{"NUL becomes 0x80", func(b []byte) []byte { return bytes.ReplaceAll(b, []byte{0}, []byte{0x80}) }},
		{"NUL is dropped", func(b []byte) []byte { return bytes.ReplaceAll(b, []byte{0}, nil) }},
		{"NUL becomes a blank", func(b []byte) []byte { return bytes.ReplaceAll(b, []byte{0}, []byte{' '}) }},
		{"8-bit characters of the header become X", func(b []byte) []byte {
			end := bytes.Index(b, []byte("\r\n\r\n"))
			if end < 0 {
				end = len(b)
			}
			b = bytes.Clone(b)
			for i := range b[:end] {
				if b[i] >= 0x80 {
					b[i] = 'X'
				}
			}
			return b
		}},
		{"CRLF is added at the end", ended},
	}
	for _, one := range habits {
		if bytes.Equal(one.apply(sent), got) {
			return one.words
		}
	}
	for _, one := range habits[:len(habits)-1] {
		if bytes.Equal(ended(one.apply(sent)), got) {
			return one.words + ", CRLF is added at the end"
		}
	}
	n := 0
	for n < len(sent) && n < len(got) && sent[n] == got[n] {
		n++
	}
	return fmt.Sprintf("%d bytes became %d, the first difference at byte %d", len(sent), len(got), n)
}

// crlf makes every line end CRLF.
func crlf(b []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}
