package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/op"
	"mailgate/syncer"
)

// mailRig is serve in this process between two hosts of the lab, and a user whose flip is made step by step by the test.
type mailRig struct {
	t     *testing.T
	g     *gateway
	fm    *flipMail
	hosts [2]lab.Host
	n     int
	m     cutover.Move
	told  []string
	door  lab.Host // the gateway's
}

func newMailRig(t *testing.T, old, new lab.Host, n int, sync ...string) *mailRig {
	t.Helper()
	x, listen := &memory{t: t, dir: t.TempDir()}, port(t)
	x.write("routes", lab.User(n)+" old wave=pilot\n")
	x.write("secrets", lab.User(n)+" "+lab.Password(n)+"\n")
	x.write("mailgate.yaml", fmt.Sprintf(`hostname: mail.example.com
listen: ["imap://%s"]
backends:
  old: {imap: 'imap://127.0.0.1:%d', sync: {secrets: secrets}}
  new: {imap: 'imap://127.0.0.1:%d', sync: {secrets: secrets}}
routes: {file: routes, watch: 0s, approve_min: 100}
store: {path: state.db}
control: {socket: control.sock}
sync: {%s}
shutdown: 1s
log: {level: error}
`, listen, old.IMAP, new.IMAP, strings.Join(append(sync, "settle: 100ms", "confirm: 0s"), ", ")))
	door := lab.Host{}
	_, _ = fmt.Sscanf(listen, "127.0.0.1:%d", &door.IMAP)
	r := &mailRig{t: t, g: x.serve(), door: door, hosts: [2]lab.Host{old, new}, n: n}
	r.fm = newFlipMail(r.g)
	r.m = cutover.Move{User: lab.User(n), From: config.Old, To: config.New, By: "test"}
	return r
}

// state puts the user's row where the manager would have it.
func (r *mailRig) state(s op.State) {
	r.t.Helper()
	row, err := r.g.store.Row(r.t.Context(), r.m.User)
	if err != nil {
		r.t.Fatal(err)
	}
	next := row
	next.State, next.Target, next.Op, next.Generation = s, r.m.To, r.m.Op, row.Generation+1
	if s == op.Release {
		next.Side, next.Epoch = r.m.To, row.Epoch+1
	}
	if err := r.g.store.Swap(r.t.Context(), row.Generation, next, op.Operation{}, nil); err != nil {
		r.t.Fatal(err)
	}
}

func (r *mailRig) tell(p cutover.Progress) { r.told = append(r.told, p.Why) }

func (r *mailRig) prepare() error {
	r.m.Op = fmt.Sprintf("op-%d", rand.Uint32())
	r.state(op.Prep)
	return r.fm.Prepare(r.t.Context(), r.m, r.tell)
}

func (r *mailRig) delta() error {
	r.state(op.Delta)
	return r.fm.Delta(r.t.Context(), r.m, r.tell)
}

func (r *mailRig) verify() (string, error) {
	r.state(op.Verify)
	return r.fm.Verify(r.t.Context(), r.m)
}

func (r *mailRig) abort() { r.state(op.Settled) }

// commit moves the user; the next flip goes back.
func (r *mailRig) commit() {
	r.state(op.Release)
	r.state(op.Settled)
	r.fm.Moved(r.m)
	r.m.From, r.m.To, r.m.Epoch = r.m.To, r.m.From, r.m.Epoch+1
}

func (r *mailRig) must(what string, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
}

// refused wants a refusal that says something, and what to do.
func (r *mailRig) refused(what string, err error, words ...string) {
	r.t.Helper()
	var refusal *cutover.Refusal
	if !errors.As(err, &refusal) || refusal.Do == "" {
		r.t.Errorf("%s: %v", what, err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			r.t.Errorf("%s: %q does not say %q", what, err, w)
		}
	}
}

func (r *mailRig) run(deletes bool) *syncer.Report {
	r.t.Helper()
	form := url.Values{"user": {r.m.User}, "by": {"test"}}
	if deletes {
		form.Set("deletes", "true")
	}
	out, err := r.g.syncing.Sync(r.t.Context(), "run", form, func(any) {})
	if err != nil {
		r.t.Fatal(err)
	}
	return out.(*syncer.Report)
}

