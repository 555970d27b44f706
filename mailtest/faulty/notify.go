package faulty

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// notify is NOTIFY SET (RFC 5465) for all personal mailboxes at once, and NOTIFY NONE. Events that the product does not know are
// refused.
func (s *session) notify(c *command) answer {
	if !s.has("NOTIFY") || len(c.args) == 0 {
		return bad
	}
	if strings.EqualFold(c.args[0].s, "NONE") {
		s.quiet()
		return ok
	}
	if len(c.args) != 2 || !strings.EqualFold(c.args[0].s, "SET") || len(c.args[1].list) != 2 || !strings.EqualFold(c.args[1].list[0].s, "personal") {
		return bad
	}
	known := strings.Fields(s.a.product.Events)
	for _, w := range c.args[1].list[1].list {
		if !slices.ContainsFunc(known, func(e string) bool { return strings.EqualFold(e, w.s) }) {
			return answer("NO [BADEVENT (" + s.a.product.Events + ")] not this one")
		}
	}
	s.quiet()
	stop := make(chan struct{})
	s.notifying = stop
	before := s.state()
	s.h.wg.Go(func() { s.push(before, stop) })
	return ok
}

// quiet ends what NOTIFY began.
func (s *session) quiet() {
	if s.notifying != nil {
		close(s.notifying)
		s.notifying = nil
	}
}

// state is what NOTIFY may tell of, by name; the account is locked.
func (s *session) state() map[string]string {
	out := map[string]string{}
	for name, b := range s.a.boxes {
		out[name] = fmt.Sprintf("MESSAGES %d UIDNEXT %d UIDVALIDITY %d HIGHESTMODSEQ %d", len(b.list), b.next, b.validity, b.highest)
	}
	return out
}

// push tells of changes until it is stopped. Each line is one write, so none gets into another.
func (s *session) push(before map[string]string, stop <-chan struct{}) {
	for {
		select {
		case <-stop: // also when something has changed since
			return
		default:
		}
		s.a.mu.Lock()
		now, changed := s.state(), s.a.changed
		s.a.mu.Unlock()
		for _, name := range slices.Sorted(maps.Keys(now)) {
			switch old, there := before[name]; {
			case !there:
				fmt.Fprintf(s.c, "* LIST () %s %s\r\n", quote(s.a.product.Separator), quote(name))
			case old != now[name]:
				fmt.Fprintf(s.c, "* STATUS %s (%s)\r\n", quote(name), now[name])
			}
		}
		for _, name := range slices.Sorted(maps.Keys(before)) {
			if _, there := now[name]; !there {
				fmt.Fprintf(s.c, "* LIST (\\NonExistent) %s %s\r\n", quote(s.a.product.Separator), quote(name))
			}
		}
		before = now
		select {
		case <-stop:
			return
		case <-changed:
		}
	}
}
