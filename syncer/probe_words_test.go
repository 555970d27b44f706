package syncer

import (
	"testing"
	"time"
)

func TestAlterationInWords(t *testing.T) {
	for _, c := range []struct{ sent, got, want string }{
		{"a\r\nb\r\n", "a\r\nb\r\n", ""},
		{"", "", ""},
		{"a\nb\r\n", "a\r\nb\r\n", "a bare LF becomes CRLF"},
		{"a\rb\r\n", "ab\r\n", "a bare CR is dropped"},
		{"a\rb\r\n", "a\r\nb\r\n", "a bare CR becomes CRLF"},
		{"a\x00b\r\n", "a\x80b\r\n", "NUL becomes 0x80"},
		{"a\x00b\r\n", "ab\r\n", "NUL is dropped"},
		{"a", "a\r\n", "CRLF is added at the end"},
		{"", "\r\n", "CRLF is added at the end"},
		{"a\x00", "a\x80\r\n", "NUL becomes 0x80, CRLF is added at the end"},
		{"A: \xe9\r\n\r\n\xe9\r\n", "A: X\r\n\r\n\xe9\r\n", "8-bit characters of the header become X"},
		{"abcdef", "abXdefg", "6 bytes became 7, the first difference at byte 2"},
		{"abc", "ab", "3 bytes became 2, the first difference at byte 2"},
	} {
		if got := alteration([]byte(c.sent), []byte(c.got)); got != c.want {
			t.Errorf("%q to %q: %q, want %q", c.sent, c.got, got, c.want)
		}
	}
}

func TestScratchTime(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	name, err := newScratch(at)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{name, name + ".child", name + "-names/a-b"} {
		if got, ok := scratchTime("INBOX."+n, "INBOX."); !ok || !got.Equal(at) {
			t.Errorf("%s: %v, %v", n, got, ok)
		}
	}
	for _, n := range []string{"INBOX", "INBOX.mailgate-probe-", "INBOX.mailgate-probe-x-1", "INBOX.mailgate-probe-12", "mailgate-probe-12-a", "INBOX.my-mailgate-probe-12-a"} {
		if got, ok := scratchTime(n, "INBOX."); ok {
			t.Errorf("%s is taken for a probe's of %v", n, got)
		}
	}
}
