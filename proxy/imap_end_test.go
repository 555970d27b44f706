package proxy

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/router"
	"mailgate/tlsconf"
)

// TestEnds: a session is asked to end at some point of a dialogue. Every command that reached the backend has exactly
// one answer (IDLE apart), the others reach neither side, BYE comes last, the backend gets LOGOUT. I15.
func TestEnds(t *testing.T) {
	const bye = "S: * BYE [UNAVAILABLE] Your mailbox is being moved, please reconnect\n!end"
	const logout = "C: mailgate LOGOUT\nS: * BYE\nS: mailgate OK"
	for name, tt := range map[string]struct {
		before  string // from both ends
		pending string // what the client sends besides, and the backend has read, before the session is asked to end
		after   string // from both ends, behind the request
		leave   string // what the backend gets at last, if not LOGOUT
		never   string // what the backend must not get
	}{
		"between commands":              {before: "C: a NOOP\nS: a OK"},
		"in IDLE":                       {before: "C: a IDLE\nS: + idling", leave: "C: DONE\n" + logout},
		"in IDLE, not yet answered":     {pending: "a IDLE\r\n", leave: "C: DONE\n" + logout},
		"in IDLE, half a DONE":          {before: "C: a IDLE\nS: + idling", pending: "DO", leave: "!end"},
		"DONE in flight":                {before: "C: a IDLE\nS: + idling", pending: "DONE\r\n", after: "S: * 2 EXISTS\nS: a OK"},
		"DONE in flight, more behind":   {before: "C: a IDLE\nS: + idling", pending: "DONE\r\n", after: "c\" \"b STORE 1 X\\r\\n\"\nS: a OK", never: "STORE"},
		"a command under way":           {pending: "a STORE 1 X\r\n", after: "S: * 1 FETCH (X)\nS: a OK"},
		"commands under way":            {pending: "a STORE 1 X\r\nb NOOP\r\n", after: "S: b OK\nS: a OK"},
		"a literal that waits":          {pending: "a APPEND x {5}\r\n", after: "S: + go\nC: hello\nS: a OK [APPENDUID 1 2] done"},
		"a literal that is refused":     {pending: "a APPEND x {5}\r\n", after: "S: a NO [OVERQUOTA] full"},
		"in a literal":                  {before: "C: a APPEND x {10}\nS: + go", pending: "hello", after: "C: world\nS: a OK"},
		"in a LITERAL+":                 {pending: "a APPEND x {10+}\r\nhello", after: "C: world\nS: a OK"},
		"in a LITERAL+, more behind":    {pending: "a APPEND x {10+}\r\nhello", after: "C\" \"world\\r\\n\"\nc\" \"b STORE 1 X\\r\\n\"\nS: a OK", never: "STORE"},
		"an APPEND and its answer":      {pending: "a APPEND x {3+}\r\nabc\r\n", after: "S: a OK [APPENDUID 1 1] done"},
		"answered before the literal's": {before: "C: a APPEND x {10+}\nS: a NO [TRYCREATE] no", pending: "hello", after: "C: world"},
		"between two literals":          {before: "C: a APPEND x {3}\nS: + go\nC\" \"abc {2}\\r\\n\"", after: "S: + go\nC: de\nS: a OK"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backendText, clientText := tt.after, tt.after
			backendText = strings.ReplaceAll(backendText, "c\" ", "# ")
			clientText = strings.ReplaceAll(clientText, "c\" ", "C\" ")
			if tt.leave == "" {
				tt.leave = logout
			}
			r := newRig(t, rigOptions{old: func(k *mailtest.Talk) {
				backendIn(k, "old")
				k.Dialogue(tt.before)
				k.ReadN(len(tt.pending))
				k.Script().Fire("reached")
				k.Script().Await("asked")
				k.Dialogue(backendText)
				k.Dialogue(tt.leave)
			}})
			k := r.in()
			k.Dialogue(tt.before)
			k.Send(tt.pending)
			r.old.Await("reached")
			done := r.fence(1)
			r.old.Fire("asked")
			k.Dialogue(clientText)
			k.Dialogue(bye)
			drained(t, done)
			if got := r.old.Received()[0]; tt.never != "" && strings.Contains(got, tt.never) {
				t.Errorf("the backend got %q", got)
			}
		})
	}
}

