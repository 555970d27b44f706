package syncer_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// late is longer than a pass takes to look for what it has lost, and to send it again.
const late = 600 * time.Millisecond

// crashSeed chooses the instants of faults: $MAILGATE_SEED gives back one that was printed.
func crashSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64() >> 32
	if s := os.Getenv("MAILGATE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("MAILGATE_SEED=%d", seed)
	return seed
}

// place is a host whose accounts can be emptied.
type place struct {
	lab.Host
	reset func(n int)
}

// places are the hosts of all crash tests.
type places struct{ old, new, courier, cyrus place }

func startPlaces(t *testing.T) *places {
	t.Helper()
	l, courier, cyrus := lab.Start(t, lab.MailboxesOnly()), lab.StartCourier(t), lab.StartCyrus(t)
	dovecot := func(h lab.Host) place {
		return place{h, func(n int) {
			if err := os.RemoveAll(h.Home(n)); err != nil {
				t.Error(err)
			}
		}}
	}
	return &places{dovecot(l.Old), dovecot(l.New), place{courier.Host, func(n int) { courier.Reset(t, n) }}, place{cyrus.Host, func(n int) { cyrus.Reset(t, n) }}}
}

// crashRig is a small account on two hosts, one of them behind a relay that fails.
type crashRig struct {
	*rig
	t         *testing.T
	at        [2]place
	authority config.Side
	cut       config.Side // the one behind the relay
	relay     *relay
	rnd       *rand.Rand
	before    corpus.Account // of the authority, before the pass that fails
	want      corpus.Account // of both sides, in the end
}

// crashPairs is how many there are in everywhere.
const crashPairs = 5

// everywhere runs a test with each pair of hosts, and the relay before one and the other of them; all at once, each with a
// user of its own.
func (h *places) everywhere(t *testing.T, first int, test func(*crashRig)) {
	seed := crashSeed(t)
	for i, x := range [crashPairs]struct {
		old, new       place
		authority, cut config.Side
	}{
		{h.old, h.new, config.Old, config.New},
		{h.old, h.cyrus, config.Old, config.New},
		{h.old, h.new, config.Old, config.Old},
		{h.courier, h.new, config.Old, config.Old},
		{h.courier, h.new, config.New, config.Old}, // as after the flip: OLD follows
	} {
		t.Run(fmt.Sprintf("%s to %s, %s decides, %s fails", x.old.Name, x.new.Name, x.authority, x.cut), func(t *testing.T) {
			t.Parallel()
			c := &crashRig{t: t, at: [2]place{x.old, x.new}, authority: x.authority, cut: x.cut, rnd: rand.New(rand.NewPCG(seed, uint64(i)))}
			c.rig = &rig{hosts: [2]lab.Host{x.old.Host, x.new.Host}, n: first + i}
			c.relay = newRelay(t, lab.Addr(c.hosts[x.cut].IMAP))
			test(c)
		})
	}
}

// trials is how many instants are tried: all of them with MAILGATE_SOAK, some at random else.
func (c *crashRig) trials(n int) (out []int) {
	if os.Getenv("MAILGATE_SOAK") != "" {
		for i := 1; i <= n; i++ {
			out = append(out, i)
		}
		return out
	}
	for range 4 {
		out = append(out, 1+c.rnd.IntN(n))
	}
	return out
}

// own are folders that one host or another makes by itself.
var own = [...]string{"Sent", "Drafts", "Trash"} //nolint:gochecknoglobals // a constant

// dial talks to a side, not through the relay.
func (c *crashRig) dial(side config.Side) (x *lab.Talk, name func(string) string) {
	c.t.Helper()
	return lab.Dial(c.t, c.at[side].Host, c.n), func(s string) string { return c.at[side].Prefix + s }
}

// begin empties both sides and the store, and fills the one that decides.
func (c *crashRig) begin() {
	c.t.Helper()
	for _, p := range c.at {
		p.reset(c.n)
	}
	through := c.at
	through[c.cut].IMAP = c.relay.port()
	c.rig = newRig(c.t, through[config.Old].Host, through[config.New].Host, c.n, func(o *syncer.Options) {
		o.Settle = 10 * time.Millisecond
		o.Route = func(context.Context, string) (config.Side, int64, error) { return c.authority, 0, nil }
	})
	c.rig.hosts = [2]lab.Host{c.at[config.Old].Host, c.at[config.New].Host}
	x, name := c.dial(c.authority)
	x.Do("SUBSCRIBE INBOX") // as Cyrus does by itself: at the first meeting what is subscribed on either side is so on both
	for _, f := range own {
		x.Try(`CREATE "%s"`, name(f)) // it may be there
		x.Do(`SUBSCRIBE "%s"`, name(f))
	}
	for _, f := range []string{"Work", "Other", "Old"} {
		x.Do(`CREATE "%s"`, name(f))
	}
	x.Do(`SUBSCRIBE "%s"`, name("Work"))
	for i := range 6 {
		x.Append([]string{"INBOX", name("Work")}[i%2], []string{"", `\Seen`, `\Flagged Label`, `\Deleted`}[i%4], letter(i))
	}
	x.Append("INBOX", "", letter(0)) // true twins
	x.Append("INBOX", "", "\r\nno header at all\r\n")
	x.Append(name("Old"), "", letter(7))
	x.Close()
	c.before = c.snapshot(c.t, c.authority)
	c.want = c.before
}

