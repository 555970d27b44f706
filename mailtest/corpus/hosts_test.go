package corpus

import (
	"bytes"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"

	"mailgate/mailtest/lab"
)

func snapshot(t *testing.T, h lab.Host, n int) Account {
	t.Helper()
	a, err := Snapshot(lab.Addr(h.IMAP), lab.User(n), lab.Password(n))
	if err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
	if len(a.Closed) > 0 {
		t.Errorf("%s: folders that it does not open: %v", h.Name, a.Closed)
	}
	return a
}

// ownFolders are those that hosts make by themselves, also as parents of others.
func ownFolders(_ Path, f *Contents) bool { return f.Count == 0 }

// TestHosts loads the same account everywhere, in both ways where there are two.
func TestHosts(t *testing.T) {
	l, cyrus, classic, courier := lab.Start(t), lab.StartCyrus(t), lab.StartCyrus(t, lab.Classic()), lab.StartCourier(t)
	classic.Name = "cyrus-classic"
	nasty, plain := Mailbox(700, 50, 1, Options{Mean: 3000}), Mailbox(300, 6, 2, Options{Plain: true})
	for _, h := range []lab.Host{l.Old, l.New, cyrus.Host, classic.Host, courier.Host} {
		t.Run(h.Name, func(t *testing.T) {
			// what nobody stumbles over comes back to the byte
			want := Expected(plain)
			if loaded := Load(t, h, 1, plain); len(loaded.Refused) > 0 || loaded.Messages != 300 {
				t.Errorf("%+v", loaded)
			}
			byIMAP := func(n int, folders []Folder) Loaded {
				loaded, err := LoadIMAP(lab.Addr(h.IMAP), lab.User(n), lab.Password(n), folders)
				if err != nil {
					t.Fatal(err)
				}
				return loaded
			}
			byIMAP(2, plain)
			for n := 1; n <= 2; n++ {
				if d := Diff(want, snapshot(t, h, n), DiffOptions{OnlyB: ownFolders}); len(d) > 0 {
					t.Errorf("user %d: %s", n, strings.Join(d, "\n"))
				}
			}

			loaded := Load(t, h, 3, nasty)
			a := snapshot(t, h, 3)
			if a.Messages() != loaded.Messages || loaded.Messages < 550 || len(a.Folders) < loaded.Folders || loaded.Folders < 38 {
				t.Errorf("%d messages in %d folders are there; loaded: %+v", a.Messages(), len(a.Folders), loaded)
			}
			for _, s := range append(loaded.Refused, byIMAP(4, nasty).Refused...) {
				t.Log(s)
			}
			b := snapshot(t, h, 4)
			both := func(p Path) (Path, bool) { return p, b.Folders[p] != nil }
			d := Diff(a, b, DiffOptions{Map: both, OnlyB: func(p Path, _ *Contents) bool { return a.Folders[p] == nil }, NoSubscriptions: true})
			d = slices.DeleteFunc(d, func(s string) bool {
				t.Log(s)
				return strings.HasPrefix(s, "INBOX: ") // where the nasty ones are
			})
			if len(d) > 0 {
				t.Errorf("not the same by IMAP: %s", strings.Join(d, "\n"))
			}
		})
	}
}

// TestLargeMessages loads a message that is larger than any buffer.
func TestLargeMessages(t *testing.T) {
	l := lab.Start(t)
	large := []Folder{{Levels: []string{"Big"}, Count: 1, Messages: one(LargeMessage(20_000_000))}}
	for _, h := range []lab.Host{l.Old, l.New} {
		Load(t, h, 1, large)
		got := snapshot(t, h, 1)
		// a host may end the last line
		for _, f := range []Account{got} {
			for item := range f.Folders["Big"].Messages {
				if item.Size < 20_000_000 || item.Size > 20_000_002 {
					t.Errorf("%s: %d bytes", h.Name, item.Size)
				}
			}
		}
	}
}

func one(m Message) iter.Seq[Message] { return func(yield func(Message) bool) { yield(m) } }

func TestWithoutCR(t *testing.T) {
	for _, n := range []int{0, 1, 65534, 65535, 65536, 65537, 131071, 131072} {
		for _, end := range []string{"", "\r", "\r\n", "\n", "\r\r\n", "\r\nx\ry\r\n\n"} {
			text := strings.Repeat("x", n) + end
			var b bytes.Buffer
			if err := withoutCR(&b, io.MultiReader(strings.NewReader(text))); err != nil || b.String() != strings.ReplaceAll(text, "\r\n", "\n") {
				t.Errorf("%d bytes and %q: %d bytes, %v", n, end, b.Len(), err)
			}
		}
	}
}
