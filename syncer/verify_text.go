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
	"text/tabwriter"
	"time"
	"unicode"
)

// subjectAndID reads two fields for people: decoded, in one line, without control characters.
func subjectAndID(header []byte) (subject, id string) {
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
	subject = values["subject"]
	if s, err := new(mime.WordDecoder).DecodeHeader(subject); err == nil {
		subject = s
	}
	return oneLine(subject, 200), oneLine(values["message-id"], 200)
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
		return fmt.Sprintf("Everything is there: %d messages in %d folders are the same on both sides (%s).", v.Compared, len(v.Folders), how)
	}
	n := int64(0)
	for _, f := range v.Folders {
		n += max(f.Found, int64(len(f.Differences)))
	}
	return fmt.Sprintf("%d differences were found among %d messages in %d folders (%s).", n, v.Compared, len(v.Folders), how)
}

// Sentence says what a difference is.
func (d Difference) Sentence() string {
	var s string
	switch d.Kind {
	case "missing-new":
		s = "not on NEW"
	case "missing-old":
		s = "not on OLD"
	case "body":
		s = "the contents differ"
	case "folder", "subscription":
		s = d.Kind
	default:
		s = d.Kind + " differ"
	}
	if d.Old != "" || d.New != "" {
		s += fmt.Sprintf(": OLD %s, NEW %s", cmp.Or(d.Old, "none"), cmp.Or(d.New, "none"))
	}
	if d.Why != "" {
		s += " (" + oneLine(d.Why, 300) + ")"
	}
	return s
}

// Message says which message a difference is about.
func (d Difference) Message() string {
	if d.UID == [2]uint32{} {
		return ""
	}
	s := fmt.Sprintf("%q", cmp.Or(d.Subject, "(no subject)"))
	if d.MessageID != "" {
		s += " " + d.MessageID
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
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FOLDER\tOLD\tNEW\tHASHED\tDIFFERENCES\tEXPLAINED")
	for _, f := range v.Folders {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\n", f.Title(), f.Messages[0], f.Messages[1], f.Hashed, max(f.Found, int64(len(f.Differences))), len(f.Explained))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, f := range v.Folders {
		for i, list := range [][]Difference{f.Differences, f.Explained} {
			for _, d := range list {
				what := "DIFFERENT"
				if i == 1 {
					what = "explained"
				}
				fmt.Fprintf(w, "\n%s  %s: %s", what, f.Title(), d.Sentence())
				if m := d.Message(); m != "" {
					fmt.Fprintf(w, "\n           %s", m)
				}
			}
		}
	}
	_, err := fmt.Fprintf(w, "\n\nChecked %s in %s.\n", v.At.Format("2006-01-02 15:04:05 MST"), v.Took.Round(time.Millisecond))
	return err
}

//go:embed verify.html
var verifyPage string

// WriteHTML writes the verification as one page for a manager: no script, nothing from elsewhere, fit to be printed.
func (v *Verification) WriteHTML(w io.Writer) error {
	t, err := template.New("verify").Funcs(template.FuncMap{
		"time":  func(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 MST") },
		"count": func(f FolderVerification) int64 { return max(f.Found, int64(len(f.Differences))) },
		"round": func(d time.Duration) string { return d.Round(time.Millisecond).String() },
	}).Parse(verifyPage)
	if err != nil {
		return err
	}
	return t.Execute(w, v)
}
