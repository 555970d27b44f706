package cutover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// Imported is what an import of the routes file came to.
type Imported struct {
	Serial     string         `json:"serial"`            // of the file
	Changed    int            `json:"lines_changed"`     // lines that differ from the last import
	Placed     int            `json:"users_placed"`      // users who had no row and are placed without a flip
	Unpinned   int            `json:"pins_ended"`        // pins that the file agrees with now
	Operations []op.Operation `json:"operations"`        // flips asked for, and a change of the default
	Waiting    *op.Operation  `json:"waiting,omitempty"` // set when the import waits for approval; nothing was taken over
}

// Flips are the users' moves that were asked for.
func (im Imported) Flips() []op.Operation {
	return slices.DeleteFunc(slices.Clone(im.Operations), func(o op.Operation) bool { return o.Kind != op.Flip })
}

// Import takes over a routes file that was parsed whole: each line that differs from the last import becomes, once, a
// request. Deleted lines move nobody. A file that would move more users than the set share, or that lost all its
// lines, waits as an operation for Approve. It is all or nothing: on an error nothing was taken over.
// from is where the request to read the file came from, "" where nobody has asked.
func (m *Manager) Import(ctx context.Context, rf *config.RouteFile, by, from string) (Imported, error) {
	m.importMu.Lock()
	defer m.importMu.Unlock()
	return m.doImport(ctx, rf, by, from, "")
}

// Approve takes over the file that an import operation waits with; the file must not have changed since.
func (m *Manager) Approve(ctx context.Context, id string, rf *config.RouteFile, by, from string) (Imported, error) {
	m.importMu.Lock()
	defer m.importMu.Unlock()
	o, err := m.store.Operation(ctx, id)
	if err != nil {
		return Imported{}, err
	}
	if o.Kind != op.Import || o.Status != op.Waiting {
		return Imported{}, fmt.Errorf("%s waits for no approval: %w", id, ErrFinal)
	}
	if o.Payload != rf.Serial {
		return Imported{}, fmt.Errorf("%s: %w", id, ErrFileChanged)
	}
	return m.doImport(ctx, rf, by, from, id)
}

// importTime bounds the store's part of an import: 100,000 changed lines take it a few seconds.
const importTime = time.Minute

