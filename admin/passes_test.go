package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailgate/op"
)

// passing is a pass under way, which ends when it is told to.
type passing struct {
	g    *rig
	id   string
	from []string // what Sync and Cancel were told
}

func (p *passing) Sync(_ context.Context, _ string, form url.Values, _ func(any)) (any, error) {
	p.from = append(p.from, form["from"]...)
	return nil, nil
}

func (p *passing) Cancel(id, by, from string) bool {
	p.from = append(p.from, from)
	if id != p.id {
		return false
	}
	p.id = ""
	o, err := p.g.store.Operation(p.g.t.Context(), id)
	must(p.g.t, err)
	o.Status, o.Reason = op.Cancelled, "by "+by
	must(p.g.t, p.g.store.SaveOperation(p.g.t.Context(), o))
	return true
}

func (p *passing) Status(string) *SyncStatus { return nil }

func (p *passing) Live(o op.Operation) (op.Operation, bool) {
	if o.ID == p.id {
		o.Step, o.Reason = "copy", "messages 3/7"
		return o, true
	}
	return o, false
}

// TestPassesOverTheSocket: a pass under way is shown with how far it is and can be cancelled; one that nobody is at has ended,
// whatever the store still says.
func TestPassesOverTheSocket(t *testing.T) {
	g := newRig(t, "alice@example.com old\nbob@example.com old\n")
	pass := func(user string) string {
		o, err := g.store.NewOperation(t.Context(), op.Operation{Kind: op.Sync, User: user, Status: op.Running, By: "test",
			Created: time.Now(), Changed: time.Now()})
		must(t, err)
		return o.ID
	}
	lives, dead := pass("alice@example.com"), pass("bob@example.com")
	g.want(0, `"status":"interrupted"|`+op.GoesOn, get, "/op", "id", lives) // this process does not sync
	p := &passing{g: g, id: lives}
	g.api.Syncing = p
	g.want(0, `"kind":"sync"|"status":"running"|"step":"copy"|messages 3/7`, get, "/op", "id", lives)
	g.want(0, `"status":"interrupted"|`+op.GoesOn, get, "/op", "id", dead)
	g.want(0, `messages 3/7|"status":"interrupted"`, get, "/ops")
	g.want(0, `messages 3/7|"why":"the routes file says so"`, get, "/user", "user", "alice@example.com")
	g.want(5, "goes on", post, "/op/wait", "id", lives, "timeout", "10ms")
	g.want(3, "waits for no approval", post, "/op/approve", "id", lives)
	g.want(0, `"status":"cancelled"|by cli: test`, post, "/op/cancel", "id", lives)
	g.want(3, "ended already", post, "/op/cancel", "id", lives)
	g.want(0, `"status":"cancelled"`, post, "/op/cancel", "id", dead)
	g.came("cancelled")
	must(t, g.client.Stream(t.Context(), "/sync/pause", url.Values{"from": {"the moon"}}, func(json.RawMessage) {}, new(any)))
	if len(p.from) < 2 || slices.ContainsFunc(p.from, func(s string) bool { return !strings.HasPrefix(s, here) }) {
		t.Errorf("%q", p.from)
	}
	g.want(0, "[]", get, "/ops")
}

// TestEndedInTheMiddle: a gateway that is gone before it has answered is named as that.
func TestEndedInTheMiddle(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"before the first byte": func(http.ResponseWriter) {},
		"behind some progress":  func(w http.ResponseWriter) { writeLine(w, streamed{Progress: []byte("1")}) },
	} {
		t.Run(name, func(t *testing.T) { endsEarly(t, answer) })
	}
}

func endsEarly(t *testing.T, answer func(http.ResponseWriter)) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	must(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w)
		panic(http.ErrAbortHandler)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	defer func() {
		srv.Close()
		<-done
	}()
	c := Client{Socket: l.Addr().String()}
	if err := c.Stream(t.Context(), "/sync/run", url.Values{}, func(json.RawMessage) {}, new(any)); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Stream(gone, "/sync/run", url.Values{}, func(json.RawMessage) {}, new(any)); !errors.Is(err, context.Canceled) || errors.Is(err, ErrEnded) {
		t.Error(err)
	}
}

// TestTrouble: why the gateway cannot be asked, in words that say what to do.
func TestTrouble(t *testing.T) {
	c := Client{Socket: "/run/x.sock"}
	for errno, want := range map[syscall.Errno]error{syscall.ENOENT: ErrNotRunning, syscall.ECONNREFUSED: ErrNotRunning,
		syscall.EACCES: ErrNotAllowed, syscall.ENOBUFS: syscall.ENOBUFS} {
		err := c.trouble(&url.Error{Op: "Post", URL: "http://mailgate/sync/run", Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}})
		if !errors.Is(err, want) || want != error(errno) && !strings.Contains(err.Error(), c.Socket) {
			t.Errorf("%v: %v", errno, err)
		}
	}
}
