package people

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Act is one thing that he does, if he can log in. What fails else is an error: nothing breaks a session in the middle of a thing.
func (p *Person) Act() error {
	kinds := slices.Sorted(maps.Keys(p.Habit.does))
	total := 0
	for _, k := range kinds {
		total += p.Habit.does[k]
	}
	pick := p.Rnd.IntN(total)
	for _, k := range kinds {
		if pick -= p.Habit.does[k]; pick < 0 {
			return p.Do(k)
		}
	}
	return nil
}

// Do does one thing of a kind.
func (p *Person) Do(kind string) error {
	switch kind {
	case "deliver":
		return p.Deliver(Inbox)
	case "list":
		return p.Deliver(p.Stable[p.Rnd.IntN(len(p.Stable))])
	case "odd":
		return p.deliverOdd()
	case "stray":
		return p.stray()
	}
	d := p.Sit()
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
		err = p.Empty(d, Path("Trash"), 1<<20)
	case "fetch":
		err = p.Empty(d, Inbox, 9)
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
func (p *Person) open(d *Desk, at string) (map[*Letter][]string, error) {
	if _, err := d.Do("SELECT %q", p.Raw(p.Route, at)); err != nil {
		return nil, err
	}
	lines, err := d.Do("UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
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
	out := map[*Letter][]string{}
	for _, l := range p.In(at) {
		uids := by[l.mark]
		if l.odd && len(uids) == 0 {
			if uids, err = d.Search(`TEXT %q`, l.mark); err != nil {
				return nil, err
			}
		}
		switch {
		case len(uids) == l.copies:
			out[l] = uids
		case l.Stray || l.odd || l.strayed: // the other side has it alone as yet, or for good
		default:
			return nil, fmt.Errorf("%s: %d copies of %s are there, not %d", strings.ReplaceAll(at, "\x00", "/"), len(uids), l.mark, l.copies)
		}
	}
	return out, nil
}

// ones chooses up to n letters of a folder that are there and may be moved or deleted.
func (p *Person) ones(here map[*Letter][]string, n int) (list []*Letter, set string) {
	for l := range here {
		if !l.strayed && !l.frozen {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(a, b *Letter) int { return strings.Compare(a.mark, b.mark) })
	p.Rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	list = list[:min(n, len(list))]
	var uids []string
	for _, l := range list {
		uids = append(uids, here[l]...)
	}
	return list, strings.Join(uids, ",")
}

// mark sets or takes off a flag.
func (p *Person) mark(l *Letter, flag string, on bool) {
	if l.far[flag] {
		l.either[flag] = true
	}
	l.near[flag] = true
	if delete(l.flags, flag); on {
		l.flags[flag] = true
	}
}

func (p *Person) flag(d *Desk, from []string) error {
	l := p.any()
	if l == nil {
		return nil
	}
	here, err := p.open(d, l.path)
	if err != nil || here[l] == nil {
		return err
	}
	flag, on := from[p.Rnd.IntN(len(from))], p.Rnd.IntN(4) > 0
	if _, err := d.Do("UID STORE %s %sFLAGS (%s)", strings.Join(here[l], ","), map[bool]string{true: "+", false: "-"}[on], flag); err != nil {
		return err
	}
	p.mark(l, flag, on)
	p.Note("flag", "%s %s %v", l.mark, flag, on)
	return nil
}

// storm marks all of a folder as read, or as not.
func (p *Person) storm(d *Desk) error {
	at := p.box()
	here, err := p.open(d, at)
	if err != nil || len(here) == 0 {
		return err
	}
	var set []string
	for _, uids := range here {
		set = append(set, uids...)
	}
	on := p.Rnd.IntN(3) > 0
	if _, err := d.Do(`UID STORE %s %sFLAGS (\Seen)`, strings.Join(set, ","), map[bool]string{true: "+", false: "-"}[on]); err != nil {
		return err
	}
	for l := range here {
		p.mark(l, `\Seen`, on)
	}
	p.Note("storm", "%s %v, %d letters", at, on, len(here))
	return nil
}

// move takes letters from one folder to another; where there is no MOVE they are copied, and expunged.
func (p *Person) move(d *Desk, n int) error {
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

func (p *Person) moveTo(d *Desk, from, to string, n int) error {
	here, err := p.open(d, from)
	if err != nil {
		return err
	}
	list, set := p.ones(here, n)
	if len(list) == 0 {
		return nil
	}
	target := p.Raw(p.Route, to)
	if p.Hosts[p.Route].Name == "courier" {
		if _, err = d.Do("UID COPY %s %q", set, target); err == nil {
			err = p.expunge(d, set)
		}
	} else {
		_, err = d.Do("UID MOVE %s %q", set, target)
	}
	if err != nil {
		return err
	}
	p.went(list, to)
	p.Note("move", "%d from %s to %s: %s", len(list), from, to, marks(list))
	return nil
}

func marks(list []*Letter) string {
	var s []string
	for _, l := range list {
		s = append(s, l.mark)
	}
	return strings.Join(s, " ")
}

func (p *Person) expunge(d *Desk, set string) error {
	if _, err := d.Do(`UID STORE %s +FLAGS.SILENT (\Deleted)`, set); err != nil {
		return err
	}
	_, err := d.Do("UID EXPUNGE %s", set)
	return err
}

func (p *Person) trash(d *Desk) error {
	if l := p.any(); l != nil && l.path != Path("Trash") {
		return p.moveTo(d, l.path, Path("Trash"), 3)
	}
	return nil
}

// remove deletes one for good.
func (p *Person) remove(d *Desk) error {
	if l := p.any(); l != nil {
		return p.Empty(d, l.path, 1)
	}
	return nil
}

// Empty deletes up to n of a folder.
func (p *Person) Empty(d *Desk, at string, n int) error {
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
	p.Note("delete", "%d of %s: %s", len(list), at, marks(list))
	return nil
}