// doImport is Import, of a file that was approved when the operation's ID is given; importMu is held.
func (m *Manager) doImport(ctx context.Context, rf *config.RouteFile, by, from, approved string) (Imported, error) {
	m.asking.RLock()
	defer m.asking.RUnlock()
	if err := m.isWorking(); err != nil {
		return Imported{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, importTime)
	defer cancel()
	if m.unsure {
		if _, err := m.reread(ctx); err != nil {
			return Imported{}, err
		}
	}
	stood, resume, err := m.pauseFor(ctx, rf)
	if err != nil {
		return Imported{}, err
	}
	defer resume()
	tx, err := m.plan(rf, by)
	if err != nil {
		return Imported{}, err
	}
	tx.Nodes = stood
	im := Imported{Serial: rf.Serial, Changed: len(tx.Set) + len(tx.Delete), Placed: len(tx.Place)}
	if why := m.guard(rf, unasked(tx.Operations)); why != "" && approved == "" && m.serial != "" {
		o, err := m.hold(ctx, rf, by, from, why)
		im.Waiting = &o
		return im, err
	}
	if err := m.complete(ctx, rf, by, from, approved, &tx); err != nil {
		return im, err
	}
	im.Unpinned = len(tx.Unpin)
	if len(tx.Events) == 0 { // the same file again
		return im, nil
	}
	m.unsure = true
	if im.Operations, err = m.store.Import(ctx, tx); err == nil {
		m.adopt(tx, im.Operations)
		return im, nil
	}
	if errors.Is(err, op.ErrNodes) {
		m.unsure = false
		return im, fmt.Errorf("%w, a node has come or gone meanwhile; ask again: %w", ErrAway, err)
	}
	// It may have been written all the same. What it asked for must not sleep in the store until the next start.
	ops, rerr := m.reread(context.WithoutCancel(ctx))
	if rerr != nil {
		signal(m.stray)
	} else if m.taken(tx) {
		im.Operations = ops
		return im, nil
	}
	return im, fmt.Errorf("record import: %w", err)
}

// taken tells whether what was read last is what an import would have written; importMu is held.
func (m *Manager) taken(tx op.ImportTx) bool {
	if m.serial != tx.Serial || len(tx.Set)+len(tx.Delete) == 0 {
		return false
	}
	for _, d := range tx.Set {
		if side, ok := m.lines[d.User]; !ok || side != d.Side {
			return false
		}
	}
	return !slices.ContainsFunc(tx.Delete, func(user string) bool { _, ok := m.lines[user]; return ok })
}

// plan compares the file with what was imported last. A new line of a user who has no row places him where the file
// says if this is the very first import: nobody was anywhere before. Later he is where users without a row are, and
// the line asks for a flip.
func (m *Manager) plan(rf *config.RouteFile, by string) (op.ImportTx, error) {
	tx := op.ImportTx{Serial: rf.Serial, Rules: m.rulesOf(rf)}
	first := m.serial == ""
	if !first && m.newcomers.rules.Load().Addresses != tx.Rules.Addresses {
		return tx, ErrAddressRules
	}
	now := time.Now()
	for _, user := range slices.Sorted(maps.Keys(rf.Users)) {
		r := rf.Users[user]
		was, listed := m.lines[user]
		if listed && was == r.Side {
			continue
		}
		tx.Set = append(tx.Set, op.Desired{User: user, Side: r.Side})
		will, moving := m.headed(user) // asked before the place: an operation ends behind the change of the place
		place, known := m.router.Lookup(user)
		if !known {
			if first {
				place.Side = r.Side
			}
			tx.Place = append(tx.Place, op.Row{User: user, Side: place.Side, Epoch: place.Epoch, Generation: place.Generation,
				State: op.Settled, Since: now})
		}
		if !moving {
			will = place.Side
		}
		if will != r.Side || moving && place.Side != r.Side { // the second: what is under way may yet be called off
			o := op.Operation{Kind: op.Flip, User: user, Target: r.Side, Status: op.Accepted, By: by, Wave: r.Wave, From: "routes file " + rf.Serial,
				Created: now, Changed: now}
			m.parts.adopt(&o)
			tx.Operations = append(tx.Operations, o)
		}
	}
	for user := range m.lines {
		if rf.Users[user] == nil {
			tx.Delete = append(tx.Delete, user)
		}
	}
	slices.Sort(tx.Delete)
	return tx, nil
}

// addressRules are the settings that decide which names are one user.
func addressRules(r config.Routes) string {
	return fmt.Sprintf("local part %s, sub-addresses behind %q", r.LocalPart, r.Subaddress)
}

// complete adds what the store has to say: rows owed are written first, so that new rules concern only names never
// seen; pins that the file agrees with and imports that waited end.
func (m *Manager) complete(ctx context.Context, rf *config.RouteFile, by, from, approved string, tx *op.ImportTx) error {
	if err := m.flushOwed(ctx); err != nil {
		return fmt.Errorf("record who has logged in: %w", err)
	}
	pins, err := m.store.Pins(ctx)
	if err != nil {
		return fmt.Errorf("read pins: %w", err)
	}
	comes := map[string]bool{}
	for _, d := range tx.Set {
		comes[d.User] = true
	}
	for _, pin := range pins {
		// Where the line has come to agree: who was taken out of a move that had not come to him is pinned beside a line that agreed before.
		if r := rf.Users[pin.User]; r != nil && r.Side == pin.Side && comes[pin.User] && !m.members.Means(pin.User, pin.Side.Other()) {
			tx.Unpin = append(tx.Unpin, pin.User)
		}
	}
	waiting, err := m.store.Operations(ctx, op.Filter{Open: true, Kind: op.Import})
	if err != nil {
		return fmt.Errorf("read operations: %w", err)
	}
	now := time.Now()
	for _, o := range waiting {
		o.Changed = now
		if o.Status, o.Reason = op.Cancelled, "another routes file was taken over"; o.ID == approved {
			o.Status, o.Reason = op.Done, "approved by "+by
			tx.Events = append(tx.Events, op.Event{At: now, Op: o.ID, What: "approved", By: by, From: from})
		}
		tx.Ended = append(tx.Ended, o)
	}
	rules := m.newcomers.rules.Load()
	if rf.Default != rules.Default {
		tx.Operations = append(tx.Operations, op.Operation{Kind: op.Default, Target: rf.Default, Status: op.Done, By: by, From: from,
			Created: now, Changed: now})
		tx.Events = append(tx.Events, op.Event{At: now, What: "default changed", Before: rules.Default.String(),
			After: rf.Default.String(), By: by, From: from})
	}
	if len(tx.Unpin)+len(tx.Ended)+len(tx.Set)+len(tx.Delete) > 0 || m.serial != rf.Serial {
		flips := slices.DeleteFunc(slices.Clone(tx.Operations), func(o op.Operation) bool { return o.Kind != op.Flip })
		tx.Events = append(tx.Events, op.Event{At: now, What: "routes imported", Before: m.serial, After: rf.Serial, By: by, From: from,
			Detail: fmt.Sprintf("%d lines changed, %d users placed, %d pins ended, %d flips asked for", len(tx.Set)+len(tx.Delete),
				len(tx.Place), len(tx.Unpin), len(flips))})
	}
	return nil
}

// unasked counts the moves that nobody has been shown before: those of a wave that moves were.
func unasked(ops []op.Operation) (n int) {
	for _, o := range ops {
		if o.Parent == "" {
			n++
		}
	}
	return n
}

// guard says why an import must be approved, "" if it need not.
func (m *Manager) guard(rf *config.RouteFile, moves int) string {
	set := m.set.Load().routes
	if len(rf.Users) == 0 && len(m.lines) > 0 {
		return fmt.Sprintf("the routes file lost all its %d users", len(m.lines))
	}
	total := max(len(rf.Users), len(m.lines))
	if moves > set.ApproveMin && float64(moves) > set.ApproveShare*float64(total) {
		return fmt.Sprintf("it would move %d of %d users, more than the share of %g (routes.approve_share)", moves, total,
			set.ApproveShare)
	}
	return ""
}

// hold records an import that waits; imports that waited with another file end. importMu is held.
func (m *Manager) hold(ctx context.Context, rf *config.RouteFile, by, from, why string) (op.Operation, error) {
	open, err := m.store.Operations(ctx, op.Filter{Open: true, Kind: op.Import})
	if err != nil {
		return op.Operation{}, fmt.Errorf("read operations: %w", err)
	}
	now := time.Now()
	for _, o := range open {
		if o.Payload == rf.Serial {
			m.setWaiting(o.ID)
			return o, nil
		}
		o.Status, o.Reason, o.Changed = op.Cancelled, "the routes file changed again", now
		if err := m.store.SaveOperation(ctx, o); err != nil {
			return o, fmt.Errorf("end %s: %w", o.ID, err)
		}
	}
	o := op.Operation{Kind: op.Import, Status: op.Waiting, By: by, From: from, Created: now, Changed: now, Payload: rf.Serial,
		Reason: why + "; look at the file, then run mailgate op approve"}
	o, err = m.store.NewOperation(ctx, o, op.Event{At: now, What: "import waits for approval", After: rf.Serial, By: by, From: from, Detail: why})
	if err != nil {
		return o, fmt.Errorf("record import: %w", err)
	}
	m.setWaiting(o.ID)
	return o, nil
}

// adopt makes an import that was recorded the present one; importMu and asking are held.
func (m *Manager) adopt(tx op.ImportTx, ops []op.Operation) {
	m.unsure = false
	m.serial = tx.Serial
	m.linesMu.Lock()
	for _, d := range tx.Set {
		m.lines[d.User] = d.Side
	}
	for _, user := range tx.Delete {
		delete(m.lines, user)
	}
	m.linesMu.Unlock()
	for _, r := range tx.Place { // before the new rules, by which he might be elsewhere
		if !m.router.Place(r.User, place(r)) {
			m.cross(r.User, r.Side)
		}
	}
	m.newcomers.rules.Store(&tx.Rules)
	m.rec.StoreOK(time.Now())
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = ""
	for _, o := range ops {
		if o.Kind == op.Flip {
			m.enqueue(o)
		}
	}
	m.dispatch()
}

// reread takes from the store what an import of unknown outcome may have left there, and returns the flips that it
// asked for; importMu and asking are held.
func (m *Manager) reread(ctx context.Context) (asked []op.Operation, err error) {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	err = m.store.Rows(ctx, func(r op.Row) error {
		m.router.Place(r.User, place(r))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	open, err := m.store.Operations(ctx, op.Filter{Open: true})
	if err != nil {
		return nil, fmt.Errorf("read operations: %w", err)
	}
	serial, lines := m.serial, m.lines
	if err := m.readImport(ctx); err != nil {
		return nil, err
	}
	m.unsure = false
	if m.serial == serial && maps.Equal(m.lines, lines) {
		return nil, nil // it was not written; a stray request is the sweeper's
	}
	defer func() { // behind the queue, so that what is asked for already counts
		for user, want := range m.lines {
			if was, listed := lines[user]; !listed || was != want {
				m.cross(user, want)
			}
		}
	}()
	slices.Reverse(open) // oldest first
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = ""
	for _, o := range open {
		switch {
		case o.Kind == op.Import:
			m.waiting = o.ID
		case o.Kind == op.Flip && m.tasks[o.ID] == nil:
			m.enqueue(o)
			asked = append(asked, o)
		}
	}
	m.dispatch()
	return asked, nil
}

// Drift is a user whose actual side is not the one that the routes file names.
type Drift struct {
	User    string      `json:"user"`
	Actual  config.Side `json:"actual"`
	Desired config.Side `json:"desired"`
	Pin     *op.Pin     `json:"pin,omitempty"` // the reason, if it is one
}

// Drift lists who is not where the file says and not on the way there.
func (m *Manager) Drift(ctx context.Context) ([]Drift, error) {
	pins, err := m.store.Pins(ctx)
	if err != nil {
		return nil, err
	}
	by := map[string]*op.Pin{}
	for i := range pins {
		by[pins[i].User] = &pins[i]
	}
	m.linesMu.RLock()
	lines := maps.Clone(m.lines)
	m.linesMu.RUnlock()
	out := []Drift{}
	for user, want := range lines {
		if _, moving := m.headed(user); moving {
			continue
		}
		if p, known := m.router.Lookup(user); known && p.Side != want {
			out = append(out, Drift{User: user, Actual: p.Side, Desired: want, Pin: by[user]})
		}
	}
	slices.SortFunc(out, func(a, b Drift) int { return strings.Compare(a.User, b.User) })
	return out, nil
}

// Desired is the side that the routes file names for a user.
func (m *Manager) Desired(user string) (config.Side, bool) {
	m.linesMu.RLock()
	defer m.linesMu.RUnlock()
	s, ok := m.lines[user]
	return s, ok
}

// ErrNotPinned means that there is no pin to take away.
var ErrNotPinned = errors.New("is not pinned")

// Unpin removes a user's pin, and asks for the side that the file names, if that is another.
// from is where the request came from, and plan what was shown before it, for the history.
func (m *Manager) Unpin(ctx context.Context, user, by, from, plan string) (op.Operation, error) {
	err := m.store.DeletePin(ctx, user, op.Event{At: time.Now(), User: user, What: "unpinned", By: by, From: from})
	if errors.Is(err, op.ErrNotFound) {
		return op.Operation{}, fmt.Errorf("%s %w", user, ErrNotPinned)
	} else if err != nil {
		return op.Operation{}, err
	}
	want, listed := m.Desired(user)
	will, moving := m.headed(user)
	if p, _ := m.router.Lookup(user); !moving {
		will = p.Side
	}
	if !listed || will == want {
		return op.Operation{}, nil
	}
	return m.Ask(ctx, op.Operation{User: user, Target: want, By: by, From: from, Plan: plan})
}
