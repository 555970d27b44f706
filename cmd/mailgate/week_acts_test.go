package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// act is one thing that he does, if he can log in. What fails else is an error: nothing breaks a session in the middle of a thing.
func (p *person) act() error {
	kinds := slices.Sorted(maps.Keys(p.habit.does))
	total := 0
	for _, k := range kinds {
		total += p.habit.does[k]
	}
	pick := p.rnd.IntN(total)
	for _, k := range kinds {
		if pick -= p.habit.does[k]; pick < 0 {
			return p.do(k)
		}
	}
	return nil
}

// do does one thing of a kind.
func (p *person) do(kind string) error {
	switch kind {
	case "deliver":
		return p.deliver(inboxPath)
	case "list":
		return p.deliver(p.stable[p.rnd.IntN(len(p.stable))])
	case "odd":
		return p.deliverOdd()
	case "stray":
		return p.stray()
	}
	d := p.sit()
	if d == nil {
		return nil
	}
	var err error
	switch kind {
	case "flag":
		err = p.flag(d, systemFlags())
	case "label":
		err = p.flag(d, labels())
	case "storm":
		err = p.storm(d)
	case "move":
		err = p.move(d, 1)
	case "bulk":
		err = p.move(d, 12)
	case "trash":
		err = p.trash(d)
	case "empty":
		err = p.empty(d, path("Trash"), 1<<20)
	case "fetch":
		err = p.empty(d, inboxPath, 9)
	case "delete":
		err = p.remove(d)
	case "create":
		err = p.create(d)
	case "rename":
		err = p.rename(d)
	case "remove":
		err = p.removeBox(d)
	default:
		err = fmt.Errorf("nobody knows how to %s", kind)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	return nil
}

var uidOf = regexp.MustCompile(`\bUID (\d+)`)

// open selects a folder and gives the UIDs of letters in it. Odd ones cannot be told by their subjects: they are looked for one by one.
func (p *person) open(d *desk, at string) (map[*letter][]string, error) {
	if _, err := d.do("SELECT %q", p.raw(p.route, at)); err != nil {
		return nil, err
	}
	lines, err := d.do("UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
	if err != nil {
		return nil, err
	}
	by := map[string][]string{}
	uid, mark := "", ""
	flush := func() {
		if uid != "" && mark != "" {
			by[mark] = append(by[mark], uid)
		}
		uid, mark = "", ""
	}
	for _, line := range lines {
		if strings.HasPrefix(line, "* ") {
			flush()
		}
		if m := uidOf.FindStringSubmatch(line); m != nil && !strings.HasPrefix(line, "Subject:") {
			uid = m[1]
		}
		if s, ok := strings.CutPrefix(line, "Subject: "); ok {
			mark = s
		}
	}
	flush()
	out := map[*letter][]string{}
	for _, l := range p.in(at) {
		uids := by[l.mark]
		if l.odd && len(uids) == 0 {
			if uids, err = d.search(`TEXT %q`, l.mark); err != nil {
				return nil, err
			}
		}
		switch {
		case len(uids) == l.copies:
			out[l] = uids
		case l.stray || l.odd || l.strayed: // the other side has it alone as yet, or for good
		default:
			return nil, fmt.Errorf("%s: %d copies of %s are there, not %d", strings.ReplaceAll(at, "\x00", "/"), len(uids), l.mark, l.copies)
		}
	}
	return out, nil
}

// ones chooses up to n letters of a folder that are there and may be moved or deleted.
func (p *person) ones(here map[*letter][]string, n int) (list []*letter, set string) {
	for l := range here {
		if !l.strayed {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(a, b *letter) int { return strings.Compare(a.mark, b.mark) })
	p.rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	list = list[:min(n, len(list))]
	var uids []string
	for _, l := range list {
		uids = append(uids, here[l]...)
	}
	return list, strings.Join(uids, ",")
}

// mark sets or takes off a flag.
func (p *person) mark(l *letter, flag string, on bool) {
	if l.far[flag] {
		l.either[flag] = true
	}
	l.near[flag] = true
	if delete(l.flags, flag); on {
		l.flags[flag] = true
	}
}

func (p *person) flag(d *desk, from []string) error {
	l := p.any()
	if l == nil {
		return nil
	}
	here, err := p.open(d, l.path)
	if err != nil || here[l] == nil {
		return err
	}
	flag, on := from[p.rnd.IntN(len(from))], p.rnd.IntN(4) > 0
	if _, err := d.do("UID STORE %s %sFLAGS (%s)", strings.Join(here[l], ","), map[bool]string{true: "+", false: "-"}[on], flag); err != nil {
		return err
	}
	p.mark(l, flag, on)
	p.note("flag", "%s %s %v", l.mark, flag, on)
	return nil
}

// storm marks all of a folder as read, or as not.
func (p *person) storm(d *desk) error {
	at := p.box()
	here, err := p.open(d, at)
	if err != nil || len(here) == 0 {
		return err
	}
	var set []string
	for _, uids := range here {
		set = append(set, uids...)
	}
	on := p.rnd.IntN(3) > 0
	if _, err := d.do(`UID STORE %s %sFLAGS (\Seen)`, strings.Join(set, ","), map[bool]string{true: "+", false: "-"}[on]); err != nil {
		return err
	}
	for l := range here {
		p.mark(l, `\Seen`, on)
	}
	p.note("storm", "%s %v, %d letters", at, on, len(here))
	return nil
}

// move takes letters from one folder to another; where there is no MOVE they are copied, and expunged.
func (p *person) move(d *desk, n int) error {
	l := p.any()
	if l == nil {
		return nil
	}
	to := p.box()
	if l.path == to {
		return nil
	}
	return p.moveTo(d, l.path, to, n)
}

func (p *person) moveTo(d *desk, from, to string, n int) error {
	here, err := p.open(d, from)
	if err != nil {
		return err
	}
	list, set := p.ones(here, n)
	if len(list) == 0 {
		return nil
	}
	target := p.raw(p.route, to)
	if p.week.hosts[p.route].Name == "courier" {
		if _, err = d.do("UID COPY %s %q", set, target); err == nil {
			err = p.expunge(d, set)
		}
	} else {
		_, err = d.do("UID MOVE %s %q", set, target)
	}
	if err != nil {
		return err
	}
	p.went(list, to)
	p.note("move", "%d from %s to %s: %s", len(list), from, to, marks(list))
	return nil
}

func marks(list []*letter) string {
	var s []string
	for _, l := range list {
		s = append(s, l.mark)
	}
	return strings.Join(s, " ")
}

func (p *person) expunge(d *desk, set string) error {
	if _, err := d.do(`UID STORE %s +FLAGS.SILENT (\Deleted)`, set); err != nil {
		return err
	}
	_, err := d.do("UID EXPUNGE %s", set)
	return err
}

func (p *person) trash(d *desk) error {
	if l := p.any(); l != nil && l.path != path("Trash") {
		return p.moveTo(d, l.path, path("Trash"), 3)
	}
	return nil
}

// remove deletes one for good.
func (p *person) remove(d *desk) error {
	if l := p.any(); l != nil {
		return p.empty(d, l.path, 1)
	}
	return nil
}

// empty deletes up to n of a folder.
func (p *person) empty(d *desk, at string, n int) error {
	here, err := p.open(d, at)
	if err != nil {
		return err
	}
	list, set := p.ones(here, n)
	if len(list) == 0 {
		return nil
	}
	if err := p.expunge(d, set); err != nil {
		return err
	}
	p.drop(list)
	p.note("delete", "%d of %s: %s", len(list), at, marks(list))
	return nil
}
