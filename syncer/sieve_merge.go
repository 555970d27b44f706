package syncer

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	"mailgate/config"
)

// sieveText is a script as a side has it.
type sieveText struct {
	text string
	why  string // it cannot be read: why; text is "" then
}

// sieveHeld is what a side holds.
type sieveHeld struct {
	scripts map[string]sieveText
	active  string // "" for none
}

// sieveStep is what is to be done with a script.
type sieveStep struct {
	name string
	do   sieveDo
	to   config.Side // where, of sieveWrite and sieveDelete
	why  string
}

type sieveDo uint8

const (
	sieveAgree  sieveDo = iota // both texts are the same script
	sieveWrite                 // as the other side has it, put into this one's names
	sieveDelete                // gone on the side that decides, and as it was on the other
	sieveHold                  // gone on the side that decides, and kept
	sieveStuck                 // nothing can be done: why
	sieveForget                // on neither side
)

func sieveHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// mergeScripts decides what becomes of each script: changes of the side that decides win, new and changed scripts of the follower come
// back, deletes of the follower do not. same tells whether two texts are the same script. It is pure. Steps are in the order of names.
//
// believed is whether deletes are believed of a side that decides and lists nothing at all: so does an account that was emptied or reset.
func mergeScripts(authority config.Side, held [2]sieveHeld, known []Script, same func(name string) bool, believed bool) (steps []sieveStep) {
	base := map[string]Script{}
	names := map[string]bool{}
	agreed := false
	for _, s := range known {
		base[s.Name], names[s.Name] = s, true
		agreed = agreed || s.Base[0] != ""
	}
	for _, side := range config.Sides {
		for name := range held[side].scripts {
			names[name] = true
		}
	}
	follower := authority.Other()
	empty := agreed && len(held[authority].scripts) == 0 && !believed
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a, onA := held[authority].scripts[name]
		f, onF := held[follower].scripts[name]
		b := base[name]
		met := b.Base[0] != ""
		changed := func(side config.Side, text string) bool { return !met || sieveHash(text) != b.Base[side] }
		step := sieveStep{name: name, to: follower}
		switch {
		case !onA && !onF:
			step.do = sieveForget
		case onA && a.why != "":
			step.do, step.why = sieveStuck, sideName(authority)+": "+a.why
		case onF && f.why != "":
			step.do, step.why = sieveStuck, sideName(follower)+": "+f.why
		case onA && onF:
			changedA, changedF := changed(authority, a.text), changed(follower, f.text)
			switch {
			case !changedA && !changedF, same(name):
				step.do = sieveAgree
			case changedF && !changedA:
				step.do, step.to = sieveWrite, authority
			default:
				step.do = sieveWrite
				if changedF {
					step.why = "another text stood there, and the side that decides wins"
				}
			}
		case onA:
			step.do = sieveWrite
			if met {
				step.why = "it was deleted there, and deletes count on the side that decides only"
			}
		case !met:
			step.do, step.to = sieveWrite, authority
		case empty:
			step.do, step.why = sieveHold, sideName(authority)+" lists no script at all any more: nothing is deleted for that"
		case changed(follower, f.text):
			step.do, step.why = sieveHold, "it was deleted on "+sideName(authority)+", and changed here since"
		default:
			step.do = sieveDelete
		}
		steps = append(steps, step)
	}
	return steps
}

// sieveMark is what is to be done with the active mark.
type sieveMark struct {
	carry bool
	hold  bool // what was known stays so: it may be carried later
	to    config.Side
	name  string // "" means that none is to be active
	why   string // where it is left as it is, or may not be carried
}

// mergeMarks decides about the active mark, three-way too. believed as in mergeScripts.
func mergeMarks(authority config.Side, held [2]sieveHeld, known []Script, believed bool) sieveMark {
	follower := authority.Other()
	var was [2]string
	agreed := false
	for _, s := range known {
		agreed = agreed || s.Base[0] != ""
		for side, on := range s.Active {
			if on {
				was[side] = s.Name
			}
		}
	}
	a, f := held[authority].active, held[follower].active
	_, stillThere := held[follower].scripts[was[follower]]
	lost := was[follower] != "" && !stillThere // deleted on the follower: that does not travel, and neither does its mark
	changedA, changedF := a != was[authority], f != was[follower] && !lost
	switch {
	case a == f:
		return sieveMark{}
	case agreed && len(held[authority].scripts) == 0 && !believed:
		return sieveMark{hold: true, why: sideName(authority) + " lists no script at all any more"}
	case len(known) == 0 && a == "":
		return sieveMark{why: "none is active on " + sideName(authority) + ", and both sides meet for the first time"}
	case f != "" && slices.ContainsFunc(known, func(s Script) bool { return s.Name == f && s.State == ScriptRefused && s.Base[0] == "" }):
		return sieveMark{hold: true, why: "the active one there was never taken by " + sideName(authority) + ", and stays"}
	case len(known) == 0 || changedA || lost:
		return sieveMark{carry: true, to: follower, name: a}
	case changedF:
		return sieveMark{carry: true, to: authority, name: f}
	}
	return sieveMark{why: "both sides have differed in this since they met, and nobody has changed it"}
}
