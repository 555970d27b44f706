package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/syncer"
)

// keeping makes passes by itself, over the users of waves that have started (sync.waves). It is safe for concurrent use.
type keeping struct {
	s *syncing
	k *syncer.Keeper
	w *syncer.Watcher

	changing sync.Mutex // one change of who is kept and who is paused at a time, from reading what is so to its being in force; before mu

	mu      sync.Mutex
	stall   time.Duration // how long a pass may make no headway
	engine  *engine
	users   map[string]*keptUser
	paused  map[string]syncer.Pause
	unknown []string // waves that have started and have nobody
	added   chan struct{}
	flipped chan struct{} // somebody was moved who may be kept from now on, or no more

	fresh                      time.Duration // see freshTime
	gapsPause                  time.Duration // before each look at what does not travel
	compareFirst, comparePause time.Duration // before the first comparison of both sides, and before each
}

// keptUser is what is remembered of a user's passes for status.
type keptUser struct {
	report   *syncer.Report // of the last one that came to its end
	whole    time.Time      // when the last whole pass began
	under    *config.Config // what it was made under
	copied   bool           // a whole pass was made, in this process or before
	failing  bool
	told     bool      // the history says so
	toldAt   time.Time // when that was written
	progress syncer.Progress
	scripts  uint64    // changes of his Sieve scripts through the gateway that no pass has looked at; 0 means none
	gaps     string    // what does not travel, in a line; "" where nobody has looked
	gapsAt   time.Time // when that was
	looked   time.Time // when a look at numbers showed last that nothing has changed
	refused  bool      // his last flip ended behind the fence without a move: the next one is looked into ahead of it

	paces []time.Duration // how long the last passes took that found little to do
}

// engine is a syncer with the configuration that it was made for. It lives on between passes: it keeps connections.
type engine struct {
	*syncer.Syncer
	conf *config.Config
	uses int
	old  bool
}

// stallTime is how long a pass may make no headway: a host that says a little now and then is not silent, and must not hold a turn for ever.
// peekTime is how long a look at numbers may take.
const (
	stallTime = time.Hour
	peekTime  = 5 * time.Minute
)

// freshTime is how long what a pass or a look has seen of a user is good for PREP, as long as no change is known of since: to ask a Maildir
// of 20,000 messages for its numbers takes longer than all else before the fence. What came past the gateway meanwhile is carried behind it.
const freshTime = 30 * time.Second

// keptConnections is how long a connection to each side waits for the next pass over the same user.
const keptConnections = 30 * time.Second

func newKeeping(s *syncing) *keeping {
	c := s.g.conf.Load().Sync
	kp := &keeping{s: s, stall: stallTime, users: map[string]*keptUser{}, paused: map[string]syncer.Pause{}, added: make(chan struct{}, 1), flipped: make(chan struct{}, 1),
		fresh: freshTime, gapsPause: gapsPause, compareFirst: compareFirst, comparePause: comparePause}
	kp.k = syncer.NewKeeper(syncer.KeeperOptions{Pass: kp.pass, Passes: c.Passes, Quiet: c.Poll, Log: s.g.log})
	kp.w = syncer.NewWatcher(syncer.WatcherOptions{Open: s.accounts.open, Hint: kp.k.Hint, Place: s.g.place, Budget: s.budget, Max: 1, Log: s.g.log})
	return kp
}

// load reads from the store who is paused.
func (kp *keeping) load(ctx context.Context) error {
	kp.changing.Lock()
	defer kp.changing.Unlock()
	list, err := kp.s.g.store.Pauses(ctx)
	if err != nil {
		return err
	}
	kp.mu.Lock()
	clear(kp.paused)
	for _, p := range list {
		kp.paused[p.User] = p
	}
	kp.mu.Unlock()
	kp.adopt()
	return nil
}

// run makes passes until ctx ends, and waits for their end.
func (kp *keeping) run(ctx context.Context) {
	open, _ := kp.s.windowOpen(time.Now()) // before the first copy begins, not while it is under way
	kp.k.Copies(open)
	var wg sync.WaitGroup
	wg.Go(func() { kp.sizes(ctx) })
	wg.Go(func() { kp.w.Run(ctx) })
	wg.Go(func() { kp.watch(ctx) })
	wg.Go(func() { kp.windows(ctx) })
	wg.Go(func() { kp.gaps(ctx) })
	wg.Go(func() { kp.compares(ctx) })
	wg.Go(func() { kp.flips(ctx) })
	kp.k.Run(ctx)
	wg.Wait()
	kp.mu.Lock()
	e := kp.engine
	kp.engine = nil
	kp.mu.Unlock()
	if e != nil {
		e.Close()
	}
}

// configure takes over what the files say now. Who fails is tried again: it may have been mended.
func (kp *keeping) configure() {
	kp.changing.Lock()
	defer kp.changing.Unlock()
	kp.adopt()
	kp.k.Again()
}

