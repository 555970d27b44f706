package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/mailtest/traffic"
	"mailgate/op"
	"mailgate/syncer"
)

// TestFlipsLoseNothing moves people to NEW and back while each of them works without pause with four mail programs, mail comes past the
// gateway on both sides, and serve is killed at every step of a flip. What a client was told is done is there, once, whoever decides by then;
// nobody is served on two sides at once, or where he is not; nobody is told that his password is wrong. With MAILGATE_SOAK=1 it does so on
// every pair of hosts, MAILGATE_PAIR="Courier to Cyrus" on one of them, MAILGATE_FLIPS=n has so many flips; MAILGATE_SEED=n has
// people do the same again, as far as real hosts allow.
func TestFlipsLoseNothing(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("MAILGATE_SEED"), 10, 64); err == nil {
		seed = s
	}
	flips, limit, names := 110, time.Minute, []string{"Dovecot to Dovecot"}
	if os.Getenv("MAILGATE_SOAK") != "" {
		flips, limit, names = 10_000, 48*time.Hour, slices.Sorted(maps.Keys(pairsOfHosts()))
	}
	if n, err := strconv.Atoi(os.Getenv("MAILGATE_FLIPS")); err == nil {
		flips = n
	}
	if s := os.Getenv("MAILGATE_PAIR"); s != "" {
		names = []string{s}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Logf("MAILGATE_SEED=%d", seed)
			r := newRush(t, pairsOfHosts()[name](t), seed)
			r.live(flips, limit)
		})
	}
}

// rush is a crowd whose people are moved all the time.
type rush struct {
	t     *testing.T
	gate  *gate
	gates []*gate // gate; of several the one that leads is among them
	crowd *traffic.Crowd
	users int
	rnd   *rand.Rand // the main goroutine's
	began time.Time

	logs  strings.Builder // of serves that have ended
	admin sync.WaitGroup  // what an admin has been asked to do

	down sync.RWMutex // held for reading while somebody asks serve, for writing while it is down

	file sync.Mutex // guards the routes file, also while serve edits it

	mu      sync.Mutex
	busy    map[int]bool
	settled map[int][]traffic.Settled
	count   map[string]int
	took    []time.Duration
}

func newRush(t *testing.T, hosts pairOfHosts, seed uint64) *rush {
	t.Helper()
	r := &rush{t: t, users: 4, rnd: rand.New(rand.NewPCG(seed, 0)), began: time.Now(), busy: map[int]bool{}, settled: map[int][]traffic.Settled{}, count: map[string]int{}}
	if os.Getenv("MAILGATE_SOAK") != "" {
		r.users = lab.Users
	}
	if n, err := strconv.Atoi(os.Getenv("MAILGATE_PEOPLE")); err == nil {
		r.users = n
	}
	var side [2]string
	var routes, secrets strings.Builder
	for n := 1; n <= r.users; n++ {
		fmt.Fprintf(&routes, "%s old wave=staff\n", lab.User(n))
		fmt.Fprintf(&secrets, "%s %s\n", lab.User(n), lab.Password(n))
	}
	for i, h := range hosts.hosts {
		relay := lab.Addr(h.Submission)
		if h.Submission == 0 || i == 1 { // NEW's own would hand it to OLD's Postfix, which is not there
			relay = traffic.StartRelay(t, h)
		}
		side[i] = fmt.Sprintf("{imap: 'imap://127.0.0.1:%d', pop3: 'pop3://127.0.0.1:%d', submission: 'submission://%s', sync: {secrets: secrets}}", h.IMAP, h.POP3, relay)
	}
	g := newGate(t, side[0], side[1], routes.String(), `sync: {waves: [staff], poll: 2s, settle: 300ms, grace: 1s, confirm: 0s, passes: 8, watch: 40}
limits: {disconnect_spread: 500ms}
`)
	g.write(filepath.Join(g.dir, "secrets"), secrets.String())
	r.crowd = traffic.New(hosts.hosts, r.users, seed)
	r.crowd.Spare = os.Getenv("MAILGATE_SOAK") == ""
	r.crowd.IMAP, r.crowd.POP3, r.crowd.SMTP = []string{g.imapPlain}, []string{g.listener("pop3")}, []string{g.smtp}
	text := strings.Replace(mustRead(t, g.file), "watch: 100ms}", "watch: 0s, approve_share: 1}", 1)
	if os.Getenv("MAILGATE_DEBUG") == "" {
		text = strings.Replace(text, "level: debug", "level: info", 1)
	}
	g.write(g.file, text)
	r.gate, r.gates = g, []*gate{g}
	return r
}

