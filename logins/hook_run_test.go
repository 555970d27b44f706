package logins

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailgate/config"
)

// hookScript writes a shell script.
func hookScript(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	// A process that another test forks just now must not keep it open for writing: it could not be run then.
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRunHook: the password comes on standard input and nowhere else; user and side are in an environment that has nothing of ours.
func TestRunHook(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	t.Setenv("MAILGATE_STORE_URL", "postgres://u:hunter9@db/x")
	hook := hookScript(t, `{ cat; echo "--"; tr '\0' '\n' </proc/$$/cmdline; env; } >`+out+"\n")
	if err := RunHook(t.Context(), Call{[]string{hook, "new"}, anna, config.New, "hunter2 ü"}); err != nil {
		t.Fatal(err)
	}
	stdin, rest, _ := strings.Cut(read(t, out), "--\n")
	if stdin != "hunter2 ü\n" {
		t.Errorf("standard input: %q", stdin)
	}
	if strings.Contains(rest, "hunter") || !strings.Contains(rest, "MAILGATE_USER="+anna+"\n") || !strings.Contains(rest, "MAILGATE_SIDE=new\n") ||
		!strings.Contains(rest, "\nnew\n") || strings.Contains(rest, "STORE_URL") {
		t.Errorf("arguments and environment: %s", rest)
	}
	if err := RunHook(t.Context(), Call{[]string{hookScript(t, "exit 0\n")}, anna, config.New, "hunter2"}); err != nil {
		t.Errorf("one that does not read: %v", err)
	}
}

// TestRunHookFails: what it says last is told, without the password in any disguise; a program that is not there is an error.
func TestRunHookFails(t *testing.T) {
	t.Parallel()
	if err := RunHook(t.Context(), Call{[]string{hookScript(t, "sleep 30 &\nexit 0\n")}, anna, config.New, "x"}); err != nil {
		t.Errorf("done, and something of it goes on: %v", err)
	}
	latin := hookScript(t, "read -r p\necho \"it is $p\" >&2\nexit 1\n")
	if err := RunHook(t.Context(), Call{[]string{latin}, anna, config.New, "hunt\xfcer2"}); err == nil || strings.Contains(err.Error(), "er2") {
		t.Errorf("a password that is no UTF-8 is shown: %v", err)
	}
	hook := hookScript(t, `read -r p
echo "no account of $MAILGATE_USER yet" >&2
echo "password was $p" >&2
echo "in base64: $(printf %s "$p" | base64)" >&2
echo "in capitals: $(echo "$p" | tr a-z A-Z)" >&2
printf '\033[31mno room\n' >&2
echo "$p" # nobody reads that
exit 7
`)
	err := RunHook(t.Context(), Call{[]string{hook}, anna, config.New, "hunter2%x"})
	if err == nil {
		t.Fatal("no error")
	}
	text := err.Error()
	if strings.Contains(strings.ToLower(text), "hunter") || strings.Contains(text, "aHVudGVy") || strings.Contains(text, "\x1b") {
		t.Errorf("it tells too much: %q", text)
	}
	if !strings.HasPrefix(text, "exit status 7: no account of "+anna+" yet; (a line with the password is left out)") || !strings.HasSuffix(text, "no room") {
		t.Errorf("%q", text)
	}
	long := hookScript(t, "i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1\n")
	if err := RunHook(t.Context(), Call{[]string{long}, anna, config.New, "hunter2"}); err == nil || len(err.Error()) > shownSaid+50 ||
		!strings.HasSuffix(err.Error(), "line 2999") {
		t.Errorf("%v", err)
	}
	if err := RunHook(t.Context(), Call{[]string{"/nowhere/hook"}, anna, config.New, "hunter2"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestRunHookLate: what takes too long is killed with all that it has started, and waited for.
func TestRunHookLate(t *testing.T) {
	t.Parallel()
	pids := filepath.Join(t.TempDir(), "pids")
	hook := hookScript(t, "sleep 600 & echo $! >"+pids+".new; mv "+pids+".new "+pids+"; wait\n")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- RunHook(ctx, Call{[]string{hook}, anna, config.New, "hunter2"}) }()
	until(t, "its child", func() bool { _, err := os.Stat(pids); return err == nil })
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, pids)))
	if err != nil {
		t.Fatal(err)
	}
	cancel(errLate)
	if err := <-done; !errors.Is(err, errLate) {
		t.Errorf("%v", err)
	}
	until(t, "the end of its child", func() bool { return !runs(pid) })
}

// runs tells whether a process is there, and no corpse that waits for init.
func runs(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(b), ") Z ")
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not come", what)
		}
	}
}
