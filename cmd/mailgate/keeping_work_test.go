package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailgate/mailtest/lab"
)

// workplace is what a user's mailboxes have to hold: where each message is, by its number, and its flags.
type workplace struct {
	t     *testing.T
	n     int // the user
	l     *lab.Lab
	rnd   *rand.Rand
	next  int
	where map[int]string // "INBOX" or "Box"
	flags map[int]map[string]bool
	onNew map[int]bool // delivered there: OLD may not know it yet
}

func (w *workplace) name(h lab.Host, box string) string {
	if box != "INBOX" && h.IMAP == w.l.Old.IMAP {
		return "INBOX." + box
	}
	return box
}

func (w *workplace) letter() string {
	w.next++
	return fmt.Sprintf("Subject: m-%d.\r\nMessage-ID: <%d.%d@example.com>\r\n\r\nletter %d\r\n", w.next, w.n, w.next, w.next)
}

// find selects the folder of a message and gives its UID there, "" when it is not there (yet).
func (w *workplace) find(x *lab.Talk, h lab.Host, k int) string {
	x.Do("SELECT %q", w.name(h, w.where[k]))
	for _, line := range x.Do(`UID SEARCH SUBJECT "m-%d."`, k) {
		if f := strings.Fields(line); len(f) == 3 && f[1] == "SEARCH" {
			return f[2]
		}
	}
	return ""
}

// any picks a message.
func (w *workplace) any() (int, bool) {
	for tries := 0; tries < 50 && w.next > 0; tries++ {
		if k := 1 + w.rnd.IntN(w.next); w.where[k] != "" {
			return k, true
		}
	}
	return 0, false
}

// work is one thing that somebody does: on OLD, which decides, all; on NEW mail arrives and is flagged.
func (w *workplace) work(old, now *lab.Talk) {
	k, some := w.any()
	switch what := w.rnd.IntN(10); {
	case what < 4 || !some:
		old.Append("INBOX", "", w.letter())
		w.where[w.next], w.flags[w.next] = "INBOX", map[string]bool{}
	case what == 4:
		now.Append("INBOX", "", w.letter())
		w.where[w.next], w.flags[w.next], w.onNew[w.next] = "INBOX", map[string]bool{}, true
	case what == 5 && k%3 > 0, what == 7 && k%3 == 0: // what OLD moves in the same second is not flagged on NEW: there is no telling it from a delete
	case what == 5: // another flag than on OLD: both travel
		now.Do("SELECT %q", w.where[k])
		if lines := now.Do(`UID SEARCH SUBJECT "m-%d."`, k); len(lines) > 0 && len(strings.Fields(lines[0])) == 3 {
			now.Do(`UID STORE %s +FLAGS (\Flagged)`, strings.Fields(lines[0])[2])
			w.flags[k][`\Flagged`] = true
		}
	case w.onNew[k] && w.find(old, w.l.Old, k) == "":
	case what == 6:
		old.Do("UID STORE %s +FLAGS (\\Answered)", w.find(old, w.l.Old, k))
		w.flags[k][`\Answered`] = true
	case what == 7:
		uid := w.find(old, w.l.Old, k)
		to := map[string]string{"INBOX": "Box", "Box": "INBOX"}[w.where[k]]
		old.Do("UID MOVE %s %q", uid, w.name(w.l.Old, to))
		w.where[k] = to
	case what == 8:
		uid := w.find(old, w.l.Old, k)
		old.Do(`UID STORE %s +FLAGS (\Deleted)`, uid)
		old.Do("UID EXPUNGE %s", uid)
		delete(w.where, k)
	}
}

// differs compares a side with what has to be there.
func (w *workplace) differs(h lab.Host) (list []string) {
	x := lab.Dial(w.t, h, w.n)
	defer x.Close()
	seen := map[int]int{}
	for _, box := range []string{"INBOX", "Box"} {
		x.Do("SELECT %q", w.name(h, box))
		for _, line := range x.Do("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])") {
			if s, ok := strings.CutPrefix(line, "Subject: m-"); ok {
				k, _ := strconv.Atoi(strings.TrimSuffix(s, "."))
				if seen[k]++; w.where[k] != box {
					list = append(list, fmt.Sprintf("m-%d is in %s, want %q", k, box, w.where[k]))
				}
			}
		}
	}
	for k := range w.where {
		if seen[k] != 1 {
			list = append(list, fmt.Sprintf("m-%d is there %d times, want it in %s", k, seen[k], w.where[k]))
		}
	}
	flagged := map[string]int{}
	for k, f := range w.flags {
		for name := range f {
			if w.where[k] != "" {
				flagged[name]++
			}
		}
	}
	for name, n := range flagged {
		got := 0
		for _, box := range []string{"INBOX", "Box"} {
			x.Do("SELECT %q", w.name(h, box))
			for _, line := range x.Do("UID SEARCH %s", strings.ToUpper(name[1:])) {
				got += max(0, len(strings.Fields(line))-2)
			}
		}
		if got != n {
			list = append(list, fmt.Sprintf("%d messages are %s, want %d", got, name, n))
		}
	}
	return list
}

// TestKeptUnderWork lets people work on both sides while serve keeps them equal, and is killed twice: in the end both sides hold what
// they have to, nothing lost, doubled or back. MAILGATE_SEED=n repeats one.
func TestKeptUnderWork(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("MAILGATE_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("MAILGATE_SEED=%d", seed)
	l := lab.Start(t)
	g := keptGate(t, l)
	var users []*workplace
	for n := 1; n <= 2; n++ {
		x := lab.Dial(t, l.Old, n)
		x.Do(`CREATE "INBOX.Box"`)
		x.Close()
		y := lab.Dial(t, l.New, n)
		y.Do(`CREATE "Box"`)
		y.Close()
		users = append(users, &workplace{t: t, n: n, l: l, rnd: rand.New(rand.NewPCG(seed, uint64(n))), where: map[int]string{},
			flags: map[int]map[string]bool{}, onNew: map[int]bool{}})
	}
	g.start()
	for round := range 3 {
		var talks [][2]*lab.Talk
		for _, w := range users {
			talks = append(talks, [2]*lab.Talk{lab.Dial(t, l.Old, w.n), lab.Dial(t, l.New, w.n)})
		}
		for range 60 {
			for i, w := range users {
				w.work(talks[i][0], talks[i][1])
			}
			time.Sleep(time.Duration(users[0].rnd.IntN(60)) * time.Millisecond)
		}
		for _, x := range talks {
			x[0].Close()
			x[1].Close()
		}
		if round < 2 {
			g.kill()
			g.start()
		}
	}
	for _, w := range users {
		for side, h := range []lab.Host{l.Old, l.New} {
			var left []string
			for end := time.Now().Add(40 * time.Second); ; time.Sleep(200 * time.Millisecond) {
				if left = w.differs(h); len(left) == 0 || time.Now().After(end) {
					break
				}
			}
			if len(left) > 0 {
				t.Fatalf("user %d, side %d: %q", w.n, side, left)
			}
		}
		g.mustVerb("verify", lab.User(w.n), "--deep")
	}
}
