package traffic

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"mailgate/config"
	"mailgate/mailtest/lab"
)

// Crowd is users 1 to Users of the lab, with their programs.
type Crowd struct {
	Hosts            [2]lab.Host
	IMAP, POP3, SMTP []string // where gateways listen, in clear
	Users            int
	Seed             uint64
	Pace             time.Duration // between two things that a program does, about

	// Spare has nobody touch, until all is quiet, what had been delivered past the gateway and seen by nobody when the gateway died: a pass may
	// have been carrying it, and the next one cannot tell that its owner has deleted it from that it never arrived.
	Spare bool

	boxes    []*Box // from 1 on
	validity [][2]uint32
	quiet    sync.RWMutex // held for reading while somebody does a thing
	pauses   [][2]time.Time
	end      chan struct{}
	wg       sync.WaitGroup

	mu     sync.Mutex
	oddly  []string
	counts map[string]int
}

// rnd is the chance of user n, for what is done before the programs begin.
func (c *Crowd) rnd(n int) *rand.Rand { return rand.New(rand.NewPCG(c.Seed, uint64(n*10+9))) }

func sideName(side int) string {
	if side == unknown {
		return "an unknown side"
	}
	return config.Side(side).String()
}

// count counts something.
func (c *Crowd) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[what]++
}

// did counts a command by what became of it.
func (c *Crowd) did(err error, what string) {
	if err != nil {
		what += " cut"
	}
	c.count(what)
}

// odd notes what must not be.
func (c *Crowd) odd(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.oddly = append(c.oddly, now()+" "+fmt.Sprintf(format, args...))
}

// refused notes a command that a host said no to. What it was about is looked at when all is quiet.
func (c *Crowd) refused(b *Box, no *Refusal) {
	c.count("refused: " + no.Text)
	if !passing(no.Text) {
		c.odd("user%d was refused: %v", b.n, no)
	}
}

// rest is the time of somebody who has to come again, or to think.
func (c *Crowd) rest(rnd *rand.Rand) {
	time.Sleep(c.Pace/2 + time.Duration(rnd.Int64N(int64(c.Pace))))
}

// Odd gives what must not be and was seen since the last call.
func (c *Crowd) Odd() (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, c.oddly = c.oddly, nil
	return list
}

// Tally is what happened, in words.
func (c *Crowd) Tally() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for _, k := range slices.Sorted(maps.Keys(c.counts)) {
		list = append(list, fmt.Sprintf("%s: %d", k, c.counts[k]))
	}
	return strings.Join(list, ", ")
}

// apart lets one of a user's programs at a time take mail out of INBOX, where a host is Cyrus: when another session expunges something,
// its pop3d takes the wrong messages at QUIT.
func (c *Crowd) apart(b *Box) (end func()) {
	if c.Hosts[0].Name != "cyrus" && c.Hosts[1].Name != "cyrus" {
		return func() {}
	}
	b.taking.Lock()
	return b.taking.Unlock
}

// stepper is a program at work.
type stepper interface{ step() }

// Start lets everybody begin. Fill comes before.
func (c *Crowd) Start() {
	c.end = make(chan struct{})
	for _, b := range c.boxes[1:] {
		for i := range 5 {
			rnd := rand.New(rand.NewPCG(c.Seed, uint64(b.n*10+i)))
			who := []stepper{&desk{c: c, b: b, rnd: rnd}, &phone{c: c, b: b, rnd: rnd}, &fetcher{c, b, rnd}, &sender{c: c, b: b, rnd: rnd}, &post{c, b, rnd}}[i]
			c.wg.Go(func() { c.work(who, rnd) })
		}
	}
}

func (c *Crowd) work(who stepper, rnd *rand.Rand) {
	c.rest(rnd)
	for {
		select {
		case <-c.end:
			return
		default:
		}
		c.quiet.RLock()
		who.step()
		c.quiet.RUnlock()
		c.rest(rnd)
	}
}

// Pause waits until nobody is in the middle of a thing, and lets nobody begin one until Resume. Sessions stay open.
func (c *Crowd) Pause() {
	from := time.Now()
	c.quiet.Lock()
	c.pauses = append(c.pauses, [2]time.Time{from})
}

// Resume ends a Pause.
func (c *Crowd) Resume() {
	c.pauses[len(c.pauses)-1][1] = time.Now()
	c.quiet.Unlock()
}

// Stop ends everybody, and waits.
func (c *Crowd) Stop() {
	close(c.end)
	c.wg.Wait()
}
