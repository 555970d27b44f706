package acme

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"mailgate/config"
)

// A short-lived certificate is renewed while it serves; its key stays.
func TestRenewal(t *testing.T) {
	t.Parallel()
	r := newRig(t, config.HTTP01, 4*time.Second, one)
	r.run()
	r.has(one)
	first := r.leaf(one)
	r.until("a renewal", func() bool { l := r.leaf(one); return l != nil && !l.Equal(first) })
	if second := r.leaf(one); !second.NotAfter.After(first.NotAfter) || string(second.RawSubjectPublicKeyInfo) != string(first.RawSubjectPublicKeyInfo) {
		t.Error("it ends no later, or has another key")
	}
	r.until("it is told", func() bool { return r.count("renewed") > 0 })
}

// A disk that is full, or a process that is killed, at any write of a first request or of a renewal: what is kept stays usable, the
// error says what is wrong, and it goes on where there is room again.
func TestWritesThatEnd(t *testing.T) {
	t.Parallel()
	const writes = 8 // of a request and a renewal, at least
	for n := range writes {
		t.Run(string(rune('0'+n)), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, config.HTTP01, 4*time.Second, one)
			r.make()
			write, left := r.m.folder.write, n+1
			r.m.folder.write = func(name string, b []byte) error { // by the one goroutine of Run
				if left--; left < 0 {
					return &os.PathError{Op: "write", Path: name, Err: syscall.ENOSPC}
				}
				return write(name, b)
			}
			r.goOn()
			if s := r.fails(one, "no space left on device"); !strings.HasPrefix(s.Error, ErrStorage.Error()) {
				t.Errorf("how we came to it stands before what it is: %s", s.Error)
			}
			r.stop()
			had := r.leaf(one)
			kept, err := Stored(r.conf, one)
			if had != nil && (err != nil || string(kept.Leaf.RawSubjectPublicKeyInfo) != string(had.RawSubjectPublicKeyInfo)) {
				t.Errorf("what was in use is not kept: %v", err)
			}
			r.run() // behind a restart
			r.until("another certificate", func() bool { l := r.leaf(one); return l != nil && (had == nil || l.NotAfter.After(had.NotAfter)) })
			if got, err := Stored(r.conf, one); err != nil || got.Leaf == nil {
				t.Errorf("stored: %v", err)
			}
		})
	}
}

// A folder that cannot be used is told before the authority is asked.
func TestFolderCannotBeUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFolder(filepath.Join(dir, "acme"))
	if err := f.check(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "acme", ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Chmod(f.files.Path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.check(); !errors.Is(err, ErrStorage) || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a folder that others can read: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "file"), filepath.Join(dir, "file", "below"), "/proc/acme"} {
		if err := newFolder(path).check(); !errors.Is(err, ErrStorage) {
			t.Errorf("%s: %v", path, err)
		}
		if err := newFolder(path).Store(t.Context(), "a/b", nil); !errors.Is(err, ErrStorage) {
			t.Errorf("store in %s: %v", path, err)
		}
		if err := newFolder(path).Lock(t.Context(), "a"); !errors.Is(err, ErrStorage) {
			t.Errorf("lock in %s: %v", path, err)
		}
	}
	full := newFolder(filepath.Join(dir, "full"))
	full.write = func(string, []byte) error { return syscall.ENOSPC }
	if err := full.check(); !errors.Is(err, ErrStorage) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a full disk: %v", err)
	}
}

