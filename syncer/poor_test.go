package syncer_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// poor puts a server behind a relay that takes extensions away, and the UIDs out of the answers.
func poor(t *testing.T, h lab.Host, hide ...string) lab.Host {
	t.Helper()
	r := newRelay(t, lab.Addr(h.IMAP))
	r.hide = append(hide, "UIDPLUS", "APPENDUID", "COPYUID")
	h.IMAP = r.port()
	return h
}

// TestPoorServer syncs with servers of the old kind: no UIDPLUS on either side, no CONDSTORE, no MOVE. Mail that others have marked as
// deleted stays.
func TestPoorServer(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	for n, hide := range map[int][]string{1: nil, 2: {" MOVE", "CONDSTORE", "QRESYNC", "ESEARCH", "MULTIAPPEND", "LITERAL+", "UNSELECT"}} {
		t.Run(strings.Join(append([]string{"no UIDPLUS"}, hide...), ","), func(t *testing.T) {
			r := newRig(t, poor(t, l.Old, hide...), poor(t, l.New, hide...), n, nil)
			r.hosts = [2]lab.Host{l.Old, l.New}
			x := lab.Dial(t, l.Old, n)
			x.Do(`CREATE "INBOX.Work"`)
			fill(x, "INBOX", "", 0, 20)
			x.Append("INBOX", "", letter(0)) // twins
			x.Append("INBOX", "", letter(0))
			if rep := r.pass(t); rep.Copied != [2]int64{0, 22} || rep.Paired != 0 {
				t.Errorf("%+v", rep)
			}
			r.same(t)
			y := lab.Dial(t, l.New, n)
			y.Do("SELECT INBOX")
			y.Do(`UID STORE 7 +FLAGS (\Deleted)`) // a straggler's mark, as a client leaves it
			y.Append("INBOX", `\Deleted`, letter(500))
			x.Do("SELECT INBOX")
			x.Do(`UID STORE 3:4 +FLAGS (\Deleted)`)
			x.Do(`UID EXPUNGE 3:4`)
			x.Do(`UID MOVE 10,12 "INBOX.Work"`)
			x.Do(`UID STORE 5 +FLAGS (\Answered)`)
			fill(x, "INBOX", `\Seen`, 100, 3)
			rep := r.pass(t)
			if rep.Expunged[config.Old] != 0 || rep.Copied != [2]int64{1, 3} || rep.Moved != [2]int64{0, 2} {
				t.Errorf("%+v", rep)
			}
			for range 2 {
				r.pass(t)
			}
			r.same(t)
			for _, d := range corpus.Diff(r.snapshot(t, config.Old), r.snapshot(t, config.New), corpus.DiffOptions{NoSubscriptions: true}) {
				t.Error(d)
			}
			if got := r.snapshot(t, config.Old).Messages(); got != 22-2+3+1 {
				t.Errorf("OLD has %d messages", got)
			}
			if deleted := y.Do("UID SEARCH DELETED"); !slices.ContainsFunc(deleted, func(s string) bool { return strings.HasPrefix(s, "* SEARCH 7 ") }) {
				t.Errorf("marked as deleted on NEW: %q", deleted)
			}
			x.Close()
			y.Close()
		})
	}
}

// TestMarkedMeanwhile has somebody mark a message as deleted while ours are being expunged by a plain EXPUNGE: it stays, with its mark.
func TestMarkedMeanwhile(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	behind := newRelay(t, lab.Addr(l.New.IMAP))
	behind.hide = []string{"UIDPLUS", "APPENDUID", "COPYUID"}
	host := l.New
	host.IMAP = behind.port()
	x, y := lab.Dial(t, l.Old, 1), lab.Dial(t, l.New, 1)
	fill(x, "INBOX", "", 0, 8)
	var once sync.Once
	behind.before = map[string]func(){`+FLAGS.SILENT (\Deleted)`: func() {
		once.Do(func() {
			y.Do("SELECT INBOX")
			y.Do(`UID STORE 6 +FLAGS (\Deleted)`)
		})
	}}
	r := newRig(t, l.Old, host, 1, nil)
	r.hosts = [2]lab.Host{l.Old, l.New}
	r.pass(t)
	x.Do("SELECT INBOX")
	x.Do(`UID STORE 2 +FLAGS (\Deleted)`)
	x.Do("UID EXPUNGE 2")
	x.Close()
	if rep := r.pass(t); rep.Expunged != [2]int64{0, 1} {
		t.Errorf("%+v", rep)
	}
	y.Do("NOOP")
	if got := strings.Join(y.Do("UID SEARCH DELETED"), "\n"); !strings.Contains(got, "* SEARCH 6") {
		t.Errorf("what was marked meanwhile: %q", got)
	}
	y.Close()
	if n := r.messages(t); n != [2]int{7, 7} {
		t.Errorf("messages: %v", n)
	}
}

// rewriting is a rig whose NEW changes the subject of what it stores.
func rewriting(t *testing.T, l *lab.Lab, n int, later *time.Duration, hide ...string) (*rig, *relay) {
	t.Helper()
	behind := newRelay(t, lab.Addr(l.New.IMAP))
	behind.hide, behind.rewrite = hide, [2]string{"Subject: change", "Subject: CHANGE"}
	host := l.New
	host.IMAP = behind.port()
	r := newRig(t, l.Old, host, n, func(o *syncer.Options) { o.Now = func() time.Time { return time.Now().Add(*later) } })
	r.hosts = [2]lab.Host{l.Old, l.New}
	return r, behind
}

func (r *rig) messages(t testing.TB) (n [2]int) {
	t.Helper()
	for _, side := range config.Sides {
		n[side] = r.snapshot(t, side).Messages()
	}
	return n
}

// TestRewritten has a server that tells no UIDs and changes what it stores: its copies are known by Message-ID and date, and nothing is
// doubled. What has neither is given to it once, and people hear of it.
func TestRewritten(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	var later time.Duration
	r, behind := rewriting(t, l, 1, &later, "UIDPLUS", "APPENDUID", "COPYUID")
	if c := lab.Dial(t, lab.Host{IMAP: behind.port()}, 1).Do("CAPABILITY"); strings.Contains(strings.Join(c, ""), " UIDPLUS") {
		t.Fatalf("%q", c)
	}
	x := lab.Dial(t, l.Old, 1)
	fill(x, "INBOX", "", 0, 5)
	if rep := r.pass(t); rep.Copied != [2]int64{0, 5} || len(rep.Quarantine) != 0 {
		t.Errorf("%+v", rep)
	}
	r.quiet(t)
	if n := r.messages(t); n != [2]int{5, 5} {
		t.Errorf("messages: %v", n)
	}
	x.Append("INBOX", "", "Subject: change without an ID\r\n\r\nText\r\n")
	x.Close()
	for range 4 {
		rep := r.pass(t)
		if len(rep.Quarantine) != 1 || rep.Quarantine[0].Reason != "vanished" || rep.Copied[config.New] != 0 {
			t.Errorf("%+v", rep)
		}
		later += 25 * time.Hour
	}
	if n := r.messages(t); n[config.New] != 6 {
		t.Errorf("messages: %v", n)
	}

	// The same when the answer to the append is lost.
	r, behind = rewriting(t, l, 2, &later)
	x = lab.Dial(t, l.Old, 2)
	fill(x, "INBOX", "", 0, 5)
	x.Close()
	behind.set(fault{lose: "APPENDUID"})
	for range 3 {
		r.pass(t)
	}
	r.quiet(t)
	if n := r.messages(t); n != [2]int{5, 5} {
		t.Errorf("an answer was lost: %v messages", n)
	}
}
