package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
	"mailgate/router"
	"mailgate/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is an API on a control socket, with a real manager and store behind it.
type rig struct {
	t      *testing.T
	text   string // of the routes file
	conf   *config.Config
	m      *cutover.Manager
	r      *router.Router
	store  *store.SQLite
	client Client
	api    *API
}

func newRig(t *testing.T, routes string) *rig {
	dir := t.TempDir()
	g := &rig{t: t, text: routes, conf: &config.Config{Routes: config.Routes{LocalPart: "fold", Subaddress: "+", ApproveShare: 0.2,
		ApproveMin: 2}, Flip: config.Flip{Deadline: 2 * time.Second, Hold: time.Second, Parallel: 2}}}
	var err error
	g.store, err = store.Open(t.Context(), filepath.Join(dir, "state.db"))
	must(t, err)
	g.r = router.New(router.Options{Hold: time.Second}, func(u string) config.Side { return g.m.Side(u) },
		func(u string, p router.Place) { g.m.Seen(u, p) })
	g.m = cutover.New(cutover.Options{Store: g.store, Router: g.r, Nodes: []cutover.Node{&cutover.LocalNode{ID: "gw", Router: g.r}},
		Flip: g.conf.Flip, Routes: g.conf.Routes, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	must(t, g.m.Start(t.Context()))
	_, err = g.Reload(t.Context(), "start", "")
	must(t, err)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	must(t, err)
	api := &API{Gateway: g, Router: g.r, Manager: g.m, Store: g.store}
	g.api = api
	srv := &http.Server{Handler: api.Handler(), ConnContext: WithPeer}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
		g.m.Stop()
		must(t, g.store.Close())
	})
	g.client = Client{Socket: l.Addr().String()}
	return g
}

func (g *rig) file() (*config.RouteFile, error) {
	return config.ParseRoutes("routes", []byte(g.text), g.conf)
}

// Reload, SetSide, Approve, Overview and Resolve implement Gateway.
func (g *rig) Reload(ctx context.Context, by, from string) (r Reloaded, err error) {
	rf, err := g.file()
	if err != nil {
		return r, err
	}
	r.Import, err = g.m.Import(ctx, rf, by, from)
	return r, err
}

func (g *rig) Authority(r config.Route, _ config.Side) (config.Authority, string) {
	return g.conf.AuthorityOf(r), ""
}

func (g *rig) SetSide(ctx context.Context, user string, side config.Side, by, from string) (Reloaded, error) {
	var out []string
	for _, line := range strings.SplitAfter(g.text, "\n") {
		if strings.HasPrefix(line, user+" ") {
			line = user + " " + side.String() + "\n"
		}
		out = append(out, line)
	}
	g.text = strings.Join(out, "")
	return g.Reload(ctx, by, from)
}

func (g *rig) Approve(ctx context.Context, id, by, from string) (cutover.Imported, error) {
	rf, err := g.file()
	if err != nil {
		return cutover.Imported{}, err
	}
	return g.m.Approve(ctx, id, rf, by, from)
}

func (g *rig) Overview(context.Context) Overview {
	return Overview{Hostname: "mail.example.com", Serving: true}
}

func (g *rig) Resolve(login string) (string, config.Route, bool, error) {
	rf, err := g.file()
	if err != nil {
		return "", config.Route{}, false, err
	}
	user, err := rf.Lookup(config.NewAddresses(g.conf.Routes), login)
	if err != nil {
		return "", config.Route{}, false, fmt.Errorf("%q: %w", login, err)
	}
	return user, rf.For(user), rf.Users[user] != nil, nil
}

// call makes a call: the exit code, and the answer or the error's text.
func (g *rig) call(method, path string, form ...string) (exit int, text string) {
	g.t.Helper()
	v := url.Values{"by": {"cli: test"}}
	for i := 0; i < len(form); i += 2 {
		v.Set(form[i], form[i+1])
	}
	var out json.RawMessage
	err := g.client.Call(g.t.Context(), method, path, v, &out)
	var ce CallError
	switch {
	case errors.As(err, &ce):
		return ce.Exit, ce.Error()
	case err != nil:
		g.t.Fatal(err)
	}
	return 0, string(out)
}

