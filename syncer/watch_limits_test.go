package syncer_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/mailtest/faulty"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestWatchLimits: connections are never more than allowed, who has one keeps it, and one that is given up goes to the next. Few
// logins are under way at once.
func TestWatchLimits(t *testing.T) {
	leavesNothing(t)
	h := faulty.Start(t, faulty.Dovecot())
	const most = 7
	r := newWatchRig(t, [2]int{h.Port(), h.Port()}, func(o *syncer.WatcherOptions) { o.Max = most })
	defer r.end()
	all := map[string]config.Side{}
	for i := range 20 {
		all[fmt.Sprintf("user%02d", i)] = config.Old
	}
	r.Set(all)
	r.until("as many as may", 5*time.Second, func() bool { return len(r.Watched()) == most })
	first := r.Watched()
	for i, user := range first {
		if user != fmt.Sprintf("user%02d", i) {
			t.Errorf("watched are %q", first)
		}
	}
	all["aaron"] = config.Old // is before the others by name
	for range 3 {
		r.Set(all)
	}
	time.Sleep(50 * time.Millisecond)
	if got := r.Watched(); !slices.Equal(got, first) {
		t.Errorf("watched are %q, were %q", got, first)
	}
	delete(all, first[3])
	r.Set(all)
	r.stands(append([]string{"aaron"}, slices.Delete(slices.Clone(first), 3, 4)...)...)
	r.until("no more connections than may be", 5*time.Second, func() bool { return h.Connections() <= most }) // the host sees the end of one when it reads
	if n := h.Connections(); n > most {
		t.Errorf("%d connections", n)
	}
	if r.count(r.opened, first[0]) != 1 {
		t.Error("a watch that was to stay was made anew")
	}
	all[first[0]] = config.New
	r.Set(all)
	r.until("a user who has moved is watched there", 5*time.Second, func() bool {
		return r.count(r.opened, first[0]) == 2 && slices.Contains(r.Watched(), first[0]) // his name is before those who wait
	})
	r.Set(nil)
	r.stands()
	r.until("no connection is left", 5*time.Second, func() bool { return h.Connections() == 0 })
	if r.most > 8 {
		t.Errorf("%d logins at once", r.most)
	}
}

// TestWatchTrouble: a refused login is not tried again soon, a deaf server is left alone, a dead one is tried again later and
// later; each is logged once, and nobody takes a connection from those who can be watched.
func TestWatchTrouble(t *testing.T) {
	leavesNothing(t)
	good, deaf := faulty.Start(t, faulty.Dovecot()), faulty.Start(t, faulty.Plain())
	for most := 1; most <= 2; most++ { // with one, anna must not keep bert from it; with two, she could be tried again at once
		t.Run(fmt.Sprintf("refused, %d", most), func(t *testing.T) {
			r := newWatchRig(t, [2]int{good.Port(), 1}, func(o *syncer.WatcherOptions) { o.Max, o.Longest = most, time.Minute })
			r.wrong["anna"] = true
			r.Set(map[string]config.Side{"anna": config.Old, "bert": config.Old})
			r.stands("bert")
			time.Sleep(100 * time.Millisecond)
			if n := r.count(r.opened, "anna"); n != 1 {
				t.Errorf("%d logins", n)
			}
			if r.log.count("cannot watch") != 1 || r.log.count("trouble=refused") != 1 {
				t.Error(r.log.b.String())
			}
			r.end()
		})
		t.Run(fmt.Sprintf("deaf, %d", most), func(t *testing.T) {
			r := newWatchRig(t, [2]int{good.Port(), deaf.Port()}, func(o *syncer.WatcherOptions) { o.Max = most })
			r.Set(map[string]config.Side{"anna": config.New, "bert": config.Old})
			r.stands("bert")
			time.Sleep(100 * time.Millisecond)
			if n := r.count(r.opened, "anna"); n != 1 || r.count(r.hints, "anna") != 0 {
				t.Errorf("%d logins, %d hints", n, r.count(r.hints, "anna"))
			}
			if r.log.count("polls have to") != 1 {
				t.Error(r.log.b.String())
			}
			r.end()
		})
	}
	t.Run("dead", func(t *testing.T) {
		h := faulty.Start(t, faulty.Dovecot())
		h.Fail(&faulty.Faults{Seed: 1, Rate: 1, Kinds: []faulty.Kind{faulty.Cut}}) // after each login
		r := newWatchRig(t, [2]int{h.Port(), 1}, func(o *syncer.WatcherOptions) { o.Longest = time.Minute })
		r.Set(map[string]config.Side{"anna": config.Old})
		time.Sleep(400 * time.Millisecond)
		if n := r.count(r.opened, "anna"); n < 3 || n > 8 { // after 10, 20, 40, 80, 160 ms
			t.Errorf("%d logins", n)
		}
		if n := r.log.count("cannot watch"); n != 1 {
			t.Errorf("%d lines:\n%s", n, r.log.b.String())
		}
		h.Sound()
		r.stands("anna")
		if n := r.log.count("watched again"); n != 1 {
			t.Errorf("%d lines", n)
		}
		r.end()
	})
}

