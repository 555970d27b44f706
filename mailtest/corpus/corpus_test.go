package corpus

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestLarge(t *testing.T) {
	for _, n := range []int64{0, 1, 100, 1000, 100_000} {
		b, err := io.ReadAll(Large(n))
		if err != nil || int64(len(b)) != n {
			t.Errorf("%d bytes, want %d: %v", len(b), n, err)
		}
		again, _ := io.ReadAll(iotest.OneByteReader(Large(n)))
		if !bytes.Equal(b, again) {
			t.Errorf("%d bytes are not the same in small pieces", n)
		}
		if n == 100_000 && (bytes.Count(b, []byte("\n")) < 1200 || bytes.Count(b, b[5000:5076]) != 1) {
			t.Error("all lines are alike")
		}
	}
	if n := testing.AllocsPerRun(1, func() { _, _ = io.Copy(io.Discard, Large(1<<20)) }); n > 20_000 {
		t.Errorf("%v allocations", n)
	}
	m := LargeMessage(5000)
	r, n := m.Reader()
	if b, _ := io.ReadAll(r); int64(len(b)) != n || n != 5000 {
		t.Errorf("%d of %d bytes", len(b), n)
	}
}

func TestNasty(t *testing.T) {
	names := map[string]bool{}
	for _, m := range Nasty() {
		if names[m.Name] {
			t.Errorf("two of %q", m.Name)
		}
		names[m.Name] = true
	}
	bodies := map[string]int{}
	for _, m := range Nasty() {
		bodies[string(m.Data)]++
	}
	if bodies[""] != 1 {
		t.Error("no message of no bytes")
	}
	twins := 0
	for _, n := range bodies {
		twins = max(twins, n)
	}
	if twins != 5 {
		t.Errorf("%d of the same text", twins)
	}
}

