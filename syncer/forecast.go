package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailgate/backend"
	"mailgate/config"
)

// Forecast is what a flip of a user would be like now: what is still to be carried, for how long he would wait, and what his clients
// would do afterwards. What could not be told is in Unknown, and never taken for nothing.
type Forecast struct {
	User  string        `json:"user"`
	From  config.Side   `json:"from"`
	To    config.Side   `json:"to"`
	There bool          `json:"there,omitempty"` // he is on To: nothing else is told
	At    time.Time     `json:"at"`
	Took  time.Duration `json:"took_ns"`
	Asked bool          `json:"asked"` // both hosts were asked; else it is what the store knew
	Never bool          `json:"never"` // no whole pass was over his mailboxes: what To has already need not be carried

	Carry   [2]Amount      `json:"carry"`                  // mail that is still to be carried, by the side that it goes to
	Changed int            `json:"changed_folders"`        // folders where something else has changed: flags, deletes
	Prep    *float64       `json:"prep_seconds,omitempty"` // to carry that, before the fence; null where nothing was measured
	Gap     GapTime        `json:"gap"`
	IMAP    Again          `json:"imap"`
	POP3    AgainPOP3      `json:"pop3"`
	Lost    []string       `json:"capabilities_lost,omitempty"` // of IMAP, behind the login
	Gained  []string       `json:"capabilities_gained,omitempty"`
	Flags   FlagLoss       `json:"flags"`
	InWay   []Obstacle     `json:"in_the_way,omitempty"`
	Notes   []string       `json:"notes,omitempty"`
	Open    map[string]int `json:"sessions,omitempty"` // of the user now, by protocol; whoever asks fills it
	Unknown []NotTold      `json:"unknown,omitempty"`
}

// Amount is some mail.
type Amount struct {
	Folders  int    `json:"folders"`
	Messages int64  `json:"messages"`
	Bytes    int64  `json:"bytes"`
	About    bool   `json:"about,omitempty"`    // Bytes is an estimate
	NoBytes  string `json:"no_bytes,omitempty"` // why Bytes is not all of it, "" where it is
}

func (a *Amount) add(b Amount) {
	a.Folders += b.Folders
	a.Messages += b.Messages
	a.Bytes += b.Bytes
	a.About = a.About || b.About
	a.NoBytes = cmp.Or(a.NoBytes, b.NoBytes)
}

// GapTime is for how long nobody is let in, from FENCE to RELEASE.
type GapTime struct {
	Seconds float64 `json:"seconds"`
	Known   bool    `json:"known"`
	Why     string  `json:"why"` // how it comes about, or why it is not known
}

// Again is what IMAP clients will download again: mail under another folder name, UIDVALIDITY or UID than they have it by.
type Again struct {
	Amount
	Kept  Amount   `json:"kept"`            // as both sides agree; its Bytes are not told
	Mixed []string `json:"mixed,omitempty"` // folders with the same UIDVALIDITY where UIDs are of other mail: clients cannot see that
	Names int      `json:"other_names"`     // folders that have another name on To
	Gone  int      `json:"left_out"`        // folders that are not carried
}

// AgainPOP3 is what POP3 clients that leave mail on the server will download again.
type AgainPOP3 struct {
	Known    bool   `json:"known"`
	Why      string `json:"why,omitempty"` // why it is not known, or what is to be said of it
	Messages int64  `json:"messages"`      // with another unique-id on To
	Of       int64  `json:"of"`            // in his INBOX
	Mixed    int64  `json:"mixed"`         // with a unique-id that is another message's: clients will not download them at all
}

// FlagLoss are flags that To did not keep.
type FlagLoss struct {
	Messages int64    `json:"messages"` // times a flag of a message
	Names    []string `json:"names,omitempty"`
}

// Obstacle is what will call the flip off.
type Obstacle struct {
	Why string `json:"why"`
	Do  string `json:"do,omitempty"`
}

