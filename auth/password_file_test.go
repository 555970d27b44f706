package auth

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
)

// fileVerifiers has a password file.
func fileVerifiers(t *testing.T, text string) (v *Verifiers, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "passwords")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := config.Default()
	conf.Authority.File = path
	conf.Routes.DefaultDomain = "example.com"
	v, err := NewVerifiers(&conf)
	if err != nil {
		t.Fatal(err)
	}
	v.set.Load().file.grain = time.Nanosecond // it is whole
	t.Cleanup(v.Close)
	return v, path
}

func byFile(v *Verifiers, user, password string) error {
	return v.Verify(context.Background(), config.ByFile, user, &Credentials{Mechanism: "PLAIN", Username: user, Password: config.Secret(password)})
}

func TestPasswordFile(t *testing.T) {
	t.Parallel()
	v, path := fileVerifiers(t, "# of htpasswd and doveadm\n\nAlice@EXAMPLE.com:"+hashes()["bcrypt, htpasswd"]+"\nbob:{PLAIN}b:1000:1000::/home/bob::\n")
	var refused *RefusedError
	for _, x := range []struct {
		user, password string
		ok             bool
	}{{"alice@example.com", "pässwörd %1", true}, {"alice@example.com", "b", false}, {"bob@example.com", "b", true}, {"bob@example.com", "b:1000", false},
		{"carol@example.com", "pässwörd %1", false}, {"bob@example.net", "b", false}} {
		err := byFile(v, x.user, x.password)
		if (err == nil) != x.ok || err != nil && !errors.As(err, &refused) {
			t.Errorf("%s: %v", x.user, err)
		}
	}
	token := &Credentials{Mechanism: "XOAUTH2", Username: "bob@example.com", Token: "b"}
	if err := v.Verify(t.Context(), config.ByFile, "bob@example.com", token); !errors.As(err, &refused) {
		t.Errorf("a token: %v", err)
	}
	if err := v.Verify(t.Context(), config.ByLDAP, "bob@example.com", &Credentials{Mechanism: "PLAIN", Password: "b"}); err == nil || errors.As(err, &refused) {
		t.Errorf("an authority that is not configured: %v", err)
	}
	// A file that cannot be read is no wrong password; and what is written into it counts at once.
	if err := os.WriteFile(path, []byte("bob:{PLAIN}new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := byFile(v, "bob@example.com", "new"); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := byFile(v, "bob@example.com", "new"); err == nil || errors.As(err, &refused) {
		t.Errorf("a file that others can read: %v", err)
	}
}

func TestPasswordFileErrors(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "passwords")
	canonical := config.NewAddresses(config.Routes{LocalPart: "fold"}).Canonical
	for name, text := range map[string]string{"no hash": "\nhidden\n", "no user": "\n:{PLAIN}hidden\n", "bad hash": "\na@x.test:{X}hidden\n",
		"no scheme": "\na@x.test:hidden\n", "twice": "A@x.test:{PLAIN}hidden\na@x.test:{PLAIN}hidden\n", "bad user": "\na@b@:{PLAIN}hidden\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readPasswords(path, canonical); err == nil || !strings.Contains(err.Error(), path+":2: ") || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file that stands still is not taken apart for each login.
func TestPasswordFileKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "passwords")
	if err := os.WriteFile(path, []byte("a@x.test:{PLAIN}one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &passwordFile{path: path, canonical: config.NewAddresses(config.Routes{}).Canonical, grain: time.Nanosecond}
	if _, _, err := f.read(); err != nil {
		t.Fatal(err)
	}
	for f.users == nil { // until the clock of the file system has gone on
		if _, _, err := f.read(); err != nil {
			t.Fatal(err)
		}
	}
	first, _, err := f.read()
	again, _, err2 := f.read()
	if err != nil || err2 != nil || first != again {
		t.Errorf("read anew: %v, %v", err, err2)
	}
}

// Who is not in the file costs a comparison with what most users have: the time must not tell who exists.
func TestPasswordFileNobody(t *testing.T) {
	t.Parallel()
	v, path := fileVerifiers(t, "a@x.test:{PLAIN}one\nb@x.test:"+hashes()["bcrypt"]+"\nc@x.test:"+hashes()["CRYPT"]+"\n")
	users, err := readPasswords(path, config.NewAddresses(config.Routes{}).Canonical)
	if err != nil || users.nobody.kind != "$2y$05" {
		t.Fatalf("kind %q, %v", users.nobody.kind, err)
	}
	var compared atomic.Int32
	s := v.set.Load()
	users, _, err = s.file.read()
	if err != nil {
		t.Fatal(err)
	}
	users.nobody.match = func(string) (bool, error) { compared.Add(1); return true, nil }
	s.file.users, s.file.path = users, path
	s.file.stamp, _ = stampOf(path)
	var refused *RefusedError
	if err := byFile(v, "nobody@x.test", "pässwörd %1"); !errors.As(err, &refused) || compared.Load() != 1 {
		t.Errorf("%v, compared %d times", err, compared.Load())
	}
}

// TestHashingWaits: a login whose turn does not come is told to try again, in time.
func TestHashingWaits(t *testing.T) {
	v, _ := fileVerifiers(t, "a@x.test:{PLAIN}one\n")
	synctest.Test(t, func(t *testing.T) {
		v.hashing = room{all: make(chan struct{}), strangers: make(chan struct{})} // no room ever
		began := time.Now()
		err := byFile(v, "a@x.test", "one")
		var refused *RefusedError
		if !errors.Is(err, errCrowd) || errors.As(err, &refused) || time.Since(began) != patience {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestStrangersLeaveRoom: guesses that are looked at take no more than half of the room, whoever waits behind them.
func TestStrangersLeaveRoom(t *testing.T) {
	t.Parallel()
	r := newRoom(2)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() { _ = r.inTurn(t.Context(), func() error { <-stop; return nil }) })
	}
	for len(r.strangers) == 0 || len(r.all) == 0 {
		runtime.Gosched()
	}
	if err := r.inTurn(AsKnown(t.Context()), func() error { return nil }); err != nil {
		t.Error(err)
	}
	close(stop)
	wg.Wait()
	if len(r.all)+len(r.strangers) != 0 {
		t.Error("room is not given back")
	}
}

// A file that was written just now may not be whole: who is not in it is told to come again, and later that he is not in it.
func TestPasswordFileWritten(t *testing.T) {
	t.Parallel()
	v, _ := fileVerifiers(t, "a@x.test:{PLAIN}one\n")
	f := v.set.Load().file
	f.users, f.grain = nil, time.Hour
	var refused *RefusedError
	if err := byFile(v, "b@x.test", "two"); err == nil || errors.As(err, &refused) {
		t.Errorf("the file is being written: %v", err)
	}
	f.grain = time.Nanosecond
	for deadline := time.Now().Add(time.Minute); ; {
		err := byFile(v, "b@x.test", "two")
		if errors.As(err, &refused) {
			break
		}
		if err == nil || time.Now().After(deadline) {
			t.Fatalf("the file stands still: %v", err)
		}
	}
}

// Hashes are computed a few at a time; who gives up does not wait for his turn.
func TestHashingInTurn(t *testing.T) {
	t.Parallel()
	v, _ := fileVerifiers(t, "a@x.test:{PLAIN}one\n")
	for range cap(v.hashing.all) {
		v.hashing.all <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := &Credentials{Mechanism: "PLAIN", Password: "one"}
	if err := v.Verify(ctx, config.ByFile, "a@x.test", c); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-v.hashing.all
	if err := v.Verify(t.Context(), config.ByFile, "a@x.test", c); err != nil {
		t.Error(err)
	}
}
