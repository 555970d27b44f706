//go:build bench

package syncbench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/store"
	"mailgate/syncer"
)

// table are the figures, and the gates that were missed.
type table struct {
	t      *testing.T
	began  time.Time
	missed int
}

// step tells what is done now, so that who waits sees that something is.
func (b *table) step(format string, args ...any) {
	fmt.Printf("  %4.0f s: %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// gate prints a ratio beside its limit.
func (b *table) gate(what string, got, than time.Duration, limit float64) {
	ratio := float64(got) / float64(than)
	verdict := "ok"
	if ratio > limit {
		verdict = "FAIL"
		b.missed++
	}
	fmt.Printf("%-58s %10s against %10s  %5.2fx (at most %.1fx)  %s\n", what, got.Round(time.Millisecond/10), than.Round(time.Millisecond/10), ratio, limit, verdict)
}

// bound prints a figure beside its limit.
func (b *table) bound(what string, got, limit float64, unit string) {
	verdict := "ok"
	if got > limit {
		verdict = "FAIL"
		b.missed++
	}
	fmt.Printf("%-58s %10.2f %s (at most %g)  %s\n", what, got, unit, limit, verdict)
}

// diskTime is when rounds are given up that are not the first: a slow disk, or one that others use, makes minutes of each.
const diskTime = 6 * time.Minute

// late tells whether round i is given up, and says so.
func (b *table) late(i int, most time.Duration) bool {
	if i == 0 || time.Since(b.began) < most {
		return false
	}
	b.step("it has taken %s already: no more than %d rounds", most, i)
	return true
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// reset empties NEW for a user and forgets what OLD's server has in its caches.
func reset(t testing.TB, l *lab.Lab, n int) {
	if err := os.RemoveAll(l.New.Home(n)); err != nil {
		t.Fatal(err)
	}
	old, _ := filepath.Glob(filepath.Join(l.Old.Home(n), "Maildir", "dovecot*"))
	more, _ := filepath.Glob(filepath.Join(l.Old.Home(n), "Maildir", ".*", "dovecot*"))
	for _, f := range append(old, more...) {
		if base := filepath.Base(f); strings.HasPrefix(base, "dovecot.index") {
			_ = os.Remove(f)
		}
	}
}

// copyBy runs the binary once, as an admin does.
func copyBy(t testing.TB, binary string, ports [2]int, n int) (wall, cpu time.Duration, rss int64, dir string) {
	t.Helper()
	dir = t.TempDir()
	yaml := fmt.Sprintf("listen: [\"imap://127.0.0.1:1\"]\nbackends:\n  old: {imap: 'imap://127.0.0.1:%d', sync: {secrets: secrets}}\n"+
		"  new: {imap: 'imap://127.0.0.1:%d', sync: {secrets: secrets}}\n", ports[0], ports[1])
	for file, text := range map[string]string{"mailgate.yaml": yaml, "routes": lab.User(n) + " old\n", "secrets": lab.User(n) + " " + lab.Password(n) + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command(binary, "-c", filepath.Join(dir, "mailgate.yaml"), "sync", "run", lab.User(n), "--yes", "--progress", "none")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	began := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for {
		// Not ru_maxrss: a child's begins with what its parent had when it forked.
		rss = max(rss, peak(c.Process.Pid))
		select {
		case err := <-ended:
			wall = time.Since(began)
			if err != nil {
				t.Fatalf("%v: %s", err, out.String())
			}
			return wall, c.ProcessState.UserTime() + c.ProcessState.SystemTime(), rss, dir
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// peak is the most memory that a process has had, in KiB.
func peak(pid int) (kib int64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if _, after, ok := strings.Cut(string(b), "VmHWM:"); ok {
		_, _ = fmt.Sscan(after, &kib)
	}
	return kib
}

// mbsyncTime is how long mbsync may take: where each write waits for a slow disk that is minutes.
const mbsyncTime = 3 * time.Minute

// copyByMbsync is the same by mbsync.
func copyByMbsync(t testing.TB, l *lab.Lab, n int, dir string) time.Duration {
	t.Helper()
	rc := filepath.Join(dir, "mbsyncrc")
	side := func(name string, port int) string {
		return fmt.Sprintf("IMAPStore %s\nHost 127.0.0.1\nPort %d\nUser %s\nPass %s\nSSLType None\nAuthMechs LOGIN\n\n", name, port, lab.User(n), lab.Password(n))
	}
	text := side("old", l.Old.IMAP) + side("new", l.New.IMAP) +
		"Channel c\nFar :old:\nNear :new:\nPatterns *\nCreate Near\nExpunge None\nSync Pull\nCopyArrivalDate yes\nSyncState " + dir + "/state-\n"
	text = strings.Replace(text, "SSLType None\nAuthMechs LOGIN\n\nIMAPStore new", "SSLType None\nAuthMechs LOGIN\nPathDelimiter .\nPath INBOX.\n\nIMAPStore new", 1)
	if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), mbsyncTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, "mbsync", "-c", rc, "-a", "-q").CombinedOutput()
	if ctx.Err() != nil {
		t.Logf("mbsync was given up after %s: it counts as if it were through", mbsyncTime)
	}
	if err != nil {
		t.Logf("mbsync: %v: %s", err, out[:min(len(out), 500)])
	}
	return time.Since(began)
}

// rig is a syncer in this process.
type rig struct {
	*syncer.Syncer
	store *store.SQLite
	path  string
}

func newRig(t testing.TB, l *lab.Lab, n int, without ...string) *rig {
	t.Helper()
	var b [2]config.Backend
	for side, h := range []lab.Host{l.Old, l.New} {
		b[side] = config.Backend{Hosts: []config.Host{{Name: h.Name, IMAP: config.Endpoint{Protocol: config.IMAP, Host: "127.0.0.1", Port: h.IMAP}}},
			ConnectTimeout: 10 * time.Second, LoginTimeout: 30 * time.Second}
	}
	d, err := backend.NewDialer(b, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "store.db")
	st, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{store: st, path: path}
	r.Syncer = syncer.New(syncer.Options{Store: st, Owner: "bench", Keep: time.Minute,
		Open: func(ctx context.Context, side config.Side, user string) (*backend.Client, error) {
			c, err := auth.Password("PLAIN", user, lab.Password(n))
			if err != nil {
				return nil, err
			}
			x, err := d.DialClient(ctx, side, "", backend.Account{Credentials: c, LoginName: user})
			if err == nil {
				x.Ignore(without...)
			}
			return x, err
		},
		Route: func(context.Context, string) (config.Side, int64, error) { return config.Old, 0, nil }})
	t.Cleanup(func() {
		r.Close()
		st.Close()
	})
	return r
}

func (r *rig) pass(t testing.TB, n int) (time.Duration, *syncer.Report) {
	t.Helper()
	began := time.Now()
	rep, err := r.Run(t.Context(), lab.User(n), syncer.RunOptions{Deletes: true})
	if err != nil || len(rep.Errors) > 0 {
		t.Fatal(err, rep)
	}
	return time.Since(began), rep
}

// TestSync is the benchmark; MAILGATE_BENCH has to name the binary.
func TestSync(t *testing.T) {
	binary := os.Getenv("MAILGATE_BENCH")
	if binary == "" {
		t.Fatal("MAILGATE_BENCH has to name the binary, as make bench-sync does")
	}
	const rounds = 3
	synced := rounds // by mbsync
	disk := os.Getenv("MAILGATE_LAB_FSYNC") != ""
	where := "tmpfs, no fsync"
	if disk {
		synced, where = 1, "disk, fsync" // it waits for the disk at each message
	}
	l := lab.Start(t)
	b := &table{t: t, began: time.Now()}
	n := 1
	b.step("20,000 messages are made")
	loaded := corpus.Load(t, l.Old, n, corpus.Mailbox(20000, 42, 1, corpus.Options{Plain: true}))
	fmt.Printf("\nSyncing, Dovecot (Maildir) to Dovecot (sdbox), %d messages in %d folders, %.0f MB, %s\n", loaded.Messages, loaded.Folders, float64(loaded.Bytes)/1e6, where)
	var raw, ours, cpu, mbsync []time.Duration
	var rss int64
	var dir string
	for i := range rounds {
		if b.late(i, diskTime/2) {
			break
		}
		b.step("round %d of %d: raw copy, mailgate, mbsync", i+1, rounds)
		reset(t, l, n)
		began := time.Now()
		messages, _ := rawCopy(t, l.Old, l.New, n)
		raw = append(raw, time.Since(began))
		if messages != loaded.Messages {
			t.Fatalf("the raw copy has %d messages", messages)
		}
		reset(t, l, n)
		wall, c, m, d := copyBy(t, binary, [2]int{l.Old.IMAP, l.New.IMAP}, n)
		ours, cpu, rss, dir = append(ours, wall), append(cpu, c), max(rss, m), d
		if i < synced {
			reset(t, l, n)
			mbsync = append(mbsync, copyByMbsync(t, l, n, t.TempDir()))
		}
	}
	b.gate("first copy, against a raw copy without bookkeeping", median(ours), median(raw), 1.8)
	fmt.Printf("%-58s %10s\n", "... CPU of mailgate", median(cpu).Round(time.Millisecond))
	if disk {
		b.gate("first copy, against mbsync", median(ours), median(mbsync), 0.5)
	} else {
		fmt.Printf("%-58s %10s\n", "... mbsync takes", median(mbsync).Round(time.Millisecond))
	}
	b.bound("memory of the process, peak", float64(rss)/1024, 64, "MiB")
	if st, err := os.Stat(filepath.Join(dir, "state", "mailgate.db")); err == nil {
		b.bound("store, a message", float64(st.Size())/float64(loaded.Messages), 8, "bytes")
	}

	late := func(ports [2]int, d time.Duration) (out [2]int) {
		for i, p := range ports {
			out[i] = delayed(t, p, d)
		}
		return out
	}
	var near, away []time.Duration
	for i := range rounds {
		if b.late(i, diskTime) {
			break
		}
		b.step("round %d of %d: with long round trips", i+1, rounds)
		reset(t, l, n)
		w, _, _, _ := copyBy(t, binary, late([2]int{l.Old.IMAP, l.New.IMAP}, 0), n)
		near = append(near, w)
		reset(t, l, n)
		w, _, _, _ = copyBy(t, binary, late([2]int{l.Old.IMAP, l.New.IMAP}, 15*time.Millisecond), n)
		away = append(away, w)
	}
	b.gate("first copy with 30 ms round trips, against none", median(away), median(near), 1.5)

	b.step("passes without changes, and with some")
	reset(t, l, n)
	r := newRig(t, l, n)
	r.pass(t, n)
	r.pass(t, n)
	x := [2]*wire{dial(t, l.Old.IMAP, n), dial(t, l.New.IMAP, n)}
	compare := func(what string, pass func() time.Duration, bare func(), limit float64) {
		var a, c []time.Duration
		pass()
		bare()
		for range 7 {
			a = append(a, pass())
			began := time.Now()
			bare()
			c = append(c, time.Since(began))
		}
		b.gate(what, median(a), median(c), limit)
	}
	compare("pass without changes, against LIST with STATUS", func() time.Duration { d, _ := r.pass(t, n); return d }, func() { listStatus(x) }, 3)
	y := lab.Dial(t, l.Old, n)
	changes(y)
	d, rep := r.pass(t, n)
	fmt.Printf("(%d copied, %d flags, %d moved, %d expunged)\n", rep.Copied[1], rep.Flags[1], rep.Moved[1], rep.Expunged[1])
	b.bound("200 changes in 20,000 messages", d.Seconds(), 0.5, "s")
	plain := newRig(t, l, n, "CONDSTORE", "QRESYNC")
	reset(t, l, n)
	plain.pass(t, n)
	plain.pass(t, n)
	x = [2]*wire{dial(t, l.Old.IMAP, n), dial(t, l.New.IMAP, n)}
	compare("pass without changes and CONDSTORE, against a bare scan", func() time.Duration { d, _ := plain.pass(t, n); return d }, func() { scan(t, x) }, 2)

	if disk { // it would be minutes for each copy of the large folder, most of them the servers' own
		b.step("the end")
		b.verdict()
		return
	}
	n = 2
	b.step("100,000 messages in one folder")
	corpus.Load(t, l.Old, n, []corpus.Folder{corpus.Small(100000, 1, "INBOX")})
	wall, _, m, _ := copyBy(t, binary, [2]int{l.Old.IMAP, l.New.IMAP}, n)
	fmt.Printf("%-58s %10s\n", "one folder of 100,000 small messages, first copy", wall.Round(time.Millisecond))
	b.bound("... memory of the process, peak", float64(m)/1024, 64, "MiB")
	big := newRig(t, l, n)
	big.pass(t, n)
	big.pass(t, n)
	x = [2]*wire{dial(t, l.Old.IMAP, n), dial(t, l.New.IMAP, n)}
	compare("... pass without changes, against LIST with STATUS", func() time.Duration { d, _ := big.pass(t, n); return d }, func() { listStatus(x) }, 3)
	b.verdict()
}

// verdict fails the test when a gate was missed.
func (b *table) verdict() {
	if b.missed > 0 {
		b.t.Errorf("%d gates missed", b.missed)
	}
}

// changes are 200 of them: new mail, flags, deletes, moves.
func changes(x *lab.Talk) {
	for i := range 40 {
		x.Append("INBOX", "", fmt.Sprintf("Subject: new %d\r\nMessage-ID: <new-%d@example.com>\r\n\r\nnew\r\n", i, i))
	}
	x.Do("SELECT INBOX")
	set := func(from, n int) string {
		var s []string
		for i := range n {
			s = append(s, fmt.Sprint(from+i*7))
		}
		return strings.Join(s, ",")
	}
	x.Do(`UID STORE %s +FLAGS (\Flagged)`, set(1, 50))
	x.Do(`UID STORE %s -FLAGS (\Seen)`, set(2, 50))
	x.Do(`UID STORE %s +FLAGS (\Deleted)`, set(3, 40))
	x.Do(`UID EXPUNGE %s`, set(3, 40))
	x.Do(`UID MOVE %s "INBOX.Sent"`, set(4, 20))
}

// delayed is a port before another one; every byte takes d each way.
func delayed(t testing.TB, port int, d time.Duration) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	pump := func(dst, src net.Conn) {
		type chunk struct {
			b  []byte
			at time.Time
		}
		queue := make(chan chunk, 4096)
		wg.Go(func() {
			for c := range queue {
				time.Sleep(time.Until(c.at))
				if _, err := dst.Write(c.b); err != nil {
					_ = src.Close()
				}
			}
			_ = dst.Close()
		})
		defer close(queue)
		for {
			buf := make([]byte, 64<<10)
			n, err := src.Read(buf)
			if n > 0 {
				queue <- chunk{buf[:n], time.Now().Add(d)}
			}
			if err != nil {
				if err != io.EOF {
					_ = dst.Close()
				}
				return
			}
		}
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", lab.Addr(port))
			if err != nil {
				c.Close()
				continue
			}
			wg.Go(func() { pump(s, c) })
			wg.Go(func() { pump(c, s) })
		}
	})
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}
