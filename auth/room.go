package auth

import "context"

// knownKey is of contexts.
type knownKey struct{}

// AsKnown marks the logins of a context as those of a user who has logged in from where he is before.
func AsKnown(ctx context.Context) context.Context { return context.WithValue(ctx, knownKey{}, true) }

// IsKnown tells whether a context is marked so.
func IsKnown(ctx context.Context) bool { return ctx.Value(knownKey{}) != nil }

// room bounds what is done at a time. Strangers have half of it, as at hosts: guessers hold up nobody who is known.
type room struct{ all, strangers chan struct{} }

func newRoom(n int) room { return room{make(chan struct{}, n), make(chan struct{}, max(1, n/2))} }

// inTurn does something when there is room for it, or gives ctx's error.
func (r room) inTurn(ctx context.Context, do func() error) error {
	lanes := []chan struct{}{r.strangers, r.all}
	if IsKnown(ctx) {
		lanes = lanes[1:]
	}
	for _, lane := range lanes {
		select {
		case lane <- struct{}{}:
			defer func() { <-lane }()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return do()
}
