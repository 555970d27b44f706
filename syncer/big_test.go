package syncer_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// heapGate is how much the process may have in use on its heap while it syncs, whatever the mailbox holds.
const heapGate = 64 << 20

// TestBig syncs accounts of the size that a company's largest users have: with MAILGATE_SOAK=1 20,000 messages in 40 folders and a folder of
// 100,000, a fifth of that else.
func TestBig(t *testing.T) {
	l := lab.Start(t, lab.MailboxesOnly())
	many, large := 4_000, 20_000
	if os.Getenv("MAILGATE_SOAK") != "" {
		many, large = 20_000, 100_000
	}
	t.Run("40 folders", func(t *testing.T) { fortyFolders(t, l, many) })
	t.Run("a large folder", func(t *testing.T) { largeFolder(t, l, large) })
}

// fortyFolders has everything in it that servers stumble over.
func fortyFolders(t *testing.T, l *lab.Lab, many int) {
	r := newRig(t, l.Old, l.New, 1, nil)
	for side, p := range newRig(t, l.Old, l.New, lab.Users, nil).probe(t) {
		if err := r.SaveProfile(t.Context(), config.Side(side), p); err != nil {
			t.Fatal(err)
		}
	}
	clock := stopwatch(t)
	loaded := corpus.Load(t, l.Old, 1, corpus.Mailbox(many, 40, 1, corpus.Options{}))
	clock("loaded")
	given := r.snapshot(t, config.Old)
	clock("read")
	rep := r.light(t)
	clock("copied")
	if n := int64(given.Messages()); n != int64(loaded.Messages) || n < int64(many)-200 || rep.Copied != [2]int64{0, n - 1} || len(rep.Quarantine) != 1 {
		t.Errorf("%v copied, of %d; %d were loaded; Dovecot takes no empty message only: %+v", rep.Copied, n, loaded.Messages, rep.Quarantine)
	}
	r.quiet(t)
	r.same(t)
	clock("verified")
	after := r.compare(t)
	for _, d := range corpus.Diff(given, after[config.Old], corpus.DiffOptions{}) {
		t.Errorf("OLD is another by the copy: %s", d)
	}
	clock("compared")
	change(t, lab.Dial(t, l.Old, 1), l.Old, 1)
	changeFollower(t, lab.Dial(t, l.New, 1), l.New, "Sent", rand.New(rand.NewPCG(1, 2)))
	clock("changed")
	r.light(t)
	clock("carried")
	r.quiet(t)
	r.same(t)
	clock("verified")
	r.compare(t)
	clock("compared")
}

// largeFolder has n messages.
func largeFolder(t *testing.T, l *lab.Lab, n int) {
	r := newRig(t, l.Old, l.New, 2, nil)
	clock := stopwatch(t)
	corpus.Load(t, l.Old, 2, []corpus.Folder{corpus.Small(n, 1, "INBOX"), corpus.Small(10, 2, "Work")})
	clock("loaded")
	if rep := r.light(t); rep.Copied != [2]int64{0, int64(n) + 10} {
		t.Errorf("%v copied", rep.Copied)
	}
	clock("copied")
	r.quiet(t)
	clock("nothing to do")
	change(t, lab.Dial(t, l.Old, 2), l.Old, 1)
	changeFollower(t, lab.Dial(t, l.New, 2), l.New, "INBOX", nil)
	clock("changed")
	r.light(t)
	clock("carried")
	r.quiet(t)
	clock("nothing to do")
	r.same(t)
	clock("verified")
	r.compare(t)
	clock("compared")
}

// changeFollower makes 200 changes on the side that does not decide: mail that was delivered there, a folder of its own,
// flags, of messages whose flags change on the other side as well; and deletes and moves, which are undone. They are of
// messages here and there, or of neighbours when rnd is nil: each gap between those that go back is a step of its own, and
// Dovecot looks through a Maildir of 100,000 files for a second in each.
func changeFollower(t testing.TB, x *lab.Talk, h lab.Host, box string, rnd *rand.Rand) {
	t.Helper()
	own := h.Prefix + "Elsewhere"
	x.Do(`CREATE "%s"`, own)
	x.Do(`SUBSCRIBE "%s"`, own)
	x.Do(`SELECT "%s"`, box)
	for i := range 60 {
		to, flags := []string{"INBOX", box, own}[i%3], []string{`\Flagged`, "", `\Seen $Forwarded`, `\Deleted`}[i%4]
		x.Append(to, flags, letter(50_000+i))
	}
	uids := x.UIDs()
	if rnd != nil {
		rnd.Shuffle(len(uids), func(i, j int) { uids[i], uids[j] = uids[j], uids[i] })
	}
	take := func(n int) string {
		part := uids[:n]
		uids = uids[n:]
		return strings.Trim(strings.ReplaceAll(fmt.Sprint(part), " ", ","), "[]")
	}
	x.Do(`UID STORE %s +FLAGS (\Answered)`, take(40))
	x.Do(`UID STORE %s -FLAGS (\Seen)`, take(40))
	x.Do(`UID STORE %s +FLAGS (HisLabel)`, take(20))
	gone := take(20)
	x.Do(`UID STORE %s +FLAGS (\Deleted)`, gone)
	x.Do(`UID EXPUNGE %s`, gone)
	x.Do(`UID MOVE %s "%s"`, take(20), own)
	x.Close()
}

// light runs a pass that has to succeed, and looks at the heap all the while.
func (r *rig) light(t *testing.T) *syncer.Report {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	stop := make(chan struct{})
	var most uint64
	var wg sync.WaitGroup
	wg.Go(func() {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(s) // without stopping the world, as runtime.ReadMemStats would for its HeapInuse
			most = max(most, s[0].Value.Uint64()+s[1].Value.Uint64())
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	})
	rep := r.pass(t)
	close(stop)
	wg.Wait()
	t.Logf("%.1f MB of heap at the most", float64(most)/1e6)
	if most > heapGate {
		t.Errorf("%d bytes of heap in use, want %d at the most", most, heapGate)
	}
	return rep
}

// stopwatch tells where a long test spends its time.
func stopwatch(t testing.TB) func(what string) {
	last := time.Now()
	return func(what string) {
		t.Helper()
		t.Logf("%-14s %6.2f s", what, time.Since(last).Seconds())
		last = time.Now()
	}
}
