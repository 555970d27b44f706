package traffic

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// plain are flags as they are compared: \Recent is nobody's, and hosts may spell keywords in another case.
func plain(flags []string) string {
	var list []string
	for _, f := range flags {
		if f = strings.ToLower(f); f != `\recent` {
			list = append(list, f)
		}
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " ")
}

// desk is the program that files, flags and deletes.
type desk struct {
	c   *Crowd
	b   *Box
	rnd *rand.Rand
	s   *imap
}

const (
	many       = 40 // letters: then he deletes
	manyPlaces = 8  // folders: then he makes no more
)

// raw is a folder's name on the side of a session.
func (c *Crowd) raw(side int, at string) string {
	if at == inbox {
		return at
	}
	h := c.Hosts[max(side, 0)]
	return h.Prefix + strings.ReplaceAll(at, "/", h.Sep)
}

// step is one thing that he does.
func (d *desk) step() {
	if d.s == nil {
		s, err := d.c.login(d.b, "desk", d.rnd)
		if err != nil {
			d.c.rest(d.rnd)
			return
		}
		d.s = s
	}
	err := d.act()
	var no *Refusal
	switch {
	case errors.As(err, &no):
		d.c.refused(d.b, no)
	case err != nil:
		d.c.count("sessions ended")
		d.s.Close()
		d.s = nil
	case d.rnd.IntN(40) == 0:
		_, _ = d.s.do("LOGOUT")
		d.s.Close()
		d.s = nil
	}
}

// open lists a folder and compares it with what must be there. What is not so is looked at once more: some hosts show a moment's past.
func (c *Crowd) open(s *imap, at string) (items []item, err error) {
	var odd []string
	for tries := 0; ; tries++ {
		v, was := s.box.look(at), s.box.state(at)
		var whole bool
		items, whole, err = s.list(c.raw(s.side, at))
		var no *Refusal
		switch {
		case errors.As(err, &no) && was == there && s.box.state(at) == there && !passing(no.Text):
			c.odd("user%d on %s: %s is not there: %v", s.box.n, sideName(s.side), at, no)
			return nil, err
		case err != nil:
			return nil, err
		case !whole && tries < 5:
			c.count("listings that a host could not give whole")
			continue
		case !whole:
			return items, nil
		}
		now := s.box.seen(v, items, true)
		switch {
		case len(now) > 0 && len(odd) == 0:
			odd = now
			continue
		case len(now) > 0:
			c.odd("user%d on %s: %s", s.box.n, sideName(s.side), strings.Join(now, "\n  "))
		case len(odd) > 0:
			c.odd("user%d on %s saw for a moment: %s", s.box.n, sideName(s.side), strings.Join(odd, "\n  "))
		}
		return items, nil
	}
}

func (d *desk) act() error {
	folders := d.b.list()
	at := folders[d.rnd.IntN(len(folders))]
	what := d.rnd.IntN(20)
	if what >= 18 && d.rnd.IntN(3) > 0 { // folders are made and renamed now and then
		what = d.rnd.IntN(18)
	}
	if d.b.living() > many && what < 8 {
		what = 17
	}
	switch {
	case what < 6:
		return d.put(at)
	case what < 18:
		return d.change(at, what)
	case what == 18 && len(folders) < manyPlaces:
		return d.create()
	case d.rnd.IntN(2) == 0:
		return d.rename()
	}
	return d.remove()
}

// keywords are few enough for a Maildir.
func flagsToSet() []string {
	return []string{`\Seen`, `\Answered`, `\Flagged`, "Work", "$Forwarded", "todo"}
}

// text is a message with a mark.
func (l *letter) text(rnd *rand.Rand) []byte {
	return fmt.Appendf(nil, "From: Somebody <s@example.org>\r\nTo: all@example.com\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s%d@example.org>\r\n\r\n%s%s\r\n",
		l.mark, time.Now().Format(time.RFC1123Z), l.mark, time.Now().UnixNano(), strings.Repeat("a line of the letter\r\n", rnd.IntN(60)), l.mark)
}

