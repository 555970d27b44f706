package config

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCanonical(t *testing.T) {
	fold := Routes{LocalPart: "fold", Subaddress: "+", DefaultDomain: "example.com"}
	exact := Routes{LocalPart: "exact", Subaddress: "+-"}
	plain := Routes{LocalPart: "fold"}
	for _, x := range []struct {
		rules       Routes
		login, want string
		err         error
	}{
		{fold, "bob@example.com", "bob@example.com", nil},
		{fold, "Bob@EXAMPLE.Com", "bob@example.com", nil},
		{fold, "bob@example.com.", "bob@example.com", nil}, // the root's dot
		{fold, "bob", "bob@example.com", nil},
		{fold, "BOB+news", "bob@example.com", nil},
		{fold, "bob+news+more@example.com", "bob@example.com", nil},
		{fold, "bob-news@example.com", "bob-news@example.com", nil},
		{fold, "+49123@example.com", "+49123@example.com", nil}, // nothing before the separator
		{exact, "Bob@Example.com", "Bob@example.com", nil},
		{exact, "Bob-x@Example.com", "Bob@example.com", nil},
		{exact, "Bob+x@Example.com", "Bob@example.com", nil},
		{exact, "Bob", "Bob", nil},
		{plain, "Bob+x@example.com", "bob+x@example.com", nil},
		{fold, `"bob"@example.com`, "bob@example.com", nil}, // RFC 5321, section 4.1.2
		{fold, `"b\ob"@example.com`, "bob@example.com", nil},
		{fold, `"bob+x"@example.com`, "bob@example.com", nil},
		{fold, `"Bob@home"@example.com`, `"bob@home"@example.com`, nil},
		{fold, `"a\"b"@example.com`, `"a\"b"@example.com`, nil},
		{fold, `".bob"@example.com`, `".bob"@example.com`, nil},
		{fold, `"bob..x"@example.com`, `"bob..x"@example.com`, nil},
		{fold, `"Bob@home"`, `"bob@home"@example.com`, nil},
		{fold, `""@example.com`, `""@example.com`, nil},
		{fold, `bob@[192.0.2.1]`, `bob@[192.0.2.1]`, nil},
		{fold, `DOMAIN\bob`, `domain\bob@example.com`, nil},
		{fold, "bob@münchen.example", "bob@xn--mnchen-3ya.example", nil},
		{fold, "bob@MÜNCHEN.EXAMPLE.", "bob@xn--mnchen-3ya.example", nil},
		{fold, "bob@XN--MNCHEN-3YA.Example", "bob@xn--mnchen-3ya.example", nil},
		{fold, "bob@mu\u0308nchen.example", "bob@xn--mnchen-3ya.example", nil}, // not composed
		{fold, "JÖRG@example.com", "jörg@example.com", nil},                    // RFC 6532
		{fold, "jo\u0308rg@example.com", "jörg@example.com", nil},
		{fold, "ΓΙΏΡΓΟΣ@παράδειγμα.example", "γιώργοσ@xn--hxajbheg2az3al.example", nil},
		{exact, "JO\u0308RG@example.com", "JÖRG@example.com", nil},
		{fold, "李@例え.example", "李@xn--r8jz45g.example", nil},
		{fold, "", "", ErrAddress},
		{fold, "@example.com", "", ErrAddress},
		{fold, "bob@", "", ErrAddress},
		{fold, "bob@.", "", ErrAddress},
		{fold, "bob@example.com..", "", ErrAddress},
		{fold, "bob smith@example.com", "", ErrAddress},
		{fold, "bob\r\nA1 LOGOUT@example.com", "", ErrAddress},
		{fold, "bob\x00@example.com", "", ErrAddress},
		{fold, "bob\x7f@example.com", "", ErrAddress},
		{fold, "bob\u0085@example.com", "", ErrAddress}, // a line end of Unicode
		{fold, "bob\u2028@example.com", "", ErrAddress},
		{fold, "bob\u00a0@example.com", "", ErrAddress},
		{fold, "bob\u202egro@example.com", "", ErrAddress}, // would be read backwards in a log
		{fold, "bob\xff@example.com", "", ErrAddress},
		{fold, "bob@ex_ämple.com", "", ErrAddress},
		{fold, strings.Repeat("a", 321), "", ErrAddressLong},
		{fold, strings.Repeat("a", 310), "", ErrAddressLong}, // with the default domain
	} {
		got, err := NewAddresses(x.rules).Canonical(x.login)
		if got != x.want || !errors.Is(err, x.err) {
			t.Errorf("%q: got %q, %v; want %q, %v", x.login, got, err, x.want, x.err)
		}
	}
}

func TestCanonicalOfASCIIDoesNotAllocate(t *testing.T) {
	a := NewAddresses(Routes{Subaddress: "+", DefaultDomain: "example.com"})
	buf := make([]byte, 0, maxAddress)
	for _, login := range []string{"bob@example.com", "bob", "bob+news@example.com", "Bob@Example.COM."} {
		if n := testing.AllocsPerRun(100, func() {
			if _, err := a.AppendCanonical(buf, login); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", login, n)
		}
	}
}

// The canonical form is a fixed point under all rules, holds nothing that could end a line, and is appended.
func FuzzAppendCanonical(f *testing.F) {
	for _, s := range []string{"bob@example.com", `"a@b"@c.example`, "ÄÖ@münchen.example", "İ@x.example", "a+b", "a\u0301+b@x", `"\"`, "@@",
		`"a"b"@c`, "ǅ@ǅ.example", "x@a。b", "\ufdfa@x", "ẞß@ẞ.example", "a@\u200d.example", `"+b"@c`} {
		f.Add(s, true, true)
		f.Add(s, false, false)
	}
	f.Fuzz(func(t *testing.T, login string, exact, full bool) {
		var r Routes
		if exact {
			r.LocalPart = "exact"
		}
		if full {
			r.Subaddress, r.DefaultDomain = "+-", "münchen.example"
		}
		a := NewAddresses(r)
		b, err := a.AppendCanonical([]byte("before"), login)
		if err != nil {
			if string(b) != "before" {
				t.Errorf("%q: %v, and %q was appended", login, err, b)
			}
			return
		}
		once := strings.TrimPrefix(string(b), "before")
		if once == "" || len(once) > maxAddress || !utf8.ValidString(once) || strings.ContainsFunc(once, invisible) {
			t.Errorf("%q gives %q", login, once)
		}
		twice, err := a.Canonical(once)
		if err != nil || twice != once {
			t.Errorf("%q gives %q, and that %q, %v", login, once, twice, err)
		}
	})
}