// TestWatchEnds: a server that says nothing more holds nobody up.
func TestWatchEnds(t *testing.T) {
	for _, capability := range []string{"IDLE", "NOTIFY"} {
		s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
			k.Dialogue("S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\nC: $l AUTHENTICATE PLAIN ...\nS: $l OK [CAPABILITY IMAP4rev1 " + capability + "] in")
			if capability == "IDLE" {
				k.Dialogue("C: $a EXAMINE ...\nS: * 0 EXISTS\nS: $a OK\nC: $b IDLE\nS: + idling\n!silent")
			} else {
				k.Dialogue("C: $a NOTIFY ...\nS: $a OK\n!silent")
			}
		})
		s.AllowGone()
		var port int
		if _, err := fmt.Sscanf(s.Addr, "127.0.0.1:%d", &port); err != nil {
			t.Fatal(err)
		}
		r := newWatchRig(t, [2]int{port, 1}, nil)
		r.Set(map[string]config.Side{"anna": config.Old})
		r.stands("anna")
		began := time.Now()
		r.end()
		if d := time.Since(began); d > 6*time.Second {
			t.Errorf("%s: it took %v to end", capability, d)
		}
		if n := len(r.Watched()); n != 0 {
			t.Errorf("%d are watched behind the end", n)
		}
	}
}

// TestWatchRenews: NOTIFY is asked for anew, so that a server that has given up begins again.
func TestWatchRenews(t *testing.T) {
	h := faulty.Start(t, notifying(events))
	r := newWatchRig(t, [2]int{h.Port(), 1}, func(o *syncer.WatcherOptions) { o.Renew = 20 * time.Millisecond })
	r.Set(map[string]config.Side{"anna": config.Old})
	r.until("NOTIFY three times", 5*time.Second, func() bool { return strings.Count(strings.Join(h.Trace(), "\n"), " NOTIFY ") >= 3 })
	if n := r.count(r.opened, "anna"); n != 1 {
		t.Errorf("%d connections", n)
	}
	r.hinted("anna", "new mail", func() { h.Account.Append("INBOX", nil, time.Now(), []byte("x")) })
}

// TestWatchHosts: mail that is delivered at a real host leads to a hint within two seconds. Courier is none of them: it looks once a
// minute, or asks a daemon of the system's that nobody keeps apart for a test.
func TestWatchHosts(t *testing.T) {
	l := lab.Start(t, lab.MailboxesOnly())
	cyrus := lab.StartCyrus(t)
	for _, h := range []lab.Host{l.Old, l.New, cyrus.Host} {
		t.Run(filepath.Base(h.Name), func(t *testing.T) {
			user := lab.User(3)
			x := lab.Dial(t, h, 3)
			x.Append("INBOX", "", letter(1))
			r := newWatchRig(t, [2]int{h.IMAP, 1}, nil)
			r.Set(map[string]config.Side{user: config.Old})
			r.stands(user)
			time.Sleep(200 * time.Millisecond) // IDLE is sent by now
			x.Do("SELECT INBOX")
			for i := range 3 {
				r.hinted(user, fmt.Sprintf("letter %d", i), func() { x.Append("INBOX", "", letter(10+i)) })
			}
			r.hinted(user, "a flag", func() { x.Do(`STORE 1 +FLAGS (\Flagged)`) })
			if h.Name == l.Old.Name || h.Name == l.New.Name { // NOTIFY
				r.hinted(user, "mail in another mailbox", func() { x.Append(h.Prefix+"Sent", "", letter(20)) })
				time.Sleep(time.Second) // what more there is to tell of it
				r.hinted(user, "a new mailbox", func() { x.Do(`CREATE "%sNew"`, h.Prefix) })
			}
			r.end()
			x.Close()
		})
	}
}

