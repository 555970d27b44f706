package syncer

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// KeeperOptions of a Keeper.
type KeeperOptions struct {
	// Pass makes one pass over a user's mailboxes. It is called for several users at once, never twice at once for one. changed tells
	// that there was something to do, so that more may follow soon. ErrBusy means that somebody else is at them; with
	// ErrCrowded beside it, that a host is crowded. hinted tells that a
	// change is known of, or that the pass before has failed.
	Pass   func(ctx context.Context, user string, hinted bool) (changed bool, err error)
	Passes int           // at once; 0 means 4. First copies take half of them at most, so that those who are through stay so
	Slice  time.Duration // where there is one turn only, the longest that a first copy has it while others wait, and they while it waits; 0 means 30 s
	Soon   time.Duration // from a hint to the pass: what comes together is done together; 0 means 500 ms
	Busy   time.Duration // between two passes while there are changes; 0 means 5 s
	Quiet  time.Duration // between two passes while there are none: it grows from Busy to this; 0 means 5 min
	Retry  time.Duration // from a pass that failed to the next, doubled each time; 0 means 15 s
	Late   time.Duration // the longest that grows to; 0 means 30 min
	Log    *slog.Logger  // of defects in Pass; nil means none
}

// Keeper keeps accounts converged: it decides when a pass over whom is due. Users do not wait for each other: one who fails is tried
// again later and later, and takes nobody's turn. It is safe for concurrent use. Run makes the passes.
type Keeper struct {
	o     KeeperOptions
	wake  chan struct{}
	began time.Time

	mu     sync.Mutex
	users  map[string]*kept
	leave  map[string]*kept // not kept any more, with a pass under way: who comes back meanwhile must not get a second one
	due    dueQueue         // those that wait, by time; those under way are in none
	fresh  dueQueue         // the same, of those who never had a whole pass
	copies int              // first copies under way
	passes int              // under way, in all
	others time.Time        // until when the last turn is not for first copies, if there is somebody else
	wait   bool             // no first copy may begin now
}

// kept is a user.
type kept struct {
	user   string
	at     time.Time // when a pass is due
	place  int       // in its queue; -1 while in none
	state  KeptState
	every  time.Duration
	retry  time.Duration
	paused bool
	gone   bool // not kept any more

	asked   time.Time     // when he came to be kept
	extent  *Extent       // nil while it is not known
	online  bool          // he works now
	through bool          // had a whole pass: at some time, not only by this Keeper
	copying bool          // the pass under way counts as a first copy
	crowded time.Duration // the pause behind the next pass that a crowded host lets not begin; 0 means Busy
	again   bool          // the last pass was ended early: what it had seen is still to be done
	mended  bool          // what the pass under way may fail for is mended since it began, see Retry
	began   time.Time     // the pass under way
	yield   *atomic.Bool  // asks it to give way
	failed  time.Time     // when the last pass did
	carries time.Time     // Since of when the pass under way began
}

// KeptState is how far a user is.
type KeptState struct {
	Phase  string        // "first copy", "converged", "no login", "failing", "paused"
	Now    bool          // a pass is under way
	Since  time.Time     // of the oldest change that is known of and not carried yet, by a pass under way neither; zero when there is none
	Last   time.Time     // when the last whole pass began; zero when there was none
	Took   time.Duration // that pass
	Next   time.Time     // when the next one is due; zero while one is under way, or paused
	Tries  int           // that failed, one after the other
	Err    error         // of the last pass
	Passes int64
}

// NewKeeper makes a Keeper of nobody.
func NewKeeper(o KeeperOptions) *Keeper {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&o.Soon, 500*time.Millisecond)
	set(&o.Busy, 5*time.Second)
	set(&o.Quiet, 5*time.Minute)
	set(&o.Retry, 15*time.Second)
	set(&o.Late, 30*time.Minute)
	set(&o.Slice, 30*time.Second)
	if o.Passes <= 0 {
		o.Passes = 4
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{o: o, wake: make(chan struct{}, 1), users: map[string]*kept{}, leave: map[string]*kept{}, began: time.Now()}
}

// Configure changes Passes and Quiet, from now on.
func (k *Keeper) Configure(passes int, quiet time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if passes > 0 {
		k.o.Passes = passes
	}
	if quiet > 0 {
		k.o.Quiet = quiet
	}
	k.poke()
}

// Keep says whose accounts are kept, and which of them are paused. Who is new is due at once, in the order of the list; who is left out
// is forgotten: a pass that is under way ends by itself.
func (k *Keeper) Keep(users []string, paused map[string]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	want := make(map[string]bool, len(users))
	for i, user := range users {
		want[user] = true
		u := k.users[user]
		switch {
		case u != nil:
		case k.leave[user] != nil:
			u = k.leave[user]
			u.gone = false
			delete(k.leave, user)
			k.users[user] = u
		default:
			u = &kept{user: user, place: -1, every: k.o.Busy, retry: k.o.Retry, asked: now.Add(time.Duration(i))}
			u.at = u.asked
			k.users[user] = u
			k.queue(u)
		}
		k.pause(u, paused[user])
	}
	for user, u := range k.users {
		if !want[user] {
			u.gone = true
			k.unqueue(u)
			delete(k.users, user)
			if u.state.Now {
				k.leave[user] = u
			}
		}
	}
	k.poke()
}

