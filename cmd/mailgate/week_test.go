package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/mailtest/people"
	"mailgate/syncer"
)

// TestWeek is a week of a company's mail, compressed: mornings of deliveries, hours of work, evenings at which both sides have to be equal.
// Serve is killed and restarted, hosts are restarted, NEW is away for an hour, the syncer is throttled and paused; people are moved to NEW
// and back, phones go on talking to the host that decides no more. Each evening both sides hold what they have to by the rules
// (uid-stable.md, section 4.3), read by other code than the gateway's; in the end verify says so too, body by body, and whatever is not the
// same is in its report. Twelve people on one pair; with MAILGATE_SOAK=1 fifty on each of four, MAILGATE_PAIR="Courier to Cyrus" on one of
// them, MAILGATE_PEOPLE=n so many. MAILGATE_SEED=n has people do the same again.
func TestWeek(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("MAILGATE_SEED"), 10, 64); err == nil {
		seed = s
	}
	many, names := 12, []string{"Dovecot to Cyrus"}
	if os.Getenv("MAILGATE_SOAK") != "" {
		many, names = 50, slices.Sorted(maps.Keys(pairsOfHosts()))
	}
	if s := os.Getenv("MAILGATE_PAIR"); s != "" {
		names = []string{s}
	}
	if n, err := strconv.Atoi(os.Getenv("MAILGATE_PEOPLE")); err == nil {
		many = n
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Logf("MAILGATE_SEED=%d", seed)
			w := newWeek(t, pairsOfHosts()[name](t), many, seed)
			w.live()
		})
	}
}

// live is the week.
func (w *week) live() {
	old, new := config.Old, config.New
	w.each(w.staff, func(p *person) {
		if err := p.Fill(10 + p.Rnd.IntN(20)); err != nil {
			w.t.Errorf("%s: %v", lab.User(p.N), err)
		}
	})
	if w.t.Failed() {
		return
	}
	w.gate.mustVerb("probe", "backends") // what hosts do to mail is no difference then
	w.start()
	third := func(i int) (list []*person) {
		for _, p := range w.staff {
			if p.N%3 == i {
				list = append(list, p)
			}
		}
		return list
	}
	days := []func(){
		func() { // first copies are for the night
			w.work(nil)
			w.nothingCopied()
			w.set(w.closed, "00:00-24:00")
		},
		func() { // a crash at work, and one in the evening
			w.work(map[int]func(){3: w.crash})
			w.crash()
		},
		func() { // NEW is away for an hour
			var again func()
			w.work(map[int]func(){
				2: func() { w.alone("outages of NEW", func() { again = w.run[new].Stop(w.t, w.hosts[new].Name) }) },
				4: func() { w.alone("restarts", func() { again(); w.run[new].Greets(w.t, w.hosts[new]) }) },
			})
		},
		func() { // a third is on NEW since the night, and the syncer has little room
			w.gate.mustVerb("sync", "limits", "--side", "new", "--connections", "2", "--messages", "100")
			w.work(nil)
			w.gate.mustVerb("sync", "limits", "--file")
		},
		func() { // a pause of a day, OLD and the gateway restarted
			w.gate.mustVerb("sync", "pause", "--all", "--reason", "a backup")
			w.work(map[int]func(){
				2: func() { w.restart(old) },
				5: func() { w.alone("restarts", func() { w.gate.stop(); w.sane(); w.start() }) },
			})
			w.gate.mustVerb("sync", "resume", "--all")
		},
		func() { // both sides decide, for some
			w.work(map[int]func(){2: func() { w.restart(new) }, 6: w.crash})
		},
		func() { w.work(map[int]func(){1: w.crash}) },
	}
	for day, live := range days {
		w.day = day
		for _, p := range w.staff {
			p.Day = day
		}
		live()
		w.evening()
		if w.t.Failed() {
			break
		}
		switch day {
		case 2:
			w.flip(third(1), new)
		case 3:
			w.bulk()
		case 4:
			w.flip(third(2), new)
			w.flip(third(1)[:len(third(1))/2], old)
		case 5:
			w.flip(third(2)[:len(third(2))/2], old)
		}
		w.t.Logf("day %d is over after %v", day+1, time.Since(w.began).Round(time.Second))
	}
	if !w.t.Failed() {
		w.end()
	}
	for _, p := range w.staff {
		p.Leave()
	}
	w.gate.stop()
	w.sane()
	w.t.Logf("%d people, %v: %s", len(w.staff), time.Since(w.began).Round(time.Second), w.tally())
}

// work is a day: what came in the night, then eight hours, with what happens meanwhile.
func (w *week) work(meanwhile map[int]func()) {
	w.each(w.staff, func(p *person) {
		for range p.Habit.Mornings {
			w.quiet.RLock()
			err := p.Deliver(people.Inbox)
			w.quiet.RUnlock()
			if err != nil {
				w.t.Errorf("%s: %v", lab.User(p.N), err)
				return
			}
		}
	})
	for h := range 8 {
		w.hour(1, meanwhile[h])
	}
}

func (w *week) restart(side config.Side) {
	w.alone("restarts", func() {
		w.run[side].Stop(w.t, w.hosts[side].Name)()
		w.run[side].Greets(w.t, w.hosts[side])
	})
}

