package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// deliver brings mail to the side that decides, as the transfer agent does: not through the gateway.
func (p *person) deliver(at string) error {
	l := p.write(at)
	if p.rnd.IntN(8) == 0 {
		l.copies = 2
	}
	if p.rnd.IntN(3) == 0 {
		l.flags[systemFlags()[p.rnd.IntN(3)]] = true
	}
	return p.bring(l)
}

func (p *person) deliverOdd() error {
	l := p.write(p.boxes[p.rnd.IntN(len(p.boxes))])
	l.odd = true
	all := oddBodies(l.mark)
	i := p.rnd.IntN(len(all))
	if strings.Contains(all[i], "attachment") && p.rnd.IntN(2) == 0 { // large ones are not so many
		i = 0
	}
	l.body = []byte(all[i])
	if p.rnd.IntN(6) == 0 {
		for n := range 30 { // more than a Maildir has room for
			l.flags[fmt.Sprintf("Label%02d", n)] = true
		}
	}
	return p.bring(l)
}

// bring appends a letter on the side that decides. A host that refuses it has not got it.
func (p *person) bring(l *letter) error {
	d := p.at(p.route)
	if d == nil {
		return nil
	}
	for range l.copies {
		err := d.put(p.raw(p.route, l.path), l.flagList(), l.date, l.body)
		if no := (*refusal)(nil); l.odd && errors.As(err, &no) {
			p.note("refused", "%s: %s", l.mark, no.text)
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
	p.letters = append(p.letters, l)
	p.note("deliver", "%s to %s (%s)", l.mark, l.path, l.flagList())
	return nil
}

// asShown takes over the flags that a host has kept.
func (p *person) asShown(d *desk, l *letter) error {
	if _, err := d.do("SELECT %q", p.raw(p.route, l.path)); err != nil {
		return err
	}
	uids, err := d.search("TEXT %q", l.mark)
	if err != nil || len(uids) == 0 {
		return err
	}
	lines, err := d.do("UID FETCH %s (UID FLAGS)", uids[0])
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
func (p *person) stray() error {
	side := p.route.Other()
	d := p.at(side)
	if d == nil {
		return nil
	}
	what := p.rnd.IntN(10)
	if what < 4 {
		l := p.write(inboxPath)
		l.stray = true
		if err := d.put(inboxPath, "", l.date, l.body); err != nil {
			return fmt.Errorf("stray: %w", err)
		}
		p.letters = append(p.letters, l)
		p.note("stray", "%s", l.mark)
		return nil
	}
	l := p.any()
	if l == nil || l.odd || l.copies > 1 {
		return nil
	}
	if _, err := d.do("SELECT %q", p.raw(side, l.path)); err != nil {
		return nil // it has not heard of the folder yet
	}
	uids, err := d.search(`SUBJECT %q`, l.mark)
	if err != nil || len(uids) != 1 {
		return err
	}
	switch {
	case what < 8:
		flag := []string{`\Flagged`, `\Seen`, "$Phone"}[p.rnd.IntN(3)]
		if _, err := d.do("UID STORE %s +FLAGS (%s)", uids[0], flag); err != nil {
			return fmt.Errorf("stray: %w", err)
		}
		if l.moved || l.near[flag] {
			l.either[flag] = true // what was done here in the same hour decides, or came before it
		}
		l.far[flag], l.flags[flag] = true, true
		p.note("far flag", "%s %s", l.mark, flag)
	case l.moved || l.stray:
	case what == 8: // it comes back
		if err := p.expunge(d, uids[0]); err != nil {
			return fmt.Errorf("stray: %w", err)
		}
		l.strayed = true
		p.doubt(l)
		p.note("far delete", "%s", l.mark)
	case !p.stays(l.path):
	default: // it goes back
		to := p.stable[p.rnd.IntN(len(p.stable))]
		if to == l.path {
			return nil
		}
		if _, err := d.do("UID COPY %s %q", uids[0], p.raw(side, to)); err != nil {
			return nil // it has not heard of the folder yet
		}
		if err := p.expunge(d, uids[0]); err != nil {
			return fmt.Errorf("stray: %w", err)
		}
		l.strayed = true
		p.doubt(l)
		p.note("far move", "%s to %s", l.mark, to)
	}
	return nil
}

// stays tells whether a folder is never renamed or deleted.
func (p *person) stays(at string) bool { return at == inboxPath || slices.Contains(p.stable, at) }

// doubt notes that what the follower alone knew of a letter's flags may have gone with it.
func (p *person) doubt(l *letter) {
	for f := range l.far {
		l.either[f] = true
	}
}
