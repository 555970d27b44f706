package syncer

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode"

	"mailgate/config"

	"golang.org/x/text/width"
)

// Text is the plan as a table; see WriteTable.
func (p *Plan) Text() string {
	var b strings.Builder
	_ = p.WriteTable(&b) // a Builder takes everything
	return b.String()
}

// WriteTable writes the plan for people: what is refused first, then every folder with what will be done, then notes.
func (p *Plan) WriteTable(w io.Writer) error {
	out := bufio.NewWriter(w)
	refused := p.Refused()
	if len(refused) > 0 {
		fmt.Fprintf(out, "NOTHING WILL BE WRITTEN: %s cannot be carried as things are.\n", plural(len(refused), "folder"))
		for _, f := range refused {
			fmt.Fprintf(out, "  %s\n    %s\n", shownName(f), readable(f.Why))
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "%s: %s decides. OLD names folders with prefix %q and separator %q, NEW with prefix %q and separator %q.\n\n", readable(p.User), sideName(p.Authority),
		p.Prefix[config.Old], separatorText(p.Separator[config.Old]), p.Prefix[config.New], separatorText(p.Separator[config.New]))
	rows := [][]string{{"OLD", "NEW", "MESSAGES", "WHAT", "WHY"}}
	count := map[Action]int{}
	for _, f := range p.Folders {
		count[f.Action]++
		why := f.Why
		if f.Action == ActionRefuse {
			why = "see above"
		}
		rows = append(rows, []string{orDash(f.Shown[config.Old]), orDash(f.Shown[config.New]), messagesText(f), whatText(f), readable(why)})
	}
	writeRows(out, rows)
	fmt.Fprintf(out, "\n%s: %d paired, %d to create, %d to rename, %d gone, %d left out, %d refused.\n", plural(len(p.Folders), "folder"),
		count[ActionPair], count[ActionCreate], count[ActionRename], count[ActionGone], count[ActionSkip], count[ActionRefuse])
	for _, n := range p.Notes {
		fmt.Fprintf(out, "Note: %s\n", readable(n))
	}
	return out.Flush()
}

func shownName(f Folder) string { return orDash(cmp.Or(f.Shown[config.Old], f.Shown[config.New])) }

func orDash(s string) string { return cmp.Or(s, "-") }

func separatorText(c byte) string {
	if c == 0 {
		return ""
	}
	return string(rune(c))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func messagesText(f Folder) string {
	switch {
	case f.Exists[config.Old] && f.Exists[config.New]:
		return fmt.Sprintf("%d / %d", f.Messages[config.Old], f.Messages[config.New])
	case f.Exists[config.Old]:
		return fmt.Sprintf("%d / -", f.Messages[config.Old])
	case f.Exists[config.New]:
		return fmt.Sprintf("- / %d", f.Messages[config.New])
	}
	return "-"
}

func whatText(f Folder) string {
	what := string(f.Action)
	switch f.Action {
	case ActionPair:
		what = "keep equal"
	case ActionCreate:
		what = "create on " + sideName(f.Side)
	case ActionRename:
		what = "rename on " + sideName(f.Side)
	case ActionGone:
		if what = "delete on " + sideName(f.Side) + " later"; !f.Exists[0] && !f.Exists[1] {
			what = "forget"
		}
	case ActionSkip:
		what = "leave out"
	}
	if f.Use != "" {
		what += " (" + f.Use + ")"
	}
	return what
}

// writeRows writes columns two blanks apart, the last one ragged.
func writeRows(w io.Writer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], columns(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(cell)
			b.WriteString(strings.Repeat(" ", widths[i]-columns(cell)+2))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// columns is how wide text stands on a terminal: ideographs take two columns, accents that are put on the letter before none.
func columns(text string) (n int) {
	for _, r := range text {
		switch k := width.LookupRune(r).Kind(); {
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		case k == width.EastAsianWide || k == width.EastAsianFullwidth:
			n += 2
		default:
			n++
		}
	}
	return n
}
