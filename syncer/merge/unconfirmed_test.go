package merge

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

// TestUnconfirmed: a keyword that NEW was sent and that nobody has seen there since. OLD decides.
func TestUnconfirmed(t *testing.T) {
	for _, c := range []struct{ what, base, old, new, do, after string }{
		{"kept", "Label", "Label", "Label", "", "Label | Label"},
		{"not kept", "Label", "Label", "", "lost Label", "Label | "},
		{"not looked at", "Label", "Label", "unseen", "", ""},
		{"not looked at, and another flag set on OLD", "Label", `Label \Seen`, "unseen", `NEW +\Seen`, `Label \Seen | (unconfirmed) Label \Seen`},
		{"taken off on OLD, kept on NEW", "Label", "", "Label", "NEW -Label", " | "},
		{"taken off on OLD, not kept on NEW", "Label", "", "", "lost Label", " | "},
		{"taken off on OLD, not looked at on NEW", "Label", "", "unseen", "NEW -Label", " | (unconfirmed)"},
		{"one of two is kept", "Label Work", "Label Work", "Work", "lost Label", "Label Work | Work"},
		{"a flag that every server keeps is taken off on NEW", `Label \Seen`, `Label \Seen`, "Label", `OLD -\Seen`, "Label | Label"},
		{"not kept, and a flag set on NEW", "Label", "Label", `\Flagged`, `lost Label, OLD +\Flagged`, `Label \Flagged | \Flagged`},
		{"not kept, and another set on OLD", "Label", "Label Work", "", "lost Label, NEW +Work", "Label Work | Work"},
	} {
		t.Run(c.what, func(t *testing.T) {
			d := &Dict{}
			base := d.ID([]byte(c.base))
			p := Pair{UID: [2]uint32{5, 9}, Base: [2]Flags{base, d.Unconfirmed(base)}}
			now := d.ID([]byte(c.new))
			if c.new == "unseen" {
				now = p.Base[New]
			}
			r := Mailbox(Input{Dict: d, Base: []Pair{p}, Snap: [2][]Entry{{{5, d.ID([]byte(c.old))}}, {{9, now}}}})
			var do []string
			for f := range maps.Keys(r.Lost) {
				do = append(do, "lost "+f)
			}
			after := ""
			text := func(b [2]Flags) string {
				return strings.Join(d.List(b[Old]), " ") + " | " + strings.Join(d.List(b[New]), " ")
			}
			for side, name := range [2]string{"OLD", "NEW"} {
				for _, x := range r.Change[side] {
					for _, f := range x.Add {
						do = append(do, name+" +"+f)
					}
					for _, f := range x.Remove {
						do = append(do, name+" -"+f)
					}
					after = text(x.Base)
				}
			}
			for _, x := range r.Rebase {
				after = text(x.Base)
			}
			if got := strings.Join(do, ", "); got != c.do || after != c.after {
				t.Errorf("%s, then %q; want %s, then %q", got, after, c.do, c.after)
			}
			if s := d.Sent(p.Base[New]); s != base {
				t.Errorf("sent %v, want %v", d.List(s), d.List(base))
			}
		})
	}
	d := &Dict{}
	if f := d.ID([]byte(`\Seen \Draft`)); d.Unconfirmed(f) != f || d.Settled(f, 0) != f || d.Sent(f) != f {
		t.Error("flags that every server keeps need no confirmation", fmt.Sprint(d.List(d.Unconfirmed(f))))
	}
}
