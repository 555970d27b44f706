package imapwire

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// post is a mailbox that sessions have open, as a server sees it. It is written from the RFC with lists of numbers, nothing of the tracker's.
type post struct {
	list     []uint32        // UIDs that are there
	deleted  map[uint32]bool // have \Deleted
	next     uint32
	ever     map[uint32]bool // UIDs that messages had
	sessions []*client
}

// client is a session: what its client has seen, and what he has asked to be deleted.
type client struct {
	tr      Tracker
	rnd     *rand.Rand
	view    []uint32 // what has which number
	marks   map[uint32]bool
	asked   map[uint32]bool // to be deleted, and the server did
	gaps    int             // UIDs of no message in the ranges that he named: what goes by other hands at the same time may be taken for those
	vanish  bool            // is told UIDs (QRESYNC)
	proofs  []Deletes       // that were heard
	removed int             // messages that went at this client's commands
}

func (c *client) say(line string) { feedClient(&c.tr, "a "+line+"\r\n", 1+c.rnd.IntN(30)) }

func (c *client) hear(lines ...string) {
	feedServer(&c.tr, strings.Join(lines, "\r\n")+"\r\n", 1+c.rnd.IntN(30))
	c.proofs = append(c.proofs, c.tr.TakeDeletes()...)
}

// catchUp tells a session what has gone and come.
func (p *post) catchUp(c *client) (lines []string) {
	for i := 0; i < len(c.view); {
		if uid := c.view[i]; !slices.Contains(p.list, uid) {
			line := fmt.Sprintf("* %d EXPUNGE", i+1)
			if c.vanish {
				line = fmt.Sprintf("* VANISHED %d", uid)
			}
			lines = append(lines, line)
			c.view = slices.Delete(c.view, i, i+1)
			continue
		}
		i++
	}
	if len(c.view) < len(p.list) {
		c.view = slices.Clone(p.list)
		lines = append(lines, fmt.Sprintf("* %d EXISTS", len(c.view)))
	}
	return lines
}

func (p *post) open(c *client) {
	c.view, c.marks = slices.Clone(p.list), map[uint32]bool{}
	c.say("SELECT Trash")
	c.hear(fmt.Sprintf("* %d EXISTS", len(p.list)), "* OK [UIDVALIDITY 7] x", fmt.Sprintf("* OK [UIDNEXT %d] x", p.next), "a OK [READ-WRITE] x")
}

// some is a set, by UID or by number, and the messages that it means.
func (p *post) some(c *client, byUID bool) (set string, uids []uint32) {
	if len(c.view) == 0 {
		return "", nil
	}
	if c.rnd.IntN(6) == 0 {
		return "1:*", slices.Clone(c.view)
	}
	i := c.rnd.IntN(len(c.view))
	j := i + c.rnd.IntN(min(6, len(c.view)-i))
	uids = slices.Clone(c.view[i : j+1])
	if byUID {
		c.gaps += int(uids[len(uids)-1]-uids[0]) + 1 - len(uids)
		return fmt.Sprintf("%d:%d", uids[0], uids[len(uids)-1]), uids
	}
	return fmt.Sprintf("%d:%d", i+1, j+1), uids
}

func (p *post) remove(uid uint32) {
	if i := slices.Index(p.list, uid); i >= 0 {
		p.list = slices.Delete(p.list, i, i+1)
	}
}

