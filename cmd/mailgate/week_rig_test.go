package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/mailtest/people"
)

// stopper is a host of the lab that can be stopped, and started again.
type stopper interface {
	Stop(t testing.TB, name string) (again func())
	Greets(t testing.TB, h lab.Host)
}

// pairOfHosts are an OLD and a NEW.
type pairOfHosts struct {
	hosts [2]lab.Host
	run   [2]stopper
}

// pairsOfHosts start the four pairs, by their names.
func pairsOfHosts() map[string]func(t *testing.T) pairOfHosts {
	return map[string]func(t *testing.T) pairOfHosts{
		"Dovecot to Dovecot": func(t *testing.T) pairOfHosts {
			l := lab.Start(t, lab.MailboxesOnly())
			return pairOfHosts{[2]lab.Host{l.Old, l.New}, [2]stopper{l, l}}
		},
		"Dovecot to Cyrus": func(t *testing.T) pairOfHosts {
			l, c := lab.Start(t, lab.MailboxesOnly()), lab.StartCyrus(t)
			return pairOfHosts{[2]lab.Host{l.Old, c.Host}, [2]stopper{l, c}}
		},
		"Courier to Cyrus": func(t *testing.T) pairOfHosts {
			o, c := lab.StartCourier(t), lab.StartCyrus(t)
			return pairOfHosts{[2]lab.Host{o.Host, c.Host}, [2]stopper{o, c}}
		},
		"Cyrus to Dovecot": func(t *testing.T) pairOfHosts {
			c, l := lab.StartCyrus(t), lab.Start(t, lab.MailboxesOnly())
			return pairOfHosts{[2]lab.Host{c.Host, l.New}, [2]stopper{c, l}}
		},
	}
}

// week is a company at work: its people, its two hosts, and the gateway between them.
type week struct {
	t *testing.T
	pairOfHosts
	gate   *gate
	staff  []*person
	day    int
	began  time.Time
	closed string // a window of sync that is not now

	quiet sync.RWMutex // held for reading while somebody does a thing, for writing while a host or the gateway is stopped

	mu    sync.Mutex
	count map[string]int // of what happened to all of them
}

// person is one of its people.
type person struct {
	*people.Person
	week *week
}

func newWeek(t *testing.T, hosts pairOfHosts, many int, seed uint64) *week {
	t.Helper()
	w := &week{t: t, pairOfHosts: hosts, count: map[string]int{}, began: time.Now(), closed: notNow()}
	for n := 1; n <= many; n++ {
		w.staff = append(w.staff, &person{people.New(n, n-1, seed, w.hosts, ""), w})
	}
	var side [2]string
	for i, h := range w.hosts {
		side[i] = fmt.Sprintf("{imap: 'imap://127.0.0.1:%d', sync: {secrets: secrets}}", h.IMAP)
	}
	w.gate = newGate(t, side[0], side[1], w.routes(), `sync:
  waves: [staff]
  windows: ["`+w.closed+`"]
  poll: 2s
  settle: 500ms
  grace: 1s
  confirm: 0s
  passes: 6
  watch: 20
`)
	g := w.gate
	for _, p := range w.staff {
		p.Gate = g.imapPlain
	}
	text := mustRead(t, g.file)
	i, j := strings.Index(text, "listen:"), strings.Index(text, "\ntls:")+1
	text = text[:i] + fmt.Sprintf("listen: [\"imaps://%s\", \"imap+starttls://%s\", \"imap://%s\"]\n", g.imaps, g.imap, g.imapPlain) + text[j:]
	text = strings.Replace(text, "watch: 100ms}", "watch: 100ms, approve_share: 1}", 1)
	g.write(g.file, strings.Replace(text, "level: debug", "level: info", 1))
	var secrets strings.Builder
	for n := 1; n <= many; n++ {
		fmt.Fprintf(&secrets, "%s %s\n", lab.User(n), lab.Password(n))
	}
	g.write(filepath.Join(g.dir, "secrets"), secrets.String())
	return w
}

// notNow is a window of sync that begins in six hours.
func notNow() string {
	h := (time.Now().Hour() + 6) % 23
	return fmt.Sprintf("%02d:00-%02d:00", h, h+1)
}

func (w *week) addr(side config.Side) string { return lab.Addr(w.hosts[side].IMAP) }

// routes is the routes file as people are routed now.
func (w *week) routes() string {
	var b strings.Builder
	for _, p := range w.staff {
		fmt.Fprintf(&b, "%s %s wave=staff\n", lab.User(p.N), p.Route)
	}
	return b.String()
}

// happened counts something.
func (w *week) happened(what string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count[what] += n
}

// each does something for people, several at once.
func (w *week) each(people []*person, f func(p *person)) {
	queue := make(chan *person, len(people))
	for _, p := range people {
		queue <- p
	}
	close(queue)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for p := range queue {
				f(p)
			}
		})
	}
	wg.Wait()
}

