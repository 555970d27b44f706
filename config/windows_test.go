package config

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the test is about clocks that are put forward and back
)

func TestWindowsOpen(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	// 2026-11-23 is a Monday. Clocks in Berlin go forward on 2026-03-29 at 02:00, back on 2026-10-25 at 03:00; both are Sundays.
	for _, c := range []struct {
		windows, now string
		open         bool
		until        string // "" means for ever
	}{
		{"", "2026-11-23 12:00", true, ""},
		{"00:00-24:00", "2026-11-23 12:00", true, ""},
		{"Mon-Fri 19:00-07:00", "2026-11-23 12:00", false, "2026-11-23 19:00"},
		{"Mon-Fri 19:00-07:00", "2026-11-23 19:00", true, "2026-11-24 07:00"},
		{"Mon-Fri 19:00-07:00", "2026-11-23 06:59", false, "2026-11-23 19:00"}, // Sunday night is none
		{"Mon-Fri 19:00-07:00", "2026-11-24 06:59", true, "2026-11-24 07:00"},
		{"Mon-Fri 19:00-07:00", "2026-11-24 07:00", false, "2026-11-24 19:00"},
		{"Mon-Fri 19:00-07:00", "2026-11-28 03:00", true, "2026-11-28 07:00"}, // Friday's
		{"Mon-Fri 19:00-07:00", "2026-11-28 08:00", false, "2026-11-30 19:00"},
		{"Mon-Fri 19:00-07:00|Sat-Sun 00:00-24:00", "2026-11-27 20:00", true, "2026-11-30 00:00"},
		{"Mon-Fri 19:00-07:00|Sat-Sun 00:00-24:00", "2026-11-30 00:00", false, "2026-11-30 19:00"},
		{"Fri-Mon 10:00-11:00", "2026-11-24 10:30", false, "2026-11-27 10:00"}, // over the end of the week
		{"Fri-Mon 10:00-11:00", "2026-11-29 10:30", true, "2026-11-29 11:00"},
		{"wed 10:00-11:00", "2026-11-25 11:00", false, "2026-12-02 10:00"}, // a week
		{"Mon,Thu 00:00-00:30", "2026-11-24 00:10", false, "2026-11-26 00:00"},
		{"10:00-12:00|11:00-14:00|14:00-15:00", "2026-11-24 10:00", true, "2026-11-24 15:00"},
		{"22:00-05:30", "2026-12-31 23:00", true, "2027-01-01 05:30"},
		// The night in which clocks go forward is shorter, the other one longer; both end by the clock.
		{"22:00-06:00", "2026-03-28 23:00", true, "2026-03-29 06:00"},
		{"22:00-06:00", "2026-10-24 23:00", true, "2026-10-25 06:00"},
		{"Sun 03:00-04:00", "2026-03-29 01:59", false, "2026-03-29 03:00"},
		{"Sun 02:00-03:00", "2026-03-29 01:59", false, "2026-04-05 02:00"}, // that hour is left out
		{"00:00-24:00", "2026-03-29 01:59", true, ""},
		{"00:00-24:00", "2026-10-25 01:59", true, ""},
	} {
		t.Run(c.windows+" "+c.now, func(t *testing.T) {
			var ws Windows
			for text := range strings.SplitSeq(c.windows, "|") {
				if text == "" {
					continue
				}
				w, err := ParseWindow(text)
				if err != nil {
					t.Fatal(err)
				}
				ws = append(ws, w)
			}
			const form = "2006-01-02 15:04"
			now, err := time.ParseInLocation(form, c.now, berlin)
			if err != nil {
				t.Fatal(err)
			}
			open, until := ws.Open(now)
			got := ""
			if !until.IsZero() {
				got = until.Format(form)
			}
			if open != c.open || got != c.until {
				t.Errorf("open %v until %q, want %v until %q", open, got, c.open, c.until)
			}
		})
	}
	// 02:59 of 2026-10-25 comes twice: the night is nine hours long.
	w, _ := ParseWindow("22:00-06:00")
	from := time.Date(2026, 10, 24, 22, 0, 0, 0, berlin)
	if open, until := (Windows{w}).Open(from); !open || until.Sub(from) != 9*time.Hour {
		t.Errorf("the long night: %v, %s", open, until.Sub(from))
	}
}

func TestParseWindow(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "no time window",
		"Mon":                     "no time of the day",
		"Mon-Fri":                 `"Mon" is no time of the day`,
		"Mon 19:00":               "no time of the day",
		"Mon 7:00-19:00":          `"7:00" is no time of the day`,
		"Mon 25:00-26:00":         `"25:00" is no time of the day`,
		"Mon 07:00-07:60":         `"07:60" is no time of the day`,
		"Mon 07:00-07:00":         "00:00-24:00",
		"Mon 24:00-07:00":         "00:00 of the next day",
		"Mo-Fr 19:00-07:00":       `"Mo" is no day`,
		"Mon,,Tue 19:00-07:00":    `"" is no day`,
		"Mon - Fri 19:00-07:00":   "no time window",
		"Mon-Fri-Sun 19:00-07:00": `"Fri-Sun" is no day`,
	} {
		if _, err := ParseWindow(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", text, err, want)
		}
	}
}
