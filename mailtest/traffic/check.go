package traffic

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
)

// New makes a crowd of n users; addresses and what else is exported can be set until Fill.
func New(hosts [2]lab.Host, n int, seed uint64) *Crowd {
	c := &Crowd{Hosts: hosts, Users: n, Seed: seed, Pace: 250 * time.Millisecond, counts: map[string]int{}, boxes: []*Box{nil}, validity: make([][2]uint32, n+1)}
	for i := 1; i <= n; i++ {
		c.boxes = append(c.boxes, newBox(i))
	}
	return c
}

// Fill makes everybody's account on both sides, and gives him two folders and some mail on OLD. It goes past the gateway.
func (c *Crowd) Fill() error {
	for side := range c.Hosts {
		for n := 1; n <= c.Users; n++ {
			if err := c.fill(side, n); err != nil {
				return fmt.Errorf("user%d on %s: %w", n, sideName(side), err)
			}
		}
		time.Sleep(1100 * time.Millisecond) // another second, another UIDVALIDITY
	}
	return nil
}

func (c *Crowd) fill(side, n int) error {
	w, err := dial(lab.Addr(c.Hosts[side].IMAP))
	if err != nil {
		return err
	}
	defer w.Close()
	b := c.boxes[n]
	s := &imap{wire: w, box: b, side: side}
	if _, err := s.line(); err != nil {
		return err
	}
	if _, err := s.do("LOGIN %s %s", lab.User(n), lab.Password(n)); err != nil {
		return err
	}
	lines, err := s.do("SELECT INBOX")
	if err != nil {
		return err
	}
	for _, line := range lines {
		if i := strings.Index(line, "[UIDVALIDITY "); i >= 0 {
			_, _ = fmt.Sscanf(line[i:], "[UIDVALIDITY %d", &c.validity[n][side])
		}
	}
	if side == int(config.New) {
		return nil
	}
	for _, at := range []string{"Archive", "Work"} {
		if _, err := s.do("CREATE %q", c.raw(side, at)); err != nil && !strings.Contains(strings.ToLower(err.Error()), "exist") {
			return err
		}
		if _, err := s.do("SELECT %q", c.raw(side, at)); err != nil {
			return err
		}
		b.folder(at, there)
	}
	d := &desk{c: c, b: b, s: s, rnd: c.rnd(n)}
	for i := range 8 {
		if err := d.put([]string{inbox, "Archive", "Work"}[i%3]); err != nil {
			return err
		}
	}
	return nil
}

// Check compares user n's account on a side with what must be there, while nobody works. Where both are equal by now, also what came past the
// gateway must be there; what could end in more than one way is taken over as it is seen. learn is for the side that decides: the other one
// must hold the same.
func (c *Crowd) Check(n int, side config.Side, equal, learn bool) (odd []string, err error) {
	b := c.boxes[n]
	a, err := corpus.Snapshot(lab.Addr(c.Hosts[side].IMAP), lab.User(n), lab.Password(n))
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	say := func(format string, args ...any) {
		odd = append(odd, fmt.Sprintf("user%d on %v: ", n, side)+fmt.Sprintf(format, args...))
	}
	have := map[string]map[string]string{} // by mark, folder to flags
	exists := map[string]bool{}
	for path, f := range a.Folders {
		at := strings.Join(path.Levels(), "/")
		exists[at] = true
		for i, s := range f.Messages {
			l := b.letters[s.Subject]
			if l == nil {
				say("%q is in %s, and nobody has written it", s.Subject, at)
				continue
			}
			if l.whole && i.Body != l.sum {
				say("%s in %s has another text than it was given", l.mark, at)
			}
			if have[l.mark] == nil {
				have[l.mark] = map[string]string{}
			}
			if _, twice := have[l.mark][at]; twice || len(s.UIDs) > 1 {
				say("%s is in %s more than once%s", l.mark, at, l.last)
			}
			have[l.mark][at] = l.flags(plain(strings.Fields(i.Flags)))
		}
	}
	for _, l := range b.letters {
		is := have[l.mark]
		fits := slices.IndexFunc(l.worlds, func(w world) bool {
			return maps.EqualFunc(w, is, func(x, y string) bool { return l.flags(x) == y })
		})
		if l.pending && equal && len(is) == 0 && !l.vague {
			fits = -1
		}
		if fits < 0 {
			say("%s is in %v; it must be in %v%s", l.mark, world(is), l.worlds, l.last)
			continue
		}
		if !learn {
			continue
		}
		l.frozen, l.crossed = false, false
		switch {
		case l.vague && len(is) == 0: // it may come yet
		case l.pending && len(is) == 0:
		default:
			l.worlds, l.pending, l.vague = []world{l.worlds[fits]}, false, false
		}
	}
	for at, state := range b.folders {
		switch {
		case state == there && !exists[at]:
			say("folder %s is not there", at)
		case state == gone && exists[at]:
			say("folder %s is there: it was deleted, or has another name", at)
		case state == maybe && learn:
			b.folders[at] = map[bool]int{true: there, false: gone}[exists[at]]
		}
	}
	slices.Sort(odd)
	if len(odd) > 0 && !equal {
		odd = append(odd, "meanwhile: "+strings.Join(b.events, "; "))
	}
	return odd, nil
}

// Sides looks that nobody was served on two sides at once, or where he was not, as settled tells for each user; and gives the gaps.
func (c *Crowd) Sides(settled map[int][]Settled) (odd []string, gaps []time.Duration) {
	for n := 1; n <= c.Users; n++ {
		o, g := c.boxes[n].sides(settled[n], c.pauses)
		odd, gaps = append(odd, o...), append(gaps, g...)
	}
	return odd, gaps
}

// Sessions counts the mailbox sessions of all.
func (c *Crowd) Sessions() (n int) {
	for _, b := range c.boxes[1:] {
		b.mu.Lock()
		n += len(b.spans)
		b.mu.Unlock()
	}
	return n
}
