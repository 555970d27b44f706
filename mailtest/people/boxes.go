package people

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailgate/syncer"
)

// make creates a folder and opens it once: Courier gives out its UIDVALIDITY then. A name that the host does not take is left out.
func (p *Person) make(d *Desk, at string) error {
	name := p.Raw(p.Route, at)
	var no *Refusal
	if _, err := d.Do("CREATE %q", name); err != nil && !strings.Contains(strings.ToLower(err.Error()), "exist") {
		if errors.As(err, &no) {
			p.Note("refused", "CREATE %s: %s", at, no.text)
			return nil
		}
		return err
	}
	if _, err := d.Do("SELECT %q", name); err != nil {
		return err
	}
	if _, err := d.Do("SUBSCRIBE %q", name); err != nil {
		return err
	}
	p.Boxes = append(p.Boxes, at)
	p.Note("create", "%s", at)
	return nil
}

// create makes a folder, at the top or below another one.
func (p *Person) create(d *Desk) error {
	if len(p.Boxes) > 14 {
		return nil
	}
	p.next++
	if p.Habit.Name == "odd mail" {
		if p.Rnd.IntN(5) == 0 {
			return p.make(d, Path(sepName(p.Hosts[p.Route].Sep, p.next)...))
		}
		names := oddNames(p.next)
		return p.make(d, Path(names[p.Rnd.IntN(len(names))]...))
	}
	at := fmt.Sprintf("Box %d", p.next)
	if above := p.box(); above != Inbox && !slices.Contains(p.Stable, above) && strings.Count(above, "\x00") < 3 {
		at = Path(above, at)
	}
	return p.make(d, at)
}

// own chooses a folder that he may rename or delete.
func (p *Person) own() string {
	list := slices.DeleteFunc(slices.Clone(p.Boxes), func(b string) bool {
		return b == Inbox || slices.Contains(p.Stable, b) || slices.ContainsFunc(p.In(b), func(l *Letter) bool { return l.strayed || l.Stray })
	})
	if len(list) == 0 {
		return ""
	}
	return list[p.Rnd.IntN(len(list))]
}

// home has all sessions look at INBOX: some hosts neither rename nor delete what somebody has open.
func (p *Person) home() error {
	for _, d := range p.desks {
		if d != nil && d.Lives() {
			if _, err := d.Do("SELECT INBOX"); err != nil {
				return err
			}
		}
	}
	return nil
}

// rename gives a folder, and with it those below, a name that none has had.
func (p *Person) rename(d *Desk) error {
	at := p.own()
	if at == "" {
		return nil
	}
	p.next++
	levels := strings.Split(at, "\x00")
	levels[len(levels)-1] = fmt.Sprintf("Renamed %d", p.next)
	to := Path(levels...)
	if p.Rnd.IntN(3) == 0 {
		to = levels[len(levels)-1] // to the top
	}
	if p.Names[0][at] != "" || p.Names[1][at] != "" {
		return nil // its name on the other side is known by the plan of the evening only
	}
	if err := p.home(); err != nil {
		return err
	}
	if _, err := d.Do("RENAME %q %q", p.Raw(p.Route, at), p.Raw(p.Route, to)); err != nil {
		return err
	}
	for _, b := range p.under(at) {
		now := to + strings.TrimPrefix(b, at)
		if _, err := d.Do("SELECT %q", p.Raw(p.Route, now)); err != nil {
			return err
		}
		if _, err := d.Do("SUBSCRIBE %q", p.Raw(p.Route, now)); err != nil {
			return err
		}
		_, _ = d.Do("UNSUBSCRIBE %q", p.Raw(p.Route, b))
		p.went(p.In(b), now)
		p.Boxes[slices.Index(p.Boxes, b)] = now
		p.dead = append(p.dead, b)
	}
	p.Renamed++
	p.Note("rename", "%s to %s", at, to)
	return nil
}

// removeBox deletes a folder that has none below it, with all that is in it.
func (p *Person) removeBox(d *Desk) error {
	at := p.own()
	if at == "" || len(p.under(at)) > 1 {
		return nil
	}
	if err := p.home(); err != nil {
		return err
	}
	_, _ = d.Do("UNSUBSCRIBE %q", p.Raw(p.Route, at))
	if _, err := d.Do("DELETE %q", p.Raw(p.Route, at)); err != nil {
		return err
	}
	list := p.In(at)
	p.drop(list)
	p.Boxes = slices.DeleteFunc(p.Boxes, func(b string) bool { return b == at })
	p.dead = append(p.dead, at)
	p.Note("remove", "%s with %s", at, marks(list))
	return nil
}

// Fill gives him folders and some mail on the side that decides, before anything begins.
func (p *Person) Fill(letters int) error {
	d := p.At(p.Route)
	if d == nil {
		return errors.New("no login")
	}
	p.Stable = []string{Path("Trash"), Path("Sent"), Path("Archive"), Path("Archive", "2025"), Path("Lists"), Path("Lists", "go")}
	for _, b := range p.Stable {
		if err := p.make(d, b); err != nil {
			return err
		}
	}
	for range letters {
		if err := p.bring(p.write(p.box(), `\Seen`)); err != nil {
			return err
		}
	}
	return nil
}

// Learn takes over from a plan which folder is which, where names do not follow from the levels.
func (p *Person) Learn(plan []syncer.Folder) {
	here, there := p.Route, p.Route.Other()
	for _, f := range plan {
		for _, b := range p.Boxes {
			if f.Name[here] == p.Raw(here, b) && f.Name[there] != "" && f.Name[there] != p.Raw(there, b) {
				p.Names[there][b] = f.Name[there]
			}
		}
	}
}
