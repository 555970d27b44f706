package syncer

import (
	"fmt"
	"strings"
	"time"

	"mailgate/config"
)

// SieveReport is what a pass did with the user's Sieve scripts. Nothing in it is secret; no line holds a script's text.
type SieveReport struct {
	At        time.Time   `json:"at"`
	Scripts   int         `json:"scripts"`           // by name, on either side
	Equal     int         `json:"equal"`             // the same on both sides, but for folders' names
	Written   [2]int      `json:"written"`           // stored on that side, old and new
	Deleted   [2]int      `json:"deleted"`           // deleted on that side
	Active    [2]string   `json:"active"`            // the active one there when the pass was done with it, "" for none
	Activated [2]bool     `json:"activated"`         // the mark was changed on that side
	Lines     []SieveLine `json:"lines,omitempty"`   // what was done, and what a person should know
	Trouble   string      `json:"trouble,omitempty"` // why scripts were not carried, or not all: it is tried again
	Without   string      `json:"without,omitempty"` // "old" or "new": the side that has no ManageSieve

	rest time.Duration // how long the next look waits at least
}

// SieveAct is what a SieveLine tells.
type SieveAct string

const (
	SieveWrote    SieveAct = "written"
	SieveDeleted  SieveAct = "deleted"
	SieveActive   SieveAct = "active"   // the mark
	SieveRefused  SieveAct = "refused"  // not carried
	SieveKept     SieveAct = "kept"     // not deleted
	SieveInactive SieveAct = "inactive" // the mark could not be carried, or was left as it is
	SieveDoubt    SieveAct = "doubt"    // carried, and something in it wants a look
)

// SieveLine is one of a SieveReport.
type SieveLine struct {
	Script string   `json:"script"` // "" for no script
	Side   string   `json:"side"`   // where it is done, or was not
	Act    SieveAct `json:"act"`
	Why    string   `json:"why,omitempty"`   // in plain words, with what the server said
	Lacks  []string `json:"lacks,omitempty"` // extensions that the script requires and the side does not have
}

// Sentence is the line for people.
func (l SieveLine) Sentence(dry bool) string {
	name, on := fmt.Sprintf("%q", oneLine(l.Script, 100)), strings.ToUpper(l.Side)
	would := func(done, todo string) string {
		if dry {
			return todo
		}
		return done
	}
	var s string
	switch l.Act {
	case SieveWrote:
		s = fmt.Sprintf("%s %s on %s", name, would("was stored", "would be stored"), on)
	case SieveDeleted:
		s = fmt.Sprintf("%s %s on %s", name, would("was deleted", "would be deleted"), on)
	case SieveActive:
		s = fmt.Sprintf("%s %s the active script on %s", name, would("is now", "would become"), on)
		if l.Script == "" {
			s = fmt.Sprintf("no script %s active on %s", would("is now", "would be"), on)
		}
	case SieveRefused:
		s = fmt.Sprintf("%s is not carried to %s", name, on)
	case SieveKept:
		s = fmt.Sprintf("%s stays on %s", name, on)
	case SieveInactive:
		s = fmt.Sprintf("the active script on %s is left as it is", on)
	case SieveDoubt:
		s = fmt.Sprintf("%s on %s wants a look", name, on)
	}
	if l.Why != "" {
		s += ": " + oneLine(l.Why, 400)
	}
	if len(l.Lacks) > 0 {
		s += fmt.Sprintf(" (%s lacks the Sieve extension %s)", on, oneLine(strings.Join(l.Lacks, ", "), 200))
	}
	return s
}

// Count is how many lines tell of an act.
func (r *SieveReport) Count(acts ...SieveAct) (n int) {
	for _, l := range r.Lines {
		for _, a := range acts {
			if l.Act == a {
				n++
			}
		}
	}
	return n
}

// changed tells whether anything was written.
func (r *SieveReport) changed() bool {
	return r != nil && r.Count(SieveWrote, SieveDeleted, SieveActive) > 0
}

// Summary says in one line how the scripts stand; "" where there is nothing to say.
func (r *SieveReport) Summary() string {
	switch {
	case r == nil:
		return ""
	case r.Without != "":
		if r.Scripts == 0 {
			return ""
		}
		return fmt.Sprintf("%s stay where they are: %s has no ManageSieve", scriptCount(r.Scripts), strings.ToUpper(r.Without))
	case r.Trouble != "" && r.Scripts == 0:
		return "Sieve scripts could not be carried: " + oneLine(r.Trouble, 300)
	case r.Scripts == 0:
		return ""
	}
	s := fmt.Sprintf("%d of %s equal", r.Equal, scriptCount(r.Scripts))
	for _, x := range []struct {
		act  SieveAct
		word string
	}{{SieveRefused, "not carried"}, {SieveKept, "kept"}, {SieveDoubt, "to be looked at"}} {
		if n := r.Count(x.act); n > 0 {
			s += fmt.Sprintf(", %d %s", n, x.word)
		}
	}
	if r.Active[0] != r.Active[1] {
		s += ", another one is active on each side"
	}
	if r.Trouble != "" {
		s += "; " + oneLine(r.Trouble, 300)
	}
	return s
}

func scriptCount(n int) string {
	if n == 1 {
		return "1 Sieve script"
	}
	return fmt.Sprintf("%d Sieve scripts", n)
}

// say adds a line.
func (r *SieveReport) say(script string, side config.Side, act SieveAct, why string, lacks ...string) {
	r.Lines = append(r.Lines, SieveLine{Script: script, Side: side.String(), Act: act, Why: why, Lacks: lacks})
}

// sieveSeen is the latest report of a user's scripts, nil when there is none. It is not to be changed.
func (s *Syncer) sieveSeen(user string) *SieveReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sieves[user]
}

func (s *Syncer) sieveDone(user string, r *SieveReport) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sieves[user] = r
}
