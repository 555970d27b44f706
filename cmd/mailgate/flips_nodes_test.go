package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/mailtest/traffic"
	"mailgate/op"
)

// TestFlipsOverNodesLoseNothing is TestFlipsLoseNothing with three gateways on one PostgreSQL: people come by all of them, and now one is killed,
// then one stands still, or is cut off from the database, whoever leads. For the soak: it takes minutes. MAILGATE_FLIPS=n has so many flips.
func TestFlipsOverNodesLoseNothing(t *testing.T) {
	if os.Getenv("MAILGATE_SOAK") == "" {
		t.Skip("takes minutes: MAILGATE_SOAK=1")
	}
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("MAILGATE_SEED"), 10, 64); err == nil {
		seed = s
	}
	flips := 200
	if n, err := strconv.Atoi(os.Getenv("MAILGATE_FLIPS")); err == nil {
		flips = n
	}
	t.Logf("MAILGATE_SEED=%d", seed)
	newRushOfNodes(t, pairsOfHosts()["Dovecot to Dovecot"](t), seed).live(flips)
}

// rushOfNodes is a rush before three gateways.
type rushOfNodes struct {
	*rush
	hoses []*hose
	well  []sync.RWMutex // of each gateway: held for reading while it is asked, for writing while something is done to it
}

func newRushOfNodes(t *testing.T, hosts pairOfHosts, seed uint64) *rushOfNodes {
	r := &rushOfNodes{rush: newRush(t, hosts, seed), well: make([]sync.RWMutex, 3)}
	first := mustRead(t, r.gate.file)
	dsn := lab.StartPostgres(t)
	at := regexp.MustCompile(`@([^/]+)/`).FindStringSubmatch(dsn)[1]
	r.gates, r.crowd.IMAP, r.crowd.POP3, r.crowd.SMTP = nil, nil, nil, nil
	backends := first[strings.Index(first, "backends:"):strings.Index(first, "routes:")]
	settings := first[strings.Index(first, "\nsync:")+1:]
	for i := range 3 {
		h := newHose(t, at)
		g := newGate(t, "{}", "{}", "", fmt.Sprintf("node: gw%d\nstore: {url: '%s'}\nflip: {deadline: 10s, hold: 15s}\nshutdown: 5s\n%s", i+1,
			strings.Replace(dsn, at, h.l.Addr().String(), 1), settings))
		pop := g.listener("pop3")
		text := mustRead(t, g.file)
		text = text[:strings.Index(text, "backends:")] + backends + text[strings.Index(text, "routes:"):]
		text = strings.Replace(text, "{file: routes, watch: 100ms}", "{file: "+r.gate.routes+", watch: 0s, approve_share: 1}", 1)
		g.write(g.file, strings.Replace(text, "level: debug", "level: info", 1))
		g.write(filepath.Join(g.dir, "secrets"), mustRead(t, filepath.Join(r.gate.dir, "secrets")))
		g.routes = r.gate.routes
		r.gates, r.hoses = append(r.gates, g), append(r.hoses, h)
		r.crowd.IMAP, r.crowd.POP3, r.crowd.SMTP = append(r.crowd.IMAP, g.imapPlain), append(r.crowd.POP3, pop), append(r.crowd.SMTP, g.smtp)
	}
	r.gate = r.gates[0]
	return r
}

// of asks one of the gateways that nothing is done to now.
func (r *rushOfNodes) of(rnd *rand.Rand, method, path string, form url.Values, out any) error {
	for {
		i := rnd.IntN(len(r.gates))
		if !r.well[i].TryRLock() {
			time.Sleep(time.Millisecond)
			continue
		}
		defer r.well[i].RUnlock()
		return ask(r.gates[i], method, path, form, out)
	}
}

func (r *rushOfNodes) settles(rnd *rand.Rand, n int) (u admin.UserStatus) {
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(30 * time.Millisecond) {
		u = admin.UserStatus{}
		err := r.of(rnd, http.MethodGet, "/user", url.Values{"user": {lab.User(n)}}, &u)
		if err == nil && u.State == op.Settled && len(u.Open) == 0 {
			return u
		}
		if time.Now().After(end) {
			r.t.Errorf("user%d does not settle: %+v %v", n, u, err)
			return u
		}
	}
}

