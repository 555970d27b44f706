package cutover

import (
	"context"
	"fmt"

	"mailgate/config"
	"mailgate/op"
)

// Move is a user's flip as those see it who take part in it.
type Move struct {
	Op    string      `json:"op"`
	User  string      `json:"user"`
	From  config.Side `json:"from"`
	To    config.Side `json:"to"`
	Epoch int64       `json:"epoch"` // that of From
	Wave  string      `json:"wave,omitempty"`
	By    string      `json:"by"`
	Now   bool        `json:"now,omitempty"` // rollback --now: NEW need not be reached, nothing is carried or compared
}

// Progress is how far a part of a flip is, for people: any of it may be empty.
type Progress struct {
	Why         string // what it is waiting for or doing, in plain words
	Done, Total int64
	Unit        string // "messages"
}

// Mail brings the mailboxes of users together. Its methods are called for one user at a time each, and may be called again
// after an error or a crash. An error that a person must do something about is a *Refusal.
type Mail interface {
	// Prepare is PREP: passes while the user works, until what is left is little, and a look at what would be in the way of
	// the flip: mail in quarantine, deletes that are held back, no room. It ends early when ctx ends.
	Prepare(ctx context.Context, m Move, tell func(Progress)) error
	// Delta is DELTA: nobody is at the mailboxes but what comes past the gateway. Afterwards all that was there when it began
	// is on both sides.
	Delta(ctx context.Context, m Move, tell func(Progress)) error
	// Verify is VERIFY: living messages, flags, order, room. It returns what was seen, for the history.
	Verify(ctx context.Context, m Move) (seen string, err error)
	// Moved is called behind the release: the other side decides now. With m.Now it must remember what is left behind.
	Moved(m Move)
}

// Gates are what may stand in the way of a flip beside the machine itself: gates of a wave, windows, flag files. An error is
// a *Refusal. Holds are the manager's.
type Gates interface {
	// Begin is asked before PREP and again before FENCE; before is true at the second.
	Begin(ctx context.Context, m Move, before bool) error
	// Commit is asked last, under the fence: it must not take long. What the store can tell is asked by the store.
	Commit(m Move) error
}

// Hooks are told what happens to a user. A veto is a *Refusal.
type Hooks interface {
	// Before runs ahead of the fence; an error calls the flip off. With m.Now nobody is asked.
	Before(ctx context.Context, m Move) error
	// After is called when a flip is committed and released, Aborted when it was called off behind Before. They must not block: what
	// they start has its own owner.
	After(m Move)
	Aborted(m Move, why string)
}

// Refusal is why something is not done, and what to do about it, in plain words. Nothing was changed.
type Refusal struct {
	Why string
	Do  string // "" when there is nothing to do but to ask again
	Err error  // the cause; may be nil
}

func (r *Refusal) Error() string {
	if r.Do == "" {
		return r.Why
	}
	return fmt.Sprintf("%s; %s", r.Why, r.Do)
}

func (r *Refusal) Unwrap() error { return r.Err }

// Members tells about waves: which a user is in.
type Members interface {
	// Wave is that of a user, "" when he is in none.
	Wave(user string) string
	// Means tells whether a move of several to that side is under way that means the user, be it that his flip was not asked for yet.
	Means(user string, to config.Side) bool
}

func moveOf(o op.Operation, r op.Row, wave string) Move {
	return Move{Op: o.ID, User: o.User, From: r.Side, To: o.Target, Epoch: r.Epoch, Wave: wave, By: o.By, Now: o.Now}
}