// nothingCopied looks that first copies wait for their window.
func (w *week) nothingCopied() {
	for _, p := range w.staff {
		a, err := corpus.Snapshot(w.addr(config.New), lab.User(p.N), lab.Password(p.N))
		if err != nil {
			w.t.Fatal(err)
		}
		strays := 0
		for _, l := range p.Letters {
			if l.Stray {
				strays++
			}
		}
		if n := a.Messages(); n > strays {
			w.t.Errorf("%s: %d messages are on NEW before the window of sync has opened, %d strays", lab.User(p.N), n, strays)
		}
	}
}

// bulk has those with lists delete what looks like an accident: it waits for a person, who releases it.
func (w *week) bulk() {
	w.each(w.of("lists"), func(p *person) {
		if err := p.bulk(); err != nil {
			w.t.Errorf("%s: %v\n%s", lab.User(p.N), err, p.Story())
		}
	})
	w.evening()
}

// inForce waits for something.
func (w *week) inForce(what string, f func() (bool, error)) error {
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		var ok bool
		if ok, err = f(); ok {
			return nil
		}
	}
	return fmt.Errorf("not within %v: %s; %w", patience, what, err)
}

func (p *person) bulk() error {
	at := people.Path("Lists", "go")
	for range 70 {
		if err := p.Deliver(at); err != nil {
			return err
		}
	}
	if err := p.settle(); err != nil {
		return err
	}
	d := p.At(p.Route) // by another way than the gateway, which would know that he means it
	if d == nil {
		return fmt.Errorf("no login")
	}
	before := len(p.In(at))
	if err := p.Empty(d, at, before); err != nil {
		return err
	}
	held := func() (bool, error) {
		u, err := p.week.gate.user(lab.User(p.N))
		return err == nil && u.Sync != nil && u.Sync.Held > 0, err
	}
	if err := p.week.inForce("deletes are held back", held); err != nil {
		return err
	}
	a, err := corpus.Snapshot(p.week.addr(p.Route.Other()), lab.User(p.N), lab.Password(p.N))
	if err != nil {
		return err
	}
	for _, f := range a.Folders {
		if f.Raw == p.Raw(p.Route.Other(), at) && f.Count < before {
			return fmt.Errorf("%d letters of %d are left on the follower before anybody has said that the deletes are meant", f.Count, before)
		}
	}
	p.release()
	return nil
}

// release lets deletes through that were held back, as an admin does.
func (p *person) release() {
	code, out, errOut := p.week.gate.verb("sync", "run", lab.User(p.N), "--deletes", "--yes", "--progress", "none")
	if code != 0 && code != exitPartly && code != exitRefused {
		p.week.t.Errorf("sync run --deletes: exit %d\n%s%s", code, out, errOut)
	}
	p.week.happened("deletes released by an admin", 1)
	p.Note("released", "%s", out)
}

// end is the report: everybody's mailboxes are equal, or verify says why not.
func (w *week) end() {
	var reports []string
	w.each(w.staff, func(p *person) {
		v, err := p.report(true)
		if err != nil {
			w.t.Errorf("%s: %v", lab.User(p.N), err)
			return
		}
		list, err := p.Look()
		if err != nil {
			w.t.Errorf("%s: %v", lab.User(p.N), err)
			return
		}
		for _, o := range people.Unexplained(list, v) {
			w.t.Errorf("%s: not in the report: %v", lab.User(p.N), o)
		}
		if n := v.Different(); n > 0 {
			var b strings.Builder
			_ = v.WriteTable(&b)
			w.t.Errorf("%d differences:\n%s", n, b.String())
		}
		w.happened("messages compared", int(v.Compared))
		w.happened("bodies compared", int(v.Hashed))
		w.happened("oddities explained", len(list))
		w.account(p, v, &reports)
	})
	w.waive()
	slices.Sort(reports)
	w.t.Logf("What is not the same, and why:\n%s", strings.Join(reports, "\n"))
	if out := w.gate.mustVerb("status"); !strings.Contains(out, fmt.Sprintf("%d converged", len(w.staff))) {
		w.t.Errorf("status says\n%s", out)
	}
}

// account writes down what a report explains.
func (w *week) account(p *person, v *syncer.Verification, reports *[]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range v.Folders {
		for i, list := range [][]syncer.Difference{f.Open, f.Explained} {
			for _, d := range list {
				word := []string{"open", "explained"}[i]
				w.count[word+" "+d.Kind]++
				*reports = append(*reports, fmt.Sprintf("%s %s: %s: %s", word, lab.User(p.N), f.Title(), d.Sentence()))
			}
		}
	}
}

// waive has an admin decide about mail that NEW will never take: then verify is content, and says who decided.
func (w *week) waive() {
	w.each(w.staff, func(p *person) {
		var l syncer.QuarantineList
		code, out, errOut := w.gate.verb("quarantine", "list", lab.User(p.N), "-o", "json")
		if err := json.Unmarshal([]byte(out), &l); err != nil {
			w.t.Errorf("%s: quarantine list: exit %d, %v %s", lab.User(p.N), code, err, errOut)
			return
		}
		if l.Open == 0 {
			return
		}
		for _, m := range l.Messages {
			w.happened("in quarantine: "+m.Reason, 1)
			if m.Why == "" || m.WayOut == "" {
				w.t.Errorf("%s: nothing says why, or what to do: %+v", lab.User(p.N), m)
			}
		}
		w.gate.mustVerb("quarantine", "waive", lab.User(p.N))
		v, err := p.report(false)
		if err != nil || !v.Equal || v.Waived == 0 {
			w.t.Errorf("%s: what waits was waived, and verify says %+v, %v", lab.User(p.N), v, err)
		}
	})
}
