package proxy

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/router"
)

const movingText = "Your mailbox is being moved, please reconnect"

// flip fences the user, calls during, and releases him to a side.
func (r *smtpRig) flip(generation int64, p router.Place, during func()) {
	r.t.Helper()
	drained, err := r.router.Fence(smtpUser, generation, movingText)
	if err != nil {
		r.t.Fatal(err)
	}
	<-drained // a submission does not hold the drain
	if during != nil {
		during()
	}
	p.Generation = generation
	if err := r.router.Release(smtpUser, p); err != nil {
		r.t.Fatal(err)
	}
}

func (r *smtpRig) until(what string, f func() bool) {
	r.t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("%s: not within ten seconds", what)
		}
	}
}

func obligingBackend(k *mailtest.Talk) { obliging(k, nil) }

// TestFlipEndsIdleSubmission: at the fence an idle session ends at once, a login waits without a word, and goes to NEW.
func TestFlipEndsIdleSubmission(t *testing.T) {
	r := newSMTPRig(t, smtpRigOptions{}, smtpBackend(nil, obligingBackend), smtpBackend(nil, func(k *mailtest.Talk) {
		k.Dialogue("C: NOOP\nS: 250 this is new\nC: QUIT\nS: 221 bye")
	}))
	idle := r.login()
	var waits *mailtest.Talk
	r.flip(1, router.Place{Side: config.New, Epoch: 1}, func() {
		idle.Dialogue("S: 421 4.3.2 mail.example.com " + movingText + "\n!end")
		waits = r.dial()
		waits.Send("EHLO client.example.org\r\n")
		waits.Until("250 ...")
		waits.Send("AUTH PLAIN " + smtpPlain + "\r\n")
		r.until("the login waits", func() bool { _, held := r.router.Pending(smtpUser); return held == 1 })
	})
	waits.Expect(smtpAuthOK) // and nothing before it
	waits.Dialogue("C: NOOP\nS: 250 this is new\nC: QUIT\nS: 221 bye")
	if r.old.Count() != 2 { // the probe and the idle session
		t.Errorf("%d connections to OLD", r.old.Count())
	}
}

// TestHoldLimit: past it a login gets a temporary failure, and may try again.
func TestHoldLimit(t *testing.T) {
	r := newSMTPRig(t, smtpRigOptions{configure: func(c *config.Config) { c.Flip.Hold = 50 * time.Millisecond }},
		smtpBackend(nil, obligingBackend), idleBackend())
	r.flip(1, router.Place{}, func() {
		k := r.dial()
		k.Dialogue("C: EHLO x\nS~ 250 ...\nC: AUTH PLAIN " + smtpPlain + "\nS: 454 4.7.0 Your mailbox is being moved, try again in a moment\n" +
			"C: NOOP\nS: 250 2.0.0 OK\nC: QUIT\nS: 221 2.0.0 Bye\n!end")
	})
}

// TestFencedLoginCancelled: what the old side says to a login that the fence overtook does not count, not even 535.
func TestFencedLoginCancelled(t *testing.T) {
	asked := make(chan struct{})
	r := newSMTPRig(t, smtpRigOptions{noProbe: true}, func(k *mailtest.Talk) {
		k.Dialogue("S: 220 hi\nC: EHLO ...\nS: 250-hi\nS: 250 AUTH PLAIN\nC: AUTH ...")
		close(asked)
		k.Dialogue("!await fenced\nS: 535 5.7.8 He has moved\n!silent")
	}, smtpBackend(nil, obligingBackend))
	k := r.dial()
	k.Dialogue("C: EHLO x\nS~ 250 ...\nC: AUTH PLAIN " + smtpPlain)
	<-asked
	r.flip(1, router.Place{Side: config.New, Epoch: 1}, func() { r.old.Fire("fenced") })
	k.Expect(smtpAuthOK)
	k.Dialogue("C: QUIT\nS: 221 2.0.0 Bye")
}

