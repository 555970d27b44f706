package syncer

import (
	"slices"
	"testing"
)

// TestRenamePayload: what is noted of a rename is read again, with its name; what an earlier edition noted has none; and nothing cut or
// foreign is taken for either.
func TestRenamePayload(t *testing.T) {
	t.Parallel()
	items := []item{{uid: 3, date: -5, dated: true}, {uid: 9, date: 7, dated: true}}
	for _, name := range []string{"", "INBOX.Été", string(make([]byte, 300))} {
		b := encodeRename(name, items)
		to, got, err := decodeRename(b)
		if err != nil || to != name || !slices.Equal(got, items) {
			t.Errorf("%q: %q, %v, %v", name, to, got, err)
		}
		for n := range b {
			if to, got, err := decodeRename(b[:n]); err == nil {
				t.Errorf("%q cut at %d: %q, %v", name, n, to, got)
			}
		}
	}
	if to, got, err := decodeRename(encodeItems(items)); err != nil || to != "" || !slices.Equal(got, items) {
		t.Errorf("without a name: %q, %v, %v", to, got, err)
	}
	for _, b := range [][]byte{{3}, {3, 0x80}, {3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 0}, {4, 0, 2, 0}} {
		if _, _, err := decodeRename(b); err == nil {
			t.Errorf("% x is read", b)
		}
	}
}
