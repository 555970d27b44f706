package syncer

import (
	"cmp"
	"fmt"
	"io"
	"strings"
)

// Summary says in one sentence what waits.
func (l *QuarantineList) Summary() string {
	switch {
	case !l.Known:
		return "no pass has been over his mailboxes yet, so nothing is known of them"
	case l.Open == 0 && l.Waived == 0:
		return "nothing is in quarantine"
	case l.Open == 0:
		return fmt.Sprintf("nothing waits; %s waived", messagesAre(l.Waived))
	case l.Waived == 0:
		return messagesWait(l.Open) + " in quarantine"
	}
	return fmt.Sprintf("%s in quarantine, and %s waived", messagesWait(l.Open), messagesAre(l.Waived))
}

func messagesWait(n int) string {
	if n == 1 {
		return "1 message waits"
	}
	return fmt.Sprintf("%d messages wait", n)
}

func messagesAre(n int) string {
	if n == 1 {
		return "1 message is"
	}
	return fmt.Sprintf("%d messages are", n)
}

// WriteTable writes the list for people.
func (l *QuarantineList) WriteTable(out io.Writer) error {
	w := &strings.Builder{}
	fmt.Fprintf(w, "%s: %s\n", oneLine(l.User, 200), l.Summary())
	for i := range l.Messages {
		m := &l.Messages[i]
		fmt.Fprintf(w, "\n%s\n", m.place())
		for _, row := range m.rows() {
			fmt.Fprintf(w, "    %-8s  %s\n", row[0], row[1])
		}
	}
	for _, n := range l.Notes {
		fmt.Fprintf(w, "\nNOTE  %s\n", n)
	}
	_, err := io.WriteString(out, w.String())
	return err
}

// place says where a message is.
func (m *Waiting) place() string {
	return fmt.Sprintf("%s on %s, UID %d", cmp.Or(m.Folder[m.Side], "a folder that is gone"), sideName(m.Side), m.UID)
}

// rows say the rest of it, each under a word.
func (m *Waiting) rows() (rows [][2]string) {
	add := func(word, text string) {
		if text != "" {
			rows = append(rows, [2]string{word, text})
		}
	}
	var about []string
	for _, x := range []string{m.Subject, from(m.From), m.MessageID, stampText(m.Date), size(m.Size)} {
		if x != "" {
			about = append(about, x)
		}
	}
	add("message", strings.Join(about, ", "))
	if m.Gone {
		add("message", "it is not there any more: the next pass lets it go")
	}
	add("reason", m.Reason+": "+m.Why)
	add("said", m.Said)
	since := "since " + stampText(m.Since)
	if m.Tries > 0 {
		since += fmt.Sprintf(", tried %s, last %s", times(m.Tries), stampText(m.Last))
	}
	if !m.Next.IsZero() {
		since += ", again by itself from " + stampText(m.Next)
	}
	add("waits", since)
	switch m.Decision {
	case Waived:
		add("waived", "by "+m.By+", "+stampText(m.Decided)+"; retry takes it back")
	case Retry:
		add("retry", "asked for by "+m.By+", "+stampText(m.Decided)+": the next pass tries it")
	default:
		add("way out", m.WayOut)
	}
	return rows
}

func from(s string) string {
	if s == "" {
		return ""
	}
	return "from " + s
}

func size(n int64) string {
	switch {
	case n == 0:
		return ""
	case n < 10_000:
		return fmt.Sprintf("%d bytes", n)
	case n < 10_000_000:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d MB", n/1_000_000)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// WriteTable writes what was decided for people.
func (d *QuarantineDecided) WriteTable(out io.Writer) error {
	w := &strings.Builder{}
	verb := map[Decision][2]string{Retry: {"to be tried in the next pass", "would be tried in the next pass"}, Waived: {"waived", "would be waived"}}[d.Decision]
	what := verb[0]
	if d.DryRun {
		what = verb[1]
	}
	fmt.Fprintf(w, "%s: %s %s", oneLine(d.User, 200), messageCount(len(d.Messages)), what)
	if d.Already > 0 {
		fmt.Fprintf(w, "; %d were so already", d.Already)
	}
	fmt.Fprintln(w)
	for i := range d.Messages {
		fmt.Fprintf(w, "    %s (%s)\n", d.Messages[i].place(), d.Messages[i].Reason)
	}
	for _, l := range d.Left {
		fmt.Fprintf(w, "    left alone: %s\n", l)
	}
	_, err := io.WriteString(out, w.String())
	return err
}

func messageCount(n int) string {
	if n == 1 {
		return "1 message"
	}
	return fmt.Sprintf("%d messages", n)
}