// want looks at an exit code and that the text holds all words.
func (g *rig) want(exit int, words string, method, path string, form ...string) string {
	g.t.Helper()
	got, text := g.call(method, path, form...)
	if got != exit {
		g.t.Errorf("%s %s %v: exit %d, want %d: %s", method, path, form, got, exit, text)
	}
	for _, w := range strings.Split(words, "|") {
		if !strings.Contains(text, w) {
			g.t.Errorf("%s %s %v: %q is not in %s", method, path, form, w, text)
		}
	}
	return text
}

// here is where this process's requests come from.
var here = fmt.Sprintf("control socket, pid %d, uid ", os.Getpid())

// came looks at the newest events: each tells that somebody asked for it, and where from.
func (g *rig) came(what ...string) {
	g.t.Helper()
	list, err := g.store.History(g.t.Context(), op.HistoryFilter{Limit: 10, What: what})
	must(g.t, err)
	seen := map[string]bool{}
	for _, e := range list {
		if seen[e.What] = true; !strings.Contains(e.By, "cli: test") || !strings.HasPrefix(e.From, here) {
			g.t.Errorf("%+v", e)
		}
	}
	if len(seen) != len(what) {
		g.t.Errorf("%v, want %v", seen, what)
	}
}

type stubborn struct{}

func (stubborn) End(router.Pressure, string) {}
func (stubborn) Resume()                     {}

// session puts a session into the router that does not end by itself.
func (g *rig) session(user string) *router.Session {
	g.t.Helper()
	l, err := g.r.Begin(user)
	must(g.t, err)
	defer l.End()
	p, _, err := l.Route(g.t.Context(), nil)
	must(g.t, err)
	s, err := l.Admit(p, router.Details{Protocol: config.IMAP, Mailbox: true, Client: netip.MustParseAddrPort("192.0.2.1:5")}, stubborn{})
	must(g.t, err)
	return s
}

// opOf is the ID in an answer.
func opOf(text string) string {
	var o op.Operation
	_ = json.Unmarshal([]byte(text), &o)
	return o.ID
}

const (
	get  = http.MethodGet
	post = http.MethodPost
)

func TestMovingOverTheSocket(t *testing.T) {
	g := newRig(t, "alice@example.com old\nbob@example.com new wave=pilot\n")
	g.want(0, `"hostname":"mail.example.com"|"serving":true`, get, "/status")
	g.want(0, `"side":"old"|the routes file says so|"listed":true`, get, "/user", "user", "Alice+x@EXAMPLE.com")
	g.want(64, "", get, "/user", "user", "a b@example.com")
	g.want(0, "[]", get, "/sessions")
	g.want(0, `"asked":0`, post, "/kick", "user", "alice@example.com")
	g.want(64, "old or new", post, "/flip", "user", "alice@example.com", "side", "west")

	id := opOf(g.want(0, `"target":"new"|"by":"cli: test"`, post, "/flip", "user", "alice@example.com", "side", "new"))
	g.want(0, `"status":"done"`, post, "/op/wait", "id", id)
	g.want(0, `"side":"new"|"epoch":1|possible at any time`, get, "/user", "user", "alice@example.com")
	id = opOf(g.want(0, "already on new|done", post, "/op/wait", "id", opOf(g.want(0, "", post, "/flip", "user", "alice@example.com", "side", "new"))))
	g.want(3, "ended already", post, "/op/cancel", "id", id)
	g.want(2, "not found", get, "/op", "id", "op-77")
	g.want(2, "not found", post, "/op/wait", "id", "op-77")
	g.want(2, "not found", post, "/op/cancel", "id", "op-77")
	g.want(2, "not found", post, "/op/approve", "id", "op-77")
	g.want(3, "waits for no approval", post, "/op/approve", "id", id)

	g.want(0, `"was_pinned":false`, post, "/unpin", "user", "alice@example.com")
	g.want(0, `"status":"done"`, post, "/op/wait", "id", opOf(g.want(0, `"pin":true`, post, "/rollback", "user", "alice@example.com")))
	g.want(0, `"side":"old"|pinned to old by cli: test|"desired":"new"`, get, "/user", "user", "alice@example.com")
	text := g.want(0, `"was_pinned":true|"target":"new"`, post, "/unpin", "user", "alice@example.com")
	var u Unpinned
	must(t, json.Unmarshal([]byte(text), &u))
	g.want(0, `"status":"done"`, post, "/op/wait", "id", u.Operation.ID)

	g.want(0, "flip committed|unpinned", get, "/history", "user", "alice@example.com")
	g.want(0, "[]", get, "/history", "since", time.Now().Add(time.Hour).Format(time.RFC3339Nano))
	g.want(64, "since", get, "/history", "since", "yesterday")
	var events []op.Event
	must(t, json.Unmarshal([]byte(g.want(0, "", get, "/history", "limit", "1")), &events))
	if len(events) != 1 || events[0].What != "flip committed" {
		t.Errorf("%+v", events)
	}
	g.want(0, "[]", get, "/ops")
	g.want(0, `"status":"done"`, get, "/ops", "all", "1")
}

