package syncer

import (
	"slices"
	"testing"

	"mailgate/config"
)

// TestCopyOrder: what people want first comes first, and a folder for which everything waits does not begin last.
func TestCopyOrder(t *testing.T) {
	list := func() (out []*job) {
		for _, x := range []struct {
			name, use string
			n         int
			newest    int64
		}{
			{"Archive", `\Archive`, 900, 10}, {"Trash", `\Trash`, 30, 9000}, {"Old", "", 50, 100}, {"New", "", 5, 5000}, {"Undated", "", 40, 0},
			{"inbox", "", 10, 50}, {"Sent", `\Sent`, 20, 20}, {"Entwürfe", `\Drafts`, 3, 30}, {"Spam", `\Junk`, 8, 9999}, {"As new", "", 6, 5000},
		} {
			f := &folder{Folder: Folder{Use: x.use}}
			f.Shown[config.Old] = x.name
			items := make([]item, x.n)
			items[x.n-1].date, items[x.n-1].dated = x.newest, x.newest > 0
			out = append(out, &job{f: f, items: items})
		}
		return out
	}
	for connections, want := range map[int][]string{
		1: {"inbox", "Entwürfe", "Sent", "As new", "New", "Old", "Archive", "Undated", "Spam", "Trash"},
		3: {"inbox", "Archive", "Entwürfe", "Sent", "As new", "New", "Old", "Undated", "Spam", "Trash"},
	} {
		jobs := list()
		sortForCopy(jobs, connections)
		var got []string
		for _, j := range jobs {
			got = append(got, j.f.name())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d connections: %q, want %q", connections, got, want)
		}
	}
}
