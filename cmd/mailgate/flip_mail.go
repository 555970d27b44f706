package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
	"mailgate/syncer"
)

// flipMail brings the mailboxes of users together for their flips, by passes of the syncer.
type flipMail struct {
	g *gateway

	mu    sync.Mutex
	users map[string]*flipNotes
}

// flipNotes are what a flip's steps know of each other.
type flipNotes struct {
	op    string
	wrote []int64 // mailboxes in which the passes under the fence have written
}

func newFlipMail(g *gateway) *flipMail { return &flipMail{g: g, users: map[string]*flipNotes{}} }

// Bounds of PREP: it ends when a pass was short, or had little to do, or when passes do not get shorter any more.
const (
	prepRounds = 5
	prepShort  = time.Second
	prepLittle = 20 // messages
)

// configuredSync tells whether anything says how mailgate logs in for syncing.
func configuredSync(c *config.Config) bool {
	return slices.ContainsFunc(c.Backends[:], func(b config.Backend) bool { return b.Sync.Configured() })
}

// carries tells whether flips bring mailboxes together (flip.delta), or refuses.
func (fm *flipMail) carries() (bool, error) {
	conf := fm.g.conf.Load()
	some := configuredSync(conf)
	switch {
	case conf.Flip.Delta == "off" || !some && conf.Flip.Delta != "require":
		return false, nil
	case !some:
		return false, &cutover.Refusal{Why: "flip.delta is require, and nothing says how mailgate logs in to bring mailboxes together",
			Do: "write backends.old.sync and backends.new.sync into mailgate.yaml", Err: syncer.ErrNoLogin}
	}
	return true, nil
}

// errNoSyncing is a process that cannot make passes.
var errNoSyncing = errors.New("this process makes no passes over mailboxes")

// work gives the syncing and a syncer for one step, and takes the user's mailboxes. fenced tells that it is behind FENCE.
func (fm *flipMail) work(ctx context.Context, m cutover.Move, fenced bool, tell func(cutover.Progress)) (w *flipWork, leave func(), err error) {
	s := fm.g.syncing
	if s == nil {
		return nil, nil, errNoSyncing
	}
	u, out, err := s.enterFlip(ctx, m.User, fenced, func() {
		tell(cutover.Progress{Why: "waits for the end of a pass that somebody asked for"})
	})
	if errors.Is(err, errClosing) { // the flip goes on at the next start
		err = fmt.Errorf("%w: %w", cutover.ErrStopping, err)
	}
	if err != nil {
		return nil, nil, err
	}
	w = &flipWork{fm: fm, s: s, u: u, m: m, tell: tell}
	done := func() {}
	if kp := s.keeping; kp != nil {
		e := kp.take()
		w.y, done = e.Syncer, func() { kp.put(e) }
	} else {
		w.y = s.syncer()
		done = w.y.Close
	}
	return w, func() { done(); out() }, nil
}

// flipWork is one step of a flip at a user's mailboxes.
type flipWork struct {
	fm   *flipMail
	s    *syncing
	y    *syncer.Syncer
	u    *underway
	m    cutover.Move
	tell func(cutover.Progress)
}

// decides tells which side decides for a step behind the fence: that which the flip's row says, as long as the row is the flip's.
func (w *flipWork) decides(ctx context.Context, user string) (config.Side, int64, error) {
	r, err := w.s.g.store.Row(ctx, user)
	switch {
	case err != nil:
		return 0, 0, err
	case r.Op != w.m.Op || r.State != op.Delta && r.State != op.Verify || r.Side != w.m.From || r.Epoch != w.m.Epoch:
		return 0, 0, fmt.Errorf("%s: %w: the flip is not at its place any more (%s, %s)", user, syncer.ErrMoved, r.State, r.Op)
	}
	return r.Side, r.Epoch, nil
}