func (r *rushOfNodes) flip(rnd *rand.Rand) {
	n := r.take(rnd)
	defer r.give(n)
	u := r.settles(rnd, n)
	r.mu.Lock()
	if list := r.settled[n]; len(list) > 0 {
		list[len(list)-1].To = time.Now()
	}
	r.mu.Unlock()
	to := u.Side.Other()
	r.crowd.Note(n, "to %v?", to)
	path := map[config.Side]string{config.Old: "/rollback", config.New: "/flip"}[to]
	r.file.Lock()
	err := r.of(rnd, http.MethodPost, path, url.Values{"user": {lab.User(n)}, "side": {to.String()}}, nil)
	r.file.Unlock()
	after := r.settles(rnd, n)
	r.crowd.Note(n, "on %v, epoch %d", after.Side, after.Epoch)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case after.Side == to:
		r.count["flips to "+to.String()]++
	case err != nil:
		r.count["not moved, "+reason(err.Error())]++
	default:
		var ops []op.Operation
		why := "never begun"
		if err := r.of(rnd, http.MethodGet, "/ops", url.Values{"all": {"1"}, "limit": {"200"}}, &ops); err == nil {
			for _, o := range ops {
				if o.User == lab.User(n) && o.Kind == op.Flip {
					why = string(o.Status) + ": " + o.Reason
					break
				}
			}
		}
		r.count["not moved, "+reason(why)]++
		if strings.Contains(why, "--deletes") {
			r.admin.Go(func() { r.release(n) })
		}
	}
	if (after.Side == config.New) != (after.Epoch%2 == 1) {
		r.t.Errorf("user%d is on %v in epoch %d: every flip is one epoch", n, after.Side, after.Epoch)
	}
	r.settled[n] = append(r.settled[n], traffic.Settled{Side: after.Side, From: time.Now(), To: time.Now().Add(time.Hour)})
}

// release says, as an admin, that deletes are meant, to whichever gateway leads.
func (r *rushOfNodes) release(n int) {
	for i, g := range r.gates {
		r.well[i].RLock()
		code, _, _ := g.verb("sync", "run", lab.User(n), "--deletes", "--yes", "--progress", "none")
		r.well[i].RUnlock()
		if code != exitRefused {
			return
		}
	}
}

// harm does something to one gateway for some seconds, and makes it well again.
func (r *rushOfNodes) harm(rnd *rand.Rand) {
	i := rnd.IntN(len(r.gates))
	r.well[i].Lock()
	defer r.well[i].Unlock()
	g, some := r.gates[i], time.Duration(500+rnd.IntN(4000))*time.Millisecond
	switch rnd.IntN(3) {
	case 0:
		r.crowd.Died("gw%d was killed", i+1)
		g.kill()
		r.logs.WriteString(g.log.String())
		time.Sleep(some)
		g.start()
		r.happened("kill -9 of a node")
	case 1:
		r.crowd.Note(0, "gw%d stands still", i+1)
		must(r.t, g.cmd.Process.Signal(syscall.SIGSTOP))
		time.Sleep(some)
		must(r.t, g.cmd.Process.Signal(syscall.SIGCONT))
		r.happened("SIGSTOP of a node")
	case 2:
		r.crowd.Note(0, "gw%d is cut off", i+1)
		r.hoses[i].set(true)
		time.Sleep(some)
		r.hoses[i].set(false)
		r.happened("a node cut off from PostgreSQL")
	}
}

func (r *rushOfNodes) live(flips int) {
	must(r.t, r.crowd.Fill())
	for _, g := range r.gates {
		g.start()
	}
	for n := 1; n <= r.users; n++ {
		until(r.t, "both sides are equal at first", func() bool {
			for _, g := range r.gates { // the one that leads knows
				if u, err := g.user(lab.User(n)); err == nil && u.Sync != nil && u.Sync.Phase == "converged" {
					return true
				}
			}
			return false
		})
	}
	r.crowd.Start()
	stopped := sync.OnceFunc(r.crowd.Stop)
	defer stopped()
	for done := 0; done < flips && !r.t.Failed(); {
		n := min(40, flips-done)
		work := make(chan uint64, n)
		for range n {
			work <- r.rnd.Uint64()
		}
		close(work)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for seed := range work {
					r.flip(rand.New(rand.NewPCG(seed, 1)))
				}
			})
		}
		over := make(chan struct{})
		go func() {
			wg.Wait()
			close(over)
		}()
		for going := true; going; {
			select {
			case <-over:
				going = false
			case <-time.After(2 * time.Second):
				r.harm(r.rnd)
			}
		}
		done += n
		r.rest()
		r.t.Logf("%d flips after %v", done, time.Since(r.began).Round(time.Second))
	}
	stopped()
	odd, gaps := r.crowd.Sides(r.settled)
	for _, text := range odd {
		r.t.Error(text)
	}
	for _, g := range r.gates {
		r.gate = g
		g.stop()
		r.sane()
		r.logs.WriteString(g.log.String())
	}
	if r.t.Failed() {
		r.keepLog()
	}
	r.t.Logf("%d people, %d sessions, %v: %s; %s", r.users, r.crowd.Sessions(), time.Since(r.began).Round(time.Second), r.tally(), r.crowd.Tally())
	r.t.Logf("what clients saw of flips: %s", traffic.Histogram(gaps))
}

// rest is quiesce with whichever gateway leads.
func (r *rushOfNodes) rest() {
	for _, g := range r.gates {
		if u, err := g.user(lab.User(1)); err == nil && u.Sync != nil {
			r.gate = g
			break
		}
	}
	r.quiesce()
}
