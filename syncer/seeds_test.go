package syncer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/mailtest/people"
	"mailgate/syncer"
)

// seedRig is a person with an account on two real hosts, each behind a relay that fails.
type seedRig struct {
	*rig
	*people.Person
	t      *testing.T
	rnd    *rand.Rand
	relays [2]*relay
	clock  atomic.Int64 // nanoseconds that the syncer's clock is ahead
	route  atomic.Int32 // the side that decides
}

// TestSeedsOnHosts has people work on both sides of real hosts, on four pairs of them, while connections are cut at random, answers get lost
// and what was sent arrives late. When that ends both sides hold what they have to by the rules, read by other code than the syncer's; what
// is not the same is in verify's report. MAILGATE_SEED=n repeats one seed, MAILGATE_SEEDS=n tries so many.
func TestSeedsOnHosts(t *testing.T) {
	t.Parallel()
	h := startPlaces(t)
	pairs := [][2]place{{h.old, h.new}, {h.old, h.cyrus}, {h.courier, h.cyrus}, {h.cyrus, h.new}}
	profiles := map[string]*syncer.Profile{}
	for _, pair := range pairs {
		for side, p := range newRig(t, pair[0].Host, pair[1].Host, lab.Accounts, nil).probe(t) {
			profiles[pair[side].Name] = p
		}
	}
	list := seeds(t, 24)
	queue := make(chan uint64, len(list))
	for _, s := range list {
		queue <- s
	}
	close(queue)
	var wg sync.WaitGroup
	for user := range 8 { // at once: most of it is waiting
		wg.Go(func() {
			for seed := range queue {
				pair := pairs[seed%uint64(len(pairs))]
				t.Run(fmt.Sprintf("%d, %s to %s", seed, pair[0].Name, pair[1].Name), func(t *testing.T) {
					for _, p := range pair {
						p.reset(user + 1)
					}
					r := newSeedRig(t, pair, user+1, seed)
					for side, p := range pair {
						if err := r.SaveProfile(t.Context(), config.Side(side), profiles[p.Name]); err != nil {
							t.Fatal(err)
						}
					}
					r.live()
					r.Leave()
				})
			}
		})
	}
	wg.Wait()
}

func newSeedRig(t *testing.T, pair [2]place, user int, seed uint64) *seedRig {
	r := &seedRig{t: t, rnd: rand.New(rand.NewPCG(seed, 17))}
	hosts := [2]lab.Host{pair[0].Host, pair[1].Host}
	through := hosts
	for side, h := range hosts {
		r.relays[side] = newRelay(t, lab.Addr(h.IMAP))
		through[side].IMAP = r.relays[side].port()
	}
	r.Person = people.New(user, r.rnd.IntN(100), seed, hosts, "")
	r.rig = newRig(t, through[0], through[1], user, func(o *syncer.Options) {
		o.Settle, o.Batch, o.Connections = 20*time.Millisecond, 1+r.rnd.IntN(8), 1+r.rnd.IntN(3)
		o.Now = func() time.Time { return time.Now().Add(time.Duration(r.clock.Load())) }
		o.Route = func(context.Context, string) (config.Side, int64, error) { return config.Side(r.route.Load()), 0, nil }
	})
	r.turn(config.Sides[r.rnd.IntN(3)/2])
	return r
}

// turn makes a side the one that decides.
func (r *seedRig) turn(side config.Side) {
	r.Route = side
	r.route.Store(int32(side))
	r.Leave()
}

func (r *seedRig) live() {
	if err := r.Fill(8 + r.rnd.IntN(8)); err != nil {
		r.t.Fatal(err)
	}
	for round := range 3 {
		for _, x := range r.relays {
			x.set(r.fault())
		}
		var passes sync.WaitGroup
		passes.Go(func() {
			for range 2 {
				_, _ = r.Run(r.t.Context(), lab.User(r.N), syncer.RunOptions{Deletes: true})
			}
		})
		for range 10 {
			if err := r.Act(); err != nil {
				passes.Wait()
				r.t.Fatalf("%v\n%s", err, r.Story())
			}
			time.Sleep(time.Duration(r.rnd.IntN(15)) * time.Millisecond)
		}
		passes.Wait()
		var wait time.Duration
		for _, x := range r.relays {
			wait = max(wait, x.lateness())
		}
		time.Sleep(wait)
		r.settle(round)
		if round < 2 && r.rnd.IntN(3) == 0 { // then another pass has to follow
			r.turn(r.Route.Other())
		}
	}
	v, err := r.Verify(r.t.Context(), lab.User(r.N), syncer.VerifyOptions{Deep: true})
	if err != nil {
		r.t.Fatal(err)
	}
	if v.Different() > 0 {
		var b strings.Builder
		_ = v.WriteTable(&b)
		r.t.Errorf("%s\n%s", b.String(), r.Story())
	}
}

// fault is one of those that connections meet, or none.
func (r *seedRig) fault() fault {
	n := 200 + r.rnd.IntN(30_000)
	switch r.rnd.IntN(6) {
	case 0:
		return fault{up: n}
	case 1:
		return fault{down: n}
	case 2:
		return fault{up: n, late: late}
	case 3, 4:
		return fault{verb: answered[r.rnd.IntN(len(answered))], nth: 1 + r.rnd.IntN(4)}
	}
	return fault{}
}

// settle runs passes without faults until both sides hold what they have to.
func (r *seedRig) settle(round int) {
	for _, x := range r.relays {
		x.set(fault{})
	}
	var said string
	for tries := range 9 {
		if tries > 2 { // what is in quarantine is tried again
			r.clock.Add(int64(30 * time.Hour))
		}
		rep, err := r.Run(r.t.Context(), lab.User(r.N), syncer.RunOptions{Deletes: true})
		if err != nil || len(rep.Errors) > 0 {
			said = fmt.Sprintf("%v, %+v", err, rep)
			continue
		}
		said = fmt.Sprintf("%+v", rep)
		r.learnNames()
		list, err := r.Look()
		if err != nil {
			r.t.Fatal(err)
		}
		if len(list) > 0 {
			v, err := r.Verify(r.t.Context(), lab.User(r.N), syncer.VerifyOptions{})
			if err != nil {
				r.t.Fatal(err)
			}
			if list = people.Unexplained(list, v); len(list) > 0 {
				said = fmt.Sprintf("%s\n%v", said, list)
				continue
			}
		}
		if !r.Adopt() {
			r.Settled()
			return
		}
	}
	r.t.Fatalf("MAILGATE_SEED, round %d: not equal: %s\n%s", round, strings.ReplaceAll(said, "\x00", "/"), r.Story())
}

// learnNames takes over from the plan which folder is which, where names do not follow from the levels.
func (r *seedRig) learnNames() {
	plan, err := r.Plan(r.t.Context(), lab.User(r.N))
	if err != nil {
		r.t.Fatal(err)
	}
	r.Learn(plan.Folders)
}
