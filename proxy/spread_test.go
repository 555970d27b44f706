package proxy

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// never is a span whose end no test lives to see.
const never = 10000 * time.Hour

// spreadRig has n sessions at OLD, all idle, and a span. The host goes with its last words, or with none; "busy" has the last session ask
// for something before.
func spreadRig(t *testing.T, n int, span time.Duration, last string) (r *rig, clients []*mailtest.Talk) {
	t.Helper()
	var ready sync.WaitGroup
	ready.Add(n)
	var count atomic.Int32
	r = newRig(t, rigOptions{gone: true, tune: func(c *config.Config) {
		c.Limits.DisconnectSpread = span
		c.Backends[config.Old].LoginTimeout = 30 * time.Second
	}, server: func(s *Server) { s.spread.span = time.Hour }, old: func(k *mailtest.Talk) {
		number := int(count.Add(1)) // they log in one after the other
		backendIn(k, "old")
		k.Dialogue("C: a IDLE\nS: + idling")
		ready.Done()
		if number == n && last == "busy" {
			k.Dialogue("C: DONE\nC: b FETCH 1:* FLAGS")
			k.Script().Fire("busy")
		}
		k.Script().Await("down")
		if last != "" && last != "busy" {
			k.Send(last + "\r\n")
			k.Silent() // it leaves the closing to us
		}
	}})
	for range n {
		k := r.in()
		k.Dialogue("C: a IDLE\nS: + idling")
		clients = append(clients, k)
	}
	ready.Wait()
	return r, clients
}

// lastLines reads the last words of each client, as they come.
func lastLines(clients []*mailtest.Talk) (lines chan string) {
	lines = make(chan string, len(clients))
	for _, k := range clients {
		go func() { lines <- k.Line() }()
	}
	return lines
}

// inPeace sees that nobody else is told while the gateway does other things.
func inPeace(t *testing.T, r *rig, lines <-chan string) {
	t.Helper()
	for range 20 {
		r.plain().Dialogue("S: * OK ...\nC: a LOGOUT\nS: * BYE ...\nS: a OK ...\n!end")
	}
	if n := len(lines); n > 0 {
		t.Errorf("%d are not left in peace", n)
	}
}

const goneWords = "* BYE [UNAVAILABLE] The mail server closed the connection, please reconnect"

// TestSpread: of many sessions that a host ends at once, a few are told and the others left in peace. Who says something meanwhile is told
// at once, and so is everybody when the sessions are to end. The host's connections are let go of at once.
func TestSpread(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]string{"without a word": "", "with a BYE": "* BYE Shutting down"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 40
			r, clients := spreadRig(t, n, never, last)
			want, open := goneWords, 0
			if last != "" {
				want, open = last, spreadFree // those who are told at once wait for its end
			}
			lines := lastLines(clients)
			r.old.Fire("down")
			r.until("all connections to the host are closed", func() bool { return r.old.Open() == open })
			for i := range spreadFree {
				if got := <-lines; got != want {
					t.Fatalf("client %d reads %q", i, got)
				}
			}
			inPeace(t, r, lines)
			for _, k := range clients {
				k.Send("DONE\r\n")
			}
			for i := range n - spreadFree {
				if got := <-lines; got != want {
					t.Fatalf("client %d, who asks, reads %q", i, got)
				}
			}
		})
	}
}

// TestSpreadEnds: a flip or a shutdown waits for nobody who is left in peace.
func TestSpreadEnds(t *testing.T) {
	t.Parallel()
	r, clients := spreadRig(t, 30, never, "")
	lines := lastLines(clients)
	r.old.Fire("down")
	for range spreadFree {
		<-lines
	}
	r.until("all connections to the host are closed", func() bool { return r.old.Open() == 0 })
	inPeace(t, r, lines)
	drained(t, r.fence(1))
	for range 30 - spreadFree {
		if got := <-lines; !strings.HasPrefix(got, "* BYE [UNAVAILABLE]") {
			t.Errorf("a client reads %q", got)
		}
	}
}

// TestSpreadLeaves: a client who goes meanwhile is not held.
func TestSpreadLeaves(t *testing.T) {
	t.Parallel()
	r, clients := spreadRig(t, 30, never, "")
	lines := make(chan string, len(clients))
	for _, k := range clients {
		go func() { lines <- k.ExpectEnd() }()
	}
	r.old.Fire("down")
	for range spreadFree {
		if got := <-lines; strings.TrimSpace(got) != goneWords {
			t.Errorf("a client reads %q", got)
		}
	}
	inPeace(t, r, lines)
	for _, k := range clients {
		k.CloseWrite()
	}
	r.until("no session is left", func() bool { return len(r.router.Sessions("")) == 0 })
	for range 30 - spreadFree { // who leaves by himself is told nothing
		if got := <-lines; got != "" {
			t.Errorf("a client who leaves reads %q", got)
		}
	}
}

// TestNotSpread: who is told at once: a few sessions, all where the span is 0, and who has a command under way.
func TestNotSpread(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		n    int
		span time.Duration
	}{"few": {spreadFrom - 1, never}, "no span": {spreadFrom + 5, 0}, "a short one": {spreadFrom + 5, time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, clients := spreadRig(t, tt.n, tt.span, "")
			lines := lastLines(clients)
			r.old.Fire("down")
			for range tt.n {
				if got := <-lines; got != goneWords {
					t.Errorf("a client reads %q", got)
				}
			}
		})
	}
	t.Run("a command under way", func(t *testing.T) {
		t.Parallel()
		r, clients := spreadRig(t, 30, never, "busy")
		busy := clients[29]
		busy.Send("DONE\r\nb FETCH 1:* FLAGS\r\n")
		r.old.Await("busy")
		r.old.Fire("down")
		busy.Expect(goneWords)
	})
}

// TestSpreadCounts: what is a crowd, by service and within the window.
func TestSpreadCounts(t *testing.T) {
	var s spread
	at := service{config.Old, "a", config.IMAP}
	now := time.Now()
	var ends []func()
	for range 1000 {
		ends = append(ends, s.begin(at))
	}
	free := 0
	for range 500 {
		if s.ended(at, now, time.Hour) == 0 {
			free++
		}
	}
	if free != 1000/spreadShare {
		t.Errorf("%d of 500 are told at once", free)
	}
	if d := s.ended(at, now.Add(spreadTime), time.Hour); d != 0 {
		t.Error("one that ends later by itself waits")
	}
	other := service{config.Old, "a", config.POP3}
	if d := s.ended(other, now, time.Hour); d != 0 {
		t.Error("a service without sessions has a crowd")
	}
	for _, end := range ends {
		end()
	}
	if len(s.all) != 0 {
		t.Errorf("%v is kept", s.all)
	}
}