// same compares both accounts with a reader that is not ours, and counts.
func (r *mailRig) same(what string, messages int) {
	r.t.Helper()
	var a [2]corpus.Account
	for side, h := range r.hosts {
		var err error
		if a[side], err = corpus.Snapshot(lab.Addr(h.IMAP), lab.User(r.n), lab.Password(r.n)); err != nil {
			r.t.Fatal(err)
		}
	}
	for _, d := range corpus.Diff(a[0], a[1], corpus.DiffOptions{OnlyB: func(_ corpus.Path, c *corpus.Contents) bool { return c.Count == 0 }}) {
		r.t.Errorf("%s: %s", what, d)
	}
	if n := a[1].Messages(); n != messages {
		r.t.Errorf("%s: %d messages, want %d", what, n, messages)
	}
}

func mailOf(n int) string {
	return fmt.Sprintf("From: a@example.com\r\nSubject: letter %d\r\nMessage-ID: <letter-%d@example.com>\r\nDate: Wed, 25 Nov 2026 10:00:%02d +0000\r\n\r\nBody %d.\r\n", n, n, n%60, n)
}

// mailPairs runs a test between real hosts, each pair with a user of its own.
func mailPairs(t *testing.T, first int, test func(r *mailRig, x func(config.Side) *lab.Talk, name func(config.Side, string) string)) {
	l := lab.Start(t, lab.MailboxesOnly())
	courier, cyrus := lab.StartCourier(t), lab.StartCyrus(t)
	for i, pair := range [][2]lab.Host{{l.Old, l.New}, {courier.Host, cyrus.Host}} {
		t.Run(pair[0].Name+" to "+pair[1].Name, func(t *testing.T) {
			r := newMailRig(t, pair[0], pair[1], first+i)
			test(r, func(s config.Side) *lab.Talk { return lab.Dial(t, r.hosts[s], r.n) },
				func(s config.Side, n string) string { return r.hosts[s].Prefix + n })
		})
	}
}

// TestFlipMail: what people do a moment before the drain, and what arrives past the gateway on both sides, is on both sides behind the
// flip and behind the way back; so is what they do in between.
func TestFlipMail(t *testing.T) {
	t.Parallel()
	mailPairs(t, 1, func(r *mailRig, dial func(config.Side) *lab.Talk, name func(config.Side, string) string) {
		x := dial(config.Old)
		for _, box := range []string{"Work", "Later", "Gone"} {
			x.Do(`CREATE "%s"`, name(config.Old, box))
			x.Do(`SUBSCRIBE "%s"`, name(config.Old, box))
		}
		n := 0
		put := func(x *lab.Talk, box string, k int) {
			for range k {
				n++
				x.Append(box, []string{"", `\Seen`, `\Flagged`}[n%3], mailOf(n))
			}
		}
		put(x, "INBOX", 20)
		put(x, name(config.Old, "Work"), 20)
		r.must("first", r.prepare())
		r.same("prepared", 40)
		want := 40
		for leg := range 3 {
			if leg > 0 {
				r.must("prepare", r.prepare())
			}
			from, to := r.m.From, r.m.To
			x := dial(from)
			put(x, "INBOX", 3)
			put(x, name(from, "Work"), 1)
			x.Do("SELECT INBOX")
			uids := x.UIDs()
			x.Do(`UID STORE %d:%d +FLAGS (\Answered)`, uids[0], uids[2])
			x.Do(`UID STORE %d -FLAGS (\Seen)`, uids[3])
			x.Do(`UID STORE %d +FLAGS (\Deleted)`, uids[4])
			x.Do(`UID EXPUNGE %d`, uids[4])
			x.Do(`UID COPY %d "%s"`, uids[5], name(from, "Later"))
			x.Do(`UID STORE %d +FLAGS (\Deleted)`, uids[5])
			x.Do(`UID EXPUNGE %d`, uids[5])
			x.Do(`CREATE "%s"`, name(from, fmt.Sprint("New", leg)))
			x.Do(`SUBSCRIBE "%s"`, name(from, fmt.Sprint("New", leg)))
			put(x, name(from, fmt.Sprint("New", leg)), 2)
			if leg == 1 {
				x.Do("SELECT INBOX")
				x.Do(`RENAME "%s" "%s"`, name(from, "Work"), name(from, "Project"))
				x.Do(`CREATE "%s"`, name(from, "Work"))
				x.Do(`SUBSCRIBE "%s"`, name(from, "Work"))
				x.Do(`UNSUBSCRIBE "%s"`, name(from, "Work"))
				x.Do(`SUBSCRIBE "%s"`, name(from, "Work"))
				x.Do(`SUBSCRIBE "%s"`, name(from, "Project"))
			}
			x.Close()
			y := dial(to)
			put(y, "INBOX", 1) // a straggler
			want += 3 + 1 - 1 + 2 + 1
			r.must("delta", r.delta())
			r.same("delta", want)
			// The list is busy: mail comes past the gateway at any moment.
			put(y, "INBOX", 1)
			z := dial(from)
			put(z, "INBOX", 2)
			want += 3
			seen, err := r.verify()
			r.must("verify", err)
			if !strings.Contains(seen, "equal") {
				r.t.Errorf("verify says %q", seen)
			}
			r.t.Log(seen)
			r.same("verify", want)
			r.commit()
			put(z, "INBOX", 1)
			z.Close()
			y.Close()
			want++
		}
		if at, equal, ok, err := r.g.syncing.verified(r.t.Context(), r.m.User); !equal || !ok || err != nil || time.Since(at) > time.Hour {
			r.t.Errorf("verified: %s %v %v %v", at, equal, ok, err)
		}
	})
}

