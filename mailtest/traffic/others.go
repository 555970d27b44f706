package traffic

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"mailgate/mailtest/lab"
)

// fetcher is the program that takes mail by POP3 and deletes it: a delete counts when QUIT is answered.
type fetcher struct {
	c   *Crowd
	b   *Box
	rnd *rand.Rand
}

// pop is a POP3 session.
type pop struct {
	*wire
	span *Span
	b    *Box
}

// do sends a command; -ERR is a *Refusal. many reads the lines behind +OK too.
func (p *pop) do(many bool, format string, args ...any) (lines []string, err error) {
	sent := time.Now()
	if err := p.send(format, args...); err != nil {
		return nil, err
	}
	line, err := p.line()
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(line, "+OK") {
		word, _, _ := strings.Cut(format, " ")
		return nil, &Refusal{word, line}
	}
	for many {
		line, err := p.line()
		if err != nil {
			return nil, err
		}
		if line == "." {
			break
		}
		lines = append(lines, line)
	}
	if p.span != nil {
		p.b.done(p.span, sent)
	}
	return lines, nil
}

func (f *fetcher) step() {
	defer f.c.rest(f.rnd)
	w, err := dial(oneOf(f.c.POP3, f.rnd))
	if err != nil {
		return
	}
	defer w.Close()
	p := &pop{wire: w, b: f.b}
	_ = w.SetDeadline(time.Now().Add(answerTime))
	greeting, err := w.line()
	if err != nil {
		return
	}
	if !strings.HasPrefix(greeting, "+OK") {
		_ = f.c.turnedAway(f.b, "fetcher", greeting)
		return
	}
	defer f.c.apart(f.b)()
	began := time.Now()
	v := f.b.look(inbox)
	var no *Refusal
	_, err = p.do(false, "USER %s", lab.User(f.b.n))
	if err == nil {
		_, err = p.do(false, "PASS %s", lab.Password(f.b.n))
	}
	if errors.As(err, &no) {
		_ = f.c.turnedAway(f.b, "fetcher", no.Text)
		return
	}
	if err != nil {
		f.c.count("logins cut")
		return
	}
	p.span = f.b.begun("fetcher", began)
	f.c.count("logins")
	err = f.fetch(p, v)
	if errors.As(err, &no) {
		f.c.refused(f.b, no)
	} else if err != nil {
		f.c.count("sessions ended")
	}
}

func (f *fetcher) fetch(p *pop, v view) error {
	capa, err := p.do(true, "CAPA")
	if err != nil {
		return err
	}
	uidl, err := p.do(true, "UIDL")
	if err != nil {
		return err
	}
	side := f.c.popSide(f.b.n, strings.Join(capa, " "), uidl)
	f.b.mu.Lock()
	p.span.Side = side
	f.b.mu.Unlock()
	var items []item
	for _, line := range uidl {
		n, _, _ := strings.Cut(line, " ")
		head, err := p.do(true, "TOP %s 0", n)
		if no := (*Refusal)(nil); errors.As(err, &no) && !passing(no.Text) { // else the session ends: this is not all that is there
			f.c.count("POP3: deleted meanwhile by another program")
			continue
		}
		if err != nil {
			return err
		}
		if m := subjectOf.FindStringSubmatch(strings.Join(head, "\r\n")); m != nil {
			items = append(items, item{m[1], "", n})
		}
	}
	if f.rnd.IntN(4) > 0 { // what he sees is what was there when he came
		if odd := f.b.seen(v, items, false); len(odd) > 0 {
			f.c.odd("user%d's fetcher on %s, %d messages: %s", f.b.n, sideName(side), len(uidl), strings.Join(odd, "\n  "))
		}
	}
	list, ids := f.b.mine(popper, inbox, items)
	f.rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	list = list[:min(len(list), f.rnd.IntN(8))]
	var dele []*letter
	for _, l := range list {
		if f.rnd.IntN(3) == 0 {
			if _, err := p.do(true, "RETR %s", ids[l]); err != nil {
				return err
			}
		}
		if _, err := p.do(false, "DELE %s", ids[l]); err != nil {
			return err
		}
		dele = append(dele, l)
	}
	if f.rnd.IntN(10) == 0 {
		f.c.count("POP3 without QUIT")
		return nil // it goes away: nothing is deleted
	}
	if f.rnd.IntN(5) == 0 {
		time.Sleep(time.Duration(f.rnd.IntN(700)) * time.Millisecond)
		if _, err := p.do(false, "NOOP"); err != nil {
			return err
		}
	}
	a := f.b.begin("QUIT with DELE on "+sideName(side), dele, func(_ *letter, w world) world { return w.without(inbox) })
	_, err = p.do(false, "QUIT")
	if len(dele) > 0 {
		f.c.did(err, "QUIT with DELE")
	}
	return a.settle(err)
}

// popSide tells by what a host says of itself, and two Dovecots by the UIDVALIDITY in their UIDLs.
func (c *Crowd) popSide(n int, capa string, uidl []string) int {
	for side, h := range c.Hosts {
		for name, word := range map[string]string{"cyrus": "Cyrus", "courier": "Courier"} {
			if h.Name == name && strings.Contains(capa, word) {
				return side
			}
			if h.Name == name && c.Hosts[1-side].Name != name {
				return 1 - side
			}
		}
	}
	if len(uidl) == 0 {
		return unknown
	}
	_, id, _ := strings.Cut(uidl[0], " ")
	if len(id) != 16 {
		return unknown
	}
	validity, err := strconv.ParseUint(id[8:], 16, 32)
	if err != nil {
		return unknown
	}
	for side := range c.Hosts {
		if c.validity[n][side] == uint32(validity) && c.validity[n][1-side] != uint32(validity) {
			return side
		}
	}
	return unknown
}

