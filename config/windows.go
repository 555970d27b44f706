package config

import (
	"fmt"
	"strings"
	"time"
)

// Windows are the times of the week at which something may be done, by local time. None means always.
type Windows []Window

// Window is a time of the day on some days of the week, such as "Mon-Fri 19:00-07:00". One that goes over midnight belongs to the day
// on which it begins.
type Window struct {
	Text     string // as written
	days     [7]bool
	from, to int // minutes since midnight; to of the next day when it is not above from
}

// windowHelp is what to write.
const windowHelp = "write for example Mon-Fri 19:00-07:00, Sat,Sun 00:00-24:00, or 22:00-05:30 for every day"

// ParseWindow reads a window: days (Mon, Mon-Fri, Sat,Sun; every day when they are left out) and a time of the day.
func ParseWindow(text string) (w Window, err error) {
	w.Text = text
	fields := strings.Fields(text)
	switch len(fields) {
	case 1:
		w.days = [7]bool{true, true, true, true, true, true, true}
	case 2:
		if w.days, err = parseDays(fields[0]); err != nil {
			return w, fmt.Errorf("%q: %w; %s", text, err, windowHelp)
		}
	default:
		return w, fmt.Errorf("%q is no time window; %s", text, windowHelp)
	}
	from, to, ok := strings.Cut(fields[len(fields)-1], "-")
	if !ok {
		return w, fmt.Errorf("%q has no time of the day; %s", text, windowHelp)
	}
	if w.from, err = minutes(from); err == nil {
		w.to, err = minutes(to)
	}
	switch {
	case err != nil:
		return w, fmt.Errorf("%q: %w; %s", text, err, windowHelp)
	case w.from == 24*60:
		return w, fmt.Errorf("%q begins at 24:00; write 00:00 of the next day", text)
	case w.from == w.to:
		return w, fmt.Errorf("%q ends when it begins; for a whole day write 00:00-24:00", text)
	}
	return w, nil
}

func dayNames() []string { return []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"} } // as time.Weekday counts

func parseDays(text string) (days [7]bool, err error) {
	day := func(name string) (int, error) {
		for i, d := range dayNames() {
			if strings.EqualFold(d, name) {
				return i, nil
			}
		}
		return 0, fmt.Errorf("%q is no day%s", name, didYouMean(name, dayNames()))
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		i, err := day(first)
		if err != nil {
			return days, err
		}
		end := i
		if isRange {
			if end, err = day(last); err != nil {
				return days, err
			}
		}
		for ; ; i = (i + 1) % 7 {
			days[i] = true
			if i == end {
				break
			}
		}
	}
	return days, nil
}

// minutes reads HH:MM; 24:00 is the end of the day.
func minutes(text string) (int, error) {
	if text == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != 5 {
		return 0, fmt.Errorf("%q is no time of the day", text)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// span is when the window is open that begins on a day, in that day's zone. Where clocks are put forward over its beginning or end, that is
// moved with them; one that has no time left is empty.
func (w Window) span(day time.Time) (from, to time.Time) {
	y, m, d := day.Date()
	next := 0
	if w.to <= w.from {
		next = 1
	}
	at := func(days, minutes int) time.Time {
		return time.Date(y, m, d+days, minutes/60, minutes%60, 0, 0, day.Location())
	}
	return at(0, w.from), at(next, w.to)
}

// Open tells whether a window is open now, by the clock of now's zone, and until when it stays so, or is not; a zero time means for ever.
func (ws Windows) Open(now time.Time) (open bool, until time.Time) {
	if len(ws) == 0 {
		return true, time.Time{}
	}
	type span struct{ from, to time.Time }
	var spans []span
	y, m, d := now.Date()
	const ahead = 8 // days; a week, and what began on the day before
	for i := -1; i <= ahead; i++ {
		day := time.Date(y, m, d+i, 12, 0, 0, 0, now.Location())
		for _, w := range ws {
			if from, to := w.span(day); w.days[day.Weekday()] && from.Before(to) {
				spans = append(spans, span{from, to})
			}
		}
	}
	until = now
	for more := true; more; { // windows that touch are one
		more = false
		for _, s := range spans {
			if !s.from.After(until) && s.to.After(until) {
				open, more, until = true, true, s.to
			}
		}
	}
	if open {
		if until.Sub(now) > 7*24*time.Hour {
			until = time.Time{}
		}
		return true, until
	}
	until = time.Time{}
	for _, s := range spans {
		if s.from.After(now) && (until.IsZero() || s.from.Before(until)) {
			until = s.from
		}
	}
	return false, until
}
