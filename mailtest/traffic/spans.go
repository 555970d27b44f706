package traffic

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mailgate/config"
)

func now() string { return time.Now().Format("05.000") }

// Span is a session as its client saw it.
type Span struct {
	Client             string
	Side               int // -1: not known
	Login, In          time.Time
	LastSent, LastDone time.Time // of the last command that was acknowledged
}

// unknown is a side that a client could not tell.
const unknown = -1

func (s *Span) String() string {
	side := "?"
	if s.Side != unknown {
		side = config.Side(s.Side).String()
	}
	return fmt.Sprintf("%s on %s from %s to %s", s.Client, side, s.In.Format("15:04:05.000"), s.LastDone.Format("15:04:05.000"))
}

// done notes a command that was acknowledged.
func (b *Box) done(s *Span, sent time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.LastSent, s.LastDone = sent, time.Now()
}

func (b *Box) begun(client string, login time.Time) *Span {
	s := &Span{Client: client, Side: unknown, Login: login, In: time.Now()}
	s.LastSent, s.LastDone = login, s.In
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spans = append(b.spans, s)
	return s
}

// Settled is a time in which a user was on a side for sure.
type Settled struct {
	Side     config.Side
	From, To time.Time
}

// sides looks that nobody was served on two sides at once, or where the user was not, and gives the gaps: from the last answer on one
// side to the first on the other.
func (b *Box) sides(settled []Settled, pauses [][2]time.Time) (odd []string, gaps []time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(b.spans), func(s *Span) bool { return s.Side == unknown })
	slices.SortFunc(list, func(x, y *Span) int { return x.In.Compare(y.In) })
	var last [2]*Span // that was served longest, of each side
	var end time.Time // the last answer on the side that was left
	for i, s := range list {
		// One that was let in before s, and had a command acknowledged which it sent later than that, was served at the same time. The
		// answer to the login alone proves nothing: it may have been read late.
		if o := last[1-s.Side]; o != nil && o.LastSent.After(s.In) && s.LastSent.After(s.In) {
			odd = append(odd, fmt.Sprintf("user%d was served on both sides at once: %v; %v", b.n, o, s))
		}
		if i > 0 && list[i-1].Side != s.Side {
			if o := last[1-s.Side]; o != nil {
				end = o.LastDone
			}
			over := func(p [2]time.Time) bool { return end.Before(p[1]) && s.In.After(p[0]) } // nobody asked then
			if gap := s.In.Sub(end); gap > 0 && !slices.ContainsFunc(pauses, over) {
				gaps = append(gaps, gap)
			}
		}
		if o := last[s.Side]; o == nil || s.LastSent.After(o.LastSent) {
			last[s.Side] = s
		}
		for _, x := range settled {
			if int(x.Side) != s.Side && s.Login.After(x.From) && s.In.Before(x.To) {
				odd = append(odd, fmt.Sprintf("user%d was let in on the wrong side: %v, while he was on %v from %s to %s", b.n, s, x.Side,
					x.From.Format("15:04:05.000"), x.To.Format("15:04:05.000")))
			}
			// Commands behind the commit: the session had to be gone.
			if int(x.Side) != s.Side && s.LastSent.After(x.From) && s.LastDone.Before(x.To) {
				odd = append(odd, fmt.Sprintf("user%d was served on the wrong side: %v, while he was on %v from %s to %s", b.n, s, x.Side,
					x.From.Format("15:04:05.000"), x.To.Format("15:04:05.000")))
			}
		}
	}
	return odd, gaps
}

// Histogram draws gaps.
func Histogram(gaps []time.Duration) string {
	if len(gaps) == 0 {
		return "no gaps were seen"
	}
	gaps = slices.Clone(gaps)
	slices.Sort(gaps)
	at := func(share float64) time.Duration {
		return gaps[min(len(gaps)-1, int(share*float64(len(gaps))))].Round(time.Millisecond)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d gaps seen by clients: p50 %v, p90 %v, p99 %v, longest %v\n", len(gaps), at(.5), at(.9), at(.99), gaps[len(gaps)-1].Round(time.Millisecond))
	limits := []time.Duration{50, 100, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 10000, 20000, 60000}
	i := 0
	for _, limit := range limits {
		n := 0
		for ; i < len(gaps) && gaps[i] <= limit*time.Millisecond; i++ {
			n++
		}
		if n > 0 {
			fmt.Fprintf(&b, "  up to %6v %5d %s\n", limit*time.Millisecond, n, strings.Repeat("#", (n*60+len(gaps)-1)/len(gaps)))
		}
	}
	return b.String()
}
