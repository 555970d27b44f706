package backend

import (
	"bufio"
	"bytes"
	"testing"
)

// FuzzSieveAnswer: no answer makes the reader panic, go on without end, or hold more than its limits; what it takes it writes alike.
func FuzzSieveAnswer(f *testing.F) {
	for _, s := range []string{"OK\r\n", "\"a\" ACTIVE\r\n{3}\r\nabc\r\nOK (WARNINGS) \"x\"\r\n", "NO (QUOTA/MAXSIZE) {5+}\r\nab\r\nc\r\n",
		"\"x\"y\\\"\r\nBYE (REFERRAL \"sieve://b\") \"go\"\r\n", "OK (TAG {1}\r\nx) \"Done\"\r\n", "((((()\r\nOK\n", "{99999999999999999999}\r\nOK\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := sieveReader{c: &conn{r: bufio.NewReaderSize(bytes.NewReader(b), 16)}, most: 1000}
		a, err := r.answer(nil)
		if err != nil {
			return
		}
		if a.status != "OK" && a.status != "NO" && a.status != "BYE" {
			t.Errorf("the status is %q", a.status)
		}
		for _, l := range a.lines {
			for _, tok := range l.tokens {
				if len(tok.text) > len(b) {
					t.Errorf("%d bytes out of %d", len(tok.text), len(b))
				}
				again := sieveReader{c: &conn{r: bufio.NewReaderSize(bytes.NewReader([]byte(sieveString(tok.text)+"\r\nOK\r\n")), 16)}, most: 1000}
				if x, err := again.answer(nil); err != nil || len(x.lines) != 1 || len(x.lines[0].tokens) != 1 || x.lines[0].tokens[0].text != tok.text {
					t.Errorf("%q is written as %q, and read as %+v, %v", tok.text, sieveString(tok.text), x, err)
				}
			}
		}
	})
}