// meddle makes changes on both sides: flags, deletes, moves, folders that come, go and are renamed, new mail.
func (c *crashRig) meddle() {
	c.t.Helper()
	x, name := c.dial(c.authority)
	x.Do("SELECT INBOX")
	x.Do(`UID STORE 1 +FLAGS (\Answered Other)`)
	x.Do(`UID STORE 2 -FLAGS (\Seen \Flagged Label)`)
	x.Do(`UID COPY 3 "%s"`, name("Other")) // a move: not all hosts have MOVE
	x.Do(`UID STORE 3,4 +FLAGS (\Deleted)`)
	x.Do(`UID EXPUNGE 3,4`)
	x.Append("INBOX", `\Draft`, letter(50))
	x.Do(`RENAME "%s" "%s"`, name("Work"), name("Arbeit"))
	x.Do(`SUBSCRIBE "%s"`, name("Arbeit"))
	x.Try(`UNSUBSCRIBE "%s"`, name("Work"))
	x.Do(`CREATE "%s"`, name("Fresh"))
	x.Do(`SUBSCRIBE "%s"`, name("Fresh"))
	x.Append(name("Fresh"), "", letter(51))
	x.Try(`UNSUBSCRIBE "%s"`, name("Old"))
	x.Do(`DELETE "%s"`, name("Old"))
	x.Close()
	c.before = c.snapshot(c.t, c.authority)

	follower := c.authority.Other()
	x, name = c.dial(follower)
	x.Append("INBOX", `\Flagged`, letter(60))
	x.Append("INBOX", "", letter(61))
	x.Do(`SELECT "%s"`, name("Other"))
	x.Append(name("Other"), "", letter(62))
	x.Do("SELECT INBOX")
	x.Do(`UID STORE 1 +FLAGS (\Flagged)`)
	x.Close()
	c.want = c.merged(c.before, c.snapshot(c.t, follower))
}

// merged is what the authority has, and what meddle has done on the follower.
func (c *crashRig) merged(a, follower corpus.Account) corpus.Account {
	out := a
	out.Folders = map[corpus.Path]*corpus.Contents{}
	for p, f := range a.Folders {
		g := *f
		g.Messages = map[corpus.Item]*corpus.Seen{}
		for item, seen := range f.Messages {
			s := *seen
			g.Messages[item] = &s
		}
		out.Folders[p] = &g
	}
	for n, box := range map[int]corpus.Path{60: "INBOX", 61: "INBOX", 62: "Other"} {
		for item, seen := range follower.Folders[box].Messages {
			if item.Body == sha256.Sum256([]byte(letter(n))) {
				out.Folders[box].Messages[item] = seen
				out.Folders[box].Count++
			}
		}
	}
	inbox := out.Folders["INBOX"].Messages
	for item, seen := range inbox { // UID 1 is one of twins
		if item.Body != sha256.Sum256([]byte(letter(0))) || seen.UIDs[0] != 1 {
			continue
		}
		delete(inbox, item)
		if len(seen.UIDs) > 1 {
			inbox[item] = &corpus.Seen{UIDs: seen.UIDs[1:], Subject: seen.Subject}
		}
		flags := append(strings.Fields(item.Flags), `\Flagged`)
		slices.Sort(flags)
		item.Flags = strings.Join(flags, " ")
		inbox[item] = &corpus.Seen{UIDs: seen.UIDs[:1], Subject: seen.Subject}
	}
	return out
}

func (c *crashRig) run() {
	_, _ = c.Run(c.t.Context(), lab.User(c.n), syncer.RunOptions{Deletes: true})
}

// end runs passes until two in a row go through, then both sides have to be what they were to become.
func (c *crashRig) end(what string) {
	c.t.Helper()
	c.nothingLost(what, c.snapshot(c.t, c.authority))
	c.relay.set(fault{})
	time.Sleep(5 * time.Millisecond)
	var rep *syncer.Report
	var err error
	for good, tries := 0, 0; good < 2; tries++ {
		rep, err = c.Run(c.t.Context(), lab.User(c.n), syncer.RunOptions{Deletes: true})
		if err == nil && len(rep.Errors) == 0 {
			good++
		} else if good = 0; tries > 5 {
			c.t.Fatalf("%s: %v %+v", what, err, rep)
		}
	}
	for side, a := range c.snapshots(c.t) {
		for _, d := range corpus.Diff(c.want, a, corpus.DiffOptions{}) {
			c.t.Errorf("%s: %s: %s; set aside: %v", what, config.Side(side), d, rep.Quarantine)
		}
	}
}

// nothingLost looks at the authority right behind a fault: what was there is there, whatever has come besides.
func (c *crashRig) nothingLost(what string, now corpus.Account) {
	c.t.Helper()
	for p, f := range c.before.Folders {
		g := now.Folders[p]
		if g == nil {
			c.t.Errorf("%s: %s is lost", what, p)
			continue
		}
		var count [2]map[[32]byte]int
		for i, x := range []*corpus.Contents{f, g} {
			count[i] = map[[32]byte]int{}
			for item, seen := range x.Messages {
				count[i][item.Body] += len(seen.UIDs)
			}
		}
		for body, n := range count[0] {
			if count[1][body] < n {
				c.t.Errorf("%s: %s: %d of %d of a message are lost", what, p, n-count[1][body], n)
			}
		}
	}
}