// Pause keeps passes from a user, or lets them on again. A pass that is under way ends by itself.
func (k *Keeper) Pause(user string, paused bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if u := k.users[user]; u != nil {
		k.pause(u, paused)
		k.poke()
	}
}

func (k *Keeper) pause(u *kept, paused bool) {
	if u.paused == paused {
		return
	}
	if u.paused = paused; paused {
		k.unqueue(u)
	} else if !u.state.Now {
		u.at = time.Now()
		k.queue(u)
		k.rank(u)
	}
}

// Hint says that something has changed in a user's mailboxes, on whichever side: a pass is due soon. While he fails, it is not due
// sooner for that.
func (k *Keeper) Hint(user string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	u := k.users[user]
	if u == nil {
		return
	}
	now := time.Now()
	if u.state.Since.IsZero() {
		u.state.Since = now
	}
	u.every = k.o.Busy
	if at := now.Add(k.o.Soon); u.place >= 0 && u.state.Tries == 0 && at.Before(u.at) {
		u.at = at
		k.queue(u)
		k.poke()
	}
}

// First puts users before all others who wait: of them a pass that ended early has left something to be looked for, and the longer that takes, the
// less can be told. It is for the start.
func (k *Keeper) First(users []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, user := range users {
		if u := k.users[user]; u != nil && u.place >= 0 {
			u.at = k.began.Add(time.Duration(i) - 5*longDue)
			k.queue(u)
		}
	}
	k.poke()
}

// Fresh are the users who never had a whole pass and wait for one.
func (k *Keeper) Fresh() (users []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, u := range k.fresh {
		users = append(users, u.user)
	}
	return users
}

// Copies lets first copies begin, or not. Those under way end by themselves.
func (k *Keeper) Copies(open bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wait = !open
	k.poke()
}

// Copying are the users whose first copy is under way.
func (k *Keeper) Copying() (users []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, u := range k.users {
		if u.state.Now && u.copying {
			users = append(users, name)
		}
	}
	return users
}

// Through says that a user had a whole pass before this Keeper began: he is none of those who wait for their first copy.
func (k *Keeper) Through(user string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	u := k.users[user]
	if u == nil || u.through {
		return
	}
	waits := u.place >= 0
	k.unqueue(u) // from the queue that he is in no more
	if u.through = true; waits {
		k.queue(u)
		k.poke()
	}
}

// Again makes passes over those who fail due at once: somebody may have mended what was wrong.
func (k *Keeper) Again() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for _, u := range k.users {
		at := now
		if why := suggested(u.state.Err); why > 0 { // nobody is locked out for a reload
			at = u.failed.Add(why)
		}
		if u.retry = k.o.Retry; u.state.Tries > 0 && u.place >= 0 && u.at.After(at) {
			u.at = at
			k.queue(u)
		}
	}
	k.poke()
}

// State tells how far a user is; false means that he is not kept.
func (k *Keeper) State(user string) (KeptState, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	u := k.users[user]
	if u == nil {
		return KeptState{}, false
	}
	return k.stateOf(u), true
}

func (k *Keeper) stateOf(u *kept) KeptState {
	s := u.state
	var none interface{ NoLogin() }
	switch {
	case u.paused:
		s.Phase = "paused"
	case s.Tries > 0 && errors.As(s.Err, &none): // a user whose password is to be learned has not logged in: no trouble
		s.Phase = "no login"
	case s.Tries > 0:
		s.Phase = "failing"
	case !u.through:
		s.Phase = "first copy"
	default:
		s.Phase = "converged"
	}
	if u.place >= 0 {
		s.Next = u.at
	}
	s.Since = earlier(u.carries, s.Since) // what a pass is at is not carried yet
	return s
}

// Counts tells how many users are in each phase, and the oldest change that is known of and not carried yet (zero when there is none).
func (k *Keeper) Counts() (phases map[string]int, oldest time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	phases = map[string]int{}
	for _, u := range k.users {
		s := k.stateOf(u)
		phases[s.Phase]++
		if !s.Since.IsZero() && !u.paused && (oldest.IsZero() || s.Since.Before(oldest)) {
			oldest = s.Since
		}
	}
	return phases, oldest
}

// Run makes passes until ctx ends, and waits for those under way.
func (k *Keeper) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		u, wait := k.next()
		if u != nil {
			wg.Go(func() { k.pass(ctx, u) })
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-k.wake:
		case <-t.C:
		}
		t.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// next takes the user whose pass is due, or tells how long there is none.
