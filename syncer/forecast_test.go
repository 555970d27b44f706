package syncer

import (
	"errors"
	"strings"
	"testing"
	"time"

	"mailgate/backend"
	"mailgate/config"
)

// TestForecastAgain: which folders clients keep, which they download again, and where they would take mail for other mail.
func TestForecastAgain(t *testing.T) {
	box := Mailbox{ID: 1, Validity: [2]uint32{7, 7}, Pairs: 3}
	status := func(validity, messages uint32, modseq uint64) *backend.Status {
		return &backend.Status{Validity: validity, Messages: messages, HighestModSeq: modseq}
	}
	for _, x := range []struct {
		name                   string
		names                  [2]string
		box                    Mailbox
		ids                    idsOf
		status                 [2]*backend.Status
		again, kept            int64
		mixed, others, careful int
	}{
		{"the same", [2]string{"A", "A"}, box, idsOf{pairs: 3}, [2]*backend.Status{status(7, 3, 0), status(7, 3, 0)}, 0, 3, 0, 0, 0},
		{"INBOX in other letters", [2]string{"INBOX", "Inbox"}, box, idsOf{pairs: 3}, [2]*backend.Status{status(7, 3, 0), status(7, 3, 0)}, 0, 3, 0, 0, 0},
		{"from the store alone", [2]string{"A", "A"}, box, idsOf{pairs: 3}, [2]*backend.Status{}, 0, 3, 0, 0, 0},
		{"another UIDVALIDITY", [2]string{"A", "A"}, Mailbox{ID: 1, Validity: [2]uint32{7, 8}}, idsOf{pairs: 3}, [2]*backend.Status{status(7, 3, 0), status(8, 3, 0)}, 3, 0, 0, 0, 0},
		{"one that changed since", [2]string{"A", "A"}, box, idsOf{pairs: 3}, [2]*backend.Status{status(9, 3, 0), status(9, 3, 0)}, 3, 0, 0, 0, 0},
		{"UIDs that nobody had", [2]string{"A", "A"}, box, idsOf{pairs: 3, other: 3}, [2]*backend.Status{status(7, 3, 0), status(7, 3, 0)}, 3, 0, 0, 0, 0},
		{"UIDs of other mail", [2]string{"A", "A"}, box, idsOf{pairs: 3, other: 2, crossed: 1}, [2]*backend.Status{status(7, 3, 0), status(7, 3, 0)}, 3, 0, 1, 0, 0},
		{"UIDs of other mail, and another UIDVALIDITY", [2]string{"A", "A"}, Mailbox{ID: 1, Validity: [2]uint32{7, 8}}, idsOf{pairs: 3, other: 2, crossed: 1}, [2]*backend.Status{status(7, 3, 0), status(8, 3, 0)}, 3, 0, 0, 0, 0},
		{"another name", [2]string{"A", "INBOX.A"}, box, idsOf{pairs: 3}, [2]*backend.Status{status(7, 3, 0), status(7, 3, 0)}, 3, 0, 0, 1, 0},
		{"not there yet", [2]string{"A", ""}, Mailbox{}, idsOf{}, [2]*backend.Status{status(7, 3, 0), nil}, 3, 0, 0, 0, 0},
		{"empty", [2]string{"A", "A"}, box, idsOf{}, [2]*backend.Status{status(7, 0, 0), status(8, 0, 0)}, 0, 0, 0, 0, 0},
		{"lower modification numbers", [2]string{"A", "A"}, box, idsOf{pairs: 3}, [2]*backend.Status{status(7, 3, 20), status(7, 3, 10)}, 0, 3, 0, 0, 1},
		{"higher modification numbers", [2]string{"A", "A"}, box, idsOf{pairs: 3}, [2]*backend.Status{status(7, 3, 10), status(7, 3, 20)}, 0, 3, 0, 0, 0},
	} {
		t.Run(x.name, func(t *testing.T) {
			f := &Forecast{From: config.Old, To: config.New}
			w := &outlook{f: f, rows: []*outlookRow{{name: x.names, shown: "A", box: x.box, ids: x.ids, status: x.status, size: [2]int64{-1, -1}}}}
			w.downloads()
			if f.IMAP.Messages != x.again || f.IMAP.Kept.Messages != x.kept || len(f.IMAP.Mixed) != x.mixed || f.IMAP.Names != x.others || len(f.Notes) != x.careful {
				t.Errorf("%+v, %q", f.IMAP, f.Notes)
			}
			if (f.IMAP.NoBytes != "") != (x.again > 0) {
				t.Errorf("bytes that nobody told: %+v", f.IMAP)
			}
		})
	}
}

