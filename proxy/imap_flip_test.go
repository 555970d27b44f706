package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/router"
)

// TestFlipDuringLogin: the user is fenced while OLD is at some step of the login. Whatever OLD says from then on does
// not count; the login ends on the side where the user is at the release, and nobody hears of a wrong password.
func TestFlipDuringLogin(t *testing.T) {
	steps := map[string]string{
		"before the banner":     "!fire here\n!await fenced\n",
		"at CAPABILITY":         "S: * OK ready\nC: $c CAPABILITY\n!fire here\n!await fenced\n",
		"at login":              atLogin + "!fire here\n!await fenced\n",
		"half an answer":        atLogin + "S\" \"$l OK [CAPA\"\n!fire here\n!await fenced\n",
		"at CAPABILITY after":   atLogin + "S: $l OK in\nC: $c CAPABILITY\n!fire here\n!await fenced\n",
		"then wrong password":   atLogin + "!fire here\n!await fenced\nS: $l NO [AUTHENTICATIONFAILED] no\n",
		"then it is unwell":     atLogin + "!fire here\n!await fenced\nS: $l NO [UNAVAILABLE] no\n",
		"then it closes":        atLogin + "!fire here\n!await fenced\n!close\n",
		"then it lets him in":   atLogin + "!fire here\n!await fenced\nS: $l OK [CAPABILITY IMAP4rev1] in on old\n",
		"just before the fence": atLogin + "!fire here\nS: $l NO no\n!await fenced\n",
	}
	for name, text := range steps {
		for _, to := range config.Sides {
			t.Run(name+", to "+to.String(), func(t *testing.T) {
				t.Parallel()
				in := func(k *mailtest.Talk) {
					backendIn(k, "side "+to.String())
					k.Dialogue("C: b LOGOUT\nS: * BYE")
				}
				r := newRig(t, rigOptions{gone: true, new: in, old: func(k *mailtest.Talk) {
					if k.N > 1 {
						in(k)
						return
					}
					k.Dialogue(text)
					k.Silent()
				}})
				k := r.plain()
				k.Dialogue("S: * OK ...\nC: a LOGIN u@example.com pw\nC\" \"b LOGOUT\\r\\n\"")
				r.old.Await("here")
				drained(t, r.fence(1)) // a login under way never delays a drain
				r.old.Fire("fenced")
				if name == "just before the fence" {
					// either the refusal was true when it was given, or it no longer counts
					r.release(to, int64(to), 2)
					switch s := k.Line(); {
					case strings.HasSuffix(s, "in on side "+to.String()):
						k.Dialogue("S: * BYE\n!end")
					case !strings.HasPrefix(s, "a NO [AUTHENTICATIONFAILED]"):
						t.Error(s)
					}
					return
				}
				r.until("the login is held", func() bool { _, held := r.router.Pending(user); return held == 1 })
				r.old.Await("end 1")
				r.release(to, int64(to), 2)
				k.Dialogue("S: a OK [CAPABILITY ...] in on side " + to.String() + "\nS: * BYE\n!end")
				if s := r.rec.results(); s != "map[ok:1]" {
					t.Errorf("results: %s", s)
				}
			})
		}
	}
}

// TestAdmitComparesAgain: a flip that is begun and done while OLD's answer is on its way is seen all the same. I1.
func TestAdmitComparesAgain(t *testing.T) {
	r := newRig(t, rigOptions{gone: true, new: ends("new", "C: b LOGOUT\nS: * BYE"), old: func(k *mailtest.Talk) {
		k.Dialogue(atLogin + "!fire here\n!await flipped\nS: $l OK [CAPABILITY IMAP4rev1] in on old\n!silent")
	}})
	k := r.plain()
	k.Dialogue("S: * OK ...\nC: a LOGIN u@example.com pw")
	r.old.Await("here")
	drained(t, r.fence(1))
	r.release(config.New, 1, 2)
	r.old.Fire("flipped")
	k.Dialogue("S: a OK [CAPABILITY ...] in on new\nC: b LOGOUT\nS: * BYE\n!end")
	if s := r.router.Sessions(user); len(s) > 1 || len(s) == 1 && s[0].Side != config.New {
		t.Errorf("%v", s)
	}
}