// TestFlipWaitsForTransaction: a transaction ends where it began; what was pipelined behind it never begins.
func TestFlipWaitsForTransaction(t *testing.T) {
	for name, behind := range map[string]string{"alone": "", "pipelined": "MAIL FROM:<two@example.com>\r\nRCPT TO:<b@example.net>\r\n"} {
		t.Run(name, func(t *testing.T) {
			r := newSMTPRig(t, smtpRigOptions{strict: true}, smtpBackend(nil, func(k *mailtest.Talk) {
				k.Dialogue("C: MAIL FROM:<one@example.com>\nS: 250 ok\nC: RCPT TO:<a@example.net>\nS: 250 ok\nC: DATA\nS: 354 go\n" +
					"C: message\nC: .\n!fire ended\n!await fenced\nS: 250 2.0.0 queued\nC: QUIT\nS: 221 bye")
			}), idleBackend())
			k := r.login()
			k.Send("MAIL FROM:<one@example.com>\r\n")
			k.Expect("250 ok")
			r.flip(1, router.Place{Side: config.New, Epoch: 1}, nil) // a whole flip while the transaction is under way
			k.Send("RCPT TO:<a@example.net>\r\nDATA\r\n")
			k.Dialogue("S: 250 ok\nS: 354 go")
			k.Send("message\r\n.\r\n" + behind)
			r.old.Await("ended")
			r.flip(2, router.Place{Side: config.New, Epoch: 1}, nil)
			r.old.Fire("fenced")
			k.Dialogue("S: 250 2.0.0 queued\nS: 421 4.3.2 mail.example.com " + movingText + "\n!end")
		})
	}
}

// TestNoTransactionBeginsUnderPressure: a MAIL that was read just before the fence does not begin one behind it.
func TestNoTransactionBeginsUnderPressure(t *testing.T) {
	s := &submissionSession{pressure: router.AtBoundary}
	if err := s.begin(); !errors.Is(err, errEnded) || s.inTx {
		t.Error(err)
	}
	s = &submissionSession{pressure: router.AtBoundary, inTx: true} // a nested MAIL is the backend's to refuse
	if err := s.begin(); err != nil {
		t.Error(err)
	}
}

// TestFlipWaitsForAnyMessage: also for one that a lax backend takes without MAIL.
func TestFlipWaitsForAnyMessage(t *testing.T) {
	r := newSMTPRig(t, smtpRigOptions{}, smtpBackend(nil, func(k *mailtest.Talk) {
		k.Dialogue("C: DATA\nS: 354 go\nC: half\n!fire half\nC: whole\nC: .\nS: 250 queued\nC: QUIT\nS: 221 bye")
	}), idleBackend())
	k := r.login()
	k.Dialogue("C: DATA\nS: 354 ...\nC: half")
	r.old.Await("half")
	r.flip(1, router.Place{Side: config.New, Epoch: 1}, nil)
	k.Dialogue("C: whole\nC: .\nS: 250 queued\nS: 421 4.3.2 ...\n!end")
	k.Close()
}

// TestAbortResumes: a session that was asked to end in a transaction goes on when the flip is aborted.
func TestAbortResumes(t *testing.T) {
	r := newSMTPRig(t, smtpRigOptions{}, smtpBackend(nil, obligingBackend), idleBackend())
	k := r.login()
	k.Dialogue("C: MAIL FROM:<one@example.com>\nS: 250 ...")
	r.flip(1, router.Place{Side: config.Old}, nil)
	k.Dialogue("C: RCPT TO:<a@example.net>\nS: 250 ...\nC: DATA\nS: 354 ...\nC: x\nC: .\nS: 250 2.0.0 Queued\n" +
		"C: MAIL FROM:<two@example.com>\nS: 250 ...\nC: RSET\nS: 250 ...\nC: QUIT\nS: 221 ...\n!end")
}

// TestShutdownWaitsForTransaction: the end of the gateway does not cut a message either, and says 421 to the idle.
func TestShutdownWaitsForTransaction(t *testing.T) {
	r := newSMTPRig(t, smtpRigOptions{}, smtpBackend(nil, obligingBackend), idleBackend())
	busy, idle := r.login(), r.login()
	busy.Dialogue("C: MAIL FROM:<a@example.com>\nS: 250 ...\nC: RCPT TO:<b@example.com>\nS: 250 ...\nC: DATA\nS: 354 ...\nC: half")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.end()
	}()
	idle.Dialogue("S: 421 4.3.2 mail.example.com The gateway is restarting, please reconnect\n!end")
	idle.Close()
	busy.Dialogue("C: whole\nC: .\nS: 250 2.0.0 Queued\nS: 421 4.3.2 ...\n!end")
	busy.Close()
	<-ended
}

