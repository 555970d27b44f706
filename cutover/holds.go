package cutover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"mailgate/op"
)

// Hold sets a stop sign that no flip passes, neither way: flips of its scope that are not committed end before they are. Of one
// scope the first stays; what stands then comes back.
func (m *Manager) Hold(ctx context.Context, h op.Hold, from string) (stands op.Hold, changed bool, err error) {
	if h.At.IsZero() {
		h.At = time.Now()
	}
	e := op.Event{At: h.At, User: scopeUser(h.Scope), What: "held", After: h.What(), By: h.By, Detail: h.Reason, From: from}
	changed, err = m.store.AddHold(ctx, h, e)
	if err != nil {
		return h, false, fmt.Errorf("record the hold: %w", err)
	}
	if !changed {
		list, err := m.store.Holds(ctx)
		if err != nil {
			return h, false, fmt.Errorf("read holds: %w", err)
		}
		for _, x := range list {
			if x.Scope == h.Scope {
				h = x
			}
		}
	}
	return h, changed, nil
}

// Unhold takes one away; changed is false when there was none.
func (m *Manager) Unhold(ctx context.Context, scope, by, from string) (changed bool, err error) {
	e := op.Event{At: time.Now(), User: scopeUser(scope), What: "hold ended", Before: op.Hold{Scope: scope}.What(), By: by, From: from}
	if changed, err = m.store.DropHold(ctx, scope, e); err != nil {
		return false, fmt.Errorf("end the hold: %w", err)
	}
	signal(m.wake) // it may have been in the way of who crossed an import
	return changed, nil
}

// scopeUser is whom a hold's event is about in the history.
func scopeUser(scope string) string {
	if user, ok := strings.CutPrefix(scope, "user:"); ok {
		return user
	}
	if scope == op.HoldAll {
		return ""
	}
	return scope
}

// Holds are all that stand: those of the store, and the flag file.
func (m *Manager) Holds(ctx context.Context) ([]op.Hold, error) {
	list, err := m.store.Holds(ctx)
	if err != nil {
		return nil, fmt.Errorf("read holds: %w", err)
	}
	if h, ok := FlagFile(m.set.Load().flip.HoldFile); ok {
		list = append([]op.Hold{h}, list...)
	}
	return list, nil
}

// Held is the *Refusal of a flip that a hold stands in the way of, nil when none does. wave may be "".
func (m *Manager) Held(ctx context.Context, user, wave string) error {
	list, err := m.Holds(ctx)
	if err != nil {
		return err
	}
	scopes := op.HoldScopes(user, wave)
	for _, h := range list {
		if slices.Contains(scopes, h.Scope) {
			return HeldBy(h)
		}
	}
	return nil
}

// HeldWave is Held of a whole wave: a hold of one of its members stops only him.
func (m *Manager) HeldWave(ctx context.Context, wave string) error { return m.Held(ctx, "", wave) }

// HeldBy says what a hold means for who wanted to move somebody.
func HeldBy(h op.Hold) *Refusal {
	r := refusedBy(h)
	if ByFile(h) {
		r.Do = "to let flips go on: remove the file (" + FileOf(h) + ")"
	}
	return r
}

// ByFile tells whether a hold is that of the flag file, which no verb takes away; FileOf is its path.
func ByFile(h op.Hold) bool { return h.Scope == op.HoldAll && strings.HasPrefix(h.By, fileBy) }

// FileOf is the path of the flag file of a hold, see ByFile.
func FileOf(h op.Hold) string { return strings.TrimPrefix(h.By, fileBy) }

// fileBy begins the name of who holds by the flag file.
const fileBy = "the file "

// FlagFile is the hold that a file at path means while it is there: its first line is the reason. A file that cannot be looked
// at is taken for one that is there. It is read and never made.
func FlagFile(path string) (h op.Hold, ok bool) {
	if path == "" {
		return h, false
	}
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, false
	}
	h = op.Hold{Scope: op.HoldAll, By: fileBy + path, At: time.Now()}
	if err != nil {
		h.Reason = "it cannot be looked at: " + err.Error()
		return h, true
	}
	h.At = st.ModTime()
	const line = 200 // bytes of a reason that fit into one
	f, err := os.Open(path)
	if err != nil {
		return h, true
	}
	defer f.Close()
	b := make([]byte, line)
	n, _ := f.Read(b)
	first, _, _ := strings.Cut(strings.ToValidUTF8(string(b[:n]), ""), "\n")
	h.Reason = strings.TrimSpace(first)
	return h, true
}
