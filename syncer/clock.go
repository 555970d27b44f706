package syncer

import (
	"sync"
	"time"
)

// Clock measures the time since something that the store knows of, for what must not be done early: it goes on evenly while the process
// runs, whatever becomes of the machine's clock, and does not take the word of that clock alone for what was before. It is safe for
// concurrent use. nil is the machine's clock as it is.
type Clock struct {
	start time.Time            // what the machine's clock said when the process began
	since func() time.Duration // from then on

	mu   sync.Mutex
	seen map[int64]sight // by mailbox
}

// sight is when this process saw first that a mailbox is gone.
type sight struct {
	gone time.Time // GoneSince
	at   time.Duration
}

// NewClock makes one that is as the machine's clock now.
func NewClock() *Clock {
	start := time.Now()
	return newClock(start, func() time.Duration { return time.Since(start) })
}

func newClock(start time.Time, since func() time.Duration) *Clock {
	return &Clock{start: start.Round(0), since: since, seen: map[int64]sight{}}
}

// now is the time of this clock, which is to be written where it is measured from later.
func (c *Clock) now() time.Time { return c.start.Add(c.since()) }

// watchGone is how long a process must have seen for itself that a folder is gone before it deletes the other one: the machine's clock may
// have been set meanwhile, by a day and more where it was wrong at the start.
const watchGone = time.Hour

// longGone tells whether a mailbox is gone for as long as grace.
func (s *Syncer) longGone(m Mailbox, grace time.Duration) bool {
	if grace <= 0 {
		return true
	}
	c := s.o.Clock
	if c == nil {
		return s.o.Now().Sub(m.GoneSince) >= grace
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	x, ok := c.seen[m.ID]
	if !ok || !x.gone.Equal(m.GoneSince) {
		x = sight{m.GoneSince, c.since()}
		c.seen[m.ID] = x
	}
	return c.now().Sub(m.GoneSince) >= grace && c.since()-x.at >= min(grace, watchGone)
}

// back forgets that a mailbox was gone.
func (c *Clock) back(mailbox int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seen, mailbox)
}

// stamp is the time to be noted for what is measured by elapsed or longGone.
func (s *Syncer) stamp() time.Time {
	if s.o.Clock == nil {
		return s.o.Now()
	}
	return s.o.Clock.now()
}

// elapsed is the time since what was noted.
func (s *Syncer) elapsed(since time.Time) time.Duration { return s.stamp().Sub(since) }
