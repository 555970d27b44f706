package cutover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailgate/config"
	"mailgate/op"
	"mailgate/router"
	"mailgate/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const alice = "alice@example.com"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fault is what happens to a call of the store.
type fault int

const (
	well   fault = iota
	before       // nothing is written, an error comes back
	after        // it is written, and yet an error comes back
	hang         // nothing comes back until the caller gives up; nothing is written
	hangOn       // the same, but it is written
)

func (f fault) String() string { return []string{"well", "before", "after", "hang", "hangOn"}[f] }

var errDisk = fmt.Errorf("%w: injected", op.ErrUnavailable)

// faulty is a store whose calls can be made to fail. decide sees each call's name and number from zero.
type faulty struct {
	op.Store
	mu     sync.Mutex
	calls  []string
	decide func(name string, n int) fault
	swaps  func(from int64, next op.Row) // before each swap that is written
	adds   func()                        // before rows are added

	imported func() // when an import is written, before it answers
}

func (s *faulty) set(f func(name string, n int) fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.decide = nil, f
}

func (s *faulty) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

func (s *faulty) do(ctx context.Context, name string, f func(ctx context.Context) error) error {
	s.mu.Lock()
	what := well
	if s.decide != nil {
		what = s.decide(name, len(s.calls))
	}
	s.calls = append(s.calls, name)
	s.mu.Unlock()
	var err error
	if what != before && what != hang {
		err = f(context.WithoutCancel(ctx))
	}
	if what == hang || what == hangOn {
		<-ctx.Done()
		return fmt.Errorf("%w: %w", errDisk, ctx.Err()) // as a real store: it does not say why
	}
	if what != well {
		return errDisk
	}
	return err
}

func (s *faulty) Row(ctx context.Context, user string) (r op.Row, err error) {
	err = s.do(ctx, "Row", func(ctx context.Context) error { r, err = s.Store.Row(ctx, user); return err })
	return r, err
}

func (s *faulty) Rows(ctx context.Context, f func(op.Row) error) error {
	return s.do(ctx, "Rows", func(ctx context.Context) error { return s.Store.Rows(ctx, f) })
}

func (s *faulty) AddRows(ctx context.Context, rows []op.Row) error {
	return s.do(ctx, "AddRows", func(ctx context.Context) error {
		if s.adds != nil {
			s.adds()
		}
		return s.Store.AddRows(ctx, rows)
	})
}

func (s *faulty) Swap(ctx context.Context, from int64, next op.Row, o op.Operation, pin *op.Pin, e ...op.Event) error {
	return s.do(ctx, "Swap", func(ctx context.Context) error {
		if s.swaps != nil {
			s.swaps(from, next)
		}
		return s.Store.Swap(ctx, from, next, o, pin, e...)
	})
}

func (s *faulty) Commit(ctx context.Context, from int64, next op.Row, o op.Operation, pin *op.Pin, c op.Condition, e ...op.Event) error {
	return s.do(ctx, "Commit", func(ctx context.Context) error {
		if s.swaps != nil {
			s.swaps(from, next)
		}
		return s.Store.Commit(ctx, from, next, o, pin, c, e...)
	})
}

func (s *faulty) Holds(ctx context.Context) (out []op.Hold, err error) {
	err = s.do(ctx, "Holds", func(ctx context.Context) error { out, err = s.Store.Holds(ctx); return err })
	return out, err
}

func (s *faulty) NewOperation(ctx context.Context, o op.Operation, e ...op.Event) (out op.Operation, err error) {
	err = s.do(ctx, "NewOperation", func(ctx context.Context) error { out, err = s.Store.NewOperation(ctx, o, e...); return err })
	return out, err
}

func (s *faulty) SaveOperation(ctx context.Context, o op.Operation, e ...op.Event) error {
	return s.do(ctx, "SaveOperation", func(ctx context.Context) error { return s.Store.SaveOperation(ctx, o, e...) })
}

func (s *faulty) Operation(ctx context.Context, id string) (o op.Operation, err error) {
	err = s.do(ctx, "Operation", func(ctx context.Context) error { o, err = s.Store.Operation(ctx, id); return err })
	return o, err
}

