package syncer_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// late is longer than a pass takes to look for what it has lost, and to send it again.
const late = 600 * time.Millisecond

// trials is how many instants are tried: all of them with MAILGATE_SOAK, some at random else.
func trials(n int) []int {
	var out []int
	if os.Getenv("MAILGATE_SOAK") != "" {
		for i := 1; i <= n; i++ {
			out = append(out, i)
		}
		return out
	}
	for range 8 {
		out = append(out, 1+rand.IntN(n))
	}
	return out
}

// crashRig is a small account on OLD, and NEW behind a relay that fails.
type crashRig struct {
	*rig
	l     *lab.Lab
	relay *relay
	t     *testing.T
	want  corpus.Account // OLD, before the pass that fails
}

func newCrashRig(t *testing.T, n int) *crashRig {
	t.Helper()
	l := lab.Start(t)
	relay := newRelay(t, lab.Addr(l.New.IMAP))
	return &crashRig{l: l, relay: relay, t: t, rig: &rig{hosts: [2]lab.Host{l.Old, l.New}, n: n}}
}

// begin empties both sides and the store, and fills OLD.
func (c *crashRig) begin() {
	c.t.Helper()
	for _, h := range c.hosts {
		if err := os.RemoveAll(filepath.Join(h.Dir, "home", fmt.Sprintf("user%d", c.n))); err != nil {
			c.t.Fatal(err)
		}
	}
	behind := c.l.New
	behind.IMAP = c.relay.port()
	c.rig = newRig(c.t, c.l.Old, behind, c.n, func(o *syncer.Options) { o.Settle = 10 * time.Millisecond })
	c.rig.hosts = [2]lab.Host{c.l.Old, c.l.New}
	x := lab.Dial(c.t, c.l.Old, c.n)
	x.Do(`CREATE "INBOX.Work"`)
	x.Do(`CREATE "INBOX.Other"`)
	x.Do(`SUBSCRIBE "INBOX.Work"`)
	for i := range 6 {
		x.Append([]string{"INBOX", "INBOX.Work"}[i%2], []string{"", `\Seen`, `\Flagged Label`, `\Deleted`}[i%4], letter(i))
	}
	x.Append("INBOX", "", letter(0)) // true twins
	x.Append("INBOX", "", "\r\n")    // no header at all
	x.Close()
	c.want = c.snapshot(c.t, config.Old)
}

// end runs passes until two in a row go through, then both sides have to be equal.
func (c *crashRig) end(what string) {
	c.t.Helper()
	for _, d := range corpus.Diff(c.want, c.snapshot(c.t, config.Old), corpus.DiffOptions{NoSubscriptions: true}) {
		c.t.Errorf("%s: OLD, right afterwards: %s", what, d)
	}
	c.relay.set(fault{})
	time.Sleep(5 * time.Millisecond)
	for good, tries := 0, 0; good < 2; tries++ {
		rep, err := c.Run(c.t.Context(), lab.User(c.n), syncer.RunOptions{Deletes: true})
		if err == nil && len(rep.Errors) == 0 {
			good++
		} else if good = 0; tries > 5 {
			c.t.Fatalf("%s: %v %+v", what, err, rep)
		}
	}
	for _, d := range corpus.Diff(c.want, c.snapshot(c.t, config.Old), corpus.DiffOptions{NoSubscriptions: true}) {
		c.t.Errorf("%s: OLD is another: %s", what, d)
	}
	for _, d := range corpus.Diff(c.want, c.snapshot(c.t, config.New), corpus.DiffOptions{NoSubscriptions: true,
		OnlyB: func(_ corpus.Path, f *corpus.Contents) bool { return f.Count == 0 }}) {
		c.t.Errorf("%s: %s", what, d)
	}
}

func (c *crashRig) run() {
	_, _ = c.Run(c.t.Context(), lab.User(c.n), syncer.RunOptions{Deletes: true})
}

// TestCutWhileCopying cuts the connections to NEW at every byte of the first copy: on the way there, on the way back (what was
// done is not heard of), and with what was sent arriving after everybody has given up.
func TestCutWhileCopying(t *testing.T) {
	c := newCrashRig(t, 1)
	c.begin()
	c.relay.set(fault{})
	c.run()
	up, down := c.relay.counts()
	c.end("without faults")
	t.Logf("%d bytes there, %d back", up, down)
	for _, n := range trials(up) {
		c.begin()
		c.relay.set(fault{up: n})
		c.run()
		c.end(fmt.Sprintf("cut after %d bytes to the server", n))
	}
	for _, n := range trials(down) {
		c.begin()
		c.relay.set(fault{down: n})
		c.run()
		c.end(fmt.Sprintf("cut after %d bytes from the server", n))
	}
	for _, n := range trials(up) {
		c.begin()
		c.relay.set(fault{up: n, late: late})
		c.run()
		time.Sleep(late)
		c.end(fmt.Sprintf("cut after %d bytes to the server, which come late", n))
	}
}

// TestCutWhileChanging does the same while changes are carried: flags, deletes, moves, a renamed folder, new mail.
func TestCutWhileChanging(t *testing.T) {
	c := newCrashRig(t, 2)
	prepare := func() {
		c.begin()
		c.run()
		x := lab.Dial(t, c.l.Old, c.n)
		x.Do("SELECT INBOX")
		x.Do(`UID STORE 1 +FLAGS (\Answered Other)`)
		x.Do(`UID STORE 2 -FLAGS (\Seen \Flagged Label)`)
		x.Do(`UID MOVE 3 "INBOX.Other"`)
		x.Do(`UID STORE 4 +FLAGS (\Deleted)`)
		x.Do(`UID EXPUNGE 4`)
		x.Append("INBOX", `\Draft`, letter(50))
		x.Do(`RENAME "INBOX.Work" "INBOX.Arbeit"`)
		x.Do(`CREATE "INBOX.Fresh"`)
		x.Append("INBOX.Fresh", "", letter(51))
		x.Close()
		c.want = c.snapshot(t, config.Old)
	}
	prepare()
	c.relay.set(fault{})
	c.run()
	up, down := c.relay.counts()
	c.end("without faults")
	t.Logf("%d bytes there, %d back", up, down)
	for _, f := range []struct {
		n    int
		make func(int) fault
		what string
	}{{up, func(n int) fault { return fault{up: n} }, "to the server"}, {down, func(n int) fault { return fault{down: n} }, "from the server"},
		{up, func(n int) fault { return fault{up: n, late: late} }, "to the server, which come late"}} {
		for _, n := range trials(f.n) {
			prepare()
			c.relay.set(f.make(n))
			c.run()
			time.Sleep(c.relay.lateness())
			c.end(fmt.Sprintf("cut after %d bytes %s", n, f.what))
		}
	}
}

// TestAnswersLost loses the answer to an append: what was stored is found, and not stored again.
func TestAnswersLost(t *testing.T) {
	c := newCrashRig(t, 3)
	for range 3 {
		c.begin()
		c.relay.set(fault{lose: "APPENDUID"})
		c.run()
		c.end("an answer to APPEND lost")
	}
}

// TestLateAppends has appends arrive after they were done again: the twins go.
func TestLateAppends(t *testing.T) {
	c := newCrashRig(t, 4)
	for range 3 {
		c.begin()
		c.relay.set(fault{lateAt: " APPEND ", late: late})
		c.run()
		time.Sleep(late)
		c.end("appends that come late")
	}
}
