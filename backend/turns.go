package backend

import (
	"context"
	"errors"
	"sync"
	"time"

	"mailgate/auth"
	"mailgate/config"
)

// Users' logins at a service of a machine: max_logins go on at a time, the others wait for their turns in the order in which they came,
// login_wait at most. After a restart of the gateway or of a host thousands come at once: a host that is asked by all of them together
// answers none in time. The syncer has caps of its own and waits for nobody.

// ErrTurn means that a login's turn at a host did not come within login_wait.
var ErrTurn = errors.New("too many logins at once wait for the host (max_logins, login_wait)")

// turnTime is how long a login that stands before a server keeps its turn. Who takes longer waits for his password to be refused, most
// likely (servers take seconds for that): guessers must not hold up everybody. So max_logins is also how many begin each second at a
// server that answers none of them.
const turnTime = time.Second

// backGrace is how long a machine that was well until a moment ago is waited for: the time of a restart.
const backGrace = 30 * time.Second

// turns lets so many logins at a service of a machine go on at a time. Of these strangers have one half at most: guessers, thousands
// though they may be, hold up nobody who logs in where he did before. nil means any number.
type turns struct {
	all, strangers chan struct{} // with room for so many; those that wait to send get in in their order
}

func newTurns(most int) *turns {
	if most == 0 {
		return nil
	}
	return &turns{make(chan struct{}, most), make(chan struct{}, max(1, most/2))}
}

// turn is the right to ask; end, which may be called again, gives it back.
type turn struct{ end func() }

// lanes are those that a login has to get into, in order.
func (t *turns) lanes(known bool) []chan struct{} {
	switch {
	case t == nil:
		return nil
	case known:
		return []chan struct{}{t.all}
	}
	return []chan struct{}{t.strangers, t.all}
}

// try takes a turn that nobody waits for.
func (t *turns) try(known bool) (turn, bool) {
	lanes := t.lanes(known)
	for i, l := range lanes {
		select {
		case l <- struct{}{}:
		default:
			leave(lanes[:i])
			return turn{}, false
		}
	}
	return turn{sync.OnceFunc(func() { leave(lanes) })}, true
}

// take waits for a turn until ctx or limit ends.
func (t *turns) take(ctx context.Context, limit <-chan time.Time, known bool) (turn, error) {
	lanes := t.lanes(known)
	for i, l := range lanes {
		err := error(nil)
		select {
		case l <- struct{}{}:
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-limit:
			err = ErrTurn
		}
		if err != nil {
			leave(lanes[:i])
			return turn{}, err
		}
	}
	return turn{sync.OnceFunc(func() { leave(lanes) })}, nil
}

// leave frees a place in each.
func leave(lanes []chan struct{}) {
	for _, l := range lanes {
		<-l
	}
}

// shorten ends the turn a moment from now; the result ends it before.
func (t turn) shorten() (end func()) {
	timer := time.AfterFunc(turnTime, t.end)
	return func() {
		timer.Stop()
		t.end()
	}
}

// turnsOf gives the turns of a machine: those that stand when their number has not changed.
func turnsOf(old *host, p config.Protocol, most int) *turns {
	if old != nil {
		if t := old.turns[index(p)]; t != nil && cap(t.all) == most {
			return t
		}
	}
	return newTurns(most)
}

// wait stands in the queue of a machine that has as many logins under way as it may, or has gone down a moment ago, and asks it when the
// turn comes. It holds its turn while the machine is away, so that those who came first are the first when it is back.
func (d *Dialer) wait(ctx context.Context, at config.Side, s *side, h *host, p config.Protocol, who asker,
	open func(context.Context, *conn) error) (*conn, error) {
	limit := time.NewTimer(s.LoginWait)
	defer limit.Stop()
	t, err := h.turns[index(p)].take(ctx, limit.C, auth.IsKnown(ctx))
	if err != nil {
		return nil, &Error{Step: StepConnect, Host: h.Name, Err: err}
	}
	for {
		c, err := d.ask(ctx, at, s, h, p, t, who, open)
		if err == nil {
			return c, nil
		}
		if !h.passing(p, who, err) || ctx.Err() != nil {
			t.end()
			return nil, err
		}
		changed, after, ok := h.hopes(p, time.Now())
		if !ok || !awaitHost(ctx, changed, after, limit.C) {
			t.end()
			return nil, err
		}
	}
}

// passing tells whether a failure is one of the machine that may pass by itself.
func (h *health) passing(p config.Protocol, who asker, err error) bool {
	var e *Error
	return errors.Is(err, ErrDown) || errors.As(err, &e) && e.Kind == Temporary && h.tells(p, who, err)
}

// awaitHost waits until a machine may be asked again; false when there is no time left.
func awaitHost(ctx context.Context, changed <-chan struct{}, after time.Duration, limit <-chan time.Time) bool {
	again := time.NewTimer(after)
	defer again.Stop()
	select {
	case <-changed:
		return true
	case <-again.C:
		return true
	case <-limit:
		return false
	case <-ctx.Done():
		return false
	}
}