func (s *faulty) Operations(ctx context.Context, f op.Filter) (out []op.Operation, err error) {
	err = s.do(ctx, "Operations", func(ctx context.Context) error { out, err = s.Store.Operations(ctx, f); return err })
	return out, err
}

func (s *faulty) Pins(ctx context.Context) (out []op.Pin, err error) {
	err = s.do(ctx, "Pins", func(ctx context.Context) error { out, err = s.Store.Pins(ctx); return err })
	return out, err
}

func (s *faulty) Import(ctx context.Context, im op.ImportTx) (out []op.Operation, err error) {
	err = s.do(ctx, "Import", func(ctx context.Context) error {
		out, err = s.Store.Import(ctx, im)
		if s.imported != nil {
			s.imported()
		}
		return err
	})
	return out, err
}

func (s *faulty) Desired(ctx context.Context, f func(op.Desired) error) (serial string, err error) {
	err = s.do(ctx, "Desired", func(ctx context.Context) error { serial, err = s.Store.Desired(ctx, f); return err })
	return serial, err
}

func (s *faulty) Rules(ctx context.Context) (r op.Rules, err error) {
	err = s.do(ctx, "Rules", func(ctx context.Context) error { r, err = s.Store.Rules(ctx); return err })
	return r, err
}

func (s *faulty) AddNode(ctx context.Context, n op.Node) error {
	return s.do(ctx, "AddNode", func(ctx context.Context) error { return s.Store.AddNode(ctx, n) })
}

// gateway is a manager with its router on a store, as serve has them.
type gateway struct {
	t  *testing.T
	m  *Manager
	r  *router.Router
	st *faulty
}

// settingsOf are those of most tests.
func settingsOf() (config.Flip, config.Routes) {
	return config.Flip{Deadline: 20 * time.Second, Hold: 25 * time.Second, Parallel: 4, Prepare: 100},
		config.Routes{LocalPart: "fold", Subaddress: "+", ApproveShare: 0.25, ApproveMin: 3}
}

func openStore(t *testing.T, dir string) *store.SQLite {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(dir, "state.db"))
	must(t, err)
	return s
}

