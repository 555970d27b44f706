package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailgate/admin"
	"mailgate/mailtest"
	"mailgate/mailtest/lab"
	"mailgate/op"
)

// hose is a TCP proxy before a server: Cut stops it, so that nothing goes through and nothing new is taken.
type hose struct {
	l      net.Listener
	to     string
	mu     sync.Mutex
	cut    bool
	conns  map[net.Conn]bool
	wg     sync.WaitGroup
	joined sync.WaitGroup
}

func newHose(t *testing.T, to string) *hose {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hose{l: l, to: to, conns: map[net.Conn]bool{}}
	h.wg.Go(h.accept)
	t.Cleanup(func() {
		l.Close()
		h.set(true)
		h.wg.Wait()
		h.joined.Wait()
	})
	return h
}

func (h *hose) accept() {
	for {
		c, err := h.l.Accept()
		if err != nil {
			return
		}
		h.joined.Go(func() { h.pass(c) })
	}
}

func (h *hose) pass(c net.Conn) {
	defer c.Close()
	s, err := net.Dial("tcp", h.to)
	if err != nil {
		return
	}
	defer s.Close()
	h.mu.Lock()
	if h.cut {
		h.mu.Unlock()
		return
	}
	h.conns[c], h.conns[s] = true, true
	h.mu.Unlock()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{c, s}, {s, c}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
	c.Close()
	s.Close()
	<-done
	h.mu.Lock()
	delete(h.conns, c)
	delete(h.conns, s)
	h.mu.Unlock()
}

// set cuts it, or lets it flow again.
func (h *hose) set(cut bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cut = cut; cut {
		for c := range h.conns {
			c.Close()
		}
	}
}

// fleet is several gateways on one database, before an OLD and a NEW in memory: OLD has one message for everybody, NEW has two.
type fleet struct {
	t     *testing.T
	gates []*gate
	hoses []*hose
	users []string

	mu    sync.Mutex
	truth map[string]*whereabouts
}

// whereabouts is where a user is known to be. While he is moved it may be either side.
type whereabouts struct {
	side   string
	turn   int
	moving bool
}

func newFleet(t *testing.T, many, users int) *fleet {
	t.Helper()
	f := &fleet{t: t, truth: map[string]*whereabouts{}}
	passwords := map[string]string{}
	var routes strings.Builder
	routes.WriteString("default old\n")
	for i := range users {
		u := fmt.Sprintf("user%d@example.com", i)
		f.users = append(f.users, u)
		passwords[u] = "secret"
		f.truth[u] = &whereabouts{side: "old"}
		fmt.Fprintf(&routes, "%s old\n", u)
	}
	for i := range 20 {
		passwords[fmt.Sprintf("stranger%d@example.com", i)] = "secret"
	}
	var yaml []string
	for i, name := range []string{"old", "new"} {
		m, err := mailtest.StartMemory(name+".example.com", passwords)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		for u := range passwords {
			for range i + 1 {
				if err := m.Deliver(u, []byte("Subject: "+name+"\r\n\r\nx\r\n")); err != nil {
					t.Fatal(err)
				}
			}
		}
		yaml = append(yaml, fmt.Sprintf("{imap: 'imap://%s', submission: 'submission://%s'}", m.IMAP, m.Submission))
	}
	dsn := lab.StartPostgres(t)
	at := regexp.MustCompile(`@([^/]+)/`).FindStringSubmatch(dsn)[1]
	shared := filepath.Join(t.TempDir(), "routes")
	for i := range many {
		h := newHose(t, at)
		g := newGate(t, yaml[0], yaml[1], "", fmt.Sprintf("node: gw%d\nstore: {url: '%s'}\nflip: {deadline: 20s, hold: 24s}\nshutdown: 2s\n", i+1,
			strings.Replace(dsn, at, h.l.Addr().String(), 1)))
		text := mustRead(t, g.file)
		g.write(g.file, strings.Replace(text, "{file: routes, watch", "{file: "+shared+", watch", 1))
		g.routes = shared
		f.gates, f.hoses = append(f.gates, g), append(f.hoses, h)
	}
	f.gates[0].write(shared, routes.String())
	return f
}

// start starts all, one after the other: the first leads.
func (f *fleet) start() {
	f.t.Helper()
	for _, g := range f.gates {
		g.start()
	}
	f.t.Cleanup(func() {
		for i, g := range f.gates {
			_ = g.cmd.Process.Signal(syscall.SIGCONT)
			_ = g.cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-g.done:
			case <-time.After(20 * time.Second):
				g.kill()
				f.t.Errorf("gw%d does not end", i+1)
			}
			if s := g.log.String(); f.t.Failed() || strings.Contains(s, "panic") || strings.Contains(s, "DATA RACE") {
				f.t.Logf("log of gw%d:\n%s", i+1, s[max(0, len(s)-5000):])
			}
		}
	})
}

// ask asks a node as the verbs do.
func ask(g *gate, method, path string, form url.Values, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if form == nil {
		form = url.Values{}
	}
	form.Set("by", "test")
	return admin.Client{Socket: filepath.Join(g.dir, "state", "control.sock")}.Call(ctx, method, path, form, out)
}