func (k *Keeper) next() (*kept, time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	const long = time.Hour
	now := time.Now()
	if k.passes >= k.o.Passes {
		return nil, min(long, k.giveWay(now))
	}
	wait := long
	queues := []*dueQueue{&k.due, &k.fresh}
	if k.copies == 0 && k.passes == k.o.Passes-1 && !now.Before(k.others) { // or first copies would wait for ever where there is always somebody due
		slices.Reverse(queues)
	}
	for _, q := range queues {
		if len(*q) == 0 || q == &k.fresh && (k.wait || k.copies >= max(1, k.o.Passes/2)) {
			continue
		}
		u := (*q)[0]
		if d := u.at.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		k.unqueue(u)
		u.state.Now, u.began, u.yield = true, now, &atomic.Bool{}
		k.passes++
		if u.copying = !u.through; u.copying {
			k.copies++
		}
		return u, 0
	}
	return nil, wait
}

// giveWay asks a first copy to give way when first copies have more than their half of the turns and somebody is due who had his: the one
// that has been at it longest. It tells when to look again. mu is held.
func (k *Keeper) giveWay(now time.Time) time.Duration {
	if k.copies <= k.o.Passes/2 || len(k.due) == 0 {
		return time.Hour
	}
	var first *kept
	for _, list := range []map[string]*kept{k.users, k.leave} {
		for _, u := range list {
			if u.state.Now && u.copying && (first == nil || u.began.Before(first.began)) {
				first = u
			}
		}
	}
	at := k.due[0].at
	if full := first.began.Add(k.o.Slice); full.After(at) {
		at = full
	}
	if d := at.Sub(now); d > 0 {
		return d
	}
	first.yield.Store(true)
	return time.Hour
}

// pass makes one, and decides when the next is due.
func (k *Keeper) pass(ctx context.Context, u *kept) {
	k.mu.Lock()
	since := u.state.Since
	hinted := !since.IsZero() || u.state.Last.IsZero() || u.state.Tries > 0 || u.again
	u.mended = false
	u.carries, u.state.Since = since, time.Time{} // what changes from now on may be missed by this pass
	k.mu.Unlock()
	began := time.Now()
	var changed, through bool
	ctx = yielding(ctx, u.yield)
	err := safely(func() (err error) { // a defect costs this user's turn, and no more
		changed, err = k.o.Pass(ctx, u.user, hinted)
		through = true
		return err
	})
	if stack := stackOf(err); !through && stack != nil { // what came through is logged where it was made an error
		k.o.Log.Error("a defect ended a pass", "user", u.user, "err", err, "stack", string(stack))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.poke()
	now := time.Now()
	u.state.Now, u.carries = false, time.Time{}
	k.passes--
	if u.copying {
		k.copies--
		k.others = now.Add(min(now.Sub(u.began), k.o.Slice)) // as long as it had itself
	}
	if u.gone {
		delete(k.leave, u.user)
	}
	u.state.Passes++
	u.again = false
	if !errors.Is(err, ErrCrowded) {
		u.crowded = 0
	}
	s := &u.state
	switch {
	case errors.Is(err, ErrYielded): // it keeps its place
		s.Since = earlier(since, s.Since)
		u.again = true
	case errors.Is(err, ErrBusy) || ctx.Err() != nil: // neither good nor bad
		s.Since = earlier(since, s.Since)
		u.again = true
		u.at = now.Add(k.o.Soon)
		if errors.Is(err, ErrCrowded) { // less and less often, or those who wait take the turns of those who need not
			pause := max(u.crowded, k.o.Busy)
			u.at = now.Add(pause/2 + rand.N(pause))
			u.crowded = min(2*pause, crowdedMost)
		}
	case err != nil:
		s.Since = earlier(since, s.Since)
		s.Err = err
		s.Tries++
		u.failed = now
		pause := max(u.retry, suggested(err))
		u.at = now.Add(pause + rand.N(pause/4+1))
		if !errors.Is(err, ErrFenced) { // a lease ends by itself, soon
			u.retry = min(u.retry*2, k.o.Late)
		}
		if u.mended {
			u.at, u.retry = now.Add(k.o.Soon), k.o.Retry
		}
	default:
		s.Err, s.Tries, s.Last, s.Took = nil, 0, began, now.Sub(began)
		u.through = true
		u.retry = k.o.Retry
		if changed || !since.IsZero() {
			u.every = k.o.Busy
		} else {
			u.every = min(u.every*2, k.o.Quiet)
		}
		u.at = now.Add(u.every + rand.N(u.every/8+1)) // so that they do not all come at once, for ever
		if !s.Since.IsZero() {
			u.at = now.Add(k.o.Soon)
		}
	}
	if !u.gone && !u.paused {
		k.queue(u)
	}
}

// crowdedMost is the longest mean pause of who finds a host crowded.
const crowdedMost = time.Minute

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// poke wakes Run.
func (k *Keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}
