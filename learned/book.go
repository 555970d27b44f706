package learned

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"mailgate/config"
)

const (
	maxQueue    = 1024           // logins that wait to be written down; more are dropped, and learned at the next login
	tidyEvery   = time.Hour      // between two looks for what is over
	renewEvery  = time.Hour      // the longest between two renewals; of a short life it is a hundredth
	forgetAfter = 24 * time.Hour // logins are remembered in memory so long, to leave alone what is known
)

// Recorder counts; package admin implements it. It must not block.
type Recorder interface {
	// LearnedPassword counts a login by what became of it: "learned", "renewed", "kept" (another one is, see Book.write),
	// "dropped" (too many waited), "failed" (the store did not take it).
	LearnedPassword(result string)
}

// Options are what a Book works with. Store and Log must be set.
type Options struct {
	Store    Store
	Log      *slog.Logger
	Recorder Recorder          // nil means none
	Changed  func(user string) // told when a password is known that was not; nil means nobody asks. It must not block
	Now      func() time.Time  // nil means time.Now
}

// Book keeps passwords that people log in with, and gives them to the syncer. It is safe for concurrent use.
type Book struct {
	o    Options
	salt [32]byte // keys the sums in memory; of this process alone
	wake chan struct{}

	writing sync.Mutex // one write at a time, from the queue into the store; before mu
	left    bool       // what was deleted may still stand in the files; under writing

	key atomic.Pointer[Key] // nil: nothing is learned and nothing is used

	mu      sync.Mutex
	expire  time.Duration
	since   time.Time // when it began to learn; zero while it does not
	queue   map[login]note
	order   []login // of the queue, the oldest first
	seen    map[login]sight
	refused map[answer]time.Time // when: also where the store did not take it, or has another one since
	turns   map[turn]*turnstile
}

// login is where somebody logs in.
type login struct {
	user     string
	side     config.Side
	protocol config.Protocol
}

// note is a login that waits to be written down.
type note struct {
	password config.Secret
	at       time.Time
}

// sight is a login that was written down: a keyed sum of who, where and the password.
type sight struct {
	sum [sha256.Size]byte
	at  time.Time
}

// New makes a Book that learns nothing until Configure gives it a key.
func New(o Options) *Book {
	if o.Recorder == nil {
		o.Recorder = noRecorder{}
	}
	if o.Changed == nil {
		o.Changed = func(string) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	b := &Book{o: o, wake: make(chan struct{}, 1), queue: map[login]note{}, seen: map[login]sight{}, refused: map[answer]time.Time{},
		turns: map[turn]*turnstile{}}
	_, _ = rand.Read(b.salt[:]) // never fails (crypto/rand)
	return b
}

type noRecorder struct{}

func (noRecorder) LearnedPassword(string) {}

// Configure puts a key and a life, which is from the last login with a password, in force; a nil key turns it off: what waits is
// dropped, rows stay until they are over. It must be called before Run.
func (b *Book) Configure(key *Key, expire time.Duration) {
	b.writing.Lock() // so that nothing is written down behind it
	defer b.writing.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.key.Swap(key)
	b.expire = expire
	switch {
	case key == nil:
		clear(b.queue)
		b.order, b.since = nil, time.Time{}
	case before == nil:
		b.since = b.o.Now()
	}
	if key == nil || before == nil || key.identity.String() != before.identity.String() {
		clear(b.seen) // what is in the store does not open with this one
	}
}

// Note is told of a login of a user that a side's server let in, with a password. It only puts it down for Run, and takes no
// longer than a few microseconds: it is called on the way of logins.
func (b *Book) Note(user string, side config.Side, protocol config.Protocol, password config.Secret) {
	if b.key.Load() == nil {
		return
	}
	l, now := login{user, side, protocol}, b.o.Now()
	sum := b.sum(place(user, side)+string(protocol), password)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.key.Load() == nil {
		return
	}
	if s, ok := b.seen[l]; ok && s.sum == sum && now.Sub(s.at) < b.renewAfter() {
		return
	}
	if _, waits := b.queue[l]; !waits {
		if len(b.order) >= maxQueue {
			b.o.Recorder.LearnedPassword("dropped")
			return
		}
		b.order = append(b.order, l)
	}
	b.queue[l] = note{password, now}
	b.poke()
}

func (b *Book) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// renewAfter is how exact Row.Seen and Row.Expires are; mu is held.
func (b *Book) renewAfter() time.Duration { return min(b.expire/100, renewEvery) }

// sum is a keyed one of a password and of what it is about. It is worth nothing outside of this process.
func (b *Book) sum(about string, password config.Secret) (sum [sha256.Size]byte) {
	m := hmac.New(sha256.New, b.salt[:])
	m.Write([]byte(about + "\x00" + password.Reveal()))
	m.Sum(sum[:0])
	return sum
}

// Run writes down what Note was told of, and erases what is over, at once and every hour, until ctx ends. What waits then is
// learned at the next login.
func (b *Book) Run(ctx context.Context) {
	b.tidy(ctx)
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			b.tidy(ctx)
		case <-b.wake:
			for ctx.Err() == nil && b.writeNext(ctx) {
			}
		}
	}
}
