package backend

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/auth"
	"mailgate/config"
	"mailgate/mailtest/lab"
)

// crowdServer is an IMAP server that a test lets answer.
type crowdServer struct {
	t    *testing.T
	addr string
	l    net.Listener
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	now   int // logins that were asked for and not answered
	most  int
	seen  int // connections
	news  chan struct{}
	gate  chan struct{} // closed when logins are answered
	shut  bool          // connections are closed at once, without a greeting
	mute  bool          // logins are never answered
}

func startCrowd(t *testing.T) *crowdServer {
	s := &crowdServer{t: t, gate: make(chan struct{}), news: make(chan struct{})}
	s.listen(lab.Addr(lab.Ports(t, 1)[0])) // nobody else is given it while the server is down
	t.Cleanup(s.stop)
	return s
}

func (s *crowdServer) listen(addr string) {
	s.t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.l, s.addr = l, l.Addr().String()
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.change(func() { s.conns = append(s.conns, c); s.seen++ })
			s.wg.Go(func() { s.serve(c) })
		}
	})
}

// stop ends the server and all connections; listen begins again.
func (s *crowdServer) stop() {
	s.l.Close()
	s.mu.Lock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *crowdServer) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.news)
	s.news = make(chan struct{})
}

func (s *crowdServer) serve(c net.Conn) {
	defer c.Close()
	s.mu.Lock()
	shut, mute := s.shut, s.mute
	s.mu.Unlock()
	if shut {
		return
	}
	fmt.Fprint(c, "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n")
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil {
		return
	}
	s.change(func() { s.now++; s.most = max(s.most, s.now) })
	ended := make(chan struct{}) // the client is gone
	s.wg.Go(func() { _, _ = r.ReadByte(); close(ended) })
	gate := s.gate
	if mute {
		gate = nil
	}
	select {
	case <-gate:
	case <-ended:
	}
	s.change(func() { s.now-- })
	tag, _, _ := strings.Cut(line, " ")
	fmt.Fprint(c, tag+" OK [CAPABILITY IMAP4rev1] in\r\n")
	<-ended
}

// await waits until something holds of the server; s.mu is held when it is asked.
func (s *crowdServer) await(what string, ok func() bool) {
	s.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		s.mu.Lock()
		done, news := ok(), s.news
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-news:
		case <-limit:
			s.t.Fatalf("it does not come to this: %s", what)
		}
	}
}

// dialer makes one whose OLD is the server.
func (s *crowdServer) dialer(logins int, wait time.Duration) *Dialer {
	s.t.Helper()
	host, port, _ := strings.Cut(s.addr, ":")
	var n int
	fmt.Sscan(port, &n)
	b := testBackends(config.Plain, "")
	b[0].ConnectTimeout, b[0].LoginTimeout, b[0].MaxLogins, b[0].LoginWait = 30*time.Second, 30*time.Second, logins, wait
	b[0].Hosts = []config.Host{{Name: "a", IMAP: config.Endpoint{Protocol: config.IMAP, Host: host, Port: n}}}
	d := testDialer(s.t, config.Plain, "")
	if err := d.Update(b); err != nil {
		s.t.Fatal(err)
	}
	return d
}

// logins begins some, and gives their outcomes.
func (s *crowdServer) logins(d *Dialer, n int) (all func() []error) {
	errs := make([]error, n)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []*IMAPConn
	for i := range n {
		wg.Go(func() {
			c, err := d.DialIMAP(s.t.Context(), config.Old, "", who(s.t))
			errs[i] = err
			if err == nil {
				mu.Lock()
				conns = append(conns, c)
				mu.Unlock()
			}
		})
	}
	return func() []error {
		wg.Wait()
		for _, c := range conns {
			c.Close()
		}
		return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	}
}

// TestTurnsInOrder: who came first is the first, whoever else comes when a place is free.
func TestTurnsInOrder(t *testing.T) {
	for _, known := range []bool{true, false} {
		turnsInOrder(t, known)
	}
}

func turnsInOrder(t *testing.T, known bool) {
	synctest.Test(t, func(t *testing.T) {
		q := newTurns(1)
		held, ok := q.try(known)
		if !ok {
			t.Fatal("no turn though there is room")
		}
		var mu sync.Mutex
		var got []int
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				x, err := q.take(t.Context(), nil, known)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				got = append(got, i)
				mu.Unlock()
				x.end()
				x.end()
			})
			synctest.Wait()
		}
		if _, ok := q.try(known); ok {
			t.Error("one has jumped the queue")
		}
		held.end()
		wg.Wait()
		if !slices.IsSorted(got) || len(got) != 20 || len(q.all)+len(q.strangers) != 0 {
			t.Errorf("order %v, %d held", got, len(q.all))
		}
	})
}