func (d *desk) put(at string) error {
	l := d.b.add(worker)
	text := l.text(d.rnd)
	l.sum, l.whole = sha256.Sum256(text), true
	var flags []string
	for _, f := range flagsToSet() {
		if d.rnd.IntN(4) == 0 {
			flags = append(flags, f)
		}
	}
	a := d.b.begin("APPEND to "+at+" on "+sideName(d.s.side), []*letter{l}, func(_ *letter, w world) world { return w.with(at, plain(flags)) })
	sent, err := d.s.put(d.c.raw(d.s.side, at), strings.Join(flags, " "), text)
	d.c.did(err, "APPEND")
	if !sent && err != nil {
		a.not()
		return err
	}
	return a.settle(err)
}

// change flags, moves, copies or deletes some letters of a folder.
func (d *desk) change(at string, what int) error {
	if at == inbox {
		defer d.c.apart(d.b)()
	}
	items, err := d.c.open(d.s, at)
	if err != nil {
		return err
	}
	list, ids := d.b.mine(worker, at, items)
	if len(list) == 0 {
		return nil
	}
	d.rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	list = list[:min(len(list), 1+d.rnd.IntN(3))]
	on := " on " + sideName(d.s.side)
	set := func() string {
		var uids []string
		for _, l := range list {
			uids = append(uids, ids[l])
		}
		return strings.Join(uids, ",")
	}
	switch {
	case what < 11:
		flag, add := flagsToSet()[d.rnd.IntN(6)], d.rnd.IntN(3) > 0
		sign := map[bool]string{true: "+", false: "-"}[add]
		a := d.b.begin("STORE "+sign+flag+" in "+at+on, list, func(_ *letter, w world) world {
			flags := slices.DeleteFunc(strings.Fields(w[at]), func(f string) bool { return f == strings.ToLower(flag) })
			if add {
				flags = append(flags, flag)
			}
			return w.with(at, plain(flags))
		})
		_, err := d.s.do("UID STORE %s %sFLAGS (%s)", set(), sign, flag)
		d.c.did(err, "STORE")
		return a.settle(err)
	case what < 16:
		folders := d.b.list()
		to := folders[d.rnd.IntN(len(folders))]
		list = slices.DeleteFunc(list, func(l *letter) bool { _, is := l.worlds[0][to]; return is }) // a letter is once in each folder
		if to == at || len(list) == 0 {
			return nil
		}
		if what == 15 && d.b.living() < many || !strings.Contains(d.s.caps, " MOVE") {
			a := d.b.begin("COPY from "+at+" to "+to+on, list, func(_ *letter, w world) world { return w.with(to, w[at]) })
			_, err := d.s.do("UID COPY %s %q", set(), d.c.raw(d.s.side, to))
			d.c.did(err, "COPY")
			if a.settle(err) != nil || what == 15 {
				return err
			}
			return d.expunge(at, list, set())
		}
		a := d.b.begin("MOVE from "+at+" to "+to+on, list, func(_ *letter, w world) world { return w.without(at).with(to, w[at]) })
		_, err := d.s.do("UID MOVE %s %q", set(), d.c.raw(d.s.side, to))
		d.c.did(err, "MOVE")
		return a.settle(err)
	}
	return d.expunge(at, list, set())
}

func (d *desk) expunge(at string, list []*letter, set string) error {
	on := " on " + sideName(d.s.side)
	a := d.b.begin(`STORE +\Deleted in `+at+on, list, func(_ *letter, w world) world { return w.with(at, plain(append(strings.Fields(w[at]), `\Deleted`))) })
	_, err := d.s.do(`UID STORE %s +FLAGS.SILENT (\Deleted)`, set)
	if a.settle(err) != nil {
		return err
	}
	a = d.b.begin("EXPUNGE from "+at+on, list, func(_ *letter, w world) world { return w.without(at) })
	_, err = d.s.do("UID EXPUNGE %s", set)
	d.c.did(err, "EXPUNGE")
	return a.settle(err)
}

// fresh is a name that no folder has had.
func (d *desk) fresh() string {
	d.b.mu.Lock()
	d.b.next++
	n := d.b.next
	d.b.mu.Unlock()
	if d.rnd.IntN(2) == 0 {
		return fmt.Sprintf("Archive/Box %d", n)
	}
	return fmt.Sprintf("Box %d", n)
}