// pass makes one.
func (w *flipWork) pass(what string, o syncer.RunOptions) (*syncer.Report, error) {
	o.Progress = func(p syncer.Progress) {
		w.s.mu.Lock()
		w.u.progress = p
		w.s.mu.Unlock()
		w.tell(cutover.Progress{Why: what + far(p, time.Now()), Done: p.Messages[0], Total: p.Messages[1], Unit: "messages"})
	}
	began := time.Now()
	scripts := uint64(0)
	if w.s.keeping != nil {
		scripts = w.s.keeping.scripts(w.m.User)
	}
	r, err := w.y.Run(w.u.ctx, w.m.User, o)
	if kp := w.s.keeping; kp != nil && err == nil {
		if !o.NoSieve && lookedAt(r) {
			kp.looked(w.m.User, scripts)
		}
		kp.note(w.m.User, r, nil)
		kp.k.Through(w.m.User)
	}
	if err == nil {
		w.s.caughtUp(w.u.ctx, w.m.User, r)
		w.s.g.metrics.PassDid(r, nil)
		w.s.g.metrics.Pass("ok", time.Since(began))
		w.s.g.sieveTold(r)
	}
	if err == nil && !o.NoSieve && scripts > 0 && r.Sieve != nil && !lookedAt(r) {
		return r, &cutover.Refusal{Why: "his Sieve scripts have changed, and could not be carried: " + strings.ReplaceAll(r.Sieve.Trouble, "\n", "; "),
			Do: "mend what it says, see mailgate sync run " + w.m.User + ", and ask again"}
	}
	return r, w.refusal(err)
}

// lookedAt tells whether a pass has looked at the scripts of both sides.
func lookedAt(r *syncer.Report) bool {
	return r.Sieve != nil && !r.Sieve.At.Before(r.Began) && r.Sieve.Trouble == ""
}

// refusal says of trouble that a person has to do something about what that is.
func (w *flipWork) refusal(err error) error {
	var refused *syncer.RefusedError
	var be *backend.Error
	var coded exitError
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(w.u.ctx), errClosing), errors.Is(context.Cause(w.u.ctx), errLeadLost): // whoever leads next goes on
		return fmt.Errorf("%w: %w", cutover.ErrStopping, context.Cause(w.u.ctx))
	case w.u.ctx.Err() != nil:
		return context.Cause(w.u.ctx)
	case errors.As(err, &refused), errors.Is(err, syncer.ErrNoLogin), notLearned(err), errors.As(err, &be) && be.Kind == backend.AuthFailed,
		errors.As(err, &coded) && coded.code == exitRefused:
		return &cutover.Refusal{Why: plainly(err), Do: wayOut(w.m.User, err), Err: err}
	}
	return err
}

// Prepare implements cutover.Mail.
func (fm *flipMail) Prepare(ctx context.Context, m cutover.Move, tell func(cutover.Progress)) error {
	carries, err := fm.carries()
	if err != nil || !carries || m.Now {
		return err
	}
	w, leave, err := fm.work(ctx, m, false, tell)
	if err != nil {
		return err
	}
	defer leave()
	w.s.flipBegins(m.User)
	if err := w.s.proveBoth(w.u.ctx, w.y, m.User, true); err != nil {
		return w.refusal(err)
	}
	rest, err := w.atRest()
	if err == nil && !rest {
		if err = w.room(); err != nil {
			return err
		}
		var r *syncer.Report
		if r, err = w.together(); err == nil {
			err = obstacles(m, r)
		}
	}
	if err == nil && m.To == config.New { // the way back waits for no analysis: VERIFY looks, and both sides were compared on the way here
		err = w.compared()
	}
	return err
}

