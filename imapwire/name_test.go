package imapwire

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2/imapclient"
	"golang.org/x/text/encoding/unicode"
	"pgregory.net/rapid"
)

func TestDecodeName(t *testing.T) {
	for _, c := range []struct {
		raw, text string
		ok        bool
	}{
		{"INBOX", "INBOX", true},
		{"", "", true},
		{`a "b" \ * % ~`, `a "b" \ * % ~`, true},
		{"R&-D", "R&D", true},
		{"&-&-", "&&", true},
		{"Entw&APw-rfe", "Entwürfe", true},
		{"~peter/mail/&ZeVnLIqe-/&U,BTFw-", "~peter/mail/日本語/台北", true}, // RFC 3501's own
		{"&2Dzf9A-", "\U0001F3F4", true},
		{"&,,0-", "\uFFFD", true},
		{"&AAk-", "\t", true},
		{"&AH8-", "\x7f", true},
		{"&AOkAJg-", "é&", false}, // RFC 3501 allows only &- for "&"
		{"&AOk-&-", "é&", true},
		{"R&D", "R&D", false},
		{"&", "&", false},
		{"&Jjo", "&Jjo", false}, // no end
		{"&Jjo!-", "&Jjo!-", false},
		{"&AOk=-", "&AOk=-", false},
		{"&AO-", "&AO-", false},         // an octet and a half
		{"&2Dw-", "&2Dw-", false},       // half of a pair
		{"&3,TYPA-", "&3,TYPA-", false}, // the wrong way round
		{"&AGE-", "a", false},
		{"&AOk-&AOk-", "éé", false},
		{"&AOl-", "é", false}, // bits that are left over
		{"&AGEACQ-", `a\x09`, false},
		{"Entwürfe", "Entwürfe", false},
		{"Entwürfe & &AOk-", "Entwürfe & &AOk-", false},
		{"caf\xe9", `caf\xe9`, false},
		{"a\tb\x7f", `a\x09b\x7f`, false},
		{"\u202e", `\xe2\x80\xae`, false},
	} {
		text, ok := DecodeName(c.raw)
		if text != c.text || ok != c.ok {
			t.Errorf("%q: %q, %v; want %q, %v", c.raw, text, ok, c.text, c.ok)
		}
		if ok && EncodeName(text) != c.raw {
			t.Errorf("%q comes back as %q", c.raw, EncodeName(text))
		}
	}
	if got := EncodeName("a\xffb"); got != "a&,,0-b" {
		t.Errorf("%q", got)
	}
}

// referenceName is the encoding in another way: by runs, with the base64 of the standard library and x/text's UTF-16.
func referenceName(t testing.TB, text string) string {
	t.Helper()
	var out strings.Builder
	for text != "" {
		n := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
		if n < 0 {
			n = len(text)
		}
		out.WriteString(strings.ReplaceAll(text[:n], "&", "&-"))
		text = text[n:]
		if n = strings.IndexFunc(text, func(r rune) bool { return r >= ' ' && r <= '~' }); n < 0 {
			n = len(text)
		}
		if n > 0 {
			octets, err := unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewEncoder().String(text[:n])
			if err != nil {
				t.Fatal(err)
			}
			code := strings.ReplaceAll(base64.RawStdEncoding.EncodeToString([]byte(octets)), "/", ",")
			out.WriteString("&" + code + "-")
		}
		text = text[n:]
	}
	return out.String()
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"INBOX", "R&-D", "R&D", "Entw&APw-rfe", "Entwürfe", "&2Dzf9A-", "&AGE-", "&AOk-&AOk-", "caf\xe9", "&Jjo", "&AAk-", "\x00", "日本語", "&&--", "&,,8-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text, ok := DecodeName(s)
		if ok && EncodeName(text) != s {
			t.Fatalf("%q -> %q -> %q", s, text, EncodeName(text))
		}
		if !utf8.ValidString(text) {
			t.Fatalf("%q is not UTF-8", text)
		}
		if !ok && printable(text) != text {
			t.Fatalf("%q cannot be printed", text)
		}
		valid := strings.ToValidUTF8(s, "\uFFFD")
		raw := EncodeName(valid)
		if want := referenceName(t, valid); raw != want {
			t.Fatalf("%q is written %q, want %q", valid, raw, want)
		}
		if back, ok := DecodeName(raw); !ok || back != valid {
			t.Fatalf("%q -> %q -> %q, %v", valid, raw, back, ok)
		}
	})
}

// TestNamesAgainstGoIMAP lets go-imap's client write names and read ours.
func TestNamesAgainstGoIMAP(t *testing.T) {
	ours, theirs := net.Pipe()
	served := make(chan struct{})
	names := make(chan string, 1)
	go func() { // ends with the connection
		defer close(served)
		fmt.Fprint(ours, "* PREAUTH [CAPABILITY IMAP4rev1] hello\r\n")
		in := bufio.NewScanner(ours)
		for in.Scan() {
			tag, rest, _ := strings.Cut(in.Text(), " ")
			if command, name, _ := strings.Cut(rest, " "); command == "CREATE" {
				names <- strings.Trim(name, `"`)
			} else if command == "LIST" {
				fmt.Fprintf(ours, "* LIST () NIL \"%s\"\r\n", <-names)
			}
			fmt.Fprintf(ours, "%s OK done\r\n", tag)
		}
	}()
	c := imapclient.New(theirs, nil)
	defer func() { c.Close(); ours.Close(); <-served }()
	rapid.Check(t, func(t *rapid.T) {
		text := "x" + rapid.StringOf(rapid.RuneFrom([]rune("aZ09&-+,/ ~éüßЖ日本\u00ad\uFFFD🏴😀\t"))).Draw(t, "text")
		if err := c.Create(text, nil).Wait(); err != nil {
			t.Fatal(err)
		}
		if raw := <-names; raw != EncodeName(text) {
			t.Fatalf("%q: %q, theirs is %q", text, EncodeName(text), raw)
		}
		names <- EncodeName(text)
		list, err := c.List("", "*", nil).Collect()
		if err != nil || len(list) != 1 || list[0].Mailbox != text {
			t.Fatalf("%q: they read %v, %v", text, list, err)
		}
	})
}