// tempDir is a directory in memory where there is one: these tests write thousands of transactions.
func tempDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "cutover")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// newGateway makes one that is not started, on a store that may be used already.
func newGateway(t *testing.T, s op.Store, more ...Node) *gateway {
	g := &gateway{t: t, st: &faulty{Store: s}}
	f, r := settingsOf()
	g.r = router.New(router.Options{Hold: f.Hold}, func(user string) config.Side { return g.m.Side(user) },
		func(user string, p router.Place) { g.m.Seen(user, p) })
	nodes := append([]Node{&LocalNode{ID: "gw1", Router: g.r}}, more...)
	g.m = New(Options{Store: g.st, Router: g.r, Nodes: nodes, Flip: f, Routes: r, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	return g
}

// started is a gateway with some lines imported.
func started(t *testing.T, routes string, more ...Node) *gateway {
	t.Helper()
	s := openStore(t, tempDir(t))
	g := newGateway(t, s, more...)
	must(t, g.m.Start(t.Context()))
	g.imports(routes)
	t.Cleanup(func() {
		g.m.Stop()
		must(t, s.Close())
	})
	return g
}

// file parses a routes file.
func (g *gateway) file(text string) *config.RouteFile {
	g.t.Helper()
	rf, err := config.ParseRoutes("routes", []byte(text), &config.Config{Routes: g.m.set.Load().routes})
	must(g.t, err)
	return rf
}

func (g *gateway) imports(text string) Imported {
	g.t.Helper()
	im, err := g.m.Import(g.t.Context(), g.file(text), "test", "")
	must(g.t, err)
	return im
}

func (g *gateway) request(user string, side config.Side) op.Operation {
	g.t.Helper()
	o, err := g.m.Request(g.t.Context(), user, side, "test", true)
	must(g.t, err)
	return o
}

// wait waits for an operation's end, through faults of the store.
func (g *gateway) wait(id string) op.Operation {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 10*time.Minute)
	defer cancel()
	for {
		o, err := g.m.Wait(ctx, id)
		if errors.Is(err, op.ErrUnavailable) && ctx.Err() == nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if err != nil {
			g.t.Fatalf("%s has not ended: %v, %+v", id, err, o)
		}
		return o
	}
}

// row is what the store really has.
func (g *gateway) row(user string) op.Row {
	g.t.Helper()
	r, err := g.st.Store.Row(context.Background(), user)
	must(g.t, err)
	return r
}

// check looks that a user is settled on a side, in the store and in the router.
func (g *gateway) check(user string, side config.Side, epoch int64) {
	g.t.Helper()
	r := g.row(user)
	p, known := g.r.Lookup(user)
	if r.State != op.Settled || r.Side != side || r.Epoch != epoch || r.Op != "" {
		g.t.Errorf("store: %+v, want %s in epoch %d", r, side, epoch)
	}
	if !known || p.Side != side || p.Epoch != epoch {
		g.t.Errorf("router: %+v, want %s in epoch %d", p, side, epoch)
	}
	g.admits(g.r, user, side)
}

// admits looks that a login comes through, on a side.
func (g *gateway) admits(r *router.Router, user string, side config.Side) {
	g.t.Helper()
	s, err := login(g.t.Context(), r, user, &ender{})
	if err != nil {
		g.t.Errorf("%s cannot log in: %v", user, err)
		return
	}
	if s.Side != side {
		g.t.Errorf("%s was let in to %s, want %s", user, s.Side, side)
	}
	s.Done()
}

// ender is a session's end.
type ender struct {
	once sync.Once
	end  func()
	cut  func() // for router.Cut alone
}

func (e *ender) End(p router.Pressure, _ string) {
	if e.cut != nil && p == router.Cut {
		e.once.Do(e.cut)
	}
	if e.end != nil {
		e.once.Do(e.end)
	}
}
func (e *ender) Resume() {}

func details(mailbox bool) router.Details {
	return router.Details{Protocol: config.IMAP, Mailbox: mailbox, Client: netip.MustParseAddrPort("192.0.2.1:1")}
}

// login logs in as the proxy does.
func login(ctx context.Context, r *router.Router, user string, e router.Ender) (*router.Session, error) {
	l, err := r.Begin(user)
	if err != nil {
		return nil, err
	}
	defer l.End()
	for {
		p, _, err := l.Route(ctx, nil)
		if err != nil {
			return nil, err
		}
		s, err := l.Admit(p, details(true), e)
		if errors.Is(err, router.ErrMoved) {
			continue
		}
		return s, err
	}
}

// clients log in again and again until stop is called, and look that each session is on the side of the store's row:
// as long as one lives, no commit may pass it.
func (g *gateway) clients(r *router.Router, users ...string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, user := range users {
		wg.Go(func() {
			for ctx.Err() == nil {
				ended := make(chan struct{})
				s, err := login(ctx, r, user, &ender{end: func() { close(ended) }})
				if err != nil {
					continue
				}
				if row, err := g.st.Store.Row(context.Background(), user); err != nil || row.Side != s.Side {
					g.t.Errorf("a session of %s is on %s, the row says %+v (%v)", user, s.Side, row, err)
				}
				select {
				case <-ended:
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
				if row, err := g.st.Store.Row(context.Background(), user); err != nil || row.Side != s.Side {
					g.t.Errorf("a session of %s on %s lived through a commit: %+v (%v)", user, s.Side, row, err)
				}
				s.Done()
			}
		})
	}
	stop = func() {
		cancel()
		wg.Wait()
	}
	g.t.Cleanup(stop)
	return stop
}

// called looks who did something to an operation, and where from, as the history tells it.
func (g *gateway) called(what, id, by, from string) {
	g.t.Helper()
	list, err := g.st.Store.History(context.Background(), op.HistoryFilter{What: []string{what}})
	must(g.t, err)
	i := slices.IndexFunc(list, func(e op.Event) bool { return e.Op == id })
	if i < 0 || list[i].By != by || list[i].From != from {
		g.t.Errorf("%s of %s: %+v", what, id, list)
	}
}

// events are a user's history, oldest first.
func (g *gateway) events(user string) (out []string) {
	g.t.Helper()
	h, err := g.st.Store.History(context.Background(), op.HistoryFilter{User: user})
	must(g.t, err)
	for _, e := range h {
		out = append(out, e.What)
	}
	slices.Reverse(out)
	return out
}
