package cutover

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/router"
)

// Imported is what an import of the routes file came to.
type Imported struct {
	Serial     string         // of the file
	Changed    int            // lines that differ from the last import
	Placed     int            // users who had no row and are placed without a flip
	Unpinned   int            // pins that the file agrees with now
	Operations []op.Operation // flips asked for
	Waiting    *op.Operation  // set when the import waits for approval; nothing was taken over
}

// Import takes over a routes file that was parsed whole: each line that differs from the last import becomes, once, a
// request. Deleted lines move nobody. A file that would move more users than the set share, or that lost all its
// lines, waits as an operation for Approve. It is all or nothing: on an error nothing was taken over.
func (m *Manager) Import(ctx context.Context, rf *config.RouteFile, by string) (Imported, error) {
	return m.doImport(ctx, rf, by, false)
}

// Approve takes over the file that an import operation waits with; the file must not have changed since.
func (m *Manager) Approve(ctx context.Context, id string, rf *config.RouteFile, by string) (Imported, error) {
	o, err := m.store.Operation(ctx, id)
	if err != nil {
		return Imported{}, err
	}
	if o.Kind != op.Import || o.Status != op.Waiting {
		return Imported{}, fmt.Errorf("%s waits for no approval: %w", id, ErrFinal)
	}
	if o.Payload != rf.Serial {
		return Imported{}, fmt.Errorf("the routes file has changed since %s was recorded; reload, then approve the new operation", id)
	}
	im, err := m.doImport(ctx, rf, by, true)
	if err != nil {
		return im, err
	}
	o.Status, o.Reason, o.Changed = op.Done, "approved by "+by, time.Now()
	return im, m.store.SaveOperation(ctx, o, op.Event{At: o.Changed, Op: id, What: "approved", By: by})
}

func (m *Manager) doImport(ctx context.Context, rf *config.RouteFile, by string, approved bool) (Imported, error) {
	m.importMu.Lock()
	defer m.importMu.Unlock()
	first := m.serial == ""
	p := m.plan(rf, by, first)
	im := Imported{Serial: rf.Serial, Changed: len(p.tx.Set) + len(p.tx.Delete), Placed: len(p.tx.Place)}
	if why := m.guard(rf, len(p.tx.Operations)); why != "" && !approved && !first {
		o, err := m.hold(ctx, rf, by, why)
		im.Waiting = &o
		return im, err
	}
	if err := m.flushOwed(ctx); err != nil {
		return im, fmt.Errorf("record who has logged in: %w", err)
	}
	pins, err := m.store.Pins(ctx)
	if err != nil {
		return im, fmt.Errorf("read pins: %w", err)
	}
	for _, pin := range pins {
		if r := rf.Users[pin.User]; r != nil && r.Side == pin.Side {
			p.tx.Unpin = append(p.tx.Unpin, pin.User)
		}
	}
	im.Unpinned = len(p.tx.Unpin)
	if im.Changed+im.Placed+im.Unpinned > 0 || m.serial != rf.Serial {
		p.tx.Events = append(p.tx.Events, op.Event{At: time.Now(), What: "routes imported", After: rf.Serial, By: by,
			Detail: fmt.Sprintf("%d lines changed, %d users placed, %d flips asked for", im.Changed, im.Placed,
				len(p.tx.Operations))})
		if im.Operations, err = m.store.Import(ctx, p.tx); err != nil {
			return im, fmt.Errorf("record import: %w", err)
		}
		m.rec.StoreOK(time.Now())
	}
	if err := m.setDefault(ctx, rf, by); err != nil {
		return im, err
	}
	m.adopt(rf, p.tx)
	for _, o := range im.Operations {
		m.enqueue(o)
	}
	return im, nil
}

// importPlan is what an import would write.
type importPlan struct{ tx op.ImportTx }

// plan compares the file with what was imported last. A new line of a user who has no row places him where the file
// says if this is the very first import: nobody was anywhere before. Later he is where users without a row are, and
// the line asks for a flip.
func (m *Manager) plan(rf *config.RouteFile, by string, first bool) importPlan {
	p := importPlan{tx: op.ImportTx{Serial: rf.Serial}}
	now := time.Now()
	for _, user := range slices.Sorted(maps.Keys(rf.Users)) {
		r := rf.Users[user]
		was, listed := m.desired[user]
		if listed && was == r.Side {
			continue
		}
		p.tx.Set = append(p.tx.Set, op.Desired{User: user, Side: r.Side})
		place, known := m.router.Lookup(user)
		if !known {
			if first {
				place.Side = r.Side
			}
			p.tx.Place = append(p.tx.Place, op.Row{User: user, Side: place.Side, State: op.Settled, Since: now})
		}
		if place.Side != r.Side {
			p.tx.Operations = append(p.tx.Operations, op.Operation{Kind: op.Flip, User: user, Target: r.Side,
				Status: op.Accepted, By: by, Created: now, Changed: now})
		}
	}
	for user := range m.desired {
		if rf.Users[user] == nil {
			p.tx.Delete = append(p.tx.Delete, user)
		}
	}
	slices.Sort(p.tx.Delete)
	return p
}

