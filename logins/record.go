package logins

import (
	"context"
	"time"
)

// record puts a login down, unless one was a moment ago; mu is held.
func (l *Ledger) record(at place, now time.Time) {
	e := l.in[at]
	if since := now.Sub(e.put); !e.put.IsZero() && since >= 0 && since < recordEvery {
		l.in[at] = entry{now, e.put}
		return
	}
	l.in[at] = entry{now, now}
	x, waits := l.dirty[at]
	if !waits {
		x = Login{User: at.user, Side: at.side, Protocol: at.protocol, First: now}
	}
	x.Last = now
	l.dirty[at] = x
	wake(l.recording)
}

// runRecords writes logins and refusals until ctx ends, and what is left then.
func (l *Ledger) runRecords(ctx context.Context) {
	err := l.writeRecords(ctx)
	l.report(ctx, err, true)
	failed := err != nil
	for {
		wait := gather
		if failed {
			wait = again
		} else {
			select {
			case <-ctx.Done():
			case <-l.recording:
			}
		}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
			l.report(last, l.writeRecords(last), !failed)
			cancel()
			return
		case <-time.After(wait):
		}
		err = l.writeRecords(ctx)
		l.report(ctx, err, !failed)
		failed = err != nil
	}
}

// report logs an error when it is the first in a row.
func (l *Ledger) report(ctx context.Context, err error, first bool) {
	if err != nil && first && ctx.Err() == nil {
		l.o.Log.Warn("who has logged in is not recorded yet; it is tried again", "err", err)
	}
}

// writeRecords writes what waits. What the store does not take waits on.
func (l *Ledger) writeRecords(ctx context.Context) error {
	if err := l.learnRefusals(ctx); err != nil {
		return err
	}
	l.answerAsks(ctx)
	l.mu.Lock()
	batch := l.dirty
	l.dirty = map[place]Login{}
	l.mu.Unlock()
	if len(batch) > 0 {
		list := make([]Login, 0, len(batch))
		for _, x := range batch {
			list = append(list, x)
		}
		if err := l.o.Store.SaveLogins(ctx, list); err != nil {
			l.putBack(batch)
			return err
		}
	}
	return l.writeRefusals(ctx)
}

// putBack lets what was not written wait on.
func (l *Ledger) putBack(batch map[place]Login) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, x := range batch {
		if newer, ok := l.dirty[at]; ok {
			x.Last = newer.Last
		}
		l.dirty[at] = x
	}
}
