package syncer

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"mailgate/config"
)

// Thousands is a number as people read it: 1,234,567.
func Thousands(n int64) string {
	if n < 0 {
		return "-" + Thousands(-n)
	}
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Seconds is a time as people read it, to the tenth below ten seconds.
func Seconds(d time.Duration) string {
	switch {
	case d < 100*time.Millisecond:
		return "0.1 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.0f h", d.Hours())
}

func secondsOf(s float64) string { return Seconds(time.Duration(s * float64(time.Second))) }

// count64 is a number of things.
func count64(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return Thousands(n) + " " + what + "s"
}

func messagesText64(n int64) string { return count64(n, "message") }

// Bytes is a number of bytes as people read it.
func Bytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/unit, 0
	for v >= unit && i < 3 {
		v, i = v/unit, i+1
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGT"[i])
}

// Text is the amount: messages, bytes, folders.
func (a Amount) Text() string {
	size := Bytes(a.Bytes)
	switch {
	case a.NoBytes != "" && a.Bytes == 0:
		size = ""
	case a.NoBytes != "":
		size = "more than " + size
	case a.About:
		size = "about " + size
	}
	s := messagesText64(a.Messages)
	if size != "" {
		s += " (" + size + ")"
	}
	if a.Folders > 0 {
		s += " in " + count64(int64(a.Folders), "folder")
	}
	return s
}

// WriteText writes the forecast for people, a line for each part.
func (f *Forecast) WriteText(out io.Writer) error {
	var b bytes.Buffer
	if f.There {
		fmt.Fprintf(&b, "%s is on %s already\n", f.User, sideName(f.To))
		_, err := out.Write(b.Bytes())
		return err
	}
	how := "as both hosts say now"
	if !f.Asked {
		how = "as the last pass knows it"
	}
	fmt.Fprintf(&b, "%s, from %s to %s, %s:\n", f.User, sideName(f.From), sideName(f.To), how)
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	line := func(what, format string, args ...any) {
		fmt.Fprintf(t, "  %s\t%s\n", what, fmt.Sprintf(format, args...))
	}
	if f.Asked {
		line("to carry", "%s", f.carryText())
	}
	line("logins wait", "%s", f.Gap.text())
	f.imapText(line)
	line("POP3", "%s", f.POP3.text(f.To))
	if len(f.Lost)+len(f.Gained) > 0 {
		line("IMAP features", "clients lose %s, and gain %s", wordsOr(f.Lost), wordsOr(f.Gained))
	}
	if f.Flags.Messages > 0 {
		line("flags", "%s does not keep %s (%s of messages)", sideName(f.To), wordsOr(f.Flags.Names), count64(f.Flags.Messages, "flag"))
	}
	for _, o := range f.InWay {
		line("IN THE WAY", "%s", o.text())
	}
	if n := openText(f.Open); n != "" {
		line("sessions", "%s now: they end at the flip, between two commands", n)
	}
	for _, n := range f.Notes {
		line("careful", "%s", n)
	}
	for _, u := range f.Unknown {
		line("unknown", "%s: %s", u.What, u.Why)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := out.Write(b.Bytes())
	return err
}

func (o Obstacle) text() string {
	if o.Do == "" {
		return o.Why
	}
	return o.Why + "; " + o.Do
}

func (f *Forecast) carryText() string {
	to, back := f.Carry[f.To], f.Carry[f.From]
	s := "nothing"
	if to.Messages > 0 {
		s = to.Text() + " to " + sideName(f.To)
		if f.Never {
			s = "at most " + s + ", as no whole pass has been over his mailboxes yet"
		}
	}
	if back.Messages > 0 {
		if to.Messages == 0 {
			s = ""
		} else {
			s += "; "
		}
		s += back.Text() + " to " + sideName(f.From)
	}
	if f.Changed > 0 {
		s += "; flags or deletes in " + count64(int64(f.Changed), "folder")
	}
	if f.Prep != nil {
		s += "; that takes about " + secondsOf(*f.Prep) + ", and he works meanwhile"
	}
	return s
}

func (g GapTime) text() string {
	if !g.Known {
		return "unknown: " + g.Why
	}
	return "about " + secondsOf(g.Seconds) + ": " + g.Why
}

func (f *Forecast) imapText(line func(what, format string, args ...any)) {
	a := f.IMAP
	kept := ""
	if a.Kept.Messages > 0 {
		kept = "; they keep " + a.Kept.Counts()
	}
	switch {
	case a.Messages == 0 && a.Kept.Messages > 0:
		line("IMAP", "clients keep what they have: %s", a.Kept.Counts())
	case a.Messages == 0:
		line("IMAP", "there is no mail that clients could have")
	default:
		line("IMAP", "clients download again %s: UIDVALIDITY or UIDs are others on %s%s", a.Text(), sideName(f.To), kept)
	}
	if a.Names > 0 {
		line("", "%s under another name on %s: for clients that is new", count64(int64(a.Names), "folder"), sideName(f.To))
	}
	if a.Gone > 0 {
		line("", "%s left out, and not seen after the flip (mailgate sync plan %s)", count64(int64(a.Gone), "folder"), f.User)
	}
	for _, name := range a.Mixed[:min(len(a.Mixed), mostNotes)] {
		line("careful", "%s has the same UIDVALIDITY on both sides, and UIDs are of other mail: clients would show wrong mail. %s", name, mixedDo(name, f.To))
	}
	if n := len(a.Mixed) - mostNotes; n > 0 {
		line("careful", "and %d folders more of that kind", n)
	}
}

// mixedDo is the way out: a folder that is made anew has another UIDVALIDITY.
func mixedDo(name string, to config.Side) string {
	if peekName(name) == inboxName {
		return "Have his clients forget the folder after the flip"
	}
	return "Delete it on " + sideName(to) + " before the flip: the next pass makes it anew, with another one"
}

// Counts is the amount without bytes.
func (a Amount) Counts() string {
	return messagesText64(a.Messages) + " in " + count64(int64(a.Folders), "folder")
}

func (g AgainPOP3) text(to config.Side) string {
	switch {
	case !g.Known:
		return "unknown, what clients that leave mail on the server download again: " + g.Why
	case g.Why != "":
		return g.Why
	case g.Of == 0:
		return "the INBOX is empty"
	case g.Messages == 0:
		return fmt.Sprintf("clients that leave mail on the server keep what they have: %s", messagesText64(g.Of))
	}
	s := fmt.Sprintf("clients that leave mail on the server download again %s of %s: their UIDLs are others on %s", Thousands(g.Messages), messagesText64(g.Of), sideName(to))
	if g.Mixed > 0 {
		s += fmt.Sprintf("; careful: %s have the UIDL that another message had, and clients will not see them", messagesText64(g.Mixed))
	}
	return s
}

func wordsOr(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	const most = 12
	if n := len(list) - most; n > 0 {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(list, ", ")
}

func openText(open map[string]int) string {
	var list []string
	for _, p := range slices.Sorted(maps.Keys(open)) {
		if open[p] > 0 {
			list = append(list, fmt.Sprintf("%d by %s", open[p], strings.ToUpper(p)))
		}
	}
	return strings.Join(list, ", ")
}