// TestFlipMailHeld: deletes that are held back, and folders that are gone, would come back behind the flip: it is refused until somebody has
// said that they are meant.
func TestFlipMailHeld(t *testing.T) {
	t.Parallel()
	mailPairs(t, 3, func(r *mailRig, dial func(config.Side) *lab.Talk, name func(config.Side, string) string) {
		x := dial(config.Old)
		x.Do(`CREATE "%s"`, name(config.Old, "Gone"))
		for i := range 100 {
			x.Append("INBOX", "", mailOf(i))
		}
		x.Append(name(config.Old, "Gone"), "", mailOf(1000))
		r.must("prepare", r.prepare())
		x.Do("SELECT INBOX")
		uids := x.UIDs()
		x.Do(`UID STORE %d:%d +FLAGS (\Deleted)`, uids[0], uids[79])
		x.Do("EXPUNGE")
		r.refused("held at the fence", r.delta(), "held back", "80 of 100 messages of INBOX", "--deletes")
		r.abort()
		r.refused("held", r.prepare(), "held back", "--deletes")
		r.abort()
		r.run(true)
		x.Do(`DELETE "%s"`, name(config.Old, "Gone"))
		r.refused("a folder", r.prepare(), "1 of 1 messages of", "Gone", "--deletes")
		r.abort()
		r.run(true)
		r.must("prepare", r.prepare())
		r.must("delta", r.delta())
		_, err := r.verify()
		r.must("verify", err)
		r.same("behind", 20)
		r.abort()
		// What a client of the gateway deletes from the moment when his flip began is meant.
		for i := range 60 {
			x.Append("INBOX", "", mailOf(2000+i))
		}
		r.must("prepare", r.prepare())
		r.state(op.Settled)
		y := lab.Dial(r.t, r.door, r.n)
		y.Do("SELECT INBOX")
		y.Do(`STORE 1:75 +FLAGS (\Deleted)`)
		y.Do("EXPUNGE")
		y.Close()
		until(r.t, "the session's end", func() bool { return len(r.g.router.Sessions(r.m.User)) == 0 })
		r.must("delta", r.delta())
		_, err = r.verify()
		r.must("verify", err)
		r.same("proven", 5)
	})
}