// live has so many flips, fewer when the time is over, each step of them a crash once, and more crashes in a long run.
func (r *rush) live(flips int, limit time.Duration) {
	must(r.t, r.crowd.Fill())
	r.start("")
	for n := 1; n <= r.users; n++ {
		until(r.t, "both sides are equal at first", func() bool {
			u, err := r.gate.user(lab.User(n))
			return err == nil && u.Sync != nil && u.Sync.Phase == "converged"
		})
	}
	r.t.Logf("ready after %v", time.Since(r.began).Round(time.Millisecond))
	r.crowd.Start()
	stopped := sync.OnceFunc(r.crowd.Stop)
	defer stopped()
	left := crashSteps() // where serve has not died yet
	r.rnd.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
	each := min(max(flips/(6*len(left)), 3), 50)
	end := time.Now().Add(limit)
	done, quiet := 0, 0
	for round := 1; (done < flips && time.Now().Before(end) || len(left) > 0 && round < 40) && !r.t.Failed(); round++ {
		step := crashSteps()[r.rnd.IntN(len(crashSteps()))]
		if len(left) > 0 {
			step = left[0]
			left = left[1:]
		}
		if !r.rushes(each, step) && round < 40 {
			left = append(left, step)
		}
		if done += each; round%6 == 0 {
			quiet = done
			began := time.Now()
			r.quiesce()
			r.t.Logf("%d flips after %v, quiet for %v", done, time.Since(r.began).Round(time.Second), time.Since(began).Round(time.Millisecond))
		}
	}
	if quiet < done {
		r.quiesce()
	}
	if moved := r.count["flips to old"] + r.count["flips to new"]; moved < done/4 {
		r.t.Errorf("of %d flips only %d were done: %s", done, moved, r.tally())
	}
	if len(left) > 0 {
		r.t.Errorf("serve could not be killed at %v", left)
	}
	stopped()
	odd, gaps := r.crowd.Sides(r.settled)
	for _, text := range odd {
		r.t.Error(text)
	}
	r.gate.stop()
	r.sane()
	if r.t.Failed() {
		r.keepLog()
	}
	r.t.Logf("%d people, %d sessions, %v: %s; %s", r.users, r.crowd.Sessions(), time.Since(r.began).Round(time.Second), r.tally(), r.crowd.Tally())
	r.t.Logf("what clients saw of flips: %s", traffic.Histogram(gaps))
	r.t.Logf("what a flip took from the request to its end: %s", traffic.Histogram(r.took))
}

// keepLog keeps what all serves have said, for who has to find out why: it is long.
func (r *rush) keepLog() {
	file := filepath.Join(os.TempDir(), fmt.Sprintf("mailgate-flips-%d.log", os.Getpid()))
	if err := os.WriteFile(file, []byte(r.logs.String()+r.gate.log.String()), 0o600); err == nil {
		r.t.Logf("what serve said, from first to last: %s", file)
	}
}

func (r *rush) tally() string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(r.count)) {
		list = append(list, fmt.Sprintf("%s: %d", k, r.count[k]))
	}
	return strings.Join(list, ", ")
}

func (r *rush) happened(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count[what]++
}

// start runs serve; it dies at a step, unless that is "".
func (r *rush) start(crash string) {
	if r.gate.log != nil {
		r.logs.WriteString(r.gate.log.String())
	}
	r.gate.crash = crash
	r.gate.start()
	until(r.t, "serve answers", func() bool {
		_, err := r.gate.user(lab.User(1))
		return err == nil
	})
}