// atRest tells that no pass is needed before the fence: the keeper has brought the mailboxes together, nothing stands in the way since, and
// both sides' numbers say that this is so still, or said so a moment ago. DELTA makes a whole pass all the same. Where there are Sieve scripts it is none: what was
// changed at the host itself does not show in numbers, and the passes under the fence leave scripts alone. An error is that of an account
// which is full: nothing is to come, but nothing could.
func (w *flipWork) atRest() (bool, error) {
	kp := w.s.keeping
	if kp == nil || !kp.atRest(w.m.User, w.fm.g.conf.Load(), time.Now()) {
		return false, nil
	}
	st, _ := kp.k.State(w.m.User)
	kp.mu.Lock()
	k := kp.users[w.m.User]
	good := k != nil && k.report != nil && k.report.Sieve == nil && k.report.Missing == 0 && obstacles(w.m, k.report) == nil
	fresh := good && !k.refused && st.Phase == "converged" && st.Since.IsZero() && !st.Now && (time.Since(k.whole) < kp.fresh || time.Since(k.looked) < kp.fresh)
	kp.mu.Unlock()
	if !good || fresh {
		return fresh, nil
	}
	rest, q, err := w.y.AtRest(w.u.ctx, w.m.User, w.m.To)
	if err != nil || !rest {
		return false, nil // a pass has better words for trouble
	}
	return true, w.fits(syncer.Room{Quota: q})
}

// together makes passes until little is left. A user who works on all the time comes to the fence nevertheless.
func (w *flipWork) together() (r *syncer.Report, err error) {
	last := time.Duration(0)
	for round, once := 0, 0; round < prepRounds; round++ {
		if r, err = w.whenFree(syncer.RunOptions{NoSieve: round > 0, Recount: true}); err != nil {
			return r, err
		}
		if once < passingRounds && r.Passing() {
			if err := w.pause(once); err != nil {
				return r, err
			}
			once++
			round = min(round, prepRounds-2)
			continue
		}
		if r.Took < prepShort || carried(r) < prepLittle || round > 1 && r.Took > last*3/4 {
			break
		}
		last = r.Took
	}
	return r, nil
}

// leaseTime is longer than mailboxes stay with a process that has died.
const leaseTime = 2 * time.Minute

// whenFree makes a pass before the fence. A gateway that was killed, or is cut off, has mailboxes for a while yet: nobody waits but the flip.
func (w *flipWork) whenFree(o syncer.RunOptions) (*syncer.Report, error) {
	for since := (time.Time{}); ; {
		r, err := w.pass("brings his mailboxes together", o)
		if !errors.Is(err, syncer.ErrFenced) || !since.IsZero() && time.Since(since) > leaseTime {
			return r, err
		}
		if since.IsZero() {
			since = time.Now()
		}
		w.tell(cutover.Progress{Why: "waits for another gateway, which may be at work in his mailboxes: " + plainly(err)})
		if err := w.pause(9); err != nil {
			return r, err
		}
	}
}

// carried is how much a pass had to do.
func carried(r *syncer.Report) (n int64) {
	for side := range config.Sides {
		n += r.Copied[side] + r.Moved[side] + r.Flags[side] + r.Expunged[side] + int64(r.Created[side]+r.Renamed[side]+r.Deleted[side])
	}
	return n
}

// Delta implements cutover.Mail.
func (fm *flipMail) Delta(ctx context.Context, m cutover.Move, tell func(cutover.Progress)) error {
	carries, err := fm.carries()
	if err != nil || !carries || m.Now {
		return err
	}
	w, leave, err := fm.work(ctx, m, true, tell)
	if err != nil {
		return err
	}
	defer leave()
	n := &flipNotes{op: m.Op}
	if err := w.delta(n); err != nil {
		fm.forget(m)
		fm.refused(m, true)
		return err
	}
	fm.mu.Lock()
	defer fm.mu.Unlock()
	fm.users[m.User] = n
	return nil
}

// refused notes of a user whether his last flip ended behind the fence without a move.
func (fm *flipMail) refused(m cutover.Move, so bool) {
	if s := fm.g.syncing; s != nil && s.keeping != nil {
		s.keeping.mu.Lock()
		defer s.keeping.mu.Unlock()
		if k := s.keeping.users[m.User]; k != nil {
			k.refused = so
		}
	}
}