// sender is the program that submits mail, to himself.
type sender struct {
	c   *Crowd
	b   *Box
	rnd *rand.Rand
	w   *wire
}

// reply reads an SMTP reply.
func (w *wire) reply() (string, error) {
	var all []string
	for {
		line, err := w.r.ReadString('\n')
		if err != nil {
			return strings.Join(all, " "), err
		}
		line = strings.TrimRight(line, "\r\n")
		all = append(all, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(all, " "), nil
		}
	}
}

func (w *wire) ask(want, format string, args ...any) error {
	if err := w.send(format, args...); err != nil {
		return err
	}
	text, err := w.reply()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(text, want) {
		return &Refusal{strings.Fields(format)[0], text}
	}
	return nil
}

func (s *sender) step() {
	defer s.c.rest(s.rnd)
	if s.b.living() > many+many/2 {
		time.Sleep(2 * s.c.Pace)
	}
	if s.w == nil {
		if err := s.login(); err != nil {
			return
		}
	}
	if err := s.mail(); err != nil || s.rnd.IntN(4) == 0 {
		s.w.Close()
		s.w = nil
	}
}

func (s *sender) login() error {
	w, err := dial(oneOf(s.c.SMTP, s.rnd))
	if err != nil {
		return err
	}
	_ = w.SetDeadline(time.Now().Add(answerTime))
	text, err := w.reply()
	if err == nil && !strings.HasPrefix(text, "220") {
		err = &Refusal{"greeting", text}
	}
	if err == nil {
		err = w.ask("250", "EHLO client.example.org")
	}
	if err == nil {
		user, pass := lab.User(s.b.n), lab.Password(s.b.n)
		err = w.ask("235", "AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+pass)))
	}
	if err != nil {
		w.Close()
		var no *Refusal
		if errors.As(err, &no) {
			return s.c.turnedAway(s.b, "sender", no.Text)
		}
		return err
	}
	s.c.count("logins")
	s.w = w
	return nil
}

func (s *sender) mail() error {
	user := lab.User(s.b.n)
	err := s.w.ask("250", "MAIL FROM:<%s>", user)
	if err == nil {
		err = s.w.ask("250", "RCPT TO:<%s>", user)
	}
	if err == nil {
		err = s.w.ask("354", "DATA")
	}
	var no *Refusal
	if errors.As(err, &no) {
		if wrongPassword(no.Text) || !passing(no.Text) {
			s.c.odd("user%d's sender was told %q", s.b.n, no.Text)
		}
		s.c.count("turned away for a while")
	}
	if err != nil {
		return err
	}
	l := s.b.arriving(owner(s.rnd.IntN(2)))
	text := l.text(s.rnd)
	switch err := s.w.ask("250", "%s.", text); {
	case err == nil:
		s.b.arrived(l, "submitted")
		s.c.count("submitted")
	case errors.As(err, &no):
		s.c.count("refused: " + no.Text)
		s.b.never(l)
		return err
	default:
		s.b.perhaps(l)
		s.c.count("submissions cut")
		return err
	}
	return nil
}

// arriving makes a letter that comes past the gateway, or by way of it to a host that brings it when it likes.
func (b *Box) arriving(o owner) *letter {
	l := b.add(o)
	b.mu.Lock()
	defer b.mu.Unlock()
	l.worlds, l.pending, l.vague = []world{{}, {inbox: ""}}, true, true
	return l
}

// arrived notes that a host has taken it: from now on it is there once, and may be hard to see until both sides are equal.
func (b *Box) arrived(l *letter, how string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.vague = false
	b.note(l, how)
}

func (b *Box) never(l *letter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.worlds, l.pending, l.vague = []world{{}}, false, false
	b.note(l, "refused")
}

func (b *Box) perhaps(l *letter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note(l, "its submission was cut")
}

// post is the mail that others send: hosts deliver it past the gateway, on either side.
type post struct {
	c   *Crowd
	b   *Box
	rnd *rand.Rand
}

func (p *post) step() {
	if p.b.living() > many+many/2 {
		return
	}
	side := p.rnd.IntN(2)
	l := p.b.arriving(owner(p.rnd.IntN(2)))
	if err := Deliver(p.c.Hosts[side], p.b.n, l.text(p.rnd)); err != nil {
		p.c.odd("delivery to user%d on %s: %v", p.b.n, sideName(side), err)
		return
	}
	p.b.arrived(l, "delivered on "+sideName(side))
	p.c.count("delivered on " + sideName(side))
	time.Sleep(time.Duration(4+p.rnd.IntN(12)) * p.c.Pace)
}

// Deliver has a host deliver a message to user n's INBOX: by LMTP, or, on Courier, as a delivery agent puts it into a Maildir.
func Deliver(h lab.Host, n int, text []byte) error {
	if h.LMTP == 0 {
		return maildir(h, n, text)
	}
	w, err := dial(lab.Addr(h.LMTP))
	if err != nil {
		return err
	}
	defer w.Close()
	_ = w.SetDeadline(time.Now().Add(answerTime))
	if text, err := w.reply(); err != nil || !strings.HasPrefix(text, "220") {
		return fmt.Errorf("%q %w", text, err)
	}
	for _, step := range [][2]string{{"250", "LHLO mx.example.com"}, {"250", "MAIL FROM:<s@example.org>"},
		{"250", "RCPT TO:<" + lab.User(n) + ">"}, {"354", "DATA"}} {
		if err := w.ask(step[0], "%s", step[1]); err != nil {
			return err
		}
	}
	return w.ask("250", "%s.", text)
}