// digest sums up an account.
func digest(folders []Folder) string {
	h := sha256.New()
	for _, f := range folders {
		n := 0
		for m := range f.Messages {
			r, size := m.Reader()
			fmt.Fprintln(h, f.Levels, f.Subscribed, m.Flags, m.Date, size)
			_, _ = io.Copy(h, r)
			n++
		}
		if n != f.Count {
			return fmt.Sprintf("%q has %d messages, not %d", f.Levels, n, f.Count)
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func TestMailbox(t *testing.T) {
	one := digest(Mailbox(500, 40, 1, Options{Mean: 2000}))
	if len(one) != 64 {
		t.Fatal(one)
	}
	if digest(Mailbox(500, 40, 1, Options{Mean: 2000})) != one {
		t.Error("not the same again")
	}
	if digest(Mailbox(500, 40, 2, Options{Mean: 2000})) == one {
		t.Error("the seed does nothing")
	}
	for _, c := range []struct{ messages, folders int }{{0, 1}, {1, 1}, {3, 2}, {100, 3}, {2000, 60}, {20, 40}} {
		for _, plain := range []bool{false, true} {
			folders, messages, bytes := Mailbox(c.messages, c.folders, 7, Options{Plain: plain}), 0, int64(0)
			seen := map[string]bool{}
			for _, f := range folders {
				messages += f.Count
				seen[strings.Join(f.Levels, "\x00")] = true
				for m := range f.Messages {
					_, n := m.Reader()
					bytes += n
				}
			}
			if messages != c.messages || len(folders) != c.folders || len(seen) != c.folders {
				t.Errorf("%d messages in %d folders (%d names), want %v", messages, len(folders), len(seen), c)
			}
			if mean := bytes / int64(max(1, messages)); c.messages == 2000 && (mean < 18_000 || mean > 27_000) {
				t.Errorf("%d bytes each", mean)
			}
		}
	}
	small := 0
	for m := range Small(1000, 1, "Many").Messages {
		if len(m.Data) > 1000 || bytes.Contains(bytes.ReplaceAll(m.Data, []byte("\r\n"), nil), []byte("\n")) {
			t.Fatalf("%q", m.Data)
		}
		small++
	}
	if small != 1000 {
		t.Errorf("%d small ones", small)
	}
}

// account makes one by hand: folder -> items.
func account(folders map[Path][]Item) Account {
	a := Account{Folders: map[Path]*Contents{}, Subscribed: map[Path]bool{}}
	for p, items := range folders {
		f := &Contents{Messages: map[Item]*Seen{}}
		for i, item := range items {
			if f.Messages[item] == nil {
				f.Messages[item] = &Seen{Subject: "s"}
			}
			f.Messages[item].UIDs = append(f.Messages[item].UIDs, uint32(i+1))
			f.Count++
		}
		a.Folders[p], a.Subscribed[p] = f, true
	}
	return a
}

func TestDiff(t *testing.T) {
	item := func(body byte, flags string, date int64) Item {
		return Item{Body: [32]byte{body}, Flags: flags, Date: date}
	}
	x, y := item(1, `\Seen`, 1), item(2, "", 2)
	a := account(map[Path][]Item{"INBOX": {x, x, y}, PathOf("A", "B"): {y}})
	for name, c := range map[string]struct {
		b    Account
		o    DiffOptions
		want []string // each stands in the line of the same number
	}{
		"equal":       {b: account(map[Path][]Item{"INBOX": {y, x, x}, PathOf("A", "B"): {y}})},
		"a twin less": {b: account(map[Path][]Item{"INBOX": {y, x}, PathOf("A", "B"): {y}}), want: []string{"INBOX: missing"}},
		"a twin more": {b: account(map[Path][]Item{"INBOX": {y, x, x, x}, PathOf("A", "B"): {y}}), want: []string{"INBOX: unexpected"}},
		"flags":       {b: account(map[Path][]Item{"INBOX": {y, x, item(1, "", 1)}, PathOf("A", "B"): {y}}), want: []string{`flags (), want (\Seen)`}},
		"date":        {b: account(map[Path][]Item{"INBOX": {y, x, item(1, `\Seen`, 2)}, PathOf("A", "B"): {y}}), want: []string{"date 1970-01-01 00:00:02Z, want"}},
		"both":        {b: account(map[Path][]Item{"INBOX": {y, x, item(1, "", 2)}, PathOf("A", "B"): {y}}), want: []string{"flags", "date"}},
		"no dates":    {b: account(map[Path][]Item{"INBOX": {y, x, item(1, `\Seen`, 2)}, PathOf("A", "B"): {y}}), o: DiffOptions{NoDates: true}},
		"body":        {b: account(map[Path][]Item{"INBOX": {y, x, item(3, `\Seen`, 1)}, PathOf("A", "B"): {y}}), want: []string{"missing", "unexpected"}},
		"no folder":   {b: account(map[Path][]Item{"INBOX": {x, x, y}}), want: []string{"A > B: the folder is missing (1 "}},
		"one more":    {b: account(map[Path][]Item{"INBOX": {x, x, y}, PathOf("A", "B"): {y}, "C": {}}), want: []string{"C: an unexpected folder"}},
		"one more, allowed": {b: account(map[Path][]Item{"INBOX": {x, x, y}, PathOf("A", "B"): {y}, "C": {}}),
			o: DiffOptions{OnlyB: func(_ Path, f *Contents) bool { return f.Count == 0 }}},
		"mapped": {b: account(map[Path][]Item{"INBOX": {x, x, y}, "AB": {y}}), o: DiffOptions{Map: func(p Path) (Path, bool) {
			return Path(strings.ReplaceAll(string(p), "\x00", "")), true
		}}},
		"left out": {b: account(map[Path][]Item{"INBOX": {x, x, y}}), o: DiffOptions{Map: func(p Path) (Path, bool) { return p, p == "INBOX" }}},
		"two to one": {b: account(map[Path][]Item{"INBOX": {x, x, y}}), o: DiffOptions{Map: func(p Path) (Path, bool) { return "INBOX", true }},
			want: []string{"INBOX: missing", "INBOX: missing", "INBOX: a second folder", "xx"}},
		"keep": {b: account(map[Path][]Item{"INBOX": {x, item(1, `\Seen k`, 1), y}, PathOf("A", "B"): {y}}),
			o: DiffOptions{Keep: func(f string) bool { return f != "k" }}},
		"fold": {b: account(map[Path][]Item{"INBOX": {x, item(1, `\SEEN`, 1), y}, PathOf("A", "B"): {y}}), o: DiffOptions{FoldFlags: true}},
		"skip": {b: account(map[Path][]Item{"INBOX": {y}, PathOf("A", "B"): {y}}), o: DiffOptions{Skip: func(_ Path, i Item) bool { return i.Body == x.Body }}},
	} {
		got := Diff(a, c.b, c.o)
		if name == "two to one" { // which comes first is A > B
			if len(got) == 0 || !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "a second folder") }) {
				t.Errorf("%s: %q", name, got)
			}
			continue
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
			continue
		}
		for i, w := range c.want {
			if !strings.Contains(got[i], w) {
				t.Errorf("%s: %q, want %q", name, got[i], w)
			}
		}
	}
	b := account(map[Path][]Item{"INBOX": {x, x, y}, PathOf("A", "B"): {y}})
	delete(b.Subscribed, "INBOX")
	if got := Diff(a, b, DiffOptions{}); len(got) != 1 || !strings.Contains(got[0], "not subscribed") {
		t.Errorf("%q", got)
	}
	if got := Diff(b, a, DiffOptions{}); len(got) != 1 || !strings.Contains(got[0], "subscribed now") {
		t.Errorf("%q", got)
	}
	many := make([]Item, 50)
	for i := range many {
		many[i] = item(byte(i+10), "", 0)
	}
	if got := Diff(account(map[Path][]Item{"INBOX": many}), account(map[Path][]Item{"INBOX": nil}), DiffOptions{Limit: 5}); len(got) != 6 || !strings.Contains(got[5], "45 differences more") {
		t.Errorf("%q", got)
	}
}