// TestFlipMailAside: mail that NEW refuses is an obstacle until somebody waives it; then it is said that it stays behind.
func TestFlipMailAside(t *testing.T) {
	t.Parallel()
	courier, cyrus := lab.StartCourier(t), lab.StartCyrus(t)
	r := newMailRig(t, courier.Host, cyrus.Host, 5)
	x := lab.Dial(t, r.hosts[0], r.n)
	x.Append("INBOX", "", mailOf(1))
	x.Append("INBOX", "", "no header here\r\n")
	r.refused("refused", r.prepare(), "1 messages are in quarantine", "mailgate quarantine")
	r.abort()
	list, err := r.g.store.Quarantine(t.Context(), r.m.User)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	list[0].Decision, list[0].By, list[0].Decided = syncer.Waived, "test", time.Now()
	if n, err := r.g.store.Decide(t.Context(), r.m.User, list); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	r.must("waived", r.prepare())
	r.must("delta", r.delta())
	seen, err := r.verify()
	r.must("verify", err)
	if !strings.Contains(seen, "1 stay behind") {
		t.Errorf("verify says %q", seen)
	}
}

// TestFlipMailRoom: mail that does not fit is not carried, and a full account is no place to move to, be it that it fills up under the fence.
func TestFlipMailRoom(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	cyrus := lab.StartCyrus(t)
	r := newMailRig(t, l.Old, cyrus.Host, 6)
	lab.Dial(t, r.hosts[1], r.n).Do("SELECT INBOX") // makes the account
	limit := func(kib int) {
		t.Helper()
		c, err := net.Dial("tcp", lab.Addr(cyrus.IMAP))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		in := bufio.NewReader(c)
		for i, line := range []string{"", "LOGIN cyrus " + lab.MasterPassword, fmt.Sprintf("SETQUOTA user/%s (STORAGE %d)", lab.User(r.n), kib)} {
			if i > 0 {
				fmt.Fprintf(c, "a %s\r\n", line)
			}
			for {
				text, err := in.ReadString('\n')
				if err != nil || strings.HasPrefix(text, "a ") && !strings.HasPrefix(text, "a OK") {
					t.Fatal(line, text, err)
				}
				if i == 0 || strings.HasPrefix(text, "a OK") {
					break
				}
			}
		}
	}
	x := lab.Dial(t, r.hosts[0], r.n)
	for i := range 20 {
		x.Append("INBOX", "", mailOf(i)+strings.Repeat("x", 4000)+"\r\n")
	}
	limit(10)
	r.refused("no room", r.prepare(), "does not fit", "20 messages", "10.0 KiB")
	r.abort()
	if n := len(subjects(t, r.hosts[1], lab.User(r.n), lab.Password(r.n))); n != 0 {
		t.Errorf("%d messages were carried", n)
	}
	limit(1000)
	r.must("prepare", r.prepare())
	r.must("delta", r.delta())
	limit(20)
	_, err := r.verify()
	r.refused("full under the fence", err, "full on new", "nothing was changed")
	r.abort()
	r.refused("full", r.prepare(), "does not fit")
	r.abort()
	limit(1000)
	r.must("prepare", r.prepare())
	r.must("delta", r.delta())
	_, err = r.verify()
	r.must("verify", err)
}

// TestFlipMailCarries: without any login for syncing mailgate is a router, unless that is forbidden.
func TestFlipMailCarries(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		delta   string
		logins  string // at which sides
		carries bool
		refused bool
	}{{"auto", "", false, false}, {"", "", false, false}, {"require", "", false, true}, {"off", "on", false, false}, {"auto", "on", true, false}, {"auto", "o", true, false},
		{"auto", "n", true, false}, {"require", "o", true, false}} {
		conf := &config.Config{}
		conf.Flip.Delta = x.delta
		if strings.Contains(x.logins, "o") {
			conf.Backends[0].Sync.Secrets = "f"
		}
		if strings.Contains(x.logins, "n") {
			conf.Backends[1].Sync.MasterUser = "m"
		}
		g := &gateway{}
		g.conf.Store(conf)
		carries, err := newFlipMail(g).carries()
		var refusal *cutover.Refusal
		if carries != x.carries || errors.As(err, &refusal) != x.refused {
			t.Errorf("%+v: %v %v", x, carries, err)
		}
	}
}

