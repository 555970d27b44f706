package syncer_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/store"
	"mailgate/syncer"
)

// rig is a syncer between two hosts of the lab.
type rig struct {
	*syncer.Syncer
	hosts  [2]lab.Host
	dialer *backend.Dialer
	store  *store.SQLite
	n      int
}

func newRig(t testing.TB, old, new lab.Host, n int, change func(*syncer.Options)) *rig {
	t.Helper()
	var b [2]config.Backend
	for side, h := range []lab.Host{old, new} {
		b[side] = config.Backend{Hosts: []config.Host{{Name: h.Name, IMAP: config.Endpoint{Protocol: config.IMAP, Host: "127.0.0.1", Port: h.IMAP}}},
			ConnectTimeout: 10 * time.Second, LoginTimeout: 30 * time.Second}
	}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	d, err := backend.NewDialer(b, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{hosts: [2]lab.Host{old, new}, dialer: d, store: st, n: n}
	o := syncer.Options{Store: st, Owner: "test", Log: log, Settle: 50 * time.Millisecond, Grace: -1,
		Open: func(ctx context.Context, side config.Side, user string) (*backend.Client, error) {
			c, err := auth.Password("PLAIN", user, lab.Password(n))
			if err != nil {
				return nil, err
			}
			return d.DialClient(ctx, side, "", backend.Account{Credentials: c, LoginName: user})
		},
		Route: func(context.Context, string) (config.Side, int64, error) { return config.Old, 0, nil }}
	if change != nil {
		change(&o)
	}
	r.Syncer = syncer.New(o)
	t.Cleanup(func() {
		r.Close()
		st.Close()
	})
	return r
}

// pass runs one pass that has to succeed.
func (r *rig) pass(t testing.TB) *syncer.Report {
	t.Helper()
	rep, err := r.Run(t.Context(), lab.User(r.n), syncer.RunOptions{})
	if err != nil {
		t.Fatalf("pass: %v", err)
	}
	for _, e := range rep.Errors {
		t.Errorf("folder %s: %s", e.Folder, e.Error)
	}
	return rep
}

// snapshot reads the account on a side with a reader that is not ours.
func (r *rig) snapshot(t testing.TB, side config.Side) corpus.Account {
	t.Helper()
	a, err := corpus.Snapshot(lab.Addr(r.hosts[side].IMAP), lab.User(r.n), lab.Password(r.n))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// snapshots reads both sides at once.
func (r *rig) snapshots(t testing.TB) (a [2]corpus.Account) {
	t.Helper()
	var wg sync.WaitGroup
	var errs [2]error
	for side, h := range r.hosts {
		wg.Go(func() { a[side], errs[side] = corpus.Snapshot(lab.Addr(h.IMAP), lab.User(r.n), lab.Password(r.n)) })
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return a
}