// act has a client do something, and the server answer.
func (p *post) act(c *client) {
	byUID := c.rnd.IntN(2) == 0
	prefix := ""
	if byUID {
		prefix = "UID "
	}
	set, uids := p.some(c, byUID)
	switch what := c.rnd.IntN(12); {
	case what < 4 && set != "":
		sign, on := "+", len(p.sessions) > 1 || c.rnd.IntN(5) > 0 // what one takes off, another does not hear of at once
		if !on {
			sign = "-"
		}
		c.say(prefix + "STORE " + set + " " + sign + `FLAGS.SILENT (\Deleted)`)
		for _, uid := range uids {
			delete(c.marks, uid)
			if on {
				c.marks[uid] = true
			}
			if slices.Contains(p.list, uid) {
				p.deleted[uid] = on
			}
		}
		c.hear("a OK")
	case what < 7: // EXPUNGE, UID EXPUNGE, CLOSE
		expunges := func(uid uint32) bool { return p.deleted[uid] }
		line := "EXPUNGE"
		if what == 5 && byUID && set != "" {
			line = "UID EXPUNGE " + set
			expunges = func(uid uint32) bool { return p.deleted[uid] && slices.Contains(uids, uid) }
		}
		c.say(map[bool]string{true: "CLOSE", false: line}[what == 6])
		for uid := range p.next {
			gone := c.marks[uid] && !slices.Contains(p.list, uid) && (line == "EXPUNGE" || set == "1:*" || uid >= uids[0] && uid <= uids[len(uids)-1]) // by other hands, meanwhile
			if !expunges(uid) && !gone {
				continue
			}
			if c.marks[uid] {
				c.asked[uid] = true
				delete(c.marks, uid)
			}
			if slices.Contains(p.list, uid) {
				p.remove(uid)
				c.removed++
			}
		}
		if what == 6 {
			c.hear("a OK")
			p.open(c)
			return
		}
		c.hear(append(p.catchUp(c), "a OK")...)
	case what < 9 && set != "":
		c.say(prefix + "MOVE " + set + " x")
		for _, uid := range uids {
			c.asked[uid] = true
			if slices.Contains(p.list, uid) {
				p.remove(uid)
				c.removed++
			}
			delete(c.marks, uid)
		}
		c.hear(append(p.catchUp(c), "a OK")...)
	default:
		c.say("NOOP")
		c.hear(append(p.catchUp(c), "a OK")...)
	}
}

// TestTrackerDeletesModel has two clients work in a mailbox from which mail goes by other hands too. What is proven one by one was
// asked for by that client, and never is more proven than what he asked for (but for gaps in ranges). Most of
// what clients do is proven.
func TestTrackerDeletesModel(t *testing.T) {
	proven, removed := 0, 0
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		p := &post{deleted: map[uint32]bool{}, ever: map[uint32]bool{}, next: 1}
		arrive := func(n int) {
			for range n {
				p.next += rnd.Uint32N(2) // UIDs have gaps
				p.list, p.ever[p.next] = append(p.list, p.next), true
				p.next++
			}
		}
		arrive(5 + rnd.IntN(30))
		alone := seed%3 == 0
		for range map[bool]int{true: 1, false: 2}[alone] {
			c := &client{rnd: rnd, asked: map[uint32]bool{}, vanish: rnd.IntN(4) == 0}
			p.sessions = append(p.sessions, c)
			p.open(c)
		}
		for range 30 {
			switch what := rnd.IntN(12); {
			case what == 0:
				arrive(rnd.IntN(3))
			case what < 3 && !alone: // by other hands
				for range rnd.IntN(4) {
					if len(p.list) > 0 {
						p.remove(p.list[rnd.IntN(len(p.list))])
					}
				}
			default:
				p.act(p.sessions[rnd.IntN(len(p.sessions))])
			}
		}
		for i, c := range p.sessions {
			claimed := 0
			for _, d := range c.proofs {
				n := 0
				for uid := range p.ever {
					if d.UIDs.Has(uid) && !slices.Contains(p.list, uid) {
						n++
					}
				}
				claimed += min(n, int(d.Most))
				if d.UIDs.Size() == uint64(d.Most) && c.gaps == 0 && slices.ContainsFunc(slices.Collect(maps.Keys(p.ever)), func(uid uint32) bool { return d.UIDs.Has(uid) && !c.asked[uid] }) {
					t.Fatalf("seed %d: session %d is said to have deleted %v", seed, i, d.UIDs)
				}
			}
			if claimed > len(c.asked)+c.gaps {
				t.Fatalf("seed %d: session %d: %d of %d asked for", seed, i, claimed, len(c.asked))
			}
			proven, removed = proven+claimed, removed+c.removed
		}
	}
	t.Logf("%d of %d", proven, removed)
	if proven*10 < removed*8 || proven > removed*11/10 {
		t.Errorf("%d of %d proven", proven, removed)
	}
}