// TestResume: a flip that is aborted leaves the session as it was: what was held back is carried out, once, and no
// deadline of the attempt is left.
func TestResume(t *testing.T) {
	r := newRig(t, rigOptions{old: ends("old", `
		C: a STORE 1 X
		!fire stored
		!await resumed
		S: a OK
		C: b STORE 2 X
		S: b OK
		C: c IDLE
		S: + idling
		!late 100ms
		S: * 1 EXISTS
		C: DONE
		S: c OK
		C: d LOGOUT
		S: * BYE`)})
	k := r.in()
	k.Send("a STORE 1 X\r\nb STORE 2 X\r\n")
	r.old.Await("stored")
	for i := range 3 {
		r.fence(int64(2*i + 1))
		r.release(config.Old, 0, int64(2*i+2))
	}
	r.old.Fire("resumed")
	k.Dialogue("S: a OK\nS: b OK\nC: c IDLE\nS: + idling\nS: * 1 EXISTS\nC: DONE\nS: c OK\nC: d LOGOUT\nS: * BYE\n!end")
}

// TestPressAndResume presses and resumes while bytes run both ways, as fast as it can: no wake-up is lost, no stale
// deadline ends the session, no byte is lost.
func TestPressAndResume(t *testing.T) {
	const size, rounds = 200 << 10, 20
	body := strings.Repeat("0123456789abcdef", size/16)
	r := newRig(t, rigOptions{old: func(k *mailtest.Talk) {
		backendIn(k, "old")
		k.Dialogue("C: z0 STORE 1 X\n!fire z0")
		for i := range rounds {
			k.Dialogue("C: a APPEND x {204800}\nS: + go")
			if k.ReadN(size) != body {
				t.Error("bytes were changed")
			}
			k.Expect("")
			k.Expect(fmt.Sprintf("z%d STORE 1 X", i+1))
			k.Send(fmt.Sprintf("* 1 FETCH (X {204800}\r\n%s)\r\na OK\r\nz%d OK\r\n", body, i))
		}
		k.Dialogue(fmt.Sprintf("C: b LOGOUT\nS: z%d OK\nS: * BYE", rounds))
	}})
	k := r.in()
	k.Send("z0 STORE 1 X\r\n") // never a boundary: each round answers the last one's
	r.old.Await("z0")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := int64(1); ; i += 2 {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := r.router.Fence(user, i, "x"); err != nil {
				t.Error(err)
			}
			if err := r.router.Release(user, router.Place{Side: config.Old, Generation: i + 1}); err != nil {
				t.Error(err)
			}
		}
	}()
	for i := range rounds {
		k.Dialogue("C: a APPEND x {204800}\nS: + go")
		k.Send(fmt.Sprintf("%s\r\nz%d STORE 1 X\r\n", body, i+1))
		k.Dialogue("S: * 1 FETCH (X {204800}")
		if k.ReadN(size) != body {
			t.Fatal("bytes were changed")
		}
		k.Dialogue(fmt.Sprintf("S: )\nS: a OK\nS: z%d OK", i))
	}
	close(stop)
	<-done
	k.Dialogue(fmt.Sprintf("C: b LOGOUT\nS: z%d OK\nS: * BYE\n!end", rounds))
}

