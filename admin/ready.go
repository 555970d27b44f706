package admin

import (
	"fmt"
	"strings"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/syncer"
)

// Readiness tells whether a user can be moved to the other side at once, and for how long his logins would wait. Of a user on NEW that is a
// rollback, of one on OLD a flip.
type Readiness struct {
	To      config.Side `json:"to"`
	Ready   bool        `json:"ready"`
	Seconds float64     `json:"seconds"` // from FENCE to RELEASE, by the passes that were measured; 0 where none was
	Why     []Hindrance `json:"not_ready,omitempty"`

	Last       time.Time `json:"last_pass,omitzero"` // whole one
	LagSeconds float64   `json:"lag_seconds"`        // age of the oldest change that is not carried yet
	Note       string    `json:"note,omitempty"`     // what to know, though he is ready
}

// Hindrance is why a user is not ready.
type Hindrance struct {
	Class   string  `json:"class"` // "held", "moving", "paused", "first copy", "failing", "no login", "quarantine", "deletes", "folders", "host down", "store", "not kept"
	Why     string  `json:"why"`
	Do      string  `json:"do,omitempty"`
	Seconds float64 `json:"seconds,omitempty"` // until it is over by itself; 0 where that is not known
}

// ReadyFacts are what readiness is told from, beside the status of the user.
type ReadyFacts struct {
	NoMail string        // why flips carry no mail; "" where they do
	Holds  []op.Hold     // that stop the user
	Down   [2]string     // by side, why none of its IMAP hosts can be reached; "" where one can, or nobody has tried
	Pace   time.Duration // of a pass that finds little to do; 0 where none was measured
	Left   time.Duration // of the first copy; 0 where that is not known
}

// ReadinessOf tells whether a user is ready for the other side: from what is known already, so it takes no time.
func ReadinessOf(u *UserStatus, f ReadyFacts) *Readiness {
	r := &Readiness{To: u.Side.Other()}
	hinder := func(class, do, format string, args ...any) {
		r.Why = append(r.Why, Hindrance{Class: class, Why: fmt.Sprintf(format, args...), Do: do})
	}
	for _, h := range f.Holds {
		why := ""
		if h.Reason != "" {
			why = ": " + h.Reason
		}
		who := h.What()
		if who == "everybody" {
			who = "--all"
		}
		hinder("held", "mailgate unhold "+strings.TrimPrefix(who, "wave "), "%s is held by %s since %s%s", h.What(), h.By, h.At.Local().Format(time.DateTime), why)
	}
	if u.State == "" && u.Store != "" { // who asks of many has asked the store already
		hinder("store", "see to the store: mailgate status", "the store does not answer, and nobody is moved without it: %s", u.Store)
	}
	for _, o := range u.Open {
		if o.Kind == op.Flip {
			hinder("moving", "mailgate op wait "+o.ID, "%s is to move him to %s", o.ID, o.Target)
		}
	}
	if why := f.Down[r.To]; why != "" {
		hinder("host down", "see to the host", "%s cannot be reached: %s", strings.ToUpper(r.To.String()), why)
	}
	if why := f.Down[u.Side]; why != "" && f.NoMail == "" {
		do := "see to the host"
		if r.To == config.Old {
			do += ", or mailgate rollback --now " + u.User + ", which names what it leaves behind"
		}
		hinder("host down", do, "%s cannot be reached, so that what is left there cannot be carried: %s", strings.ToUpper(u.Side.String()), why)
	}
	switch {
	case f.NoMail != "":
		r.Note = fmt.Sprintf("%s: what is only on %s is not on %s", f.NoMail, u.Side, r.To)
	case u.Sync == nil:
		where := "his wave is not in sync.waves"
		if u.Wave == "" {
			where = "he is in no wave of sync.waves"
		}
		hinder("not kept", "mailgate sync run "+u.User+" brings them together before", "his mailboxes are not kept equal (%s), so that a whole pass comes first", where)
	default:
		r.passes(u, f, hinder)
	}
	r.Ready = len(r.Why) == 0
	return r
}

