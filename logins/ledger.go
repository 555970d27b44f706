package logins

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"
	"slices"
	"sync"
	"time"

	"mailgate/config"
)

const (
	maxQueue    = 1024             // of each kind that waits behind logins; what does not fit comes with the next login
	tidyEvery   = time.Hour        // between two looks for what is over
	renewEvery  = time.Hour        // the longest between two renewals of what is kept; of a short life it is a hundredth
	recordEvery = 5 * time.Minute  // how exact Login.Last is
	gather      = time.Second      // logins are written together
	again       = 10 * time.Second // until the store is tried again that did not take them
	lastWrite   = 2 * time.Second  // bounds what is written at the end
	maxAsks     = 128              // refused passwords that somebody is asked about at once
	maxSums     = 4                // passwords of a user that worked at a side and are remembered
)

// Recorder counts; package admin implements it. It must not block.
type Recorder interface {
	// LearnedHash counts a login of which the password was to be hashed, by what became of it: "learned", "renewed", "kept" (one of
	// submission, and another one is kept), "dropped" (too many waited), "failed" (the store did not take it).
	LearnedHash(result string)
	// LoginHook counts a run of the hook: "done", "failed", "late" (it was ended).
	LoginHook(result string)
	// LoginRegression counts a login that a side has refused with a password that worked on the other.
	LoginRegression(side config.Side)
	// LoginsRegressed tells of how many users that is so at a side.
	LoginsRegressed(side config.Side, users int)
}

// Settings are what a reload changes. The zero value records logins and refusals, and keeps nothing of passwords.
type Settings struct {
	Hash     bool          // keep a hash of each user's password
	Hook     []string      // command and arguments; none means that there is no hook
	HookTime time.Duration // how long it may take
	Hooks    int           // how many may run at once
	Expire   time.Duration // from the last login with a password until what is kept of it is erased
}

func (s Settings) keeps() bool { return s.Hash || len(s.Hook) > 0 }

// Options are what a Ledger works with. Store and Log must be set.
type Options struct {
	Store    Store
	Log      *slog.Logger
	Recorder Recorder               // nil means none
	Listed   func(user string) bool // whether the routes file has a line of him; nil means that it has. It must not block
	// Worked tells whether a password is known to be one that a side lets a user in with, from before this process began; nil means
	// that nobody knows.
	Worked func(ctx context.Context, user string, side config.Side, password config.Secret) bool
	Run    Runner // runs the hook; nil means RunHook
	// Shared tells that other processes work on the same store: one of them runs the hook for a password.
	Shared bool
}

// Ledger is told of logins and does what follows from them. It is safe for concurrent use.
type Ledger struct {
	o    Options
	salt [sha256.Size]byte          // keys the sums in memory; of this process alone
	hash func(config.Secret) string // Hash

	recording, hashing, hooking chan struct{} // each wakes a loop of Run

	writing sync.Mutex // one change of what is kept at a time; before mu
	left    bool       // what was deleted may still stand in the files; under writing

	mu      sync.Mutex
	set     Settings
	people  map[string]*person
	in      map[place]entry    // who was let in, and where
	dirty   map[place]Login    // logins that wait to be written
	order   []string           // users whose password waits to be hashed, the oldest first
	jobs    map[string]*job    // hooks that wait, by user
	busy    map[string]bool    // users whose hook runs
	asks    []ask              // refusals that somebody else may know of
	refused map[place]*refusal // that stand
	touched map[place]bool     // of refused, that wait to be written
	known   bool               // what the store has of refused is in there
}

// place is where somebody logs in.
type place struct {
	user     string
	side     config.Side
	protocol config.Protocol
}

// entry is when somebody was let in at a place, and when that was last put down for the store.
type entry struct{ at, put time.Time }

// sum is a keyed one of a password of a user. It is worth nothing outside of this process.
type sum [16]byte

// person is what is known of a user in memory.
type person struct {
	worked [2][]sight // by side: passwords that it let in, the newest last

	changed map[place][]sum // that a place took once and refuses now: he has changed them there

	kept   sum       // of the password that the store keeps a hash of
	keptAt time.Time // when that was last written; zero while it is not known
	other  sight     // one that was not kept, because another one is
	done   bool      // nothing is left to do for the hook
	waits  *note     // to be hashed
}