// TestLoginsWaitTheirTurn: of many logins only so many are at the host at a time, and all get in.
func TestLoginsWaitTheirTurn(t *testing.T) {
	t.Parallel()
	s := startCrowd(t)
	d := s.dialer(10, time.Minute) // five for strangers
	all := s.logins(d, 60)
	s.await("five logins", func() bool { return s.now >= 5 })
	close(s.gate)
	if errs := all(); len(errs) > 0 {
		t.Errorf("%d failed: %v", len(errs), errs[0])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen != 60 || s.most < 5 {
		t.Errorf("%d connections, %d at a time at most", s.seen, s.most)
	}
	if s.most > 5 && s.seen == 60 {
		t.Logf("%d at a time: a turn lasts a second, and this machine is slow", s.most)
	}
}

// TestStrangersHoldUpNobody: whoever guesses, from wherever, takes half of the turns; who is known has the others.
func TestStrangersHoldUpNobody(t *testing.T) {
	t.Parallel()
	q := newTurns(4)
	var ends []func()
	for i, known := range []bool{false, false, false, true, true, true} {
		x, ok := q.try(known)
		if want := i != 2 && i != 5; ok != want {
			t.Errorf("%d: %v", i, ok)
		}
		if ok {
			ends = append(ends, x.end)
		}
	}
	ends[0]()
	if _, ok := q.try(false); !ok {
		t.Error("a stranger has left, and the next does not get in")
	}

	s := startCrowd(t)
	close(s.gate)
	d := s.dialer(4, time.Millisecond)
	at := d.sides[config.Old].Load().hosts[0].turns[0]
	for range cap(at.strangers) {
		at.strangers <- struct{}{}
	}
	if _, err := d.DialIMAP(t.Context(), config.Old, "", who(t)); !errors.Is(err, ErrTurn) {
		t.Errorf("a stranger: %v", err)
	}
	c, err := d.DialIMAP(auth.AsKnown(t.Context()), config.Old, "", who(t))
	if err != nil {
		t.Fatalf("who is known: %v", err)
	}
	c.Close()
}

// TestTurnsAreBounded: while nobody is answered for a moment, the host sees no more than it may.
func TestTurnsAreBounded(t *testing.T) {
	t.Parallel()
	s := startCrowd(t)
	d := s.dialer(3, 50*time.Millisecond)
	held := d.sides[config.Old].Load().hosts[0].turns[0].all
	for range 3 {
		held <- struct{}{}
	}
	_, err := d.DialIMAP(t.Context(), config.Old, "", who(t))
	var e *Error
	if !errors.Is(err, ErrTurn) || !errors.As(err, &e) || e.Kind != Temporary {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.DialIMAP(ctx, config.Old, "", who(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("a client that is gone: %v", err)
	}
	if s.mu.Lock(); s.seen > 0 {
		t.Errorf("%d connections", s.seen)
	}
	s.mu.Unlock()
	if h := d.Health(config.Old, config.IMAP); h[0].Error != "" {
		t.Errorf("health: %v", h)
	}
	<-held
	close(s.gate)
	if errs := s.logins(d, 1)(); len(errs) > 0 {
		t.Error(errs)
	}
	if len(held) != 2 {
		t.Errorf("%d turns are held", len(held))
	}
	// A reload keeps the turns, unless there are others.
	x := d.sides[config.Old].Load()
	if err := d.Update([2]config.Backend{x.Backend, {}}); err != nil {
		t.Fatal(err)
	}
	if now := d.sides[config.Old].Load().hosts[0].turns[0].all; now != held {
		t.Error("turns were forgotten by a reload")
	}
	x.MaxLogins = 7
	if err := d.Update([2]config.Backend{x.Backend, {}}); err != nil {
		t.Fatal(err)
	}
	if now := d.sides[config.Old].Load().hosts[0].turns[0].all; cap(now) != 7 {
		t.Errorf("%d turns", cap(now))
	}
}

// TestSilentLoginsHoldUpNobody: guessers whose refusals take their time, or a server that hangs, do not keep the turns.
func TestSilentLoginsHoldUpNobody(t *testing.T) {
	t.Parallel()
	s := startCrowd(t)
	s.mute = true
	d := s.dialer(1, time.Minute)
	all := s.logins(d, 1)
	s.await("one login", func() bool { return s.now == 1 })
	s.change(func() { s.mute = false })
	close(s.gate)
	if errs := s.logins(d, 1)(); len(errs) > 0 {
		t.Errorf("behind one who waits: %v", errs)
	}
	s.await("the silent one waits yet", func() bool { return s.now == 1 })
	s.stop()
	if errs := all(); len(errs) != 1 {
		t.Error("the silent login got in")
	}
}

// TestRestart: a host that was well and goes away for a moment is waited for, by all of them in their order; one login at a time looks
// whether it is back.
func TestRestart(t *testing.T) {
	t.Parallel()
	s := startCrowd(t)
	close(s.gate)
	d := s.dialer(50, time.Minute)
	if errs := s.logins(d, 1)(); len(errs) > 0 {
		t.Fatal(errs)
	}
	s.stop()
	all := s.logins(d, 40)
	h := d.sides[config.Old].Load().hosts[0]
	for opened := false; !opened; time.Sleep(time.Millisecond) { // there is no event
		h.mu.Lock()
		opened = h.of[0].fails >= breakAfter
		h.mu.Unlock()
	}
	s.mu.Lock()
	s.seen, s.shut = 0, true
	s.mu.Unlock()
	s.listen(s.addr)
	s.await("the first look", func() bool { return s.seen > 0 })
	s.change(func() { s.shut = false })
	if errs := all(); len(errs) > 0 {
		t.Errorf("%d failed: %v", len(errs), errs[0])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen > 42 { // 40 get in; one or two looked before
		t.Errorf("%d connections for 40 logins", s.seen)
	}
}

// TestNoHope: who was never well, or is down for longer, is not waited for.
func TestNoHope(t *testing.T) {
	t.Parallel()
	s := startCrowd(t)
	d := s.dialer(50, time.Minute)
	s.stop()
	for range breakAfter {
		if errs := s.logins(d, 1)(); len(errs) != 1 || !errors.Is(errs[0], syscall.ECONNREFUSED) {
			t.Fatal(errs)
		}
	}
	h := d.sides[config.Old].Load().hosts[0]
	h.mu.Lock()
	h.of[0].until = time.Now().Add(time.Hour) // or one of them may look
	h.mu.Unlock()
	if errs := s.logins(d, 1)(); len(errs) != 1 || !errors.Is(errs[0], ErrDown) {
		t.Error(errs)
	}
	h.mu.Lock()
	h.of[0].well, h.of[0].ill = time.Now().Add(-time.Hour), time.Now().Add(-backGrace)
	h.mu.Unlock()
	if errs := s.logins(d, 1)(); len(errs) != 1 || !errors.Is(errs[0], ErrDown) {
		t.Error(errs)
	}
}

// TestSyncerWaitsForNobody: it takes no turn of the users, and is told at once that a host is down.
func TestSyncerWaitsForNobody(t *testing.T) {
	t.Parallel()
	s := startCrowd(t)
	close(s.gate)
	d := s.dialer(1, time.Minute)
	held := d.sides[config.Old].Load().hosts[0].turns[0].all
	held <- struct{}{}
	c, err := d.dialIMAP(t.Context(), config.Old, "", forSync(), who(t))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if len(held) != 1 {
		t.Errorf("%d turns are held", len(held))
	}
	s.stop()
	if _, err := d.dialIMAP(t.Context(), config.Old, "", forSync(), who(t)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
}

// TestMarks: what the circuit makes of failures that come together, late, or for want of something of ours.
func TestMarks(t *testing.T) {
	var h health
	s := &h.of[0]
	now := time.Now()
	begin := func(at time.Time) attempt {
		t.Helper()
		a, _, ok := h.admits(config.IMAP, at)
		if !ok {
			t.Fatal("not admitted")
		}
		return a
	}
	var many []attempt
	for range 1000 {
		many = append(many, begin(now))
	}
	for _, a := range many {
		a.mark(errNo)
	}
	if left := time.Until(s.until); left > 1200*time.Millisecond || s.steps != 0 {
		t.Errorf("a thousand at once: left alone for %s", left)
	}
	for step, least := range []time.Duration{1600 * time.Millisecond, 3200 * time.Millisecond, 6400 * time.Millisecond} {
		begin(s.until.Add(time.Second)).mark(errNo)
		if left := time.Until(s.until); left < least-100*time.Millisecond || left > 2*least {
			t.Errorf("step %d: left alone for %s", step, left)
		}
	}
	attempt{h: &h, p: config.IMAP, began: now, look: true}.mark(errNo)
	if left := time.Until(s.until); left < 12*time.Second || left > 20*time.Second {
		t.Errorf("a look that fails: left alone for %s", left)
	}
	late := begin(s.until.Add(time.Second)) // by now it is well again, as a look has seen
	attempt{h: &h, p: config.IMAP, began: time.Now(), look: true}.mark(nil)
	late.began = now
	for range breakAfter {
		late.mark(errNo)
	}
	if s.fails != 0 || s.why != "" {
		t.Errorf("what began before the machine was well counts: %+v", *s)
	}
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL} {
		err := &Error{Step: StepConnect, Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", e)}}
		if h.tells(config.IMAP, forUser(netip.AddrPort{}), err) {
			t.Errorf("%v is said to be the machine's", e)
		}
	}
	if !h.tells(config.IMAP, forUser(netip.AddrPort{}), &Error{Step: StepConnect, Err: syscall.ECONNREFUSED}) {
		t.Error("a refused connection tells nothing")
	}
	// A refusal in the greeting is a crowd while something of ours stands there, whatever its code.
	defer h.stand(config.Submission)()
	for code, counts := range map[string]bool{"421": false, "450": false, "554": true} {
		err := &Error{Step: StepBanner, Code: code, Err: errNo}
		if h.tells(config.Submission, forUser(netip.AddrPort{}), err) != counts || !h.tells(config.POP3, forUser(netip.AddrPort{}), err) {
			t.Errorf("a greeting with %s", code)
		}
	}
}

var errNo = errors.New("no")
