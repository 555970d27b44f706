package syncer

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"mailgate/backend"
	"mailgate/config"
)

// WatcherOptions of a Watcher. Open and Hint must be set.
type WatcherOptions struct {
	// Open logs in at a side as user. It must end when ctx does.
	Open func(ctx context.Context, side config.Side, user string) (*backend.Client, error)
	// Hint is told of whom something has changed, from many goroutines at once, once for each response of a server: it must not
	// block. It is also told when a watch begins, for what has changed before: Keeper.Hint does.
	Hint func(user string)
	// Place names the host of a user's connections to a side, "" where it may be any of several; nil means that nothing is known of that.
	// Where one user of a host is not told of changes no other is asked for an hour.
	Place   func(side config.Side, user string) string
	Budget  *Budget       // of connections: a watch has one that nobody else needs, and gives it up for a pass; nil means as many as Max
	Max     int           // connections, those that are being made too; 0 means 100
	Pause   time.Duration // from a failure to the next try, doubled each time, give or take a quarter; 0 means 1 s
	Longest time.Duration // that grows to, and the pause after a login that was refused; 0 means 5 min
	Renew   time.Duration // how often NOTIFY is asked for anew; 0 means 10 min
	Log     *slog.Logger
}

// watchLogins is how many logins to a side are under way at once.
const watchLogins = 4

// deafPause is how long a user, and a host, is left alone that tells of nothing.
const deafPause = time.Hour

// Watcher keeps connections to mailboxes whose servers tell of changes by themselves, one for each user, and gives hints. It
// hears of all personal mailboxes where there is NOTIFY (RFC 5465), of INBOX where there is IDLE (RFC 2177). Users of servers that
// have neither, whose logins fail, or who are too many, are for polls to look after; so is everything else than INBOX under
// IDLE. It is safe for concurrent use. Run does the work.
type Watcher struct {
	o      WatcherOptions
	wake   chan struct{}
	logins [2]chan struct{} // has room for those under way

	mu      sync.Mutex
	users   map[string]*watched
	first   map[string]bool       // go before others
	deaf    map[hostKey]time.Time // until when nobody is asked there
	active  int                   // goroutines, of users not wanted any more too
	leaving int                   // of them, those that make room for others
}

// watched is a user who is to be watched on a side. Its fields but the first two are the Watcher's, under mu.
type watched struct {
	user   string
	side   config.Side
	at     time.Time // of the next try
	pause  time.Duration
	class  string             // of the trouble that was logged; "" while all is well
	told   string             // the last that was logged
	toldAt time.Time          // when
	cancel context.CancelFunc // not nil while there is a goroutine for him
	since  time.Time          // when the server began to tell; zero while it does not
	leaves bool               // it ends to make room for another
}