// TestShutdownCuts: a client who never ends his message is cut when the time is up; the backend keeps nothing, and
// nobody waits for a backend that is silent.
func TestShutdownCuts(t *testing.T) {
	for name, last := range map[string]string{"in DATA": "half", "at the end": "whole\r\n."} {
		t.Run(name, func(t *testing.T) {
			r := newSMTPRig(t, smtpRigOptions{}, smtpBackend(nil, func(k *mailtest.Talk) {
				k.Dialogue("C: MAIL FROM:<a@example.com>\nS: 250 ok\nC: DATA\nS: 354 go\nC: ...\n!fire came\n!silent")
			}), idleBackend())
			k := r.login()
			k.Dialogue("C: MAIL FROM:<a@example.com>\nS: 250 ok\nC: DATA\nS: 354 go")
			k.Send(last + "\r\n")
			r.old.Await("came")
			ctx := shortContext(t)
			r.srv.Shutdown(ctx)
			r.old.Await("end 2")
			if last == "half" && r.old.Said("\n.\r\n") != 0 {
				t.Error("the end of a message that the client never ended")
			}
			k.Close()
		})
	}
}

// TestFlipsUnderLoad moves a user to and fro while his clients send, each time in the middle of a message. Each message
// that was acknowledged is on one side once, and no message is there in part.
func TestFlipsUnderLoad(t *testing.T) {
	const flips = 40
	var (
		mu    sync.Mutex
		kept  = map[string][]string{}
		count int
		r     *smtpRig
		ready = make(chan struct{})
		stop  = make(chan struct{})
	)
	keep := func(side string) func(*mailtest.Talk) {
		return smtpBackend([]string{"PIPELINING"}, func(k *mailtest.Talk) {
			obliging(k, func(m string) string {
				mu.Lock()
				defer mu.Unlock()
				id, _, _ := strings.Cut(m, "\r\n")
				kept[id] = append(kept[id], side)
				if !strings.HasSuffix(m, "\r\nend of "+id+"\r\n") {
					t.Errorf("half a message: %q", m)
				}
				<-ready
				if count++; count%5 == 0 && count <= 5*flips {
					g := int64(count / 5)
					r.flip(g, router.Place{Side: config.Side(g % 2), Epoch: g}, nil)
				}
				if count == 5*flips {
					close(stop)
				}
				return "250 2.0.0 Queued " + id
			})
		})
	}
	r = newSMTPRig(t, smtpRigOptions{}, keep("old"), keep("new"))
	close(ready)
	var acked, ended atomic.Int64
	var wg sync.WaitGroup
	for c := range 6 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				got := sendSome(r, fmt.Sprintf("m-%d-%d", c, n))
				for _, id := range got {
					acked.Add(1)
					mu.Lock()
					if len(kept[id]) != 1 {
						t.Errorf("%s was acknowledged and is on %v", id, kept[id])
					}
					mu.Unlock()
				}
				if len(got) < 4 {
					ended.Add(1)
				}
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	for id, sides := range kept {
		if len(sides) > 1 {
			t.Errorf("%s is on %v", id, sides)
		}
	}
	if n := int64(len(kept)); acked.Load() != n {
		t.Errorf("%d messages were acknowledged, %d are there", acked.Load(), n) // a flip leaves no answer out
	}
	if ended.Load() < flips/2 {
		t.Errorf("%d sessions ended by %d flips: no load", ended.Load(), flips)
	}
}

// sendSome sends up to four messages in one session, pipelined, and returns those that were acknowledged.
func sendSome(r *smtpRig, id string) (acked []string) {
	c, lines, err := plainClient(r.addr)
	if err != nil {
		return nil
	}
	defer c.Close()
	say := func(text, want string) bool {
		if _, err := c.Write([]byte(text)); err != nil {
			return false
		}
		line, err := lines.ReadString('\n')
		if strings.HasPrefix(line, "535") {
			r.t.Error("told that the password is wrong: " + line)
		}
		return err == nil && strings.HasPrefix(line, want)
	}
	if !say("", "220") || !say("HELO x\r\n", "250") || !say("AUTH PLAIN "+smtpPlain+"\r\n", "235") {
		return nil
	}
	for i := range 4 {
		id := fmt.Sprint(id, "-", i)
		if !say("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n", "250") || !say("", "250") || !say("", "354") {
			return acked
		}
		if !say(id+"\r\n"+strings.Repeat("x", i*3000)+"\r\nend of "+id+"\r\n.\r\n", "250 2.0.0 Queued "+id) {
			return acked
		}
		acked = append(acked, id)
	}
	say("QUIT\r\n", "221")
	return acked
}