// delta makes a pass under the fence.
func (w *flipWork) delta(n *flipNotes) error {
	scripts := true // whether a client has changed them is known of users who are kept only
	if kp := w.s.keeping; kp != nil {
		if _, kept := kp.k.State(w.m.User); kept {
			scripts = kp.scripts(w.m.User) > 0
		}
	}
	for once := 0; ; once++ {
		r, err := w.pass("carries what is left", syncer.RunOptions{Decides: w.decides, Fenced: true, Recount: true, NoSieve: !scripts})
		if err != nil {
			return err
		}
		if n.wrote = append(n.wrote, r.Touched()...); once == passingRounds || !r.Passing() {
			return obstacles(w.m, r)
		}
		if err := w.pause(once); err != nil { // the deadline of the flip
			return err
		}
	}
}

// passingRounds is how often a pass is made again because of what may be over the next time.
const passingRounds = 3

// pause lets pass what passes by itself, a little longer each time.
func (w *flipWork) pause(round int) error {
	t := time.NewTimer(time.Duration(round+1) * 100 * time.Millisecond)
	defer t.Stop()
	select {
	case <-w.u.ctx.Done():
		return w.refusal(context.Cause(w.u.ctx))
	case <-t.C:
		return nil
	}
}

func (fm *flipMail) forget(m cutover.Move) {
	fm.mu.Lock()
	defer fm.mu.Unlock()
	delete(fm.users, m.User)
}

// confirmRounds is how often what differs is carried and looked at again.
const confirmRounds = 3

// Verify implements cutover.Mail.
func (fm *flipMail) Verify(ctx context.Context, m cutover.Move) (seen string, err error) {
	carries, err := fm.carries()
	switch {
	case err != nil:
		return "", err
	case m.Now:
		return "", nil
	case !carries:
		return "no mail is carried: nothing was compared", nil
	}
	defer fm.forget(m)
	defer func() {
		if err != nil {
			fm.refused(m, true)
		}
	}()
	w, leave, err := fm.work(ctx, m, true, func(cutover.Progress) {})
	if err != nil {
		return "", err
	}
	defer leave()
	fm.mu.Lock()
	n, known := fm.users[m.User]
	fm.mu.Unlock()
	if known = known && n.op == m.Op; !known {
		n = &flipNotes{op: m.Op}
	}
	var before *syncer.Confirmation
	for round := 0; ; round++ {
		c, err := w.y.Confirm(w.u.ctx, m.User, syncer.ConfirmOptions{Decides: w.decides, Wrote: n.wrote, Blind: !known})
		if err != nil {
			return "", w.refusal(err)
		}
		if err := standing(m, before, c, round == confirmRounds-1); err != nil {
			return "", err
		}
		if c.Different == 0 && (c.Late == [2]int64{} || round > 0) {
			return w.seen(c), nil
		}
		before = c
		if err := w.delta(n); err != nil {
			return "", err
		}
	}
}

// Moved implements cutover.Mail.
func (fm *flipMail) Moved(m cutover.Move) {
	fm.forget(m)
	fm.refused(m, false)
	s := fm.g.syncing
	if s == nil {
		return
	}
	if carries, err := fm.carries(); m.Now && carries && err == nil {
		ctx, cancel := s.ending()
		defer cancel()
		if err := s.leaveBehind(ctx, m); err != nil {
			s.g.log.Error("what a flip left behind is not recorded", "user", m.User, "op", m.Op, "err", err)
		}
	}
	if s.keeping != nil { // the other side decides now: what changes there is carried from this moment on
		if _, kept := s.keeping.k.State(m.User); kept != s.keeping.wentToNew(m.User) {
			select {
			case s.keeping.flipped <- struct{}{}:
			default:
			}
		}
		s.keeping.k.Hint(m.User)
		s.keeping.k.Retry(m.User)
	}
}

var _ cutover.Mail = (*flipMail)(nil)
