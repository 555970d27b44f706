package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"mailgate/cutover"
)

// TestNotes: what sessions do while another process has the store is told to that one in order; what a successor was told that never served
// is told to the next, or heard by this process when it leads again.
func TestNotes(t *testing.T) {
	t.Parallel()
	n := newNotes()
	note := func(user string) bool { return n.add(cutover.Note{User: user}) }
	if note("before") {
		t.Error("kept before a hand-over")
	}
	n.keep()
	for _, u := range []string{"a", "b"} {
		if !note(u) {
			t.Error("not kept")
		}
	}
	// told runs tell until so many have come; who listens ends when it has heard the last.
	told := func(want int) (out []string) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // or too few come
		defer cancel()
		var mu sync.Mutex
		n.tell(ctx, func(ctx context.Context, x cutover.Note) error {
			mu.Lock()
			defer mu.Unlock()
			if len(out) == want {
				cancel()
				return errors.New("it has ended")
			}
			out = append(out, x.User)
			return nil
		})
		return out
	}
	n.anew()
	note("c")
	if got := told(2); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%v", got)
	}
	n.anew() // another successor
	note("d")
	if got := told(3); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("to the second: %v", got)
	}
	var heard []string
	n.drain(func(x cutover.Note) { heard = append(heard, x.User) })
	if !slices.Equal(heard, []string{"a", "b", "c", "d"}) {
		t.Errorf("by this process: %v", heard)
	}
	if note("after") {
		t.Error("kept while this process leads")
	}

	n.keep()
	n.anew()
	n.serves()
	note("e")
	note("f")
	if got := told(1); !slices.Equal(got, []string{"e"}) {
		t.Errorf("%v", got)
	}
	soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	n.allTold(soon)
	if soon.Err() == nil {
		t.Error("one is to be told still")
	}
	heard = nil
	n.drain(func(x cutover.Note) { heard = append(heard, x.User) })
	if !slices.Equal(heard, []string{"f"}) {
		t.Errorf("behind one that served: %v", heard)
	}
}
