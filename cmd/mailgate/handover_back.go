package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"mailgate/cutover"
	"mailgate/op"
	"mailgate/store"
)

// redialTime is between attempts to be registered, and to lead again.
const redialTime = 200 * time.Millisecond

// goBack has this process lead again, as soon as it can have the store, or its name: in a moment, unless a newer program has changed the store.
// It listens meanwhile, and on the control socket too, so that another successor may come.
func (g *gateway) goBack(ctx context.Context) {
	l := &g.leaving
	back, cancel := context.WithCancel(ctx)
	l.back, l.backed = cancel, make(chan struct{})
	done := l.backed
	again, notYet := "this process leads again", "this process cannot lead yet; mail goes on, nobody can be moved"
	if g.member != nil {
		again, notYet = "this process goes on under its name", "this process cannot go on under its name yet; mail goes on, and it is a node under another one"
	}
	l.wg.Go(func() {
		defer close(done)
		defer cancel()
		// This process answers at the control socket while it has the store; behind that the successor may.
		for told, answers := false, !l.given; ; told = true {
			err := g.takeBack(back)
			if g.member == nil && errors.Is(err, op.ErrInUse) {
				served, met := g.meetAgain(back)
				if served {
					return
				}
				answers = answers && !met
			}
			if back.Err() != nil { // the control socket may be the successor's
				return
			}
			// Behind a database the control socket is that of who has the lock.
			if !answers && !(g.member != nil && errors.Is(err, op.ErrInUse)) {
				e := g.openControl()
				if answers = e == nil; !answers {
					g.log.Error("the control socket", "err", e)
				}
			}
			if err == nil {
				err = g.leadAgain(back)
			}
			if err == nil {
				g.log.Info(again)
				return
			}
			if !told && back.Err() == nil {
				g.log.Error(notYet, "err", err)
			}
			select {
			case <-back.Done():
				return
			case <-time.After(redialTime):
			}
		}
	})
}

// stopBack ends what goBack began.
func (l *leaving) stopBack() {
	if l.back != nil {
		l.back()
		<-l.backed
		l.back = nil
	}
}

// meetAgain goes on with a successor that has the store, and has only lost the connection: met when there is one, served when it serves.
func (g *gateway) meetAgain(ctx context.Context) (served, met bool) {
	c, err := upgrade(ctx, g.conf.Load().Control.Socket, fellowPath)
	if err != nil {
		return false, false
	}
	return g.stayBehind(ctx, cutover.NewLink(c)), true
}

// takeBack takes the store back, or the right to the name, if this process has let it go.
func (g *gateway) takeBack(ctx context.Context) error {
	l := &g.leaving
	if !l.given {
		return nil
	}
	if g.member != nil {
		err := g.aloneNow()
		l.given = err != nil
		return err
	}
	if err := g.store.(*store.SQLite).TakeBack(ctx); err != nil {
		return err
	}
	l.given = false
	return nil
}

// leadAgain leads with the store that this process has. On an error all is as before, and the store is let go if it was: so another
// process may have it.
func (g *gateway) leadAgain(ctx context.Context) error {
	runs, err := g.stillLeads(ctx)
	if err != nil {
		return err
	}
	if g.member != nil {
		return g.nameAgain(ctx, runs)
	}
	if runs {
		g.managing.Store(g.rulingAlone())
	} else {
		err = g.ruleAgain(ctx)
	}
	if err == nil {
		err = g.moves().Load(ctx)
	}
	if err == nil {
		err = g.manager().Start(ctx)
	}
	if err == nil {
		err = g.hooks().Start(ctx)
	}
	if err == nil {
		err = g.syncing.keeping.load(ctx) // who is paused: the successor may have been told
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		g.managing.Load().end()
		if runs {
			return err
		}
		return errors.Join(err, g.lend(ctx))
	}
	l := &g.leaving
	l.mu.Lock()
	if l.alive != nil { // nil when it was not come so far
		l.alive.Close()
		l.alive = nil
	}
	l.mu.Unlock()
	g.moves().Start()
	g.syncing.reopen()
	if !runs {
		g.startLeading()
	}
	l.lent.Store(false)
	l.notes.drain(g.heard)
	return nil
}

// stillLeads tells whether what this process runs as the one that leads was not ended. One that was told to end is waited for.
func (g *gateway) stillLeads(ctx context.Context) (bool, error) {
	p := g.leading.Load()
	switch {
	case p == nil:
		return false, nil
	case p.ctx.Err() == nil:
		return true, nil
	case !g.endLeading(ctx):
		return false, context.Cause(ctx)
	}
	return false, nil
}

// ruleAgain is ruleAlone behind a hand-over.
func (g *gateway) ruleAgain(ctx context.Context) error {
	running, err := alive(aliveDir(g.conf.Load()))
	if err != nil {
		return err
	}
	running = slices.DeleteFunc(running, func(n op.Node) bool { return n.Name == g.leaving.node.Name })
	return g.ruleAlone(ctx, running, true)
}

// lend lets the store go, if this process has it.
func (g *gateway) lend(ctx context.Context) error {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveTime)
	defer cancel()
	if err := g.store.(*store.SQLite).Lend(last); err != nil {
		return err
	}
	g.leaving.given = true
	return nil
}
