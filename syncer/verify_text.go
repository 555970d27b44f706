package syncer

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"mime"
	"strings"
	"time"
	"unicode"
)

// subjectAndID reads two fields for people: decoded, in one line, without control characters.
func subjectAndID(header []byte) (subject, id string) {
	values := fieldsOf(header)
	return decoded(values["subject"]), oneLine(values["message-id"], 200)
}

// fromOf reads the sender for people.
func fromOf(header []byte) string { return decoded(fieldsOf(header)["from"]) }

// decoded is a field's text as people read it (RFC 2047).
func decoded(text string) string {
	if s, err := new(mime.WordDecoder).DecodeHeader(text); err == nil {
		text = s
	}
	return oneLine(text, 200)
}

// fieldsOf reads the fields of a header, unfolded, by their names in lower case; the first of several counts.
func fieldsOf(header []byte) map[string]string {
	var name string
	values := map[string]string{}
	for line := range bytes.Lines(header) {
		text := strings.TrimRight(string(line), "\r\n")
		if text != "" && (text[0] == ' ' || text[0] == '\t') {
			if name != "" {
				values[name] += " " + strings.TrimSpace(text)
			}
			continue
		}
		before, after, ok := strings.Cut(text, ":")
		if name = strings.ToLower(strings.TrimSpace(before)); ok && values[name] == "" {
			values[name] = strings.TrimSpace(after)
		}
	}
	return values
}

// oneLine makes text safe to print.
func oneLine(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	if r := []rune(s); len(r) > max {
		return string(r[:max]) + "..."
	}
	return s
}

// Title is a folder's name as people read it.
func (f FolderVerification) Title() string {
	return oneLine(cmp.Or(f.Name[0], f.Name[1]), 60)
}

// Verdict says in one sentence whether everything is there.
func (v *Verification) Verdict() string {
	how := fmt.Sprintf("%d bodies compared byte for byte", v.Hashed)
	if !v.Deep {
		how += ", a sample"
	}
	if v.Equal {
		but := ""
		if v.Waived > 0 {
			but = " but for what is waived (" + messageCount(int(v.Waived)) + ")"
		}
		return fmt.Sprintf("Everything is there%s: %d messages in %d folders are the same on both sides (%s).", but, v.Compared, len(v.Folders), how)
	}
	n := v.Different()
	if n == 0 {
		return fmt.Sprintf("%s in quarantine for a decision; else everything is there: %d messages in %d folders are the same on both sides (%s).",
			messagesWait(int(v.Open)), v.Compared, len(v.Folders), how)
	}
	waits := ""
	if v.Open > 0 {
		waits = messagesWait(int(v.Open)) + " in quarantine; "
	}
	return fmt.Sprintf("%d differences were found in %d folders; %s%d messages are on both sides (%s).", n, len(v.Folders), waits, v.Compared, how)
}

// Different is how many differences were found in all.
func (v *Verification) Different() (n int64) {
	for _, f := range v.Folders {
		n += f.Count()
	}
	return n
}

// Explained is how many are known and accepted.
func (v *Verification) Explained() (n int64) {
	for _, f := range v.Folders {
		n += int64(len(f.Explained))
	}
	return n
}

// Count is how many differences a folder has.
func (f FolderVerification) Count() int64 { return max(f.Found, int64(len(f.Differences))) }

// More is how many of them are not listed.
func (f FolderVerification) More() int64 { return f.Count() - int64(len(f.Differences)) }

// Sentence says what a difference is.
func (d Difference) Sentence() string {
	var s string
	switch d.Kind {
	case "missing-new":
		s = "the message is not on NEW"
	case "missing-old":
		s = "the message is not on OLD"
	case "body":
		s = "the contents differ"
	case "flags":
		s = "the marks differ"
	case "folder":
		s = "the folder was not compared"
	default:
		s = "the " + d.Kind + " differs"
	}
	if d.Old != "" || d.New != "" {
		s += fmt.Sprintf(": OLD %s, NEW %s", cmp.Or(oneLine(d.Old, 300), "none"), cmp.Or(oneLine(d.New, 300), "none"))
	}
	if d.Why != "" {
		s += " (" + strings.TrimSuffix(oneLine(d.Why, 300), ".") + ")"
	}
	return s
}

// Message says which message a difference is about.
func (d Difference) Message() string {
	if d.UID == [2]uint32{} {
		return ""
	}
	s := cmp.Or(oneLine(d.Subject, 200), "(no subject)")
	if d.MessageID != "" {
		s += ", " + oneLine(d.MessageID, 200)
	}
	for side, name := range []string{"OLD", "NEW"} {
		if d.UID[side] != 0 {
			s += fmt.Sprintf(", %s UID %d", name, d.UID[side])
		}
	}
	return s
}

// WriteTable writes the verification for people.
func (v *Verification) WriteTable(w io.Writer) error {
	fmt.Fprintf(w, "%s: %s\n\n", oneLine(v.User, 200), v.Verdict())
	rows := [][]string{{"FOLDER", "OLD", "NEW", "HASHED", "DIFFERENCES", "OPEN", "WAIVED", "EXPLAINED"}}
	for _, f := range v.Folders {
		rows = append(rows, []string{f.Title(), fmt.Sprint(f.Messages[0]), fmt.Sprint(f.Messages[1]), fmt.Sprint(f.Hashed), fmt.Sprint(f.Count()),
			fmt.Sprint(len(f.Open)), fmt.Sprint(f.Waived), fmt.Sprint(len(f.Explained))})
	}
	rows = append(rows, []string{"all", fmt.Sprint(v.Messages[0]), fmt.Sprint(v.Messages[1]), fmt.Sprint(v.Hashed), fmt.Sprint(v.Different()),
		fmt.Sprint(v.Open), fmt.Sprint(v.Waived), fmt.Sprint(v.Explained())})
	writeRows(w, rows)
	for _, f := range v.Folders {
		for i, list := range [][]Difference{f.Differences, f.Open, f.Explained} {
			for _, d := range list {
				what := []string{"DIFFERENT", "OPEN     ", "explained"}[i]
				fmt.Fprintf(w, "\n%s  %s: %s", what, f.Title(), d.Sentence())
				if m := d.Message(); m != "" {
					fmt.Fprintf(w, "\n           %s", m)
				}
			}
		}
		if n := f.More(); n > 0 {
			fmt.Fprintf(w, "\nDIFFERENT  %s: %d more, which are not listed", f.Title(), n)
		}
	}
	if v.Open > 0 {
		fmt.Fprintf(w, "\n\nWhat is open waits in quarantine: mailgate quarantine list %s", oneLine(v.User, 200))
	}
	v.Sieve.write(w)
	_, err := fmt.Fprintf(w, "\n\nChecked %s in %s.\n", v.At.Format("2006-01-02 15:04:05 MST"), v.Took.Round(time.Millisecond))
	return err
}

//go:embed verify.html
var verifyPage string

// WriteHTML writes the verification as one page for a manager: no script, nothing from elsewhere, fit to be printed.
func (v *Verification) WriteHTML(w io.Writer) error {
	t, err := template.New("verify").Funcs(template.FuncMap{
		"time":  func(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 MST") },
		"upper": strings.ToUpper,
		"line":  func(s string) string { return oneLine(s, 200) },
		"round": func(d time.Duration) string { return d.Round(time.Millisecond).String() },
	}).Parse(verifyPage)
	if err != nil {
		return err
	}
	return t.Execute(w, v)
}