// TestFlipMailInterrupted ends DELTA at random moments, as a deadline does; the flip is called off, the user works on, and the next flip is
// right: nothing is lost, doubled or back.
func TestFlipMailInterrupted(t *testing.T) {
	t.Parallel()
	mailPairs(t, 7, func(r *mailRig, dial func(config.Side) *lab.Talk, name func(config.Side, string) string) {
		x, y := dial(config.Old), dial(config.New)
		n := 0
		put := func(x *lab.Talk, k int) {
			for range k {
				n++
				x.Append("INBOX", "", mailOf(n))
			}
		}
		put(x, 20)
		r.must("prepare", r.prepare())
		want, span := 20, 60*time.Millisecond
		for range 8 {
			put(x, 6)
			put(y, 1)
			x.Do("SELECT INBOX")
			x.Do(`UID STORE %d +FLAGS (\Deleted)`, x.UIDs()[0])
			x.Do("EXPUNGE")
			want += 6
			r.state(op.Delta)
			ctx, cancel := context.WithTimeout(r.t.Context(), rand.N(span))
			began := time.Now()
			if err := r.fm.Delta(ctx, r.m, r.tell); err == nil {
				span = time.Since(began) * 3 / 2
			}
			cancel()
			r.abort()
			r.m.Op += "+"
		}
		r.must("prepare", r.prepare())
		r.must("delta", r.delta())
		_, err := r.verify()
		r.must("verify", err)
		r.same("in the end", want)
	})
}

// TestFlipMailPasses: what passes by itself calls no flip off. Its owner renames a folder between the list and the look into it.
func TestFlipMailPasses(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newMailRig(t, l.Old, l.New, 1)
	x := lab.Dial(t, l.Old, 1)
	defer x.Close()
	x.Do("CREATE INBOX.Before")
	r.must("PREP", r.prepare())
	r.abort()
	r.m.Op, r.told = "op-passes", nil
	r.state(op.Prep)
	renamed := false
	x.Do("SUBSCRIBE INBOX.Before") // so that it is looked into
	x.Do("APPEND INBOX.Before {2}\r\nx\n")
	r.must("PREP", r.fm.Prepare(t.Context(), r.m, func(p cutover.Progress) {
		if !renamed && strings.HasPrefix(p.Why, "brings his mailboxes together") {
			renamed = true
			x.Do("RENAME INBOX.Before INBOX.Behind")
		}
	}))
	if !renamed {
		t.Error("nothing was renamed")
	}
}

// TestFlipMailAtRest: who is kept equal and has done nothing since is asked for numbers only before his fence; who has done something, and whose
// follower has lost something, is brought together.
func TestFlipMailAtRest(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newMailRig(t, l.Old, l.New, 1, "waves: [pilot]")
	x := [2]*lab.Talk{lab.Dial(t, l.Old, 1), lab.Dial(t, l.New, 1)}
	defer x[0].Close()
	defer x[1].Close()
	for range 3 {
		x[0].Do("APPEND INBOX {2}\r\nx\n")
	}
	r.must("PREP", r.prepare()) // compares both sides, which is good for a day
	r.abort()
	kp := r.g.syncing.keeping
	prepare := func(what string, passes bool) {
		t.Helper()
		r.told = nil
		r.must(what, r.prepare())
		if got := slices.ContainsFunc(r.told, func(s string) bool { return strings.HasPrefix(s, "brings his mailboxes together") }); got != passes {
			t.Errorf("%s: a pass %v, want %v: %q", what, got, passes, r.told)
		}
		r.abort()
	}
	again := func() { // a pass that wrote has not seen yet how the numbers are behind that
		t.Helper()
		r.must("PREP", r.prepare())
		r.abort()
	}
	until(t, "he is kept, and at rest", func() bool {
		st, kept := kp.k.State(r.m.User)
		return kept && !st.Now && kp.atRest(r.m.User, r.g.conf.Load(), time.Now())
	})
	if _, err := kp.pause(t.Context(), r.m.User, "test", "", "", true); err != nil { // no pass comes in between
		t.Fatal(err)
	}
	until(t, "no pass is under way", func() bool {
		st, _ := kp.k.State(r.m.User)
		return st.Phase == "paused" && !st.Now
	})
	again()
	prepare("behind a pass", false)
	x[0].Do("APPEND INBOX {2}\r\ny\n")
	prepare("behind new mail", true)
	again()
	prepare("behind the passes of that", false)
	x[1].Do("SELECT INBOX")
	x[1].Do("STORE 1 +FLAGS.SILENT (\\Deleted)")
	x[1].Do("EXPUNGE")
	e := kp.take()
	rep, err := e.Run(t.Context(), r.m.User, syncer.RunOptions{Leave: true}) // as the keeper's
	kp.put(e)
	if err != nil || rep.Missing != 1 {
		t.Fatal(rep, err)
	}
	prepare("behind a loss of the follower", true)
	again()
	prepare("behind the passes that made it again", false)
}