// TestPressAtAnyTime ends many sessions at random instants of a stream of commands: each command that the backend has
// read to its end is answered to the client, once, and none that it has not.
func TestPressAtAnyTime(t *testing.T) {
	r := newRig(t, rigOptions{gone: true, old: func(k *mailtest.Talk) {
		backendIn(k, "old")
		for {
			switch f := strings.Fields(k.Line()); {
			case f[0] == "mailgate":
				k.Send("* BYE\r\n")
				return
			case f[1] == "APPEND":
				k.Send("+ go\r\n")
				k.ReadN(5)
				k.Send(f[0] + " OK\r\n")
			default:
				k.Send("* 1 FETCH (FLAGS ())\r\n" + f[0] + " OK\r\n")
			}
		}
	}})
	for i := range 60 {
		k := r.plain()
		k.Dialogue("S: * OK ...\nC: in LOGIN u@example.com pw\nS: in OK ...")
		list := r.router.Sessions(user)
		s := list[len(list)-1] // the last one may not have gone yet
		go func() {
			time.Sleep(time.Duration(i*37%23) * 100 * time.Microsecond) // any instant is meant
			s.Press(router.AtBoundary, "enough")
		}()
		answered := map[string]int{}
		bye := false
		for n := 0; !bye; n++ {
			command := fmt.Sprintf("a%d STORE 1 X\r\n", n)
			if n%3 == 2 {
				command = fmt.Sprintf("a%d APPEND x {3}\r\n", n)
			}
			if _, err := k.Conn.Write([]byte(command)); err != nil {
				break
			}
			for tag := ""; tag != fmt.Sprintf("a%d", n) && !bye; {
				line := k.Line()
				if tag, _, _ = strings.Cut(line, " "); tag == "+" {
					_, _ = k.Conn.Write([]byte("abc\r\n"))
				} else if tag != "*" {
					answered[tag]++
				}
				bye = strings.HasPrefix(line, "* BYE")
			}
		}
		if rest := k.ExpectEnd(); rest != "" || !bye {
			t.Fatalf("bye %v, behind it %q", bye, rest)
		}
		k.Close()
		r.old.Await(fmt.Sprintf("end %d", i+1))
		for _, line := range strings.Split(r.old.Received()[i], "\r\n") {
			f := strings.Fields(line)
			if len(f) > 1 && strings.HasPrefix(f[0], "a") && (f[1] == "STORE" || f[1] == "APPEND") && answered[f[0]] != 1 {
				t.Errorf("session %d: %q has %d answers", i, line, answered[f[0]])
			}
		}
	}
}

