package learned

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"mailgate/config"
)

// TestAtOnce lets logins, the syncer, verbs and reloads race. Behind the last Forget, once nobody logs in any more, nothing is left.
func TestAtOnce(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running, work sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	for n := range 4 {
		user := fmt.Sprintf("user%d@example.com", n%2)
		work.Go(func() {
			for i := range 200 {
				r.Note(user, config.Side(i%2), config.IMAP, config.Secret(fmt.Sprint("password ", i%3)))
				if i%10 == 0 {
					_, _ = r.Forget(ctx, user, "me", "")
				}
			}
		})
		work.Go(func() {
			for i := range 50 {
				_ = r.Use(ctx, user, config.Side(i%2), func(config.Secret) error { return errWrong }, func(error) bool { return true })
				_, _ = r.List(ctx, "")
				r.Configure(r.key, life+time.Duration(i))
			}
		})
	}
	work.Wait()
	if _, err := r.Forget(ctx, "", "me", ""); err != nil {
		t.Error(err)
	}
	for range 3 {
		r.writeNext(ctx)
	}
	cancel()
	running.Wait()
	if len(r.store.rows)+len(r.queue)+len(r.order)+len(r.seen)+len(r.refused)+len(r.turns) > 0 {
		t.Errorf("%d rows, %d wait, %d seen, %d refused, %d turns", len(r.store.rows), len(r.queue), len(r.seen), len(r.refused), len(r.turns))
	}
}

// BenchmarkNote is what a login pays, the same password again and another one.
func BenchmarkNote(b *testing.B) {
	book := New(Options{Store: &memory{}, Log: nil})
	book.key.Store(&Key{})
	for i := range b.N {
		book.Note(anna, config.Old, config.IMAP, config.Secret([]string{"hunter2", "hunter3"}[i%2]))
	}
}
