package syncer

import (
	"bytes"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Summary says in a line what was found.
func (r *GapReport) Summary() string {
	kinds := 0
	for _, g := range r.Gaps {
		if g.Answer == GapCounted {
			kinds++
		}
	}
	found := "nothing was found that does not travel"
	switch n := r.Found(); {
	case n == 1:
		found = "1 thing does not travel"
	case n > 1:
		found = fmt.Sprintf("%d things of %s do not travel", n, kindCount(kinds))
	}
	if n := r.Open(); n > 0 {
		found += fmt.Sprintf("; of %s not all is known", kindCount(n))
	}
	return found
}

func kindCount(n int) string {
	if n == 1 {
		return "1 kind"
	}
	return fmt.Sprintf("%d kinds", n)
}

// WriteTable writes the report for people: a row for each kind, and below it each thing, why not all is known, and what can be done.
// now is for the age.
func (r *GapReport) WriteTable(out io.Writer, now time.Time) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s: %s; looked at %s\n", r.User, r.Summary(), age(r.At, now))
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for _, g := range r.Gaps {
		what := g.What
		if g.Answer == GapUnknown {
			what = g.Why
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", g.Answer, g.Kind, what)
		for _, x := range g.Things {
			if x.Folder != "" {
				fmt.Fprintf(t, "\t\t- %s: %s\n", x.Folder, x.What)
			} else {
				fmt.Fprintf(t, "\t\t- %s\n", x.What)
			}
		}
		if g.More > 0 {
			fmt.Fprintf(t, "\t\t- and %d more\n", g.More)
		}
		if g.Why != "" && g.Answer != GapUnknown {
			fmt.Fprintf(t, "\t\tnot all is known: %s\n", g.Why)
		}
		if g.Do != "" {
			fmt.Fprintf(t, "\t\tto do: %s\n", g.Do)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := out.Write(b.Bytes())
	return err
}

// age says when something was, and how long ago.
func age(at, now time.Time) string {
	d := now.Sub(at)
	when := stampText(at)
	switch {
	case d < time.Minute:
		return "just now (" + when + ")"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes ago (%s)", int(d.Minutes()), when)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours ago (%s)", int(d.Hours()), when)
	}
	return fmt.Sprintf("%d days ago (%s)", int(d.Hours()/24), when)
}