// TestWatchDefect: a defect in who is told ends one connection, is logged with its stack, and the others go on.
func TestWatchDefect(t *testing.T) {
	h := faulty.Start(t, faulty.Dovecot())
	var r *watchRig
	r = newWatchRig(t, [2]int{h.Port(), 1}, func(o *syncer.WatcherOptions) {
		hint := o.Hint
		o.Hint = func(user string) {
			hint(user)
			if n := r.count(r.hints, user); user == "anna" && n == 2 {
				panic("so")
			}
		}
	})
	r.Set(map[string]config.Side{"anna": config.Old, "bert": config.Old})
	r.stands("anna", "bert")
	h.Account.Append("INBOX", nil, time.Now(), []byte("x"))
	r.until("anna is watched again", 5*time.Second, func() bool { return r.log.count("watched again") == 1 && r.count(r.opened, "anna") == 2 })
	r.stands("anna", "bert")
	if r.log.count("a defect ended a watch") != 1 || r.log.count("watch_limits_test.go") == 0 || r.count(r.opened, "bert") != 1 {
		t.Error(r.log.b.String())
	}
}

// TestWatchPrefers: who goes first takes a connection of somebody else, once; nobody who goes first loses his for that, and there are never
// more than allowed.
func TestWatchPrefers(t *testing.T) {
	leavesNothing(t)
	h := faulty.Start(t, faulty.Dovecot())
	r := newWatchRig(t, [2]int{h.Port(), h.Port()}, func(o *syncer.WatcherOptions) { o.Max = 3 })
	defer r.end()
	all := map[string]config.Side{}
	for i := range 8 {
		all[fmt.Sprint("user", i)] = config.Old
	}
	r.Set(all)
	r.stands("user0", "user1", "user2")
	r.Prefer(map[string]bool{"user6": true, "user7": true})
	r.stands("user0", "user6", "user7")
	r.Prefer(map[string]bool{"user0": true, "user5": true, "user6": true, "user7": true})
	time.Sleep(50 * time.Millisecond)
	r.stands("user0", "user6", "user7")
	r.Prefer(map[string]bool{"user5": true})
	r.until("he who goes first now", 5*time.Second, func() bool { return slices.Contains(r.Watched(), "user5") && len(r.Watched()) == 3 })
	r.Prefer(nil)
	time.Sleep(50 * time.Millisecond)
	total := 0
	for i := range 8 {
		total += r.count(r.opened, fmt.Sprint("user", i))
	}
	if total > 6 || h.Connections() > 3 {
		t.Errorf("%d logins, %d connections now", total, h.Connections())
	}
}

// TestWatchDeafHost: users of a host that tells of nothing take nobody's place, and one or two of them are enough to know.
func TestWatchDeafHost(t *testing.T) {
	leavesNothing(t)
	product := faulty.Courier()
	product.Capabilities = strings.ReplaceAll(product.Capabilities, "IDLE", "XNONE")
	deaf, well := faulty.Start(t, product), faulty.Start(t, faulty.Dovecot())
	r := newWatchRig(t, [2]int{deaf.Port(), well.Port()}, func(o *syncer.WatcherOptions) {
		o.Max, o.Longest = 3, 50*time.Millisecond
		o.Place = func(side config.Side, _ string) string { return side.String() }
	})
	defer r.end()
	all, first := map[string]config.Side{}, map[string]bool{}
	for i := range 50 {
		all[fmt.Sprintf("deaf%02d", i)] = config.Old
		first[fmt.Sprintf("deaf%02d", i)] = true
	}
	for i := range 5 {
		all[fmt.Sprint("well", i)] = config.New
	}
	r.Prefer(first)
	r.Set(all)
	r.stands("well0", "well1", "well2")
	time.Sleep(100 * time.Millisecond)
	total := 0
	for name := range first {
		total += r.count(r.opened, name)
	}
	if total > 3 || r.log.count("does not tell") > 3 {
		t.Errorf("%d logins of those who are not told\n%s", total, r.log.b.String())
	}
	r.Set(nil) // the hosts may be others: they are asked again
	r.Set(all)
	r.until("another look", 5*time.Second, func() bool {
		n := 0
		for name := range first {
			n += r.count(r.opened, name)
		}
		return n > total
	})
}
