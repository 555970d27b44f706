//go:build bench

package keepbench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
)

// Flips: what a client feels of one, and how long a wave takes.
const (
	movers     = 4000 // and on: people with large mailboxes
	wavers     = 4100 // and on: those of the wave
	large      = 6    // of the former
	largeMail  = 20_000
	largeBoxes = 20
	rounds     = 8 // there and back
	waveUsers  = 100
	waveMail   = 100
)

// furnishLarge gives user n of OLD a mailbox of 20,000 messages: a quarter in INBOX.
func furnishLarge(t testing.TB, l *lab.Lab, n int) {
	t.Helper()
	inbox := largeMail / 4
	each := (largeMail - inbox) / (largeBoxes - 1)
	folders := []corpus.Folder{{Levels: []string{"INBOX"}, Subscribed: true, Count: inbox, Messages: letters(inbox)}}
	for i := range largeBoxes - 1 {
		folders = append(folders, corpus.Folder{Levels: []string{fmt.Sprintf("Folder %d", i)}, Subscribed: true, Count: each, Messages: letters(each)})
	}
	corpus.Load(t, l.Old, n, folders)
}

// verb runs the program against the gateway that runs.
func (g *gateway) verb(args ...string) (string, error) {
	cmd := exec.Command(os.Getenv("MAILGATE_BENCH"), append([]string{"-c", filepath.Join(g.dir, "mailgate.yaml")}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// send edits the lines of users: each is on his side from then on. It returns when the file has been read.
func (g *gateway) send(numbers []int, sides []string) error {
	var b strings.Builder
	for i, n := range numbers {
		fmt.Fprintf(&b, "%s %s wave=work\n", user(n), sides[i])
	}
	g.write("routes", b.String())
	out, err := g.verb("reload")
	if err != nil {
		return fmt.Errorf("reload: %w: %s", err, out)
	}
	return nil
}

// mover is a client that works without pause and comes back at once when it is told to.
type mover struct {
	n       int
	working bool // appends now and then; else it only asks

	c     *client
	last  time.Time // of the last answer
	count int
	moved chan gap
	rests atomic.Bool // nothing is asked, as others are looked at
	stop  atomic.Bool
}

// gap is what a client felt of a flip.
type gap struct {
	ended time.Time     // when it learned of the end
	took  time.Duration // from the last answer on one side to the first on the other
}

var errStopped = errors.New("stopped")

// work goes on until stopped.
func (m *mover) work(port int) error {
	for i := 0; ; i++ {
		if m.stop.Load() {
			return errStopped
		}
		if m.rests.Load() {
			time.Sleep(4 * time.Millisecond)
			continue
		}
		var err error
		if m.working && i%50 == 0 {
			m.count++
			err = m.c.append("INBOX", letter(fmt.Sprintf("x-%d-%d", m.n, m.count)))
		} else {
			_, err = m.c.do("NOOP")
		}
		if err == nil {
			m.last = time.Now()
			time.Sleep(4 * time.Millisecond)
			continue
		}
		ended := time.Now()
		m.c.conn.Close()
		for {
			c, err := login(port, m.n)
			if err == nil {
				m.c = c
				break
			}
			if time.Since(ended) > time.Minute {
				return fmt.Errorf("%s cannot come back: %w", user(m.n), err)
			}
			time.Sleep(2 * time.Millisecond)
		}
		if _, err := m.c.do("SELECT INBOX"); err != nil {
			return err
		}
		m.moved <- gap{ended, time.Since(m.last)}
		m.last = time.Now()
	}
}

// flips is the scenario of the gap: large mailboxes, one user at a time, there and back; first the others rest, then everybody works all the time.
func flips(t *testing.T, b *table, l *lab.Lab) {
	numbers := block(movers, large)
	began := time.Now()
	for _, n := range numbers {
		furnishLarge(t, l, n)
	}
	g := newGateway(t, l.Old.IMAP, l.New.IMAP, numbers)
	g.start("work")
	g.converged(large, 10*time.Minute)
	b.note("%d users, %d messages in %d folders each, first copies in %s; twice %d times there and back; load %s", large, largeMail, largeBoxes,
		time.Since(began).Round(time.Second), rounds, load())
	var list []*mover
	var wg sync.WaitGroup
	errs := make([]error, large)
	for i, n := range numbers {
		c, err := login(g.imap, n)
		if err != nil {
			t.Fatal(err)
		}
		m := &mover{n: n, working: i%2 == 0, c: c, last: time.Now(), moved: make(chan gap, 4)}
		list = append(list, m)
		wg.Go(func() { errs[i] = m.work(g.imap) })
	}
	sides := slices.Repeat([]string{"old"}, large)
	var gaps, fences [2][2][]time.Duration // others rest, all work; who appends, who asks
	for round := range 4 * rounds {
		side, crowd := []string{"new", "old"}[round%2], round/(2*rounds)
		for _, m := range list {
			m.rests.Store(crowd == 0)
		}
		for i, m := range list {
			m.rests.Store(false)
			time.Sleep(300 * time.Millisecond)
			sides[i] = side
			if err := g.send(numbers, sides); err != nil {
				t.Fatal(err)
			}
			read := time.Now()
			select {
			case x := <-m.moved:
				kind := 1
				if m.working {
					kind = 0
				}
				gaps[crowd][kind] = append(gaps[crowd][kind], x.took)
				fences[crowd][kind] = append(fences[crowd][kind], max(0, x.ended.Sub(read)))
			case <-time.After(time.Minute):
				out, _ := g.verb("history", user(m.n), "--limit", "5")
				t.Fatalf("%s has not moved: %s", user(m.n), out)
			}
			m.rests.Store(crowd == 0)
		}
	}
	for _, m := range list {
		m.stop.Store(true)
	}
	wg.Wait()
	for _, err := range errs {
		if !errors.Is(err, errStopped) {
			t.Error(err)
		}
	}
	for crowd, who := range []string{"others rest", "all work"} {
		b.note("%s:", who)
		b.spread("gap of who only asks", gaps[crowd][1])
		b.spread("gap of who appends without pause", gaps[crowd][0])
		b.spread("file read to the end of a session, asking", fences[crowd][1])
		b.spread("file read to the end of a session, appending", fences[crowd][0])
	}
	all := slices.Concat(gaps[0][0], gaps[0][1])
	b.atMost("gap, p50", quantile(all, 0.5).Seconds(), 0.5, "s")
	b.atMost("gap, p99", quantile(all, 0.99).Seconds(), 3, "s")
	b.atMost("file read to fence, at rest, p50", quantile(fences[0][1], 0.5).Seconds()*1000, 50, "ms")
	g.stop()
}

// wave is the scenario of a wave: everybody has a session that idles, and is moved by one edit.
func wave(t *testing.T, b *table, l *lab.Lab) {
	numbers := block(wavers, waveUsers)
	for _, n := range numbers {
		furnish(t, l, n, waveMail)
	}
	g := newGateway(t, l.Old.IMAP, l.New.IMAP, numbers)
	g.start("work")
	g.converged(waveUsers, 5*time.Minute)
	for _, side := range []string{"new", "old"} {
		var clients []*client
		for _, n := range numbers {
			c, err := login(g.imap, n)
			if err != nil {
				t.Fatal(err)
			}
			clients = append(clients, c)
		}
		began := time.Now()
		if err := g.send(numbers, slices.Repeat([]string{side}, waveUsers)); err != nil {
			t.Fatal(err)
		}
		g.until("the wave is on "+side, 2*time.Minute, func() bool {
			return g.figures()[fmt.Sprintf(`mailgate_users{state=%q,wave="work"}`, strings.ToUpper(side))] == waveUsers
		})
		took := time.Since(began)
		b.atMost(fmt.Sprintf("%d users with sessions to %s", waveUsers, side), took.Seconds(), 60, "s")
		for _, c := range clients {
			c.conn.Close()
		}
	}
	g.stop()
}