// NewWatcher makes a Watcher of nobody.
func NewWatcher(o WatcherOptions) *Watcher {
	if o.Max <= 0 {
		o.Max = 100
	}
	for d, to := range map[*time.Duration]time.Duration{&o.Pause: time.Second, &o.Longest: 5 * time.Minute, &o.Renew: 10 * time.Minute} {
		if *d <= 0 {
			*d = to
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &Watcher{o: o, wake: make(chan struct{}, 1), users: map[string]*watched{}, deaf: map[hostKey]time.Time{}}
	for side := range w.logins {
		w.logins[side] = make(chan struct{}, watchLogins)
	}
	return w
}

// Prefer says who goes first where there are more than connections: they take those of others. It holds for Set, before and after.
func (w *Watcher) Prefer(users map[string]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.first = users
	w.poke()
}

// Set says who is to be watched, and where: on the side that decides for him. Who is left out, or has moved, is let go. When
// there are more than connections, those who have one keep it, and free ones go to who has waited longest, in the order of
// their names at first. Who cannot be watched takes none. Of nobody means that hosts may be others from now on. It does not wait.
func (w *Watcher) Set(wanted map[string]config.Side) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(wanted) == 0 {
		clear(w.deaf)
	}
	for name, u := range w.users {
		if side, ok := wanted[name]; !ok || side != u.side {
			delete(w.users, name)
			if u.cancel != nil {
				u.cancel()
			}
		}
	}
	for name, side := range wanted {
		if w.users[name] == nil {
			w.users[name] = &watched{user: name, side: side, pause: w.o.Pause}
		}
	}
	w.poke()
}

// SetMax changes how many connections there may be. Those that are there stay.
func (w *Watcher) SetMax(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.o.Max = max(n, 0)
	w.poke()
}

// Watched tells of whom changes are told now, in the order of their names.
func (w *Watcher) Watched() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for name, u := range w.users {
		if !u.since.IsZero() {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Run watches until ctx ends, and takes leave of the servers then. It may be called once.
func (w *Watcher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	t := time.NewTimer(0)
	defer t.Stop()
	for ctx.Err() == nil {
		u, mine, wait := w.next(ctx)
		if u != nil {
			wg.Go(func() { w.watch(mine, u) })
			continue
		}
		t.Reset(wait)
		select {
		case <-ctx.Done():
		case <-w.wake:
		case <-t.C:
		}
	}
}

// next takes who is to be connected now, or tells how long there is nobody.
func (w *Watcher) next(ctx context.Context) (*watched, context.Context, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	const long = time.Hour
	now := time.Now()
	wait := long
	var first, spare *watched
	for _, u := range w.users {
		switch {
		case u.cancel != nil:
			if !u.leaves && !w.first[u.user] && (spare == nil || u.user > spare.user) {
				spare = u
			}
		case now.Before(w.from(u)):
			wait = min(wait, w.from(u).Sub(now))
		case first == nil || w.before(u, first):
			first = u
		}
	}
	switch {
	case first == nil:
		return nil, nil, wait
	case w.active >= w.o.Max:
		if w.o.Max > 0 && spare != nil && w.first[first.user] && w.leaving == 0 { // one by one: its end brings us here again
			spare.leaves, spare.at = true, now
			w.leaving++
			spare.cancel()
		}
		return nil, nil, long
	}
	w.active++
	ctx, first.cancel = context.WithCancel(ctx)
	return first, ctx, 0
}

// before tells who is connected first. mu is held.
func (w *Watcher) before(a, b *watched) bool {
	if w.first[a.user] != w.first[b.user] {
		return w.first[a.user]
	}
	return a.at.Before(b.at) || a.at.Equal(b.at) && a.user < b.user
}

// from is when a user may be tried. mu is held.
func (w *Watcher) from(u *watched) time.Time {
	if until := w.deaf[w.place(u)]; until.After(u.at) {
		return until
	}
	return u.at
}

// place is where a user is watched; the zero one is nowhere in particular.
func (w *Watcher) place(u *watched) (key hostKey) {
	if w.o.Place != nil {
		if name := w.o.Place(u.side, u.user); name != "" {
			key = hostKey{u.side, name}
		}
	}
	return key
}

// watch is one connection, from login to its end.
func (w *Watcher) watch(ctx context.Context, u *watched) {
	err := safely(func() error { return w.listen(ctx, u) })
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.poke()
	over := ctx.Err() != nil
	u.cancel() // frees the context
	u.cancel = nil
	w.active--
	if u.leaves {
		u.leaves = false
		w.leaving--
	}
	since := u.since
	u.since = time.Time{}
	if !over {
		w.failed(u, err, !since.IsZero() && time.Since(since) >= 60*w.o.Pause)
	}
}

// failed decides when a user is tried again, and logs what is new. well means that the connection had stood for a while: such
// end now and then. mu is held.
func (w *Watcher) failed(u *watched, err error, well bool) {
	kind := classOf(err)
	var pause time.Duration
	switch {
	case kind == classDeaf:
		pause = max(deafPause, w.o.Longest)
		if key := w.place(u); key != (hostKey{}) {
			w.deaf[key] = time.Now().Add(pause)
		}
	case kind == classRefused:
		u.pause = w.o.Longest
		pause = u.pause
	case well:
		u.pause = w.o.Pause
		pause = u.pause
	default:
		pause = u.pause
		u.pause = min(u.pause*2, w.o.Longest)
	}
	u.at = time.Now().Add(pause - pause/4 + rand.N(pause/2+1))
	if well && kind != classDefect || kind == u.class {
		return
	}
	if kind != classDefect && kind == u.told && time.Since(u.toldAt) < tellAgain { // a host that drops connections now and then
		return
	}
	u.class, u.told, u.toldAt = kind, kind, time.Now()
	if kind == classDeaf {
		w.o.Log.Info("the server does not tell of changes, polls have to", "user", u.user, "side", u.side.String())
		return
	}
	if kind == classDefect {
		w.o.Log.Error("a defect ended a watch", "user", u.user, "side", u.side.String(), "err", err, "stack", string(stackOf(err)))
		return
	}
	w.o.Log.Warn("cannot watch a mailbox, polls have to do meanwhile", "user", u.user, "side", u.side.String(), "trouble", kind, "err", err)
}

// stands notes that the server tells from now on.
func (w *Watcher) stands(u *watched, how string) {
	w.mu.Lock()
	u.since = time.Now()
	before := u.class
	u.class = ""
	w.mu.Unlock()
	if before != "" {
		w.o.Log.Info("a mailbox is watched again", "user", u.user, "side", u.side.String(), "by", how)
	}
	w.o.Hint(u.user)
}

// poke wakes Run.
func (w *Watcher) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