// move flips a user by way of a node and waits for the end.
func (f *fleet) move(g *gate, user, to string) (o op.Operation, err error) {
	s := f.truth[user]
	f.mu.Lock()
	s.moving = true
	s.turn++
	f.mu.Unlock()
	path := "/flip"
	if to == "old" {
		path = "/rollback"
	}
	err = ask(g, http.MethodPost, path, url.Values{"user": {user}, "side": {to}}, &o)
	if err == nil {
		err = ask(g, http.MethodPost, "/op/wait", url.Values{"id": {o.ID}, "timeout": {"25s"}}, &o)
	}
	if err != nil {
		return o, err // he may be moved yet
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.moving = false
	s.turn++
	if o.Status == op.Done {
		s.side = to
	}
	return o, nil
}

// settle waits until a node says that a user is settled, and notes where.
func (f *fleet) settle(g *gate, user string) string {
	f.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var u admin.UserStatus
		err := ask(g, http.MethodGet, "/user", url.Values{"user": {user}}, &u)
		if err == nil && u.State == op.Settled && len(u.Open) == 0 {
			f.mu.Lock()
			s := f.truth[user]
			s.side, s.moving = u.Side.String(), false
			s.turn++
			f.mu.Unlock()
			return u.Side.String()
		}
		if time.Now().After(end) {
			f.t.Fatalf("%s does not settle: %+v %v", user, u, err)
		}
	}
}

// mustMove moves a user, or fails.
func (f *fleet) mustMove(g *gate, user, to string) {
	f.t.Helper()
	if o, err := f.move(g, user, to); err != nil || o.Status != op.Done {
		f.t.Fatalf("%s to %s: %v %+v", user, to, err, o)
	}
}

// clients work through all nodes until stop: each logs in, and asks again and again, and looks that it is where the user is.
func (f *fleet) clients() (stop func() int) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	logins := 0
	for _, user := range f.users {
		for i, g := range f.gates {
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-done:
						return
					default:
					}
					if f.session(user, g, i, done) {
						mu.Lock()
						logins++
						mu.Unlock()
					} else {
						time.Sleep(50 * time.Millisecond)
					}
				}
			})
		}
	}
	return sync.OnceValue(func() int {
		close(done)
		wg.Wait()
		return logins
	})
}

// look is where a user stands, and whether that is certain.
func (f *fleet) look(user string) whereabouts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *f.truth[user]
}

// session is one connection of a client, to its end.
func (f *fleet) session(user string, g *gate, node int, done chan struct{}) bool {
	l, err := dialLine(g.imapPlain)
	if err != nil {
		return false
	}
	defer l.Close()
	say := func(tag, text string) (all string, ok bool) {
		if _, err := io.WriteString(l, tag+" "+text+"\r\n"); err != nil {
			return "", false
		}
		for {
			s, err := l.read()
			if err != nil || strings.HasPrefix(s, "* BYE") {
				return all + s, false
			}
			all += s + "\n"
			if strings.HasPrefix(s, tag+" ") {
				return all, strings.HasPrefix(s, tag+" OK")
			}
		}
	}
	if s, err := l.read(); err != nil || !strings.HasPrefix(s, "* OK") {
		return false
	}
	if all, ok := say("a", "LOGIN "+user+" secret"); !ok {
		if strings.Contains(all, "AUTHENTICATIONFAILED") {
			f.t.Errorf("%s was told that his password is wrong: %s", user, all)
		}
		return false
	}
	side := ""
	for i := 0; ; i++ {
		select {
		case <-done:
			return true
		default:
		}
		before := f.look(user)
		all, ok := say("b"+strconv.Itoa(i), "STATUS INBOX (MESSAGES)")
		if !ok {
			return side != ""
		}
		got := map[bool]string{true: "old", false: "new"}[strings.Contains(all, "MESSAGES 1)")]
		if side != "" && side != got {
			f.t.Errorf("a session of %s changed its side", user)
		}
		side = got
		if after := f.look(user); before == after && !before.moving && before.side != side {
			f.t.Errorf("%s works on %s through gw%d, and is on %s", user, side, node+1, before.side)
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// leader waits until one of the nodes that a node knows leads, other than not.
func (f *fleet) leader(g *gate, not string) string {
	f.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var list []admin.NodeInfo
		err := ask(g, http.MethodGet, "/nodes", nil, &list)
		for _, n := range list {
			if n.Leads && n.Name != not {
				return n.Name
			}
		}
		if time.Now().After(end) {
			f.t.Fatalf("nobody leads: %v %+v", err, list)
		}
	}
}

// until waits for something that a node says.
func (f *fleet) until(what string, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("never: %s", what)
		}
	}
}

func (f *fleet) signal(i int, s os.Signal) {
	f.t.Helper()
	if err := f.gates[i].cmd.Process.Signal(s); err != nil {
		f.t.Fatal(err)
	}
}
