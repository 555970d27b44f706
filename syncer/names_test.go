package syncer

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"mailgate/backend"

	"pgregory.net/rapid"
)

// checks makes rapid try n cases, whatever the command line says. The flag is one for all tests: those that set it run one by one.
func checks(t *testing.T, n string) {
	t.Helper()
	before := flag.Lookup("rapid.checks").Value.String()
	if err := flag.Set("rapid.checks", n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flag.Set("rapid.checks", before) })
}

// oddText is what folders are called at worst: everything that is special to some side, and what looks like an escape.
func oddText() *rapid.Generator[string] {
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{"=", "=2F", "=3D", "=3D2F", "=00", "=7E", "=E9", "~", "/", ".", "%", "*", `"`, `\`, "&", "&-", "&AGE-", "-", " ", "{", "}",
			"\x00", "\x01", "\r", "\n", "\x7f", "INBOX", "inbox", "a", "A", "7", "é", "ß", "日本", "😀", "\u0301", "_2F", "~7E", "\u202e", "\ufffd"}),
		rapid.String())
	return rapid.Map(rapid.SliceOfN(piece, 0, 5), func(s []string) string { return strings.Join(s, "") })
}

// private tells whether text holds the runes that stand for bytes here.
func private(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r >= rawByte })
}

func badChars() *rapid.Generator[string] {
	return rapid.StringOfN(rapid.RuneFrom([]rune("%*\"/.~\\{}=_-+8&#[]<>")), 0, 12, -1)
}

// TestEscape: what is escaped is read back, holds nothing that the side cannot hold, and no two texts are written alike; and all
// that a side can hold is what some text is written as.
func TestEscape(t *testing.T) {
	checks(t, "20000")
	rapid.Check(t, func(t *rapid.T) {
		e := newEscaper(rapid.SampledFrom([]byte{0, '.', '/', '^', '=', '\\'}).Draw(t, "separator"), badChars().Draw(t, "bad"), badChars().Draw(t, "first"))
		held := func(s string) bool {
			return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x80 && e.bad[r] }) && !(s[0] < 0x80 && e.first[s[0]])
		}
		text := oddText().Filter(func(s string) bool { return s != "\x00" }).Draw(t, "text")
		written := e.escape(text)
		if !held(written) || !utf8.ValidString(written) {
			t.Fatalf("%q is written %q", text, written)
		}
		if got := e.unescape(written); got != text {
			t.Fatalf("%q is written %q and read %q", text, written, got)
		}
		if held(text) && !private(text) {
			if got := e.escape(e.unescape(text)); got != text {
				t.Fatalf("%q is read %q and written %q", text, e.unescape(text), got)
			}
		}
	})
}

// TestEscapeFirst are the cases of characters that cannot be the first.
func TestEscapeFirst(t *testing.T) {
	e := newEscaper('.', "", "~")
	for text, want := range map[string]string{"~a": "=7Ea", "a~": "a~", "a=7E": "a=7E", "=7Ea": "=3D7Ea", "=3D7E": "=3D3D7E", "a=2E": "a=3D2E", "a.": "a=2E"} {
		if got := e.escape(text); got != want || e.unescape(want) != text {
			t.Errorf("%q is written %q, not %q, which is read %q", text, got, want, e.unescape(want))
		}
	}
	full := newEscaper('.', "=~_-+", "")
	if full.mark != ',' || full.escape("a=b") != "a,3Db" {
		t.Errorf("without the usual marks: %q", full.escape("a=b"))
	}
}

// TestUTF7: text is read back, only one way of writing is taken for modified UTF-7, and any other name is read as it stands.
func TestUTF7(t *testing.T) {
	checks(t, "20000")
	rapid.Check(t, func(t *rapid.T) {
		text := oddText().Draw(t, "text")
		raw := encodeUTF7(text)
		if back, ok := decodeUTF7(raw); !ok || back != text || !printable(raw) {
			t.Fatalf("%q is written %q and read %q, %v", text, raw, back, ok)
		}
		if back, ok := decodeUTF7(text); ok && encodeUTF7(back) != text {
			t.Fatalf("%q is read %q, which is written %q", text, back, encodeUTF7(back))
		}
	})
	for raw, want := range map[string]string{"Entw&APw-rfe": "Entwürfe", "R&-D": "R&D", "&2D3eAA-": "😀", "": ""} {
		if got, ok := decodeUTF7(raw); !ok || got != want {
			t.Errorf("%q is read %q, %v", raw, got, ok)
		}
	}
	for _, raw := range []string{"R&D", "&AGE-", "&", "&A-", "&APw", "&APx-", "&2D0-", "&APw-&APw-", "&\xff-", "\xe9"} {
		if got, ok := decodeUTF7(raw); ok {
			t.Errorf("%q is taken for %q", raw, got)
		}
	}
}

// anySide is a side without folders, of any product.
func anySide() *rapid.Generator[SideFolders] {
	return rapid.Custom(func(t *rapid.T) SideFolders {
		sep := rapid.SampledFrom([]byte{'.', '/', '/', '.', '^', 0}).Draw(t, "separator")
		ns := backend.Namespace{Separator: sep}
		if sep != 0 {
			ns.Prefix = rapid.SampledFrom([]string{"", "INBOX" + string(sep), "Mail" + string(sep)}).Draw(t, "prefix")
		}
		s := SideFolders{Namespaces: backend.Namespaces{Personal: []backend.Namespace{ns}}, UTF8: rapid.Bool().Draw(t, "utf8"), Subscribed: map[string]bool{}}
		if rapid.Bool().Draw(t, "probed") {
			s.Profile = &Profile{BadNames: badChars().Draw(t, "bad"), BadFirst: rapid.SampledFrom([]string{"", "~", "#~"}).Draw(t, "first"),
				MaxName: rapid.SampledFrom([]int{0, 100, 200, 250}).Draw(t, "longest"), CaseFolds: rapid.Bool().Draw(t, "folds")}
		}
		return s
	})
}

// TestNames: a path that a side can hold is written so that it is read back, with every product's rules, and what it cannot
// hold is told.
func TestNames(t *testing.T) {
	checks(t, "20000")
	rapid.Check(t, func(t *rapid.T) {
		n := newNaming(anySide().Draw(t, "side"))
		p := path{parts: rapid.SliceOfN(oddText().Filter(func(s string) bool { return s != "\x00" && !private(s) }), 1, 3).Draw(t, "path")}
		raw, trouble := n.render(p)
		if trouble != "" {
			if raw == "" || n.separator != 0 && n.max == 0 && !strings.EqualFold(p.parts[0], inboxName) {
				t.Fatalf("%q, %q: %s", p.parts, raw, trouble)
			}
			return
		}
		if n.max > 0 && len(raw) > n.max || !strings.HasPrefix(raw, n.prefix) || n.separator != 0 && strings.Count(raw, string(n.separator)) != len(p.parts)-1+strings.Count(n.prefix, string(n.separator)) {
			t.Fatalf("%q is written %q", p.parts, raw)
		}
		back, ok := n.parse(raw)
		want := slices.Clone(p.parts)
		if n.prefix == "" && strings.EqualFold(want[0], inboxName) {
			want[0] = inboxName // no server has two of them
		}
		if !ok || back.inbox || !slices.Equal(back.parts, want) {
			t.Fatalf("%q is written %q and read %q %v", p.parts, raw, back.parts, ok)
		}
	})
}