// TestCutReads: a drain at half its time does not wait for a client who only reads: between two responses, or when he
// does not read at all.
func TestCutReads(t *testing.T) {
	t.Run("between responses", func(t *testing.T) {
		r := newRig(t, rigOptions{gone: true, old: ends("old", "C: a FETCH 1:9 X\nS: * 1 FETCH (X)\n!await pressed\nS\" \"* 2 FETCH (X {3}\\r\\nab\"\n"+
			"!fire half\n!await looked\nS: c)\nC: mailgate LOGOUT\nS: * BYE")})
		k := r.in()
		k.Dialogue("C: a FETCH 1:9 X\nS: * 1 FETCH (X)")
		done := r.fence(1)
		r.old.Fire("pressed")
		r.old.Await("half")
		k.Dialogue("S: * 2 FETCH (X {3}\nS\" \"ab\"")
		r.router.Press(user, router.CutReads, "Moving")
		select {
		case <-done:
			t.Error("cut within a literal")
		case <-time.After(50 * time.Millisecond):
		}
		r.old.Fire("looked")
		k.Dialogue("S: c)\nS: * BYE [UNAVAILABLE] Moving\n!end")
		drained(t, done)
	})
	t.Run("does not read", func(t *testing.T) {
		var sent atomic.Int64
		r := newRig(t, rigOptions{gone: true, old: func(k *mailtest.Talk) {
			backendIn(k, "old")
			k.Line()
			k.Send("* 1 FETCH (BODY[] {1000000000}\r\n")
			for chunk := make([]byte, 64<<10); ; sent.Add(1) {
				if _, err := k.Conn.Write(chunk); err != nil {
					return
				}
			}
		}})
		k := r.in()
		k.Dialogue("C: a FETCH 1 BODY[]\nS: * 1 FETCH ...")
		heldUp(t, r, sent.Load)
		done := r.fence(1)
		r.router.Press(user, router.CutReads, "Moving")
		drained(t, done)
		r.old.Await("end 1")
	})
	t.Run("a command that writes is waited for", func(t *testing.T) {
		r := newRig(t, rigOptions{gone: true, old: ends("old", "C: a STORE 1 X\n!fire got\n!await pressed\nS: a OK\nC: mailgate LOGOUT\nS: * BYE")})
		k := r.in()
		k.Send("a STORE 1 X\r\n")
		r.old.Await("got")
		done := r.fence(1)
		r.router.Press(user, router.CutReads, "Moving")
		select {
		case <-done:
			t.Error("a STORE was cut")
		case <-time.After(50 * time.Millisecond):
		}
		r.old.Fire("pressed")
		k.Dialogue("S: a OK\nS: * BYE [UNAVAILABLE] Moving\n!end")
		drained(t, done)
	})
	t.Run("an answer that is on its way is waited for", func(t *testing.T) {
		front, back := quiet(t), quiet(t)
		for _, owes := range []bool{true, false} {
			l, err := newLink(&Server{}, front, back, &imapBoundary{})
			if err != nil {
				t.Fatal(err)
			}
			l.End(router.AtBoundary, "x")
			l.writing, l.owes = true, owes // as pumpDown has it while the client takes nothing
			if l.End(router.CutReads, "x"); l.ended {
				t.Errorf("owes an answer: %v, ended though it has only just begun", owes)
			}
			if l.End(router.CutReads, "x"); l.ended == owes {
				t.Errorf("owes an answer: %v, ended: %v", owes, l.ended)
			}
		}
	})
	t.Run("Cut", func(t *testing.T) {
		r := newRig(t, rigOptions{gone: true, old: ends("old", "C: a APPEND x {10}\nS: + go\n!silent")})
		k := r.in()
		k.Dialogue("C: a APPEND x {10}\nS: + go\nC\" \"abc\"")
		if _, left := r.router.Kick(t.Context(), user, "Now", true); left != 0 {
			t.Errorf("%d are left", left)
		}
		k.Dialogue("S: * BYE [UNAVAILABLE] Now\n!end")
		if got := r.old.Received()[0]; strings.Contains(got, "LOGOUT") {
			t.Errorf("into the literal went %q", got)
		}
	})
}

// quiet is one end of a connection.
func quiet(t testing.TB) *tlsconf.Quiet {
	t.Helper()
	s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { k.Silent() })
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	q, err := tlsconf.NewQuiet(c)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// heldUp waits until a sender gets nothing rid any more.
func heldUp(t *testing.T, r *rig, count func() int64) (sent int64) {
	t.Helper()
	sent = -1
	since := time.Now()
	r.until("the sender is held up", func() bool {
		if n := count(); n != sent {
			sent, since = n, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond
	})
	return sent
}

// TestShutdown: strangers go at once, sessions at their boundary, what is left at the end of the time.
func TestShutdown(t *testing.T) {
	r := newRig(t, rigOptions{gone: true, old: func(k *mailtest.Talk) {
		backendIn(k, "old")
		k.Expect("... ...") // the idle one's is LOGOUT
		k.Dialogue("!fire got " + fmt.Sprint(k.N) + "\n!silent")
	}})
	stranger := r.plain()
	stranger.Expect("* OK ...")
	idle := r.in()
	busy := r.in()
	busy.Send("a STORE 1 X\r\n")
	r.old.Await("got 2")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	r.Shutdown(ctx)
	if d := time.Since(start); d < 300*time.Millisecond || d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
	stranger.Dialogue("!end")
	idle.Dialogue("S: * BYE [UNAVAILABLE] The gateway is restarting, please reconnect\n!end")
	busy.Dialogue("S: * BYE [UNAVAILABLE] The gateway is restarting, please reconnect\n!end")
}