// guard says why an import must be approved, "" if it need not.
func (m *Manager) guard(rf *config.RouteFile, moves int) string {
	set := m.set.Load().routes
	if len(rf.Users) == 0 && len(m.desired) > 0 {
		return fmt.Sprintf("the routes file lost all its %d users", len(m.desired))
	}
	total := max(len(rf.Users), len(m.desired))
	if moves > set.ApproveMin && float64(moves) > set.ApproveShare*float64(total) {
		return fmt.Sprintf("it would move %d of %d users, more than the share of %g (routes.approve_share)", moves, total,
			set.ApproveShare)
	}
	return ""
}

// hold records an import that waits; imports that waited with another file end.
func (m *Manager) hold(ctx context.Context, rf *config.RouteFile, by, why string) (op.Operation, error) {
	open, err := m.store.Operations(ctx, true, 1<<20)
	if err != nil {
		return op.Operation{}, fmt.Errorf("read operations: %w", err)
	}
	now := time.Now()
	for _, o := range open {
		if o.Kind != op.Import {
			continue
		}
		if o.Payload == rf.Serial {
			return o, nil
		}
		o.Status, o.Reason, o.Changed = op.Cancelled, "the routes file changed again", now
		if err := m.store.SaveOperation(ctx, o); err != nil {
			return o, fmt.Errorf("end %s: %w", o.ID, err)
		}
	}
	o := op.Operation{Kind: op.Import, Status: op.Waiting, By: by, Created: now, Changed: now, Payload: rf.Serial,
		Reason: why + "; look at the file, then run mailgate op approve"}
	o, err = m.store.NewOperation(ctx, o, op.Event{At: now, What: "import waits for approval", After: rf.Serial, By: by, Detail: why})
	if err != nil {
		return o, fmt.Errorf("record import: %w", err)
	}
	return o, nil
}

// setDefault changes the side of names never seen, once all rows that are owed are written; importMu is held.
func (m *Manager) setDefault(ctx context.Context, rf *config.RouteFile, by string) error {
	now := config.Side(m.def.Load())
	if rf.Default == now {
		return nil
	}
	if err := m.flushOwed(ctx); err != nil {
		return fmt.Errorf("change default: %w", err)
	}
	at := time.Now()
	o := op.Operation{Kind: op.Default, Target: rf.Default, Status: op.Done, By: by, Created: at, Changed: at}
	e := op.Event{At: at, What: "default changed", Before: now.String(), After: rf.Default.String(), By: by}
	if err := m.store.SetDefault(ctx, rf.Default, o, e); err != nil {
		return fmt.Errorf("change default: %w", err)
	}
	m.def.Store(int32(rf.Default))
	return nil
}

// adopt makes an import that was recorded the present one; importMu is held.
func (m *Manager) adopt(rf *config.RouteFile, tx op.ImportTx) {
	m.serial = rf.Serial
	for _, d := range tx.Set {
		m.desired[d.User] = d.Side
	}
	for _, user := range tx.Delete {
		delete(m.desired, user)
	}
	for _, r := range tx.Place {
		m.router.Load(r.User, router.Place{Side: r.Side})
	}
	m.routes.Store(rf)
}

// Drift is a user whose actual side is not the one that the routes file names.
type Drift struct {
	User    string      `json:"user"`
	Actual  config.Side `json:"actual"`
	Desired config.Side `json:"desired"`
	Pin     *op.Pin     `json:"pin,omitempty"`
}

// Drift lists who is not where the file says, and why if a pin is the reason.
func (m *Manager) Drift(ctx context.Context) ([]Drift, error) {
	pins, err := m.store.Pins(ctx)
	if err != nil {
		return nil, err
	}
	by := map[string]*op.Pin{}
	for i := range pins {
		by[pins[i].User] = &pins[i]
	}
	m.importMu.Lock()
	defer m.importMu.Unlock()
	var out []Drift
	for _, user := range slices.Sorted(maps.Keys(m.desired)) {
		if p, known := m.router.Lookup(user); known && p.Side != m.desired[user] {
			out = append(out, Drift{User: user, Actual: p.Side, Desired: m.desired[user], Pin: by[user]})
		}
	}
	return out, nil
}

// Desired is the side that the routes file names for a user.
func (m *Manager) Desired(user string) (config.Side, bool) {
	m.importMu.Lock()
	defer m.importMu.Unlock()
	s, ok := m.desired[user]
	return s, ok
}

// Unpin removes a user's pin, and asks for the side that the file names, if that is another.
func (m *Manager) Unpin(ctx context.Context, user, by string) (op.Operation, error) {
	if err := m.store.DeletePin(ctx, user, op.Event{At: time.Now(), User: user, What: "unpinned", By: by}); err != nil {
		return op.Operation{}, err
	}
	want, listed := m.Desired(user)
	if p, _ := m.router.Lookup(user); !listed || p.Side == want {
		return op.Operation{}, nil
	}
	return m.Request(ctx, user, want, by, false)
}