// NotTold is a part of a forecast that is not known.
type NotTold struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// ForecastOptions of a Forecast.
type ForecastOptions struct {
	Quick bool          // ask no host: what the store knows
	Pace  time.Duration // that a pass takes which finds little to do, where that was measured; else what the store knows of passes counts
	// UIDLs gives the unique-ids of a user's messages at a side's POP3, in the order of their numbers; backend.ErrNoHost where it has
	// none. Nil: nothing is told of POP3.
	UIDLs  func(ctx context.Context, side config.Side, user string) ([]string, error)
	NoPOP3 [2]bool // by side, that it has none; then nobody need be asked
}

// forecastWait is how long a forecast waits for the first connection to a crowded host.
const forecastWait = 5 * time.Second

// Forecast looks at both sides, as little as it takes, and at what the store knows. It writes nothing, takes no ownership of the account,
// and may be called while a pass is under way. A host that cannot be asked is in Unknown; an error is the store's, that of Options.Route,
// or the cause of ctx.
func (s *Syncer) Forecast(ctx context.Context, user string, to config.Side, o ForecastOptions) (*Forecast, error) {
	f := &Forecast{User: user, From: to.Other(), To: to, At: s.o.Now()}
	side, _, err := s.o.Route(ctx, user)
	if err != nil {
		return nil, err
	}
	if f.There = side == to; f.There {
		return f, nil
	}
	w := &outlook{s: s, f: f, o: o}
	if err := w.known(ctx); err != nil {
		return nil, err
	}
	if !o.Quick {
		if err := w.hosts(ctx); err != nil {
			return nil, err
		}
	} else {
		f.POP3.Why = "the hosts were not asked"
		w.noPOP3()
		w.unknown("what has changed since the last pass", errors.New("the hosts were not asked"))
	}
	w.downloads()
	w.gap()
	f.Took = s.o.Now().Sub(f.At)
	return f, nil
}

// outlook is a forecast that is being made.
type outlook struct {
	s *Syncer
	f *Forecast
	o ForecastOptions

	rows  []*outlookRow
	look  time.Duration // that listing both sides took
	cheap [2]bool       // a side tells what has changed
	told  [2]bool       // and whether it does was asked
	took  []passTime    // of passes before, the newest first
}

// outlookRow is a folder.
type outlookRow struct {
	name   [2]string // raw; "" where it does not exist
	shown  string
	box    Mailbox // zero where nothing is known of it
	ids    idsOf
	status [2]*backend.Status
	size   [2]int64 // less than 0 where it was not told
	fresh  Amount   // that is only on From
}

// passTime is how long a pass took.
type passTime struct {
	took   time.Duration
	copied int64
}

func (w *outlook) unknown(what string, err error) {
	w.f.Unknown = append(w.f.Unknown, NotTold{what, whyNot(err)})
}

func (w *outlook) inWay(do, format string, args ...any) {
	w.f.InWay = append(w.f.InWay, Obstacle{Why: fmt.Sprintf(format, args...), Do: do})
}

// downloads says what IMAP clients will download again, folder by folder.
func (w *outlook) downloads() {
	f := w.f
	for _, r := range w.rows {
		n, ok := r.messages(f.From)
		if !ok || n == 0 {
			continue
		}
		a := Amount{Folders: 1, Messages: n}
		if r.keeps() {
			if f.IMAP.Kept.add(a); r.stale(f.From) {
				w.note("clients that go by modification numbers (CONDSTORE) may see changes in %s late: they are lower on %s", r.shown, sideName(f.To))
			}
			continue
		}
		if r.name[f.To] != "" && peekName(r.name[0]) != peekName(r.name[1]) {
			f.IMAP.Names++
		} else if r.mixed() {
			f.IMAP.Mixed = append(f.IMAP.Mixed, r.shown)
		}
		switch {
		case r.size[f.From] >= 0:
			a.Bytes = r.size[f.From]
		case r.size[f.To] >= 0 && r.fresh.NoBytes == "":
			a.Bytes, a.About = r.size[f.To]+r.fresh.Bytes, true
		default:
			a.NoBytes = "neither host tells sizes (STATUS=SIZE)"
			if w.o.Quick {
				a.NoBytes = "the hosts were not asked"
			}
		}
		f.IMAP.add(a)
	}
}

const mostNotes = 5

