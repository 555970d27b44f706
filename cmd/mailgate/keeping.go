package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
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
	engine  *engine
	users   map[string]*keptUser
	paused  map[string]syncer.Pause
	unknown []string // waves that have started and have nobody
	added   chan struct{}
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
}

// engine is a syncer with the configuration that it was made for. It lives on between passes: it keeps connections.
type engine struct {
	*syncer.Syncer
	conf *config.Config
	uses int
	old  bool
}

// keptConnections is how long a connection to each side waits for the next pass over the same user.
const keptConnections = 30 * time.Second

func newKeeping(s *syncing) *keeping {
	c := s.g.conf.Load().Sync
	kp := &keeping{s: s, users: map[string]*keptUser{}, paused: map[string]syncer.Pause{}, added: make(chan struct{}, 1)}
	kp.k = syncer.NewKeeper(syncer.KeeperOptions{Pass: kp.pass, Passes: c.Passes, Quiet: c.Poll, Log: s.g.log})
	kp.w = syncer.NewWatcher(syncer.WatcherOptions{Open: s.accounts.open, Hint: kp.k.Hint, Budget: s.budget, Max: 1, Log: s.g.log})
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
	var wg sync.WaitGroup
	wg.Go(func() { kp.sizes(ctx) })
	wg.Go(func() { kp.w.Run(ctx) })
	wg.Go(func() { kp.watch(ctx) })
	wg.Go(func() { kp.windows(ctx) })
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
	}
}

