package main

import (
	"errors"
	"testing"

	"mailgate/cutover"
)

// TestFlipsWhileEnding: what a flip is told while mailgate ends is not that it was refused.
func TestFlipsWhileEnding(t *testing.T) {
	s := &syncing{closing: true, awaited: map[string]int{}, passes: map[string]*underway{}}
	for _, fenced := range []bool{false, true} {
		_, _, err := newFlipMail(&gateway{syncing: s}).work(t.Context(), cutover.Move{User: "alice@example.com"}, fenced, nil)
		if !errors.Is(err, cutover.ErrStopping) {
			t.Errorf("%v", err)
		}
	}
}