func TestSlowFlipOverTheSocket(t *testing.T) {
	g := newRig(t, "alice@example.com old\n")
	s := g.session("alice@example.com")
	g.want(0, `"user":"alice@example.com"|"client":"192.0.2.1:5"`, get, "/sessions", "user", "alice@example.com")
	id := opOf(g.want(0, "", post, "/flip", "user", "alice@example.com", "side", "new"))
	next := opOf(g.want(0, "", post, "/flip", "user", "alice@example.com", "side", "old"))
	g.want(5, id+"|goes on", post, "/op/wait", "id", id, "timeout", "10ms")
	g.want(0, "is to move him to new|waits for "+id, get, "/user", "user", "alice@example.com")
	g.want(0, "waits for "+id, get, "/op", "id", next)
	g.want(0, `"status":"cancelled"|by cli: test`, post, "/op/cancel", "id", next)
	g.came("cancelled")
	g.want(0, `"status":"failed"|deadline`, post, "/op/wait", "id", id)
	g.want(0, "the routes file says so", get, "/user", "user", "alice@example.com")
	s.Done()
}

// TestRollbackCallsOff: a rollback does not wait behind a flip to NEW that is not committed.
func TestRollbackCallsOff(t *testing.T) {
	g := newRig(t, "alice@example.com old\n")
	s := g.session("alice@example.com")
	defer s.Done()
	id := opOf(g.want(0, "", post, "/flip", "user", "alice@example.com", "side", "new"))
	next := opOf(g.want(0, "", post, "/rollback", "user", "alice@example.com"))
	g.want(0, `"status":"cancelled"`, post, "/op/wait", "id", id)
	g.want(0, `"status":"done"|already on old`, post, "/op/wait", "id", next)
}

func TestApprovalOverTheSocket(t *testing.T) {
	lines := func(side string) (s string) {
		for i := range 5 {
			s += fmt.Sprintf("u%d@example.com %s\n", i, side)
		}
		return s
	}
	g := newRig(t, lines("old"))
	g.text = "u0@example.com west\n"
	g.want(3, "west", post, "/reload")
	g.text = lines("new")
	var r Reloaded
	must(t, json.Unmarshal([]byte(g.want(0, "op approve|lines_changed", post, "/reload")), &r))
	id := r.Import.Waiting.ID
	if !strings.HasPrefix(r.Import.Waiting.From, here) {
		t.Errorf("%+v", r.Import.Waiting)
	}
	g.came("import waits for approval")
	g.want(5, "waiting", post, "/op/wait", "id", id, "timeout", "10ms")
	g.text += "# changed\n"
	g.want(3, "has changed", post, "/op/approve", "id", id)
	g.text = lines("new")
	g.want(0, `"target":"new"`, post, "/op/approve", "id", id)
	g.want(0, `"status":"done"|approved by`, post, "/op/wait", "id", id)
	g.came("approved")
	must(t, g.m.Idle(t.Context()))
	// A flip by hand of a file that waits for approval says so.
	g.text = lines("old")
	g.want(0, `"kind":"import"|"status":"waiting"`, post, "/flip", "user", "u0@example.com", "side", "old")
}

// TestReloadTellsWhence: what a reload takes over, and an edit for a flip, say who asked and where from; what the start takes over does not.
func TestReloadTellsWhence(t *testing.T) {
	g := newRig(t, "alice@example.com old\n")
	g.text += "default new\n"
	g.want(0, "", post, "/reload")
	g.came("default changed")
	g.want(0, "", post, "/flip", "user", "alice@example.com", "side", "new", "ssh", "192.0.2.7 1 192.0.2.8 22")
	list, err := g.store.History(t.Context(), op.HistoryFilter{What: []string{"routes imported"}})
	must(t, err)
	if len(list) != 3 || !strings.HasPrefix(list[0].From, here) || !strings.HasSuffix(list[0].From, ", ssh from 192.0.2.7") ||
		!strings.HasPrefix(list[1].From, here) || list[2].From != "" {
		t.Errorf("%+v", list)
	}
}