// TestFlipMailSeenJustNow: who was seen at rest a moment ago is asked nothing before his fence, and what came past the gateway since is carried
// behind it. When that was longer ago, or a change is known of, both sides are asked.
func TestFlipMailSeenJustNow(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newMailRig(t, l.Old, l.New, 1, "waves: [pilot]", "watch: 0", "poll: 1h")
	x := lab.Dial(t, l.Old, 1)
	defer x.Close()
	x.Do("APPEND INBOX {2}\r\nx\n")
	r.must("PREP", r.prepare()) // compares both sides, which is good for a day
	r.abort()
	kp := r.g.syncing.keeping
	prepare := func(what string, passes bool) {
		t.Helper()
		r.told = nil
		r.must(what, r.prepare())
		if got := slices.ContainsFunc(r.told, func(s string) bool { return strings.HasPrefix(s, "brings his mailboxes together") }); got != passes {
			t.Errorf("%s: a pass %v, want %v: %q", what, got, passes, r.told)
		}
	}
	rests := func() {
		t.Helper()
		until(t, "he is at rest", func() bool {
			st, kept := kp.k.State(r.m.User)
			return kept && !st.Now && st.Since.IsZero() && kp.atRest(r.m.User, r.g.conf.Load(), time.Now())
		})
	}
	fresh := func(d time.Duration) {
		kp.mu.Lock()
		defer kp.mu.Unlock()
		kp.fresh = d
	}
	rests()
	x.Do("APPEND INBOX {2}\r\ny\n")
	fresh(time.Hour)
	prepare("seen just now", false)
	r.must("DELTA", r.delta())
	_, err := r.verify()
	r.must("VERIFY", err)
	r.same("behind the fence", 2)
	r.abort()
	rests()
	x.Do("APPEND INBOX {2}\r\nz\n")
	fresh(0)
	prepare("seen long ago", true)
	r.abort()
	rests()
	fresh(time.Hour)
	x.Do("APPEND INBOX {2}\r\nw\n")
	kp.changed(r.m.User, config.IMAP)
	prepare("a change is known of", true)
	r.abort()
}

// TestFlipMailWaitsForLease: mailboxes that a gateway which was killed has yet are waited for, ahead of the fence.
func TestFlipMailWaitsForLease(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newMailRig(t, l.Old, l.New, 1)
	x := lab.Dial(t, l.Old, 1)
	defer x.Close()
	x.Do("APPEND INBOX {2}\r\nx\n")
	r.must("a pass", r.prepare()) // the account is known
	r.abort()
	if _, err := r.g.store.Acquire(t.Context(), r.m.User, "gw9", 1500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	r.told = nil
	r.must("PREP", r.prepare())
	if !slices.ContainsFunc(r.told, func(s string) bool { return strings.Contains(s, "another process syncs this account: gw9") }) {
		t.Errorf("%q", r.told)
	}
}
