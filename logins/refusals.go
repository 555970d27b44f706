package logins

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// refusal is one that stands.
type refusal struct {
	Refusal
	told   bool // it is in the history
	warned bool // it is in the log
}

// ask is a refused login of whose password somebody else may know that it worked.
type ask struct {
	place
	password config.Secret
	at       time.Time
}

// works remembers a password that a side let in.
func (p *person) works(side config.Side, s sight) {
	list := slices.DeleteFunc(p.worked[side], func(x sight) bool { return x.sum == s.sum && x.protocol == s.protocol })
	if len(list) >= maxSums {
		list = slices.Delete(list, 0, 1)
	}
	p.worked[side] = append(list, s)
}

// change notes a password that a place takes no more.
func (p *person) change(at place, s sum) {
	if p.changed == nil {
		p.changed = map[place][]sum{}
	}
	list := append(p.changed[at], s)
	p.changed[at] = list[max(0, len(list)-maxSums):]
}

// refuses judges a refused login: a password that worked on the other side is no typing error. What this side itself refuses has
// worked here no more, so that a password that was changed on one side is not taken for one that is good. mu is held.
func (l *Ledger) refuses(at place, s sum, password config.Secret, now time.Time) {
	p := l.people[at.user]
	same := func(x sight) bool { return x.sum == s }
	if p != nil {
		if slices.Contains(p.changed[at], s) {
			return
		}
		here := func(x sight) bool { return x.sum == s && x.protocol == at.protocol }
		if slices.ContainsFunc(p.worked[at.side], here) { // he has changed it here: what the other side has of it is old
			p.worked[at.side] = slices.DeleteFunc(p.worked[at.side], here)
			p.change(at, s)
			return
		}
		if slices.ContainsFunc(p.worked[at.side.Other()], same) {
			l.regress(at, now)
			return
		}
	}
	if l.o.Worked != nil && len(l.asks) < maxAsks { // who guesses is not to be given work
		l.asks = append(l.asks, ask{at, password, now})
		wake(l.recording)
	}
}

// regress counts a refusal; mu is held.
func (l *Ledger) regress(at place, now time.Time) {
	l.o.Recorder.LoginRegression(at.side)
	r := l.refused[at]
	if r == nil {
		r = &refusal{Refusal: Refusal{User: at.user, Side: at.side, Protocol: at.protocol, First: now}}
		l.refused[at] = r
	}
	r.Last = now
	r.Count++
	l.touch(at)
}

// mends takes back that a place refuses somebody: it has let him in; mu is held.
func (l *Ledger) mends(at place) {
	if _, ok := l.refused[at]; ok || !l.known {
		delete(l.refused, at)
		l.touch(at)
	}
}

func (l *Ledger) touch(at place) {
	l.touched[at] = true
	wake(l.recording)
}

// learnRefusals reads once what the store has of refusals. What has been heard meanwhile is newer.
func (l *Ledger) learnRefusals(ctx context.Context) error {
	l.mu.Lock()
	known := l.known
	l.mu.Unlock()
	if known {
		return nil
	}
	rows, err := l.o.Store.Refusals(ctx, "")
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range rows {
		at := place{r.User, r.Side, r.Protocol}
		switch x := l.refused[at]; {
		case x != nil: // refused again
			x.First, x.Count, x.told, x.warned = r.First, x.Count+r.Count, true, true
		case !l.touched[at]:
			l.refused[at] = &refusal{Refusal: r, told: true, warned: true}
		}
	}
	there := map[place]bool{}
	for _, r := range rows {
		there[place{r.User, r.Side, r.Protocol}] = true
	}
	for at := range l.touched { // somebody let in of whom nothing was known
		if l.refused[at] == nil && !there[at] {
			delete(l.touched, at)
		}
	}
	l.known = true
	l.countRefused()
	return nil
}

// countRefused tells how many users are refused; mu is held.
func (l *Ledger) countRefused() {
	users := [2]map[string]bool{{}, {}}
	for at := range l.refused {
		users[at.side][at.user] = true
	}
	for _, side := range config.Sides {
		l.o.Recorder.LoginsRegressed(side, len(users[side]))
	}
}

// answerAsks asks whether refused passwords are known to have worked on the other side.
func (l *Ledger) answerAsks(ctx context.Context) {
	l.mu.Lock()
	asks := l.asks
	l.asks = nil
	l.mu.Unlock()
	for _, a := range asks {
		if ctx.Err() != nil {
			return
		}
		if !l.o.Worked(ctx, a.user, a.side.Other(), a.password) {
			continue
		}
		l.mu.Lock()
		if l.in[a.place].at.Before(a.at) { // not let in since
			l.person(a.user).works(a.side.Other(), sight{l.sum(a.user, a.password), a.at, a.protocol})
			l.regress(a.place, a.at)
		}
		l.mu.Unlock()
	}
}

// writeRefusals writes those that were touched.
func (l *Ledger) writeRefusals(ctx context.Context) error {
	l.mu.Lock()
	l.countRefused()
	touched := l.touched
	l.touched = map[place]bool{}
	l.mu.Unlock()
	for at := range touched {
		if err := l.writeRefusal(ctx, at); err != nil {
			l.mu.Lock()
			for at := range touched { // those that are written already are so twice
				l.touched[at] = true
			}
			l.mu.Unlock()
			return err
		}
	}
	return nil
}

func (l *Ledger) writeRefusal(ctx context.Context, at place) error {
	l.mu.Lock()
	r, there := l.refused[at]
	var x refusal
	if there {
		x = *r
		r.warned = true
	}
	l.mu.Unlock()
	where := strings.ToUpper(at.side.String()) + ", " + string(at.protocol)
	if !there {
		dropped, err := l.o.Store.DropRefusal(ctx, Refusal{User: at.user, Side: at.side, Protocol: at.protocol},
			op.Event{At: time.Now(), User: at.user, By: "serve", What: "login works again", Detail: "on " + where})
		if dropped {
			l.o.Log.Info("a login that was refused works again", "user", at.user, "side", at.side.String(), "protocol", at.protocol)
		}
		return err
	}
	var events []op.Event
	if !x.told {
		other := strings.ToUpper(at.side.Other().String())
		events = []op.Event{{At: x.First, User: at.user, By: "serve", What: "login refused that worked", Detail: fmt.Sprintf(
			"by %s; %s took the same password", where, other)}}
	}
	if !x.warned {
		other := strings.ToUpper(at.side.Other().String())
		l.o.Log.Warn("a password that worked on "+other+" is refused by "+strings.ToUpper(at.side.String()), "user", at.user, "side", at.side.String(),
			"protocol", at.protocol, "do", WayOut(at.user, at.side))
	}
	if err := l.o.Store.PutRefusal(ctx, x.Refusal, events...); err != nil {
		return err
	}
	l.mu.Lock()
	if l.refused[at] == r {
		r.told = true
	}
	l.mu.Unlock()
	return nil
}

// WayOut is what somebody can do about a password that a side refuses and the other one takes.
func WayOut(user string, side config.Side) string {
	text := "see to it that " + strings.ToUpper(side.String()) + " has the password that he uses"
	if side == config.New {
		text += " (mailgate secrets export, or by hand); mailgate rollback " + user + " takes him back to OLD meanwhile"
	}
	return text
}