// passes tells what is in the way by what passes have left.
func (r *Readiness) passes(u *UserStatus, f ReadyFacts, hinder func(class, do, format string, args ...any)) {
	s := u.Sync
	r.Last, r.LagSeconds = s.Last, s.LagSeconds
	r.Seconds = (2 * f.Pace).Seconds() // one carries what is left, and both sides are compared
	switch {
	case s.Paused != nil:
		hinder("paused", "mailgate sync resume "+u.User, "sync is paused by %s since %s, and what has changed since is not carried", s.Paused.By, s.Paused.At.Local().Format(time.DateTime))
	case s.Phase == "first copy":
		how := ""
		if s.Progress != "" {
			how = ": " + s.Progress
		}
		hinder("first copy", "", "his first copy is not through%s", how)
		r.Why[len(r.Why)-1].Seconds = f.Left.Seconds()
	case s.Error != "":
		hinder(s.Phase, s.Do, "%s (%d times)", s.Error, s.Tries)
	}
	r.Note = s.Behind // it comes over with passes, or in PREP
	if s.Quarantine > 0 {
		hinder("quarantine", "mailgate quarantine list "+u.User+", and retry or waive them", "%s in quarantine", things(s.Quarantine, "message"))
	}
	if s.Held > 0 {
		hinder("deletes", "mailgate sync run "+u.User+", and with --deletes if they are meant", "deletes in %s are held back", things(s.Held, "folder"))
	}
	for i, b := range s.Broken {
		if i == 3 {
			hinder("folders", "", "and %s more", things(len(s.Broken)-i, "folder"))
			break
		}
		hinder("folders", "see to it, and mailgate sync run "+u.User, "%s cannot be done: %s", b.Folder, strings.ReplaceAll(b.Error, "\n", "; "))
	}
}

func things(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return syncer.Thousands(int64(n)) + " " + what + "s"
}

// Title is what the move is called.
func (r *Readiness) Title() string {
	if r.To == config.Old {
		return "rollback"
	}
	return "flip"
}

// Text says it in a line.
func (r *Readiness) Text(now time.Time) string {
	if r.Ready {
		var known []string
		if !r.Last.IsZero() {
			lag := "no lag"
			if r.LagSeconds > 0 {
				lag = "lag " + syncer.Seconds(time.Duration(r.LagSeconds*float64(time.Second)))
			}
			known = append(known, "last pass "+syncer.Seconds(now.Sub(r.Last))+" ago", lag, "nothing in quarantine")
		}
		if r.Note != "" {
			known = append(known, r.Note)
		}
		s := "ready"
		if r.Seconds > 0 {
			s += ", about " + syncer.Seconds(time.Duration(r.Seconds*float64(time.Second)))
		} else if !r.Last.IsZero() {
			s += "; how long it takes was not measured yet"
		}
		if len(known) > 0 {
			s += " (" + strings.Join(known, ", ") + ")"
		}
		return s
	}
	var why []string
	for _, h := range r.Why {
		s := h.Why
		if h.Seconds > 0 {
			s += ", for about " + syncer.Seconds(time.Duration(h.Seconds*float64(time.Second))) + " more"
		}
		if h.Do != "" {
			s += " (" + h.Do + ")"
		}
		why = append(why, s)
	}
	return "not ready: " + strings.Join(why, "; ")
}

// ReadyCounts tells of all users who are kept, by the side that they would be moved to.
type ReadyCounts struct {
	Ready   int            `json:"ready"`
	Not     int            `json:"not_ready"`
	Seconds float64        `json:"seconds"`       // the longest of those who are ready
	Why     map[string]int `json:"why,omitempty"` // users by the class of what is first in their way
}

// Add counts a user.
func (c *ReadyCounts) Add(r *Readiness) {
	if r.Ready {
		c.Ready++
		c.Seconds = max(c.Seconds, r.Seconds)
		return
	}
	c.Not++
	if c.Why == nil {
		c.Why = map[string]int{}
	}
	c.Why[r.Why[0].Class]++
}
