package store

import (
	"testing"
	"time"

	"mailgate/syncer"
)

// conformGaps: what was last looked at stands, for each user by himself.
func conformGaps(t *testing.T, s, two syncer.Store) {
	ctx := t.Context()
	at := alice.Since.Add(time.Hour)
	if text, ok, err := s.Gaps(ctx, anna); ok || err != nil || text != nil {
		t.Errorf("%q %v %v", text, ok, err)
	}
	must(t, s.SaveGaps(ctx, anna, at, []byte(`{"gaps":[1]}`)))
	must(t, s.SaveGaps(ctx, "bert", at, []byte("\x00\xff")))
	must(t, two.SaveGaps(ctx, anna, at.Add(time.Second), []byte(`{"gaps":[2]}`)))
	text, ok, err := s.Gaps(ctx, anna)
	must(t, err)
	same(t, string(text), `{"gaps":[2]}`)
	same(t, ok, true)
	text, _, err = two.Gaps(ctx, "bert")
	must(t, err)
	same(t, string(text), "\x00\xff")
	times, err := two.GapTimes(ctx)
	must(t, err)
	same(t, times, map[string]time.Time{anna: at.Add(time.Second), "bert": at})
}
