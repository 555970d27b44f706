package syncer

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// cellWidth is what a table's cell shows of a text, in characters; the profile's JSON has all of it.
const cellWidth = 48

// WriteTable writes the profile for people.
func (p *Profile) WriteTable(w io.Writer) error { return writeProfiles(w, []*Profile{p}, []string{""}) }

// WriteProfiles writes the profiles of both sides beside each other. One that is nil is not known.
func WriteProfiles(w io.Writer, old, new *Profile) error {
	return writeProfiles(w, []*Profile{old, new}, []string{"OLD", "NEW"})
}

// row is a line of the table.
type row struct {
	title string
	cell  func(p *Profile) string
}

func writeProfiles(w io.Writer, all []*Profile, sides []string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(title string, cell func(p *Profile) string) {
		fmt.Fprint(t, title)
		for _, p := range all {
			text := "not probed"
			if p != nil {
				text = cut(cell(p))
			}
			fmt.Fprint(t, "\t", text)
		}
		fmt.Fprintln(t)
	}
	if len(all) > 1 {
		fmt.Fprintf(t, "\t%s\n", strings.Join(sides, "\t"))
	}
	for _, r := range profileRows() {
		line(r.title, r.cell)
	}
	for _, m := range corpus() {
		line("message: "+m.name, func(p *Profile) string {
			switch {
			case p.Refuses[m.name] != "":
				return "refused: " + p.Refuses[m.name]
			case p.Alters[m.name] != "":
				return "altered: " + p.Alters[m.name]
			}
			return "kept"
		})
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i, p := range all {
		if p == nil || len(p.Notes) == 0 {
			continue
		}
		if _, err := fmt.Fprintf(w, "\n%s:\n", strings.TrimSpace("Notes "+sides[i])); err != nil {
			return err
		}
		for _, n := range p.Notes {
			if _, err := fmt.Fprintf(w, "- %s\n", n); err != nil {
				return err
			}
		}
	}
	return nil
}

func profileRows() []row {
	yes := func(f func(p *Profile) bool) func(p *Profile) string {
		return func(p *Profile) string {
			if f(p) {
				return "yes"
			}
			return "no"
		}
	}
	return []row{
		{"host", func(p *Profile) string { return p.Host }},
		{"product", func(p *Profile) string { return orElse(p.Product, "unknown") }},
		{"probed", func(p *Profile) string { return p.At.UTC().Format("2006-01-02 15:04 UTC") }},
		{"several messages in one APPEND", yes(func(p *Profile) bool { return p.MultiAppend })},
		{"NO before the literal", func(p *Profile) string {
			if !p.EarlyNo && slices.Contains(p.Capabilities, "LITERAL+") {
				return "not asked, LITERAL+ does not wait"
			}
			return yes(func(p *Profile) bool { return p.EarlyNo })(p)
		}},
		{"UIDs rise by APPEND", yes(func(p *Profile) bool { return p.Ascending })},
		{"dates are kept", func(p *Profile) string {
			if p.KeepsDates && !p.KeepsZones {
				return "yes, in another zone"
			}
			return yes(func(p *Profile) bool { return p.KeepsDates })(p)
		}},
		{"sizes are exact", yes(func(p *Profile) bool { return p.ExactSizes })},
		{"COPY keeps all", yes(func(p *Profile) bool { return p.CopyKeeps })},
		{"RENAME keeps UIDs", yes(func(p *Profile) bool { return p.RenameKeeps })},
		{"CONDSTORE works", yes(func(p *Profile) bool { return p.CondStore })},
		{"keywords of a mailbox", func(p *Profile) string {
			if p.MaxKeywords == 0 {
				return "no limit up to " + strconv.Itoa(mostKeywords)
			}
			return "at most " + strconv.Itoa(p.MaxKeywords)
		}},
		{"keywords differ by letter case", yes(func(p *Profile) bool { return !p.KeywordFolds })},
		{`a \Flag that is none`, func(p *Profile) string { return orElse(p.UnknownFlags, "not tried") }},
		{"folder names cannot hold", func(p *Profile) string {
			bad := slices.Clone(p.BadNameForms)
			for _, c := range p.BadNames { // the separator has no form of its own
				if c != '8' && !slices.Contains(bad, string(c)) {
					bad = append(bad, string(c))
				}
			}
			return orElse(strings.Join(bad, ", "), "nothing that was found")
		}},
		{"longest folder name tried", func(p *Profile) string { return strconv.Itoa(p.MaxName) + " bytes" }},
		{"folder names differ by letter case", yes(func(p *Profile) bool { return !p.CaseFolds })},
		{"master login", func(p *Profile) string {
			if p.MasterProven {
				return "proven with two users"
			}
			return "not proven (a master_user needs it)"
		}},
	}
}

// cut shortens a text for a cell, and takes out what would break the table.
func cut(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == utf8.RuneError || r == 0x7f {
			return '?'
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) <= cellWidth {
		return s
	}
	return string([]rune(s)[:cellWidth-3]) + "..."
}