// One holds a lock at a time, over all processes; who waits gives up with its context.
func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := newFolder(dir), newFolder(dir)
	if err := a.Lock(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Lock(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("a lock that another holds: %v", err)
	}
	if err := b.Lock(t.Context(), "y"); err != nil {
		t.Errorf("another lock: %v", err)
	}
	got := make(chan error)
	go func() { got <- b.Lock(t.Context(), "x") }()
	if err := a.Unlock(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("a lock that is free again: %v", err)
	}
	for _, name := range []string{"x", "y"} {
		if err := b.Unlock(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	if b.Unlock(t.Context(), "x") == nil {
		t.Error("a lock that is not held is given back")
	}
}

// Key and certificate that do not belong together are put aside, and new ones are had.
func TestUnusable(t *testing.T) {
	t.Parallel()
	r := newRig(t, config.HTTP01, 0, one)
	r.run()
	r.has(one)
	r.stop()
	key := r.m.folder.files.Filename(certmagic.StorageKeys.SitePrivateKey(issuerKey(r.conf), one))
	if err := os.WriteFile(key, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Stored(r.conf, one); !errors.Is(err, ErrUnusable) {
		t.Errorf("stored: %v", err)
	}
	r.run()
	r.has(one)
	if b, err := os.ReadFile(key + ".unusable"); err != nil || string(b) != "rubbish" {
		t.Errorf("put aside: %v", err)
	}
}

// Gateways over one folder: one asks, the other takes what is there.
func TestSharedFolder(t *testing.T) {
	t.Parallel()
	r := newRig(t, config.DNS01, 0, one)
	r.zone.Hold(true)
	r.run()
	r.until("the record", func() bool { n, _ := r.zone.Changes(); return n == 1 })
	other := &rig{t: t, zone: r.zone, ca: r.ca, conf: r.conf, counts: map[string]int{}}
	other.run() // it waits for the lock
	other.until("the request", func() bool { return strings.Contains(other.logged(), "asking for") })
	r.zone.Hold(false)
	r.has(one)
	other.has(one)
	if !r.leaf(one).Equal(other.leaf(one)) {
		t.Error("each has its own")
	}
	if n, _ := r.zone.Changes(); n != 2 { // the record, and that it is gone
		t.Errorf("%d changes of the zone", n)
	}
}

// childFolder tells TestChild where to have a certificate from.
const childFolder = "MAILGATE_ACME_CHILD"

// A process that is killed in the middle of a request leaves nothing that keeps the next one from having it at once.
func TestKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, config.DNS01, 0, one)
	r.zone.Hold(true)
	child := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.count=1")
	child.Env = append(os.Environ(), childFolder+"="+strings.Join([]string{r.conf.Storage, r.conf.Directory, r.conf.CA, r.conf.DNS.Server, r.conf.DNS.KeyFile}, "|"))
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	r.until("the record", func() bool { n, _ := r.zone.Changes(); return n == 1 })
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	r.zone.Hold(false)
	began := time.Now()
	r.run()
	r.has(one)
	t.Logf("had %s behind the restart", time.Since(began).Round(time.Millisecond))
}

// TestChild is the process that TestKilled kills; by itself it has nothing to do.
func TestChild(t *testing.T) {
	x := strings.Split(os.Getenv(childFolder), "|")
	if len(x) != 5 {
		return
	}
	_, port, _ := strings.Cut(x[3], ":")
	r := &rig{t: t, counts: map[string]int{}, conf: config.ACME{Domains: []string{one}, Agree: true, Storage: x[0], Directory: x[1], CA: x[2], KeyType: "p256",
		Challenge: config.DNS01, DNS: config.ACMEDNS{Server: x[3], Zone: "example.test", Key: "mailgate", Algorithm: "hmac-sha256", KeyFile: x[4], Wait: time.Minute}}}
	r.makeAt(port)
	r.goOn()
	r.has(one)
}

// Half of the time of those that live for days, two thirds of others.
func TestRenewAt(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for life, want := range map[time.Duration]time.Duration{90 * 24 * time.Hour: 60 * 24 * time.Hour, 6 * 24 * time.Hour: 3 * 24 * time.Hour} {
		if got := RenewAt(selfSigned(t, from, from.Add(life))).Sub(from); got != want {
			t.Errorf("of %s: renewed after %s, want %s", life, got, want)
		}
	}
}