// hour has everybody do an eighth of what he does in a day, while something else may happen.
func (w *week) hour(share int, meanwhile func()) {
	var wg sync.WaitGroup
	defer wg.Wait()
	began := time.Now()
	wg.Go(func() { w.each(w.staff, func(p *person) { w.hours(p, share) }) })
	if meanwhile != nil {
		meanwhile() // it may end the test, so it is not another goroutine's
	}
	wg.Wait()
	time.Sleep(max(0, hourTime-time.Since(began)))
}

// hours has one do things.
func (w *week) hours(p *person, share int) {
	n := p.Habit.Things * share / 8
	if p.Rnd.IntN(8) < p.Habit.Things*share%8 {
		n++
	}
	for range n {
		w.quiet.RLock()
		err := p.Act()
		w.quiet.RUnlock()
		w.happened("things done", 1)
		if err != nil {
			w.t.Errorf("%s, day %d: %v\n%s", lab.User(p.N), w.day+1, err, p.Story())
			return
		}
	}
}

// hourTime is the shortest that an hour takes.
const hourTime = 700 * time.Millisecond

// alone does something while nobody is in the middle of a thing.
func (w *week) alone(what string, f func()) {
	w.quiet.Lock()
	defer w.quiet.Unlock()
	f()
	w.happened(what, 1)
}

// crash kills the gateway and starts it anew.
func (w *week) crash() {
	w.alone("kill -9 of serve", func() {
		w.gate.kill()
		w.sane()
		w.start()
	})
}

// start runs serve, and waits until it answers verbs too.
func (w *week) start() {
	w.gate.start()
	until(w.t, "serve answers", func() bool {
		_, err := w.gate.user(lab.User(1))
		return err == nil
	})
}

// sane looks that the log of serve tells of no defect.
func (w *week) sane() {
	for _, word := range []string{"panic", "DATA RACE", "a defect"} {
		if s := w.gate.log.String(); strings.Contains(s, word) {
			i := strings.Index(s, word)
			w.t.Errorf("the log of serve has %q: %s", word, s[max(0, i-500):min(len(s), i+2000)])
		}
	}
}

// set changes a line of mailgate.yaml, and has it taken over.
func (w *week) set(old, new string) {
	text := mustRead(w.t, w.gate.file)
	if strings.Count(text, old) != 1 {
		w.t.Fatalf("%q stands in the file not once:\n%s", old, text)
	}
	w.gate.write(w.gate.file, strings.Replace(text, old, new, 1))
	w.gate.mustVerb("reload")
}

// flip moves people by the routes file.
func (w *week) flip(people []*person, to config.Side) {
	for _, p := range people {
		p.Route = to
		p.Leave()
	}
	w.gate.write(w.gate.routes, w.routes())
	for _, p := range people {
		w.moved(p, to)
	}
	w.happened("flips to "+to.String(), len(people))
}

// moved waits until somebody is where he was sent. A flip that is refused says why, and an admin does what it says: he decides about mail that
// is set aside and about deletes that are held back, and asks again.
func (w *week) moved(p *person, to config.Side) {
	user := lab.User(p.N)
	for tries := 0; ; {
		u, err := w.gate.user(user)
		switch {
		case err != nil:
			w.t.Fatal(err)
		case u.Side == to && len(u.Open) == 0:
			return
		case len(u.Open) > 0: // it is under way
			time.Sleep(50 * time.Millisecond)
			continue
		}
		_, why, _ := w.gate.verb("history", user, "--limit", "5")
		if tries++; tries > 8 {
			w.t.Fatalf("%s is not on %s: %s", user, to, why)
		}
		w.happened("flips that an admin had to help", 1)
		if strings.Contains(why, "quarantine") {
			w.gate.verb("quarantine", "retry", user, "--reason", "suspect")
			w.gate.verb("quarantine", "waive", user)
		}
		args := []string{"sync", "run", user, "--yes", "--progress", "none"}
		if strings.Contains(why, "--deletes") {
			args = append(args, "--deletes")
		}
		w.gate.verb(args...)
		w.gate.verb("flip", user, to.String(), "--yes")
	}
}

func (w *week) of(habit string) (list []*person) {
	for _, p := range w.staff {
		if p.Habit.Name == habit {
			list = append(list, p)
		}
	}
	return list
}

// tally is what happened, in words.
func (w *week) tally() string {
	for _, p := range w.staff {
		for k, n := range p.Did {
			w.count["("+k+")"] += n
		}
	}
	var list []string
	for _, k := range slices.Sorted(maps.Keys(w.count)) {
		list = append(list, fmt.Sprintf("%s: %d", k, w.count[k]))
	}
	return strings.Join(list, ", ")
}