func (w *outlook) note(format string, args ...any) {
	if len(w.f.Notes) < mostNotes {
		w.f.Notes = append(w.f.Notes, fmt.Sprintf(format, args...))
	}
}

// messages counts those of a side, as it says or as the store knows.
func (r *outlookRow) messages(side config.Side) (int64, bool) {
	if st := r.status[side]; st != nil {
		return int64(st.Messages), true
	}
	return r.box.Pairs, r.box.ID != 0
}

// validity is that of a side now, or as the pairs were made under.
func (r *outlookRow) validity(side config.Side) uint32 {
	if st := r.status[side]; st != nil && st.Validity != 0 {
		return st.Validity
	}
	return r.box.Validity[side]
}

// same tells that clients take the folder for the one that they know: name and UIDVALIDITY are those of the other side.
func (r *outlookRow) same() bool {
	return r.name[0] != "" && r.name[1] != "" && peekName(r.name[0]) == peekName(r.name[1]) && r.validity(0) != 0 && r.validity(0) == r.validity(1)
}

// keeps tells that clients keep what they have of the folder.
func (r *outlookRow) keeps() bool {
	return r.same() && r.box.ID != 0 && r.ids.pairs > 0 && r.ids.other == 0 &&
		r.validity(0) == r.box.Validity[0] && r.validity(1) == r.box.Validity[1]
}

// mixed tells that clients would take mail for other mail.
func (r *outlookRow) mixed() bool { return r.same() && r.ids.crossed > 0 }

// stale tells that a client of From has seen higher modification numbers than To gives.
func (r *outlookRow) stale(from config.Side) bool {
	a, b := r.status[from], r.status[from.Other()]
	return a != nil && b != nil && a.HighestModSeq > 0 && b.HighestModSeq > 0 && b.HighestModSeq < a.HighestModSeq
}

// quietCopies is how many messages a pass may have copied to tell how long one takes that finds little.
const quietCopies = 50

// gap estimates for how long nobody is let in: a pass that finds little, and a look at numbers.
func (w *outlook) gap() {
	f := w.f
	var quiet []time.Duration
	var rate float64
	for _, p := range w.took {
		if p.copied <= quietCopies {
			quiet = append(quiet, p.took)
		}
		if p.copied > 10*quietCopies && p.took > 0 {
			rate = max(rate, float64(p.copied)/p.took.Seconds())
		}
	}
	if n := f.Carry[f.To].Messages; rate > 0 && n > 0 {
		seconds := float64(n) / rate
		f.Prep = &seconds
	}
	blind := ""
	for _, side := range config.Sides {
		if w.told[side] && !w.cheap[side] {
			if blind != "" {
				blind += " and "
			}
			blind += sideName(side)
		}
	}
	f.Gap = w.gapOf(cmp.Or(w.o.Pace, median(quiet)), blind)
}

func (w *outlook) gapOf(pass time.Duration, blind string) GapTime {
	switch {
	case pass > 0 && blind != "":
		return GapTime{(pass + w.look).Seconds(), true, fmt.Sprintf("%s cannot tell what has changed (no CONDSTORE), so that the flags of every message are read again; that took %s in passes before", blind, Seconds(pass))}
	case blind != "":
		return GapTime{Why: blind + " cannot tell what has changed (no CONDSTORE), so that the flags of every message are read again, and no pass has shown yet how long that takes"}
	case pass > 0 && !w.f.Asked:
		return GapTime{(2 * pass).Seconds(), true, "a pass that finds little took " + Seconds(pass)}
	case pass > 0:
		return GapTime{(min(pass, 5*w.look+time.Second) + w.look).Seconds(), true, fmt.Sprintf("both hosts tell what has changed (CONDSTORE); a look at both took %s, a pass that finds little %s", Seconds(w.look), Seconds(pass))}
	case w.f.Asked:
		return GapTime{(3 * w.look).Seconds(), true, fmt.Sprintf("both hosts tell what has changed (CONDSTORE); a look at both took %s", Seconds(w.look))}
	}
	return GapTime{Why: "no pass has shown yet how long it takes"}
}

// median is the middle one, 0 of none.
func median(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	list = slices.Clone(list)
	slices.Sort(list)
	return list[len(list)/2]
}
