package people

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Deliver brings mail to the side that decides, as the transfer agent does: not through the gateway.
func (p *Person) Deliver(at string) error {
	l := p.write(at)
	if p.Rnd.IntN(8) == 0 {
		l.copies = 2
	}
	if p.Rnd.IntN(3) == 0 {
		l.flags[systemFlags()[p.Rnd.IntN(3)]] = true
	}
	return p.bring(l)
}

func (p *Person) deliverOdd() error {
	l := p.write(p.Boxes[p.Rnd.IntN(len(p.Boxes))])
	l.odd = true
	all := oddBodies(l.mark)
	i := p.Rnd.IntN(len(all))
	if strings.Contains(all[i], "attachment") && p.Rnd.IntN(2) == 0 { // large ones are not so many
		i = 0
	}
	l.body = []byte(all[i])
	if p.Rnd.IntN(6) == 0 {
		for n := range 30 { // more than a Maildir has room for
			l.flags[fmt.Sprintf("Label%02d", n)] = true
		}
	}
	return p.bring(l)
}

// bring appends a letter on the side that decides. A host that refuses it has not got it.
func (p *Person) bring(l *Letter) error {
	d := p.At(p.Route)
	if d == nil {
		return nil
	}
	for range l.copies {
		err := d.Put(p.Raw(p.Route, l.path), l.flagList(), l.date, l.body)
		if no := (*Refusal)(nil); l.odd && errors.As(err, &no) {
			p.Note("refused", "%s: %s", l.mark, no.text)
			return nil
		}
		if err != nil {
			return fmt.Errorf("deliver: %w", err)
		}
	}
	if l.odd && len(l.flags) > 20 { // the host itself may have no room for them: what it shows is what has to travel
		if err := p.asShown(d, l); err != nil {
			return err
		}
	}
	p.Letters = append(p.Letters, l)
	p.Note("deliver", "%s to %s (%s)", l.mark, l.path, l.flagList())
	return nil
}

// asShown takes over the flags that a host has kept.
func (p *Person) asShown(d *Desk, l *Letter) error {
	if _, err := d.Do("SELECT %q", p.Raw(p.Route, l.path)); err != nil {
		return err
	}
	uids, err := d.Search("TEXT %q", l.mark)
	if err != nil || len(uids) == 0 {
		return err
	}
	lines, err := d.Do("UID FETCH %s (UID FLAGS)", uids[0])
	if err != nil {
		return err
	}
	for _, line := range lines {
		if i := strings.Index(line, "FLAGS ("); i >= 0 && strings.Contains(line, " FETCH ") {
			clear(l.flags)
			text, _, _ := strings.Cut(line[i+len("FLAGS ("):], ")")
			for _, f := range strings.Fields(text) {
				if f != `\Recent` {
					l.flags[f] = true
				}
			}
		}
	}
	return nil
}

// stray is something that happens on the follower: mail that is delivered there, flags, a delete, a move.
func (p *Person) stray() error {
	side := p.Route.Other()
	d := p.At(side)
	if d == nil {
		return nil
	}
	what := p.Rnd.IntN(10)
	if what < 4 {
		l := p.write(Inbox)
		l.Stray = true
		if err := d.Put(Inbox, "", l.date, l.body); err != nil {
			return fmt.Errorf("stray: %w", err)
		}
		p.Letters = append(p.Letters, l)
		p.Note("stray", "%s", l.mark)
		return nil
	}
	l := p.any()
	if l == nil || l.odd || l.copies > 1 || l.frozen {
		return nil
	}
	if _, err := d.Do("SELECT %q", p.Raw(side, l.path)); err != nil {
		return nil // it has not heard of the folder yet
	}
	uids, err := d.Search(`SUBJECT %q`, l.mark)
	if err != nil || len(uids) != 1 {
		return err
	}
	switch {
	case what < 8:
		flag := []string{`\Flagged`, `\Seen`, "$Phone"}[p.Rnd.IntN(3)]
		if _, err := d.Do("UID STORE %s +FLAGS (%s)", uids[0], flag); err != nil {
			return fmt.Errorf("stray: %w", err)
		}
		if l.moved || l.near[flag] {
			l.either[flag] = true // what was done here in the same hour decides, or came before it
		}
		l.far[flag], l.flags[flag] = true, true
		p.Note("far flag", "%s %s", l.mark, flag)
	case l.moved || l.Stray:
	case what == 8: // it comes back
		if err := p.expunge(d, uids[0]); err != nil {
			return fmt.Errorf("stray: %w", err)
		}
		l.strayed = true
		p.doubt(l)
		p.Note("far delete", "%s", l.mark)
	case !p.stays(l.path):
	default: // it goes back
		to := p.Stable[p.Rnd.IntN(len(p.Stable))]
		if to == l.path {
			return nil
		}
		if _, err := d.Do("UID COPY %s %q", uids[0], p.Raw(side, to)); err != nil {
			return nil // it has not heard of the folder yet
		}
		if err := p.expunge(d, uids[0]); err != nil {
			return fmt.Errorf("stray: %w", err)
		}
		l.strayed, l.twinAt = true, to
		p.doubt(l)
		p.Note("far move", "%s to %s", l.mark, to)
	}
	return nil
}

// stays tells whether a folder is never renamed or deleted.
func (p *Person) stays(at string) bool { return at == Inbox || slices.Contains(p.Stable, at) }

// doubt notes that what the follower alone knew of a letter's flags may have gone with it, and that a pass may have seen it marked as
// \Deleted there before it went.
func (p *Person) doubt(l *Letter) {
	l.either[`\Deleted`] = true
	for f := range l.far {
		l.either[f] = true
	}
}