// adopt puts in force who is kept and who is paused. A pass over somebody who is kept no more ends. changing is held.
func (kp *keeping) adopt() {
	for _, user := range kp.keep() {
		kp.s.endBackground(user, errNotKept)
		kp.s.proofs.Forget(user)
	}
}

// keep does that, and tells who was kept until now. changing is held.
func (kp *keeping) keep() (left []string) {
	conf, routes := kp.s.g.conf.Load(), kp.s.g.routes.Load()
	started, ended := map[string]int{}, kp.s.g.moves().Completed()
	for _, w := range kp.s.g.keptWaves() {
		started[w] = 0
	}
	var users []string
	carry := configuredSync(conf) && conf.Flip.Delta != "off"
	for address, r := range routes.Users {
		_, own := started[r.Wave]
		_, all := started["*"]
		switch {
		case all && !slices.Contains(ended, r.Wave) || own && r.Wave != "":
			users = append(users, address)
			started[r.Wave]++
		case carry && !slices.Contains(ended, r.Wave) && kp.wentToNew(address): // so that he can go back at any time
			users = append(users, address)
		}
	}
	slices.Sort(users)
	kp.mu.Lock()
	defer kp.mu.Unlock()
	kp.unknown = nil
	for _, w := range conf.Sync.Waves {
		if w != "*" && started[w] == 0 {
			kp.unknown = append(kp.unknown, w)
		}
	}
	kept := make(map[string]*keptUser, len(users))
	paused := map[string]bool{}
	for _, u := range users {
		if kept[u] = kp.users[u]; kept[u] == nil {
			kept[u] = &keptUser{}
		}
		_, paused[u] = kp.pauseOf(u)
	}
	for u := range kp.users {
		if kept[u] == nil {
			left = append(left, u)
		}
	}
	kp.users = kept
	kp.k.Configure(conf.Sync.Passes, conf.Sync.Poll)
	kp.k.Keep(users, paused)
	select {
	case kp.added <- struct{}{}:
	default:
	}
	return left
}

// wentToNew tells whether a flip has brought a user to NEW: then OLD is kept equal, whatever wave he is in, until that is complete.
func (kp *keeping) wentToNew(user string) bool {
	p, known := kp.s.g.router.Lookup(user)
	return known && p.Side == config.New && p.Epoch > 0
}

// flips has who is kept looked at anew behind flips of users whose waves have not started, those of a second together.
func (kp *keeping) flips(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-kp.flipped:
		}
		kp.changing.Lock()
		kp.adopt()
		kp.changing.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// pauseOf is what keeps passes from a user; mu is held.
func (kp *keeping) pauseOf(user string) (syncer.Pause, bool) {
	p, ok := kp.paused[user]
	if !ok {
		p, ok = kp.paused[syncer.Everybody]
	}
	return p, ok
}

// take gives the syncer for the configuration in force; put gives it back.
func (kp *keeping) take() *engine {
	var unused *engine
	defer func() {
		if unused != nil { // behind the lock: its connections take their leave
			unused.Close()
		}
	}()
	kp.mu.Lock()
	defer kp.mu.Unlock()
	conf := kp.s.g.conf.Load()
	if e := kp.engine; e != nil && !sameRules(e.conf, conf) { // a reload of the routes is no reason to forget what is known of users
		if e.old = true; e.uses == 0 {
			unused = e
		}
		kp.engine = nil
	}
	if kp.engine == nil {
		kp.engine = &engine{Syncer: kp.s.syncerFor(conf, keptConnections), conf: conf}
	}
	kp.engine.uses++
	return kp.engine
}

func (kp *keeping) put(e *engine) {
	kp.mu.Lock()
	e.uses--
	last := e.old && e.uses == 0
	kp.mu.Unlock()
	if last {
		e.Close()
	}
}

// pause keeps passes from a user, or from everybody, or lets them on again. It tells whether that changed anything.
func (kp *keeping) pause(ctx context.Context, user, by, from, reason string, on bool) (changed bool, err error) {
	e := op.Event{At: time.Now(), User: user, By: by, From: from, Detail: reason, What: "sync paused"}
	if on {
		changed, err = kp.s.g.store.SetPause(ctx, syncer.Pause{User: user, By: by, Reason: reason, At: e.At}, e)
	} else {
		e.What = "sync resumed"
		changed, err = kp.s.g.store.DropPause(ctx, user, e)
	}
	if err != nil {
		return false, err
	}
	if err := kp.load(ctx); err != nil {
		return changed, err
	}
	if on { // what is under way ends: the next pass goes on where it was
		kp.s.endBackground(user, errPaused)
	}
	return changed, nil
}

// Causes why passes that begin by themselves end.
var (
	errPaused  = errors.New("sync is paused")
	errNotKept = errors.New("his wave is not in sync.waves any more")
	errStalled = errors.New("it made no headway for too long, though the hosts answer; its turn is others' now")
	errWindow  = errors.New("the time for first copies is over (sync.windows)")
)