// rushes has n flips. Some of them meet a serve that dies at a step, and another one that goes on. It tells whether serve died.
func (r *rush) rushes(n int, crash string) bool {
	r.down.Lock()
	r.gate.kill() // any instant will do, too
	r.crowd.Died("serve was killed")
	r.sane()
	r.start(fmt.Sprintf("%s:%d", crash, 1+r.rnd.IntN(2)))
	r.down.Unlock()
	r.happened("kill -9 at any time")
	work := make(chan uint64, n)
	for range n {
		work <- r.rnd.Uint64()
	}
	close(work)
	over := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for seed := range work {
				r.flip(rand.New(rand.NewPCG(seed, 1)))
			}
		})
	}
	go func() {
		wg.Wait()
		close(over)
	}()
	select {
	case <-r.gate.done:
		r.down.Lock()
		if !strings.Contains(r.gate.log.String(), "crash at "+crash) {
			s := r.gate.log.String()
			r.t.Errorf("serve ended by itself: %s", s[max(0, len(s)-4000):])
		}
		r.crowd.Died("serve has killed itself at %s", crash)
		r.sane()
		r.start("")
		r.down.Unlock()
		r.happened("kill -9 at " + crash)
		<-over
		return true
	case <-over:
		return false
	}
}

// sane looks that the log of serve tells of no defect.
func (r *rush) sane() {
	for _, word := range []string{"panic", "DATA RACE", "a defect"} {
		if s := r.gate.log.String(); strings.Contains(s, word) {
			i := strings.Index(s, word)
			r.t.Errorf("the log of serve has %q: %s", word, s[max(0, i-500):min(len(s), i+3000)])
		}
	}
}

// call asks serve, also when it is about to die: then again.
func (r *rush) call(method, path string, form url.Values, out any) (err error) {
	socket := filepath.Join(r.gate.dir, "state", "control.sock")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return admin.Client{Socket: socket}.Call(ctx, method, path, form, out)
}

// status asks about a user until serve answers.
func (r *rush) status(n int) (u admin.UserStatus) {
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		r.down.RLock()
		err := r.call(http.MethodGet, "/user", url.Values{"user": {lab.User(n)}}, &u)
		r.down.RUnlock()
		if err == nil {
			if (u.Side == config.New) != (u.Epoch%2 == 1) {
				r.t.Errorf("user%d is on %v in epoch %d: every flip is one epoch", n, u.Side, u.Epoch)
			}
			return u
		}
		if time.Now().After(end) {
			r.t.Errorf("serve does not answer about user%d: %v", n, err)
			return u
		}
	}
}

// flip moves somebody to the other side, one way or another, and waits until that is done or called off.
func (r *rush) flip(rnd *rand.Rand) {
	n := r.take(rnd)
	defer r.give(n)
	u := r.status(n)
	to := u.Side.Other()
	r.mu.Lock()
	if list := r.settled[n]; len(list) > 0 {
		list[len(list)-1].To = time.Now()
	}
	r.mu.Unlock()
	began := time.Now()
	r.crowd.Note(n, "to %v?", to)
	r.ask(rnd, n, to)
	for end := began.Add(5 * time.Minute); ; time.Sleep(15 * time.Millisecond) {
		u = r.status(n)
		if u.State == op.Settled && len(u.Open) == 0 {
			break
		}
		if time.Now().After(end) {
			r.t.Errorf("the flip of user%d has not ended in five minutes: %+v", n, u)
			return
		}
	}
	r.crowd.Note(n, "on %v, epoch %d", u.Side, u.Epoch)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settled[n] = append(r.settled[n], traffic.Settled{Side: u.Side, From: time.Now(), To: time.Now().Add(time.Hour)})
	if u.Side == to {
		r.count["flips to "+to.String()]++
		r.took = append(r.took, time.Since(began))
		return
	}
	why := r.why(n)
	r.count["not moved, "+reason(why)]++
	if strings.Contains(why, "--deletes") { // an admin looks, and says that they are meant
		r.admin.Go(func() {
			r.syncRun(n, "--deletes")
		})
	}
}

