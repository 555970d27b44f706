package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// make creates a folder and opens it once: Courier gives out its UIDVALIDITY then. A name that the host does not take is left out.
func (p *person) make(d *desk, at string) error {
	name := p.raw(p.route, at)
	var no *refusal
	if _, err := d.do("CREATE %q", name); err != nil && !strings.Contains(strings.ToLower(err.Error()), "exist") {
		if errors.As(err, &no) {
			p.note("refused", "CREATE %s: %s", at, no.text)
			return nil
		}
		return err
	}
	if _, err := d.do("SELECT %q", name); err != nil {
		return err
	}
	if _, err := d.do("SUBSCRIBE %q", name); err != nil {
		return err
	}
	p.boxes = append(p.boxes, at)
	p.note("create", "%s", at)
	return nil
}

// create makes a folder, at the top or below another one.
func (p *person) create(d *desk) error {
	if len(p.boxes) > 14 {
		return nil
	}
	p.next++
	if p.habit.name == "odd mail" {
		if p.rnd.IntN(5) == 0 {
			return p.make(d, path(sepName(p.week.hosts[p.route].Sep, p.next)...))
		}
		names := oddNames(p.next)
		return p.make(d, path(names[p.rnd.IntN(len(names))]...))
	}
	at := fmt.Sprintf("Box %d", p.next)
	if above := p.box(); above != inboxPath && !slices.Contains(p.stable, above) && strings.Count(above, "\x00") < 3 {
		at = path(above, at)
	}
	return p.make(d, at)
}

// own chooses a folder that he may rename or delete.
func (p *person) own() string {
	list := slices.DeleteFunc(slices.Clone(p.boxes), func(b string) bool {
		return b == inboxPath || slices.Contains(p.stable, b) || slices.ContainsFunc(p.in(b), func(l *letter) bool { return l.strayed || l.stray })
	})
	if len(list) == 0 {
		return ""
	}
	return list[p.rnd.IntN(len(list))]
}

// home has all sessions look at INBOX: some hosts neither rename nor delete what somebody has open.
func (p *person) home() error {
	for _, d := range p.desks {
		if d != nil && d.lives() {
			if _, err := d.do("SELECT INBOX"); err != nil {
				return err
			}
		}
	}
	return nil
}

// rename gives a folder, and with it those below, a name that none has had.
func (p *person) rename(d *desk) error {
	at := p.own()
	if at == "" {
		return nil
	}
	p.next++
	levels := strings.Split(at, "\x00")
	levels[len(levels)-1] = fmt.Sprintf("Renamed %d", p.next)
	to := path(levels...)
	if p.rnd.IntN(3) == 0 {
		to = levels[len(levels)-1] // to the top
	}
	if p.names[0][at] != "" || p.names[1][at] != "" {
		return nil // its name on the other side is known by the plan of the evening only
	}
	if err := p.home(); err != nil {
		return err
	}
	if _, err := d.do("RENAME %q %q", p.raw(p.route, at), p.raw(p.route, to)); err != nil {
		return err
	}
	for _, b := range p.under(at) {
		now := to + strings.TrimPrefix(b, at)
		if _, err := d.do("SELECT %q", p.raw(p.route, now)); err != nil {
			return err
		}
		if _, err := d.do("SUBSCRIBE %q", p.raw(p.route, now)); err != nil {
			return err
		}
		_, _ = d.do("UNSUBSCRIBE %q", p.raw(p.route, b))
		p.went(p.in(b), now)
		p.boxes[slices.Index(p.boxes, b)] = now
		p.dead = append(p.dead, b)
	}
	p.renamed++
	p.note("rename", "%s to %s", at, to)
	return nil
}

// removeBox deletes a folder that has none below it, with all that is in it.
func (p *person) removeBox(d *desk) error {
	at := p.own()
	if at == "" || len(p.under(at)) > 1 {
		return nil
	}
	if err := p.home(); err != nil {
		return err
	}
	_, _ = d.do("UNSUBSCRIBE %q", p.raw(p.route, at))
	if _, err := d.do("DELETE %q", p.raw(p.route, at)); err != nil {
		return err
	}
	list := p.in(at)
	p.drop(list)
	p.boxes = slices.DeleteFunc(p.boxes, func(b string) bool { return b == at })
	p.dead = append(p.dead, at)
	p.note("remove", "%s with %s", at, marks(list))
	return nil
}
