package syncer

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestTells: the same trouble is logged once an hour, another one at once.
func TestTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		full, gone := errors.New("full"), errors.New("gone")
		for i, c := range []struct {
			user, folder string
			err          error
			wait         time.Duration
			want         bool
		}{
			{"anna", "Box", full, 0, true}, {"anna", "Box", full, 59 * time.Minute, false}, {"anna", "Box", gone, 0, true},
			{"bert", "Box", full, 0, true}, {"anna", "Bag", full, 0, true}, {"anna", "Box", full, time.Minute, true},
			{"anna", "Box", gone, 0, false},
		} {
			time.Sleep(c.wait)
			if got := s.tells(c.user, c.folder, c.err); got != c.want {
				t.Errorf("%d: %v", i, got)
			}
		}
		time.Sleep(2 * time.Hour)
		s.tells("anna", "Box", full)
		if len(s.told) != 1 {
			t.Errorf("%d are remembered", len(s.told))
		}
	})
}