// why tells how the last flip of a user ended.
func (r *rush) why(n int) string {
	var ops []op.Operation
	if err := r.call(http.MethodGet, "/ops", url.Values{"all": {"1"}, "limit": {"200"}}, &ops); err == nil {
		for _, o := range ops {
			if o.User == lab.User(n) && o.Kind == op.Flip {
				return string(o.Status) + " at " + o.Step + ": " + o.Reason
			}
		}
	}
	return "never begun"
}

// reason is what several refusals have in common.
func reason(text string) string {
	text = regexp.MustCompile(`INBOX[./][^ :;(]*|Box \d+|user\d+@\S*|op-\d+|\d+ of \d+ messages|\d+ messages|since [-0-9: UTC]*|^\d+ `).ReplaceAllString(text, "~")
	return text[:min(len(text), 220)]
}

// ask asks for a flip: by the verb's call, by the routes file and a reload, or, on the way back, as a rollback. What serve died over is
// asked for again.
func (r *rush) ask(rnd *rand.Rand, n int, to config.Side) {
	user := lab.User(n)
	way := rnd.IntN(3)
	for tries := 0; tries < 50; tries++ {
		var err error
		r.down.RLock()
		switch {
		case way == 0 && to == config.Old:
			err = r.call(http.MethodPost, "/rollback", url.Values{"user": {user}, "by": {"test"}}, nil)
		case way == 1 && r.line(user, to):
			err = r.call(http.MethodPost, "/reload", url.Values{"by": {"test"}}, nil)
		default:
			r.file.Lock()
			err = r.call(http.MethodPost, "/flip", url.Values{"user": {user}, "side": {to.String()}, "by": {"test"}}, nil)
			r.file.Unlock()
		}
		r.down.RUnlock()
		if err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
		if u := r.status(n); u.Side == to || len(u.Open) > 0 {
			return
		}
	}
	r.t.Errorf("user%d could not be asked to be moved", n)
}

// line writes a user's line of the routes file; false when it says so already.
func (r *rush) line(user string, to config.Side) bool {
	r.file.Lock()
	defer r.file.Unlock()
	b, err := os.ReadFile(r.gate.routes)
	if err != nil {
		r.t.Error(err)
		return false
	}
	was, is := user+" "+to.Other().String(), user+" "+to.String()
	if !strings.Contains(string(b), was) {
		return false
	}
	tmp := r.gate.routes + ".rush"
	if err := os.WriteFile(tmp, []byte(strings.Replace(string(b), was, is, 1)), 0o600); err != nil {
		r.t.Error(err)
		return false
	}
	if err := os.Rename(tmp, r.gate.routes); err != nil {
		r.t.Error(err)
	}
	return true
}

// take chooses somebody whom nobody is moving.
func (r *rush) take(rnd *rand.Rand) int {
	for {
		n := 1 + rnd.IntN(r.users)
		r.mu.Lock()
		free := !r.busy[n]
		r.busy[n] = true
		r.mu.Unlock()
		if free {
			return n
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (r *rush) give(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy[n] = false
}

// quiesce has everybody rest, and looks that what decides is as it must be at once, and the other side soon.
func (r *rush) quiesce() {
	r.admin.Wait()
	r.crowd.Pause()
	defer r.crowd.Resume()
	time.Sleep(300 * time.Millisecond) // what a host was in the middle of
	queue := make(chan int, r.users)
	for n := 1; n <= r.users; n++ {
		queue <- n
	}
	close(queue)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range queue {
				u := r.status(n)
				odd, err := r.crowd.Check(n, u.Side, false, true)
				if err != nil {
					r.t.Errorf("user%d: %v", n, err)
				}
				for _, text := range odd {
					r.t.Errorf("at once: %s", text)
				}
				r.equal(n, u.Side)
			}
		})
	}
	wg.Wait()
	list := r.crowd.Odd()
	for _, text := range list[:min(len(list), 30)] {
		r.t.Error(text)
	}
	if len(list) > 30 {
		r.t.Errorf("and %d more", len(list)-30)
	}
}