// TestForecastGap: how long logins wait, and why; never a guess.
func TestForecastGap(t *testing.T) {
	quiet := []passTime{{2 * time.Second, 0}, {60 * time.Second, 20000}, {4 * time.Second, 3}, {3 * time.Second, 50}}
	for _, x := range []struct {
		name  string
		w     outlook
		want  float64 // 0: not known
		why   string
		prep  float64
		carry int64
	}{
		{"no CONDSTORE at OLD", outlook{took: quiet, told: [2]bool{true, true}, cheap: [2]bool{false, true}, look: time.Second}, 4, "OLD cannot tell what has changed (no CONDSTORE), so that the flags of every message are read again; that took 3.0 s", 0, 0},
		{"no CONDSTORE at both, not measured", outlook{told: [2]bool{true, true}, took: quiet[1:2]}, 0, "OLD and NEW cannot tell", 0, 0},
		{"CONDSTORE", outlook{took: quiet, told: [2]bool{true, true}, cheap: [2]bool{true, true}, look: 100 * time.Millisecond}, 1.6, "both hosts tell what has changed", 0, 0},
		{"CONDSTORE, not measured", outlook{told: [2]bool{true, true}, cheap: [2]bool{true, true}, look: 100 * time.Millisecond}, 0.3, "a look at both took 0.1 s", 0, 0},
		{"measured elsewhere", outlook{took: quiet, o: ForecastOptions{Pace: time.Second}, told: [2]bool{true, true}, cheap: [2]bool{true, false}}, 1, "that took 1.0 s", 0, 0},
		{"much to carry", outlook{took: quiet, told: [2]bool{true, true}, cheap: [2]bool{true, true}}, 1, "both hosts", 3, 1000},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := x.w
			w.f = &Forecast{From: config.Old, To: config.New, Asked: true}
			w.f.Carry[config.New].Messages = x.carry
			w.gap()
			g := w.f.Gap
			if g.Known != (x.want > 0) || g.Seconds < x.want-0.001 || g.Seconds > x.want+0.001 || !strings.Contains(g.Why, x.why) {
				t.Errorf("%+v", g)
			}
			if (w.f.Prep != nil) != (x.prep > 0) || w.f.Prep != nil && (*w.f.Prep < x.prep-0.001 || *w.f.Prep > x.prep+0.001) {
				t.Errorf("prep %v", w.f.Prep)
			}
		})
	}
}

// TestForecastSum: a wave in numbers, its largest users, and who could not be looked at.
func TestForecastSum(t *testing.T) {
	s := &ForecastSum{To: config.New}
	prep := 10.0
	for i, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		f := &Forecast{User: name, From: config.Old, To: config.New, Asked: i != 4, Gap: GapTime{Seconds: float64(i), Known: i != 2}, POP3: AgainPOP3{Known: i > 0, Messages: 5, Of: 10},
			Prep: &prep, Open: map[string]int{"imap": 2}}
		f.IMAP.Amount = Amount{Folders: 1, Messages: 1000, Bytes: int64(i) << 20}
		f.Carry = [2]Amount{{Folders: 1, Messages: 1, Bytes: 10}, {Folders: 2, Messages: 10, Bytes: 100}}
		if i == 3 {
			f.InWay = []Obstacle{{Why: "x"}}
		}
		s.Add(f)
	}
	s.Add(&Forecast{User: "h", To: config.New, There: true})
	s.Missing("i", errors.New("refused"))
	if s.Users != 8 || s.There != 1 || s.Blocked != 1 || s.Carry.Messages != 77 || s.IMAP.Messages != 7000 || s.POP3 != 30 || s.Of != 60 || s.NoPOP3 != 1 || s.Gap != 6 || s.NoGap != 1 || s.Open != 14 {
		t.Errorf("%+v", s)
	}
	var names string
	for _, f := range s.Largest {
		names += f.User
	}
	if names != "gfedc" {
		t.Errorf("largest: %s", names)
	}
	var b strings.Builder
	if err := s.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"7 users to NEW", "there already  1 user", "77 messages (770 B) in 21 folders; of 1 user it is not known, as the hosts were not asked", "about 70 s for one after the other", "at most about 6.0 s each; of 1 user it is not known",
		"7,000 messages (21.0 MiB) in 7 folders", "30 of 60 messages; of 1 user", "14 sessions now", "in the way of 1 user", "1 user could not be looked at", "i: refused", "the largest    g: 1,000 messages (6.0 MiB)"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -12345: "-12,345"} {
		if got := Thousands(n); got != want {
			t.Errorf("%d is %q", n, got)
		}
	}
	for d, want := range map[time.Duration]string{0: "0.1 s", 1500 * time.Millisecond: "1.5 s", 31 * time.Second: "31 s", 3 * time.Minute: "3 min", 50 * time.Hour: "50 h"} {
		if got := Seconds(d); got != want {
			t.Errorf("%v is %q", d, got)
		}
	}
}

func TestCompare(t *testing.T) {
	both, lost, gained := Compare([]string{"IDLE", "SORT"}, []string{"idle", "MOVE"})
	if strings.Join(both, " ") != "IDLE" || strings.Join(lost, " ") != "SORT" || strings.Join(gained, " ") != "MOVE" {
		t.Error(both, lost, gained)
	}
}
