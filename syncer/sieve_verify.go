package syncer

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// SieveVerification compares the Sieve scripts of both sides. It is beside the comparison of the mail, and does not make that unequal.
type SieveVerification struct {
	Equal     int               `json:"equal"`     // the same on both sides, but for folders' names
	Explained int               `json:"explained"` // differ, and a pass has noted why
	Different int               `json:"different"`
	Lines     []SieveDifference `json:"lines,omitempty"`
	Trouble   string            `json:"trouble,omitempty"` // why they could not be compared
	Without   string            `json:"without,omitempty"` // "old" or "new": the side that has no ManageSieve
}

// SieveDifference is a script that is not the same on both sides.
type SieveDifference struct {
	Script    string `json:"script"` // "" for the active mark
	Why       string `json:"why"`
	Explained bool   `json:"explained"`
}

// Sentence is a difference for people.
func (d SieveDifference) Sentence() string {
	if d.Script == "" {
		return oneLine(d.Why, 400)
	}
	return fmt.Sprintf("%q: %s", oneLine(d.Script, 100), oneLine(d.Why, 400))
}

// Verdict says in one sentence how the scripts stand; "" where there are none.
func (v *SieveVerification) Verdict() string {
	switch {
	case v == nil:
		return ""
	case v.Trouble != "":
		return "Sieve scripts could not be compared: " + oneLine(v.Trouble, 300)
	case v.Without != "":
		if v.Explained == 0 {
			return ""
		}
		return fmt.Sprintf("%s on one side only: %s has no ManageSieve.", scriptCount(v.Explained), strings.ToUpper(v.Without))
	case v.Equal+v.Explained+v.Different == 0:
		return ""
	}
	return fmt.Sprintf("Sieve scripts: %d equal, %d explained, %d different.", v.Equal, v.Explained, v.Different)
}

// verifySieve compares the scripts; nil where neither side has ManageSieve. Trouble is told and is no error: the mail is compared.
func (p *pass) verifySieve(ctx context.Context) *SieveVerification {
	if p.s.o.OpenSieve == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, sieveTime, fmt.Errorf("not done within %s", sieveTime))
	defer cancel()
	x := &sievePass{pass: p, dry: true, report: &SieveReport{}, agreed: map[string][2]string{}, state: map[string]Script{}}
	v := &SieveVerification{}
	err := safely(func() error { return x.compare(ctx, v) })
	x.close(ctx)
	switch {
	case x.report.Without == "both":
		return nil
	case err != nil:
		return &SieveVerification{Trouble: err.Error()}
	}
	return v
}

func (x *sievePass) compare(ctx context.Context, v *SieveVerification) (err error) {
	if err := x.open(ctx); err != nil {
		return err
	}
	if x.report.Without != "" {
		v.Without, v.Explained = x.report.Without, x.report.Scripts
		return nil
	}
	if x.known, err = x.s.o.Store.Scripts(ctx, x.user); err != nil {
		return err
	}
	x.names = newSieveNames(x.planner, x.utf7())
	names := map[string]bool{}
	for _, s := range x.sides {
		for name := range s.held.scripts {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		x.compareOne(name, v)
	}
	x.compareMarks(v)
	return nil
}

func (x *sievePass) compareOne(name string, v *SieveVerification) {
	a, onOld := x.sides[0].held.scripts[name]
	b, onNew := x.sides[1].held.scripts[name]
	base := x.base(name)
	agreed := base.Base[0] != "" && base.Base == [2]string{sieveHash(a.text), sieveHash(b.text)}
	d := SieveDifference{Script: name}
	switch {
	case onOld && onNew && a.why == "" && b.why == "" && (agreed || x.same(name)):
		v.Equal++
		return
	case !onNew:
		d.Why = "it is on OLD only"
	case !onOld:
		d.Why = "it is on NEW only"
	default:
		d.Why = "the texts differ"
	}
	if base.State == ScriptRefused || base.State == ScriptKept {
		d.Why, d.Explained = d.Why+": "+base.Why, true
	}
	v.add(d)
}

// compareMarks compares which script is active. What a pass has left as it is, and nobody has changed since, is explained.
func (x *sievePass) compareMarks(v *SieveVerification) {
	on := [2]string{x.sides[0].held.active, x.sides[1].held.active}
	if on[0] == on[1] {
		return
	}
	d := SieveDifference{Why: fmt.Sprintf("another script is active on each side: OLD %q, NEW %q", oneLine(on[0], 100), oneLine(on[1], 100))}
	d.Explained = len(x.known) > 0
	for side := range on {
		was := ""
		for _, s := range x.known {
			if s.Active[side] {
				was = s.Name
			}
		}
		d.Explained = d.Explained && was == on[side]
	}
	if s := x.base(on[x.authority]); s.State == ScriptRefused { // it cannot be active where it is not
		d.Explained = true
	}
	if s := x.base(on[x.authority.Other()]); s.State == ScriptRefused && s.Base[0] == "" { // a pass holds it there
		d.Explained, d.Why = true, d.Why+": "+s.Why
	}
	v.add(d)
}

func (v *SieveVerification) add(d SieveDifference) {
	if v.Lines = append(v.Lines, d); d.Explained {
		v.Explained++
	} else {
		v.Different++
	}
}

// write adds the section to a table for people.
func (v *SieveVerification) write(w io.Writer) {
	verdict := v.Verdict()
	if verdict == "" {
		return
	}
	fmt.Fprintf(w, "\n\n%s", verdict)
	for _, d := range v.Lines {
		fmt.Fprintf(w, "\n%s  %s", map[bool]string{true: "explained", false: "DIFFERENT"}[d.Explained], d.Sentence())
	}
}