// sight is a password that was seen.
type sight struct {
	sum      sum
	at       time.Time
	protocol config.Protocol
}

// note is a login that waits for its password to be hashed.
type note struct {
	place
	password config.Secret
	sum      sum
	at       time.Time
}

// New makes a Ledger that keeps nothing of passwords until Configure says so.
func New(o Options) *Ledger {
	if o.Recorder == nil {
		o.Recorder = noRecorder{}
	}
	if o.Listed == nil {
		o.Listed = func(string) bool { return true }
	}
	if o.Run == nil {
		o.Run = RunHook
	}
	l := &Ledger{o: o, hash: Hash, recording: make(chan struct{}, 1), hashing: make(chan struct{}, 1), hooking: make(chan struct{}, 1),
		people: map[string]*person{}, in: map[place]entry{}, dirty: map[place]Login{}, jobs: map[string]*job{},
		busy: map[string]bool{}, refused: map[place]*refusal{}, touched: map[place]bool{}}
	_, _ = rand.Read(l.salt[:]) // never fails (crypto/rand)
	return l
}

type noRecorder struct{}

func (noRecorder) LearnedHash(string)               {}
func (noRecorder) LoginHook(string)                 {}
func (noRecorder) LoginRegression(config.Side)      {}
func (noRecorder) LoginsRegressed(config.Side, int) {}

// Configure puts settings in force. What waits for something that is turned off by them is dropped.
func (l *Ledger) Configure(s Settings) {
	l.writing.Lock() // so that nothing is written behind it
	defer l.writing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.set
	l.set = s
	if before.Hash != s.Hash || (len(before.Hook) > 0) != (len(s.Hook) > 0) {
		for _, p := range l.people { // what the store has must be looked at again
			p.keptAt, p.other = time.Time{}, sight{}
		}
	}
	if !s.keeps() {
		l.order = nil
		for _, p := range l.people {
			p.waits = nil
		}
	}
	if len(s.Hook) == 0 {
		clear(l.jobs)
	}
	wake(l.hooking)
}

// Note is told how a side's server has answered a login of a user; password is "" where there was none, as with tokens. It puts down
// what is to be done and takes no longer than a few microseconds: it is called on the way of logins.
func (l *Ledger) Note(user string, side config.Side, protocol config.Protocol, password config.Secret, in bool) {
	at, now := place{user, side, protocol}, time.Now()
	var s sum
	if password != "" {
		s = l.sum(user, password)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !in {
		if password != "" {
			l.refuses(at, s, password, now)
		}
		return
	}
	l.record(at, now)
	l.mends(at)
	if password == "" {
		return
	}
	p := l.person(user)
	p.works(side, sight{s, now, protocol})
	if list := slices.DeleteFunc(p.changed[at], func(x sum) bool { return x == s }); len(list) < len(p.changed[at]) {
		p.changed[at] = list
	}
	if l.set.keeps() && l.wants(p, note{at, password, s, now}) {
		l.keep(p, note{at, password, s, now})
	}
}

// person finds or makes one; mu is held.
func (l *Ledger) person(user string) *person {
	p := l.people[user]
	if p == nil {
		p = &person{}
		l.people[user] = p
	}
	return p
}

func (l *Ledger) sum(user string, password config.Secret) (out sum) {
	m := hmac.New(sha256.New, l.salt[:])
	m.Write([]byte(user + "\x00" + password.Reveal()))
	copy(out[:], m.Sum(nil))
	return out
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run does what Note has put down, until ctx ends: then what is known of logins is written, and what else waits comes with the next
// login of its user.
func (l *Ledger) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { l.runRecords(ctx) })
	wg.Go(func() { l.runHooks(ctx) })
	l.runHashes(ctx)
}

// renewAfter is how exact Kept.Seen is; mu is held.
func (l *Ledger) renewAfter() time.Duration { return min(l.set.Expire/100, renewEvery) }