func (d *desk) create() error {
	at := d.fresh()
	d.b.folder(at, maybe)
	_, err := d.s.do("CREATE %q", d.c.raw(d.s.side, at))
	if no := (*Refusal)(nil); errors.As(err, &no) && strings.Contains(no.Text, "EXISTS") { // Dovecot, when a pass opens what it is making
		d.c.count("CREATE of what was there meanwhile")
		return nil
	}
	if err != nil {
		return err
	}
	d.b.folder(at, there)
	d.c.count("CREATE")
	_, err = d.s.do("SELECT %q", d.c.raw(d.s.side, at)) // Courier gives out its UIDVALIDITY now
	return err
}

// own is a folder that may go: all that is in it is known.
func (d *desk) own() (string, []*letter) {
	folders := slices.DeleteFunc(d.b.list(), func(at string) bool { return !strings.Contains(at, "Box ") })
	d.rnd.Shuffle(len(folders), func(i, j int) { folders[i], folders[j] = folders[j], folders[i] })
	for _, at := range folders {
		if list, free := d.b.inside(at); free {
			return at, list
		}
	}
	return "", nil
}

func (d *desk) rename() error {
	at, list := d.own()
	if at == "" {
		return nil
	}
	if _, err := d.s.do("SELECT INBOX"); err != nil { // some hosts do not rename what is open
		return err
	}
	to := d.fresh()
	a := d.b.begin("RENAME of "+at+" to "+to+" on "+sideName(d.s.side), list, func(_ *letter, w world) world {
		if flags, is := w[at]; is {
			return w.without(at).with(to, flags)
		}
		return w
	})
	d.b.folder(at, maybe)
	d.b.folder(to, maybe)
	_, err := d.s.do("RENAME %q %q", d.c.raw(d.s.side, at), d.c.raw(d.s.side, to))
	d.c.did(err, "RENAME")
	if a.settle(err) != nil {
		return err
	}
	d.b.folder(at, gone)
	d.b.folder(to, there)
	_, err = d.s.do("SELECT %q", d.c.raw(d.s.side, to))
	return err
}

func (d *desk) remove() error {
	at, list := d.own()
	if at == "" || len(d.b.list()) < 4 {
		return nil
	}
	if _, err := d.s.do("SELECT INBOX"); err != nil {
		return err
	}
	a := d.b.begin("DELETE of "+at+" on "+sideName(d.s.side), list, func(_ *letter, w world) world { return w.without(at) })
	d.b.folder(at, maybe)
	_, err := d.s.do("DELETE %q", d.c.raw(d.s.side, at))
	d.c.did(err, "DELETE")
	if a.settle(err) != nil {
		return err
	}
	d.b.folder(at, gone)
	return nil
}

// phone is the program that waits for mail, and reads.
type phone struct {
	c   *Crowd
	b   *Box
	rnd *rand.Rand
	s   *imap
}

func (p *phone) step() {
	if p.s == nil {
		s, err := p.c.login(p.b, "phone", p.rnd)
		if err != nil {
			p.c.rest(p.rnd)
			return
		}
		p.s = s
	}
	err := p.read()
	var no *Refusal
	switch {
	case errors.As(err, &no):
		p.c.refused(p.b, no)
	case err != nil:
		p.c.count("sessions ended")
		p.s.Close()
		p.s = nil
	}
}

func (p *phone) read() error {
	if _, err := p.c.open(p.s, inbox); err != nil {
		return err
	}
	if !strings.Contains(p.s.caps, "IDLE") {
		return nil
	}
	p.s.tag++
	sent := time.Now()
	if err := p.s.send("x%d IDLE", p.s.tag); err != nil {
		return err
	}
	_ = p.s.SetReadDeadline(time.Now().Add(time.Duration(50+p.rnd.IntN(500)) * time.Millisecond))
	for {
		_, err := p.s.r.ReadByte() // whatever it is
		if ne := timed(nil); errors.As(err, &ne) && ne.Timeout() {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := p.s.send("DONE"); err != nil {
		return err
	}
	_, err := p.s.answer("IDLE", sent)
	p.c.did(err, "IDLE")
	return err
}

// timed is an error that tells of a deadline.
type timed interface {
	error
	Timeout() bool
}
