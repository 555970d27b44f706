package corpus

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// ordinary is the date of messages whose date does not matter; no clock is asked.
var ordinary = time.Date(2023, 1, 2, 15, 4, 5, 0, time.UTC)

// Nasty are the messages that copying programs and servers stumble over. Some hosts refuse some of them. The order is
// fixed; the slices are the caller's.
func Nasty() []Message {
	var all []Message
	add := func(name, data string, flags ...string) *Message {
		all = append(all, Message{Name: name, Data: []byte(data), Flags: flags, Date: ordinary.Add(time.Duration(len(all)) * time.Hour)})
		return &all[len(all)-1]
	}
	head := func(subject string, more ...string) string {
		return "From: a@example.com\r\nTo: b@example.com\r\nSubject: " + subject + "\r\nDate: Mon, 02 Jan 2023 15:04:05 +0000\r\n" +
			"Message-ID: <" + strings.ReplaceAll(subject, " ", ".") + "@example.com>\r\n" + strings.Join(more, "")
	}
	text := func(subject string) string { return head(subject) + "\r\nbody of " + subject + "\r\n" }

	add("bare LF", strings.ReplaceAll(text("bare LF"), "\r\n", "\n"))
	add("mixed line ends", head("mixed line ends")+"\r\none\ntwo\r\nthree\n")
	add("bare CR", head("bare CR")+"\r\none\rtwo\r\r\nthree\r\n")
	add("8-bit header", head("caf\xe9 in Latin-1", "X-Raw: \x80\xff\xfe\r\n")+"\r\nna\xefve\r\n")
	add("UTF-8 header", head("Grüße 日本語 😀", "From: Jürgen <ü@example.com>\r\n")+"\r\nUTF-8: ✓\r\n")
	add("line of 10 kB", head("line of 10 kB")+"\r\n"+strings.Repeat("x", 10_000)+"\r\n")
	add("line of 100 kB", head("line of 100 kB")+"\r\n"+strings.Repeat("y", 100_000)+"\r\n")
	add("header of 20 kB", head("header of 20 kB", "X-Long: "+strings.Repeat("z", 20_000)+"\r\n")+"\r\nbody\r\n")
	add("folded headers", head("folded", "References:\r\n\t<1@example.com>\r\n <2@example.com>\r\nX-Empty:\r\n")+"\r\nbody\r\n")
	add("no date", "From: a@example.com\r\nSubject: no date\r\nMessage-ID: <nodate@example.com>\r\n\r\nbody\r\n")
	add("no Message-ID", "From: a@example.com\r\nSubject: no Message-ID\r\nDate: Mon, 02 Jan 2023 15:04:05 +0000\r\n\r\nbody\r\n")
	for i := range 3 {
		add(fmt.Sprintf("repeated Message-ID %d", i), head("repeated")+fmt.Sprintf("\r\nbody number %d\r\n", i))
	}
	for i := range 3 { // to the byte, flags and date as well
		m := add(fmt.Sprintf("true duplicate %d", i), text("true duplicate"), `\Seen`)
		m.Date = ordinary
	}
	add("duplicate with other flags", text("true duplicate"), `\Flagged`).Date = ordinary
	add("duplicate with another date", text("true duplicate"), `\Seen`).Date = ordinary.Add(time.Minute)
	add("NUL", head("NUL")+"\r\na\x00b\r\n")
	add("From line", "From a@example.com Mon Jan  2 15:04:05 2023\r\n"+text("From line"))
	add("mbox headers", head("mbox headers", "X-UID: 17\r\nStatus: RO\r\nX-Status: AF\r\nX-Keywords: work\r\nContent-Length: 3\r\nLines: 99\r\n")+
		"\r\nmore than three bytes\r\nFrom the start of a line\r\n.\r\n..\r\n")
	add("no CRLF at the end", strings.TrimSuffix(text("no CRLF at the end"), "\r\n"))
	add("CR at the end", head("CR at the end")+"\r\nbody\r")
	add("empty lines at the end", text("empty lines at the end")+"\r\n\r\n\r\n")
	add("empty body", head("empty body")+"\r\n")
	add("headers only", head("headers only"))
	add("empty", "")
	add("one CRLF", "\r\n")
	add("no headers", "\r\nThis one has no headers at all.\r\n")
	add("no colon", "this is no header\r\nneither is this\r\n\r\nbody\r\n")
	add("all bytes", head("all bytes", "Content-Transfer-Encoding: 8bit\r\n")+"\r\n"+allBytes()+"\r\n")
	add("broken MIME", head("broken MIME", "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n")+
		"\r\n--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n--b\r\n")
	add("protocol in the body", head("protocol in the body")+"\r\n{10}\r\n)\r\n* 1 EXPUNGE\r\nx OK done\r\n+ go\r\n* BYE\r\n")
	add("1 MB", head("1 MB")+"\r\n"+string(lines(1<<20)))

	add(`\Seen`, text("seen"), `\Seen`)
	add(`\Deleted`, text("deleted"), `\Deleted`, `\Seen`)
	add(`\Draft \Flagged \Answered`, text("draft flagged answered"), `\Draft`, `\Flagged`, `\Answered`)
	add("all system flags", text("all system flags"), `\Seen`, `\Deleted`, `\Draft`, `\Flagged`, `\Answered`)
	add("keywords", text("keywords"), "$Forwarded", "$Junk", "NonJunk", "MyLabel", `\Seen`)
	add("keyword alone", text("keyword alone"), "$MDNSent")
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprintf("Label%02d", i))
	}
	add("30 keywords", text("30 keywords"), many...)

	for _, d := range []time.Time{
		time.Date(1971, 2, 3, 4, 5, 6, 0, time.UTC),
		time.Date(1985, 12, 31, 23, 59, 59, 0, time.FixedZone("", -8*3600)),
		time.Date(2000, 2, 29, 0, 0, 0, 0, time.FixedZone("", 12*3600+45*60)),
		time.Date(2012, 6, 30, 23, 59, 59, 0, time.FixedZone("", -(3*3600+30*60))),
		time.Date(2020, 1, 1, 0, 30, 0, 0, time.FixedZone("", 14*3600)),
		time.Date(2021, 10, 31, 2, 30, 0, 0, time.FixedZone("", -12*3600)),
	} {
		add("date "+d.Format(time.RFC3339), text("date "+d.Format("2006"))).Date = d
	}
	return all
}

// allBytes is every byte but NUL, CR and LF.
func allBytes() string {
	var b []byte
	for c := 1; c < 256; c++ {
		if c != '\r' && c != '\n' {
			b = append(b, byte(c))
		}
	}
	return string(b)
}

// lines is text of at least n bytes.
func lines(n int) []byte {
	return bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog, again and again and again.\r\n"), n/73+1)
}