// doubted takes out what the follower has too many and serve has in quarantine: a person has to say whether it was meant. No flip passes that.
func (r *rush) doubted(n int, odd []string) []string {
	if u := r.status(n); u.Sync == nil || u.Sync.Quarantine == 0 {
		return odd
	}
	_, out, _ := r.gate.verb("quarantine", "list", lab.User(n))
	return slices.DeleteFunc(odd, func(text string) bool {
		if _, at, ok := strings.Cut(text, ": folder "); ok { // it stays for what is in it
			at, gone := strings.CutSuffix(at, " is there: it was deleted, or has another name")
			return gone && strings.Contains(out, path.Base(at)+" on ")
		}
		f := strings.Fields(text)
		return len(f) > 3 && strings.HasPrefix(f[3], "t-") && strings.Contains(out, " "+f[3]) && strings.Contains(text, "it must be in [nowhere]")
	})
}

// wanted is the admin who has asked the user, and says of what is missing somewhere and waits for a person that it is wanted. Of what the user
// has deleted he does not.
func (r *rush) wanted(n int, odd []string) {
	_, out, _ := r.gate.verb("quarantine", "list", lab.User(n), "-o", "json")
	var list syncer.QuarantineList
	if json.Unmarshal([]byte(out), &list) != nil {
		return
	}
	some := false
	for _, m := range list.Messages {
		if m.Reason == "suspect" && slices.ContainsFunc(odd, func(text string) bool {
			f := strings.Fields(text)
			return len(f) > 3 && m.Subject != "" && f[3] == m.Subject && !strings.Contains(text, "it must be in [nowhere]")
		}) {
			some = true
			r.happened("suspects that an admin has let go on")
			r.gate.verb("quarantine", "retry", lab.User(n), "--side", m.Side.String(), "--folder", m.Folder[m.Side], "--uid", fmt.Sprint(m.UID))
		}
	}
	if some {
		r.syncRun(n)
	}
}

// syncRun makes a pass, on whichever gateway leads.
func (r *rush) syncRun(n int, more ...string) {
	for _, g := range r.gates {
		code, _, _ := g.verb(append([]string{"sync", "run", lab.User(n), "--yes", "--progress", "none"}, more...)...)
		if code != exitRefused {
			return
		}
	}
}

// equal waits until both sides hold what they must.
func (r *rush) equal(n int, side config.Side) {
	var odd []string
	var released, asked time.Time
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		odd = nil
		for _, s := range []config.Side{side, side.Other()} {
			list, err := r.crowd.Check(n, s, true, false)
			if err != nil {
				list = []string{err.Error()}
			}
			if s != side && len(list) > 0 {
				list = r.doubted(n, list)
			}
			odd = append(odd, list...)
		}
		if u := r.status(n); u.Sync != nil && u.Sync.Held > 0 && !u.Sync.Running && time.Since(released) > 20*time.Second {
			released = time.Now()
			r.happened("deletes that an admin has released")
			r.syncRun(n, "--deletes")
		}
		// Of what may be a late copy a person has to say that it is wanted.
		if u := r.status(n); len(odd) > 0 && u.Sync != nil && u.Sync.Quarantine > 0 && time.Since(asked) > 20*time.Second {
			if !asked.IsZero() {
				r.wanted(n, odd)
			}
			asked = time.Now()
		}
		if len(odd) == 0 {
			if _, err := r.crowd.Check(n, side, true, true); err != nil {
				r.t.Errorf("user%d: %v", n, err)
			}
			return
		}
	}
	u := r.status(n)
	r.t.Errorf("user%d: not equal within %v; sync %+v\n%s", n, patience, u.Sync, strings.Join(odd[:min(len(odd), 20)], "\n"))
	_, out, _ := r.gate.verb("quarantine", "list", lab.User(n))
	_, plan, _ := r.gate.verb("sync", "plan", lab.User(n))
	r.t.Logf("user%d: quarantine: %s\n%s\n%s\n%s", n, out, r.crowd.Files(n, odd), plan, r.crowd.Events(n))
}