// keep does that, and tells who was kept until now. changing is held.
func (kp *keeping) keep() (left []string) {
	conf, routes := kp.s.g.conf.Load(), kp.s.g.routes.Load()
	started := map[string]int{}
	for _, w := range conf.Sync.Waves {
		started[w] = 0
	}
	var users []string
	for address, r := range routes.Users {
		_, own := started[r.Wave]
		if _, all := started["*"]; all || own && r.Wave != "" {
			users = append(users, address)
			started[r.Wave]++
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

// windowLook is how often it is looked whether first copies may be made: clocks and files change.
const windowLook = 10 * time.Second

// windows lets first copies be made within sync.windows. Those that are under way when a window closes end, and go on in the next one.
func (kp *keeping) windows(ctx context.Context) {
	was := true
	for {
		now := time.Now()
		open, until := kp.s.windowOpen(now)
		kp.k.Copies(open)
		if was && !open {
			for _, u := range kp.k.Copying() {
				kp.s.endBackground(u, errWindow)
			}
		}
		was = open
		wait := windowLook
		if d := until.Sub(now); !until.IsZero() && d > 0 {
			wait = min(wait, d)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// watchEvery is how often it is looked who is to be watched: sessions come and go.
const watchEvery = 5 * time.Second

// watch says who is to be watched: of those who are kept, and not paused, as many as there may be connections, with a session first.
func (kp *keeping) watch(ctx context.Context) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	hosts := kp.s.g.conf.Load()
	for {
		conf := kp.s.g.conf.Load()
		most := conf.Sync.Watch
		if hosts != conf && !reflect.DeepEqual(hosts.Backends, conf.Backends) { // nobody listens at a host that is none any more
			kp.w.Set(nil)
		}
		hosts = conf
		var users []string
		kp.mu.Lock()
		for u := range kp.users {
			if _, paused := kp.pauseOf(u); !paused && most > 0 {
				users = append(users, u)
			}
		}
		kp.mu.Unlock()
		users = slices.DeleteFunc(users, func(u string) bool { // before the first pass there is enough to do
			st, ok := kp.k.State(u)
			return !ok || st.Last.IsZero()
		})
		slices.Sort(users)
		if len(users) > most {
			online := map[string]bool{}
			for _, s := range kp.s.g.router.Sessions("") {
				online[s.User] = true
			}
			slices.SortStableFunc(users, func(a, b string) int { return cmp.Compare(word(online[b]), word(online[a])) })
			users = users[:most]
		}
		wanted := make(map[string]config.Side, len(users))
		for _, u := range users {
			wanted[u] = kp.s.g.manager.Side(u)
			if p, known := kp.s.g.router.Lookup(u); known {
				wanted[u] = p.Side
			}
		}
		kp.w.SetMax(most)
		kp.w.Set(wanted)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// word is 1 for true.
func word(b bool) int {
	if b {
		return 1
	}
	return 0
}

// sizeTime bounds the look at one user's size.
const sizeTime = 30 * time.Second

// sizes looks who had his first copy before this process began, and how much those have who wait for it: small mailboxes come first.
// Where it cannot be told, the copy will tell why.
func (kp *keeping) sizes(ctx context.Context) {
	known := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-kp.added:
		}
		for _, user := range kp.k.Fresh() {
			if kp.through(ctx, user) {
				kp.k.Through(user)
			}
		}
		for _, user := range kp.k.Fresh() {
			if known[user] || ctx.Err() != nil {
				continue
			}
			known[user] = true
			e := kp.take()
			look, cancel := context.WithTimeout(ctx, sizeTime)
			if n, err := e.Size(look, user); err == nil {
				kp.k.Size(user, n)
			}
			cancel()
			kp.put(e)
		}
	}
}

// through tells whether a pass over a user has come to its end before: the store says how far the sides were read then.
func (kp *keeping) through(ctx context.Context, user string) bool {
	list, err := kp.s.g.store.Mailboxes(ctx, user)
	return err == nil && slices.ContainsFunc(list, func(m syncer.Mailbox) bool { return m.Cursor != [2]syncer.Cursor{} })
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
	if e := kp.engine; e != nil && e.conf != conf {
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

// pass makes one pass over a user, for the keeper.
func (kp *keeping) pass(ctx context.Context, user string, hinted bool) (changed bool, err error) {
	began := time.Now()
	r, err := kp.once(ctx, user, hinted)
	switch {
	case errors.Is(err, syncer.ErrBusy):
		return false, err
	case err == nil && r == nil:
		kp.s.g.metrics.Pass("unchanged", 0)
		return false, nil
	}
	kp.note(user, r, err) // when the mailboxes are free again: where the store is slow nobody waits for that
	switch {
	case err != nil:
		kp.s.g.metrics.Pass("failed", time.Since(began))
	case len(r.Errors) > 0:
		kp.s.g.metrics.Pass("partly", time.Since(began))
	default:
		kp.s.g.metrics.Pass("ok", time.Since(began))
	}
	return err == nil && worked(r), err
}

// once is the pass itself; no report and no error mean that a look at numbers was enough. Its error is ErrBusy when it did not begin, or
// was told to end: that says nothing of the mailboxes.
func (kp *keeping) once(ctx context.Context, user string, hinted bool) (*syncer.Report, error) {
	u, leave, err := kp.s.enter(ctx, user, true)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", syncer.ErrBusy, err)
	}
	defer leave()
	if err := kp.begin(user); err != nil { // decided since the keeper chose him; what is decided from now on ends the pass
		return nil, fmt.Errorf("%w: %w", syncer.ErrBusy, err)
	}
	e := kp.take()
	defer kp.put(e)
	if !hinted && kp.atRest(user, e.conf, time.Now()) {
		if changed, err := e.Peek(u.ctx, user); err == nil && !changed {
			return nil, nil
		}
	}
	r, err := kp.over(u, e, user)
	if err == nil {
		kp.mu.Lock()
		if k := kp.users[user]; k != nil {
			k.under = e.conf
		}
		kp.mu.Unlock()
	}
	cause := context.Cause(u.ctx)
	if err == nil || cause == nil && !errors.Is(err, errMovingNow) && !errors.Is(err, syncer.ErrMoved) {
		return r, err
	}
	kp.s.g.metrics.Pass("interrupted", 0)
	return nil, fmt.Errorf("%w: %w", syncer.ErrBusy, cmp.Or(cause, err))
}

// begin tells what is in the way of a pass.
func (kp *keeping) begin(user string) error {
	kp.mu.Lock()
	defer kp.mu.Unlock()
	k := kp.users[user]
	if k == nil {
		return errNotKept
	}
	if _, paused := kp.pauseOf(user); paused {
		return errPaused
	}
	k.progress = syncer.Progress{} // that of the last one
	return nil
}

// wholeEvery is how often a whole pass is made over a user in whose mailboxes nothing seems to change: a look at numbers does not show
// all (subscriptions, what is in quarantine and may be tried again, flags where there is no CONDSTORE).
const wholeEvery = 15 * time.Minute

// sameRules tells whether passes do the same under both: numbers do not tell what another folder plan, or another host, means.
func sameRules(a, b *config.Config) bool {
	return a == b || a != nil && b != nil && reflect.DeepEqual(a.Sync, b.Sync) && reflect.DeepEqual(a.Backends, b.Backends)
}

// atRest tells that a look at numbers is enough for now: the last whole pass is not long ago, and left nothing undone.
func (kp *keeping) atRest(user string, conf *config.Config, now time.Time) bool {
	kp.mu.Lock()
	defer kp.mu.Unlock()
	k := kp.users[user]
	return k != nil && !k.failing && sameRules(k.under, conf) && k.report != nil && k.report.Told && len(k.report.Errors) == 0 && now.Sub(k.whole) < wholeEvery
}

func (kp *keeping) over(u *underway, e *engine, user string) (*syncer.Report, error) {
	if err := kp.s.proveBoth(u.ctx, e.Syncer, user, true); err != nil {
		return nil, err
	}
	kp.mu.Lock()
	k := kp.users[user]
	first := k != nil && !k.copied
	kp.mu.Unlock()
	if first && kp.through(u.ctx, user) {
		kp.mu.Lock()
		k.copied = true
		kp.mu.Unlock()
	}
	return e.Run(u.ctx, user, syncer.RunOptions{Progress: func(p syncer.Progress) {
		kp.s.mu.Lock()
		u.progress = p
		kp.s.mu.Unlock()
		kp.mu.Lock()
		defer kp.mu.Unlock()
		if k := kp.users[user]; k != nil {
			k.progress = p
		}
	}})
}

// worked tells whether a pass has changed anything.
func worked(r *syncer.Report) bool {
	n := r.Copied[0] + r.Copied[1] + r.Moved[0] + r.Moved[1] + r.Flags[0] + r.Flags[1] + r.Expunged[0] + r.Expunged[1] + r.Paired
	for side := range config.Sides {
		n += int64(r.Created[side] + r.Renamed[side] + r.Deleted[side] + r.Subscribed[side])
	}
	return n > 0
}

// tellAgain is the shortest between two notes in the history that a user fails: one who fails and works by turns must not fill it.
const tellAgain = time.Hour

// note remembers how a pass ended. The history has the turns: the first copy, trouble, and its end.
func (kp *keeping) note(user string, r *syncer.Report, err error) {
	var events []op.Event
	add := func(what, detail string) {
		events = append(events, op.Event{At: time.Now(), User: user, By: "serve", What: what, Detail: strings.ReplaceAll(detail, "\n", "; ")})
	}
	kp.mu.Lock()
	k := kp.users[user]
	if k != nil {
		k.failing = err != nil
	}
	switch {
	case k == nil: // not kept any more
	case err == nil:
		if k.told {
			add("sync works again", did(r))
		}
		if !k.copied {
			add("first copy done", did(r))
		}
		k.report, k.whole, k.copied, k.told = r, r.Began, true, false
	case !k.told && (k.toldAt.IsZero() || time.Since(k.toldAt) >= tellAgain):
		add("sync is failing", err.Error())
		k.told, k.toldAt = true, time.Now()
	}
	kp.mu.Unlock()
	if len(events) == 0 {
		return
	}
	if err != nil {
		kp.s.g.log.Warn("a user's mailboxes cannot be brought together; it is tried again", "user", user, "err", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	if err := kp.s.g.store.AddEvents(ctx, events...); err != nil {
		kp.s.g.log.Warn("an event is not recorded", "user", user, "what", events[0].What, "err", err)
	}
}

// pause keeps passes from a user, or from everybody, or lets them on again. It tells whether that changed anything.
func (kp *keeping) pause(ctx context.Context, user, by, reason string, on bool) (changed bool, err error) {
	e := op.Event{At: time.Now(), User: user, By: by, Detail: reason, What: "sync paused"}
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
	errWindow  = errors.New("the time for first copies is over (sync.windows)")
)