// TestHeldLogins wait for the release, with a word from time to time, and what they pipelined is carried out on the
// right side; past the hold limit they hear of a temporary failure and may try again.
func TestHeldLogins(t *testing.T) {
	t.Run("released", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, rigOptions{new: ends("new", "C: b SELECT x\nC: c LOGOUT\nS: b OK\nS: * BYE\nS: c OK")})
		drained(t, r.fence(1))
		k := r.secure()
		k.Expect("* OK ...")
		k.Send("a LOGIN u@example.com pw\r\nb SELECT x\r\nc LOGOUT\r\n")
		r.until("it is held", func() bool { _, held := r.router.Pending(user); return held == 1 })
		k.Dialogue("S: * OK [INPROGRESS] Your mailbox is being moved, please wait.") // after five seconds
		r.release(config.New, 1, 2)
		k.Dialogue("S: a OK [CAPABILITY ...] in on new\nS: b OK\nS: * BYE\nS: c OK\n!end")
	})
	t.Run("too long", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, rigOptions{new: ends("new", "C: b LOGOUT\nS: * BYE"), router: func(o *router.Options) { o.Hold = 200 * time.Millisecond }})
		r.fence(1)
		k := r.plain()
		k.Dialogue("S: * OK ...\nC: a LOGIN u@example.com pw\nS: a NO [UNAVAILABLE] Your mailbox is being moved, try again in a moment\nC: n NOOP\nS: n OK ...")
		r.release(config.New, 1, 2)
		k.Dialogue("C: a LOGIN u@example.com pw\nS: a OK ...\nC: b LOGOUT\nS: * BYE\n!end")
		r.logged("login failed", "result=held")
		if s := r.rec.results(); s != "map[held:1 ok:1]" {
			t.Errorf("results: %s", s)
		}
	})
	t.Run("the client goes away", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, rigOptions{gone: true, router: func(o *router.Options) { o.Hold = time.Minute }})
		r.fence(1)
		k := r.plain()
		k.Dialogue("S: * OK ...\nC: a LOGIN u@example.com pw")
		r.until("it is held", func() bool { _, held := r.router.Pending(user); return held == 1 })
		k.Reset()
		r.until("it is forgotten", func() bool { n, _ := r.router.Pending(user); return n == 0 })
		r.release(config.Old, 0, 2)
	})
	t.Run("the gateway ends", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, rigOptions{gone: true, router: func(o *router.Options) { o.Hold = time.Minute }})
		r.fence(1)
		k := r.plain()
		k.Dialogue("S: * OK ...\nC: a LOGIN u@example.com pw")
		r.until("it is held", func() bool { _, held := r.router.Pending(user); return held == 1 })
		r.stop(ErrShutdown)
		if s := k.ExpectEnd(); strings.Contains(s, "AUTHENTICATIONFAILED") {
			t.Error(s)
		}
	})
}

// TestCaps: each cap of the sessions and connections, and what the client hears.
func TestCaps(t *testing.T) {
	idle := ends("old", "C: ...\n!silent")
	t.Run("per user", func(t *testing.T) {
		r := newRig(t, rigOptions{gone: true, old: idle, tune: func(c *config.Config) { c.Limits.SessionsPerUser = 2 }})
		r.in()
		first := r.in()
		k := r.plain()
		k.Dialogue("S: * OK ...\nC: a LOGIN u@example.com pw\nS: a NO [LIMIT] Too many sessions, close some and try again")
		k.Dialogue("C: a LOGIN v@example.com pw\nS: a OK ...") // another user may
		first.Close()
		r.logged("session end", "client closed")
		r.in()
		r.logged("login failed", "result=rate_limited")
	})
	t.Run("per address", func(t *testing.T) {
		r := newRig(t, rigOptions{gone: true, old: idle, tune: func(c *config.Config) { c.Limits.SessionsPerIP = 2 }})
		r.in()
		r.in()
		r.plain().Dialogue("S: * OK ...\nC: a LOGIN v@example.com pw\nS: a NO [LIMIT] ...")
		mailtest.NewTalk(t, dialFrom(t, r.addr[config.Plain], "127.0.0.2")).Dialogue("S: * OK ...\nC: a LOGIN v@example.com pw\nS: a OK ...")
	})
	t.Run("per listener", func(t *testing.T) {
		r := newRig(t, rigOptions{gone: true, old: idle, tune: func(c *config.Config) { c.Limits.PerListener = 2 }})
		r.in()
		second := r.in()
		r.plain().Dialogue("S: * BYE [UNAVAILABLE] Too many connections, try again later\n!end")
		r.logged("too many connections", "per_listener")
		r.secure().Dialogue("S: * OK ...") // another listener has room
		second.Close()
		r.logged("session end", "client closed")
		r.in()
	})
	t.Run("before login", func(t *testing.T) {
		r := newRig(t, rigOptions{gone: true, old: ends("old", "!silent"), tune: func(c *config.Config) { c.Limits.PreAuth, c.Limits.PreAuthPerIP = 4, 2 }})
		a, b := r.plain(), r.plain()
		a.Expect("* OK ...")
		b.Expect("* OK ...")
		c := r.plain()
		c.Expect("* OK ...")
		a.Dialogue("!end") // the oldest of this address gave way
		others := []*mailtest.Talk{}
		for i := range 3 {
			k := mailtest.NewTalk(t, dialFrom(t, r.addr[config.Plain], fmt.Sprintf("127.0.0.%d", 20+i)))
			k.Expect("* OK ...")
			others = append(others, k)
		}
		b.Dialogue("!end") // the oldest of all did
		c.Dialogue("C: a NOOP\nS: a OK ...\nC: b LOGIN u@example.com pw\nS: b OK ...")
		others[2].Dialogue("C: a NOOP\nS: a OK ...")
	})
	t.Run("who is being logged in does not give way", func(t *testing.T) {
		r := newRig(t, rigOptions{gone: true, old: func(k *mailtest.Talk) {
			k.Dialogue(atLogin + "!fire asked\n!await go\nS: $l OK [CAPABILITY IMAP4rev1] in\n!silent")
		}, tune: func(c *config.Config) { c.Limits.PreAuthPerIP = 1 }})
		k := r.plain()
		k.Dialogue("S: * OK ...\nC: a LOGIN u@example.com pw")
		r.old.Await("asked")
		r.plain().Dialogue("S: * BYE [UNAVAILABLE] Too many connections, try again later\n!end")
		r.old.Fire("go")
		k.Dialogue("S: a OK ...")
	})
}