// removing takes out nodes.
type removing struct {
	Fellows
	asked []string
}

func (r *removing) RemoveNode(_ context.Context, name, by, from string) error {
	r.asked = append(r.asked, name, by, from)
	return nil
}

func TestNodesRemoveTellsWhence(t *testing.T) {
	g := newRig(t, "alice@example.com old\n")
	g.want(3, "one process", post, "/nodes/remove", "name", "gw2")
	r := &removing{}
	g.api.Fellows = r
	g.want(0, "", post, "/nodes/remove", "name", "gw2")
	if len(r.asked) != 3 || r.asked[0] != "gw2" || r.asked[1] != "cli: test" || !strings.HasPrefix(r.asked[2], here) {
		t.Error(r.asked)
	}
}

// TestStatusWithoutStore: where a user is, is known without the store.
func TestStatusWithoutStore(t *testing.T) {
	g := newRig(t, "alice@example.com new\n")
	api := &API{Gateway: g, Router: g.r, Manager: g.m, Store: brokenStore{g.store}}
	g.client = Client{Local: api.Handler()}
	g.want(0, `"side":"new"|"state":""|whether he is being moved is not known|"store":"store unavailable"`, get, "/user", "user", "alice@example.com")
	g.want(1, "store unavailable", get, "/ops")
}

// brokenStore answers nothing.
type brokenStore struct{ op.Store }

func (brokenStore) Row(context.Context, string) (op.Row, error) { return op.Row{}, op.ErrUnavailable }

func (brokenStore) Operations(context.Context, op.Filter) ([]op.Operation, error) {
	return nil, op.ErrUnavailable
}

// TestNobodyAnswers: no socket, and one that a dead process left.
func TestNobodyAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	c := Client{Socket: path}
	if err := c.Call(t.Context(), get, "/status", url.Values{}, nil); !errors.Is(err, ErrNotRunning) {
		t.Error(err)
	}
	l, err := net.Listen("unix", path)
	must(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if err := c.Call(t.Context(), get, "/status", url.Values{}, nil); !errors.Is(err, ErrNotRunning) {
		t.Error(err)
	}
	// An API of the same process answers alike.
	g := newRig(t, "alice@example.com old\n")
	api := &API{Gateway: g, Router: g.r, Manager: g.m, Store: g.store}
	g.client = Client{Local: api.Handler()}
	g.want(0, `"side":"old"`, get, "/user", "user", "alice@example.com")
	g.want(2, "not found", get, "/op", "id", "op-77")
}

func TestHealth(t *testing.T) {
	g := newRig(t, "alice@example.com old\n")
	m := NewMetrics("1.2", "abc", sourcesOf(g.r))
	why, broken, trouble := "starting", error(nil), []string(nil)
	h := Health(m, func() string { return why }, func(context.Context) error { return broken }, func() []string { return trouble })
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(get, path, nil))
		return w.Code, w.Body.String()
	}
	if code, text := ask("/healthz"); code != 200 || text != "ok\n" {
		t.Error(code, text)
	}
	if code, text := ask("/readyz"); code != 503 || !strings.Contains(text, "starting") {
		t.Error(code, text)
	}
	why = ""
	if code, text := ask("/readyz"); code != 200 || text != "ready\n" {
		t.Error(code, text)
	}
	trouble = []string{"certificate mail.example.com: none yet", "another"}
	if code, text := ask("/readyz"); code != 200 || text != "ready\nwarning: certificate mail.example.com: none yet\nwarning: another\n" {
		t.Error(code, text)
	}
	trouble, broken = nil, op.ErrUnavailable // mail goes on
	if code, text := ask("/readyz"); code != 200 || !strings.Contains(text, "warning") {
		t.Error(code, text)
	}
	if code, text := ask("/metrics"); code != 200 || !strings.Contains(text, `mailgate_build_info{revision="abc",version="1.2"} 1`) {
		t.Error(code, text)
	}
	if code, _ := ask("/status"); code != 404 { // the API is for the control socket
		t.Error(code)
	}
}
