package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// child is a verb that runs as a process of its own.
type child struct {
	cmd      *exec.Cmd
	out, err bytes.Buffer
	done     chan struct{}
}

// scriptTime bounds whatever a script waits for.
const scriptTime = time.Minute

func scriptDeliver(ts *testscript.TestScript, _ bool, args []string) {
	side := map[string]int{"old": 0, "new": 1}[args[0]]
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	for i := range n {
		text := fmt.Sprintf("From: x@example.com\r\nSubject: %s %d\r\n\r\n%s\r\n", args[0], i, strings.Repeat("x", 1000))
		ts.Check(scriptOf(ts).hosts[side].Deliver(args[1], []byte(text)))
	}
}

func scriptLimit(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	scriptOf(ts).hosts[map[string]int{"old": 0, "new": 1}[args[0]]].Limit(n)
}

func scriptStart(ts *testscript.TestScript, _ bool, args []string) {
	c := &child{done: make(chan struct{})}
	c.cmd = exec.Command(os.Args[0], append([]string{"-c", ts.MkAbs("mailgate.yaml")}, args[1:]...)...)
	c.cmd.Env = append(os.Environ(), "MAILGATE_TEST_CHILD=1")
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.err
	ts.Check(c.cmd.Start())
	go func() {
		defer close(c.done)
		_ = c.cmd.Wait()
	}()
	scriptOf(ts).children[args[0]] = c
}

func scriptSignal(ts *testscript.TestScript, name string, sig syscall.Signal) {
	ts.Check(scriptOf(ts).children[name].cmd.Process.Signal(sig))
}

func scriptEnd(ts *testscript.TestScript, _ bool, args []string) {
	c := scriptOf(ts).children[args[0]]
	select {
	case <-c.done:
	case <-time.After(scriptTime):
		ts.Fatalf("%s does not end", args[0])
	}
	_, _ = ts.Stdout().Write(c.out.Bytes())
	_, _ = ts.Stderr().Write(c.err.Bytes())
	if got := strconv.Itoa(c.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("%s: exit %s, want %s", args[0], got, args[1])
	}
}

func scriptUntil(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile(args[0])
	var out, errOut bytes.Buffer
	for end := time.Now().Add(scriptTime); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		out.Reset()
		errOut.Reset()
		run(context.Background(), append([]string{"-c", ts.MkAbs("mailgate.yaml")}, args[1:]...), strings.NewReader(""), &out, &errOut)
		if want.MatchString(out.String() + errOut.String()) {
			_, _ = ts.Stdout().Write(out.Bytes())
			return
		}
	}
	ts.Fatalf("%v never fits %s:\n%s%s", args[1:], want, out.String(), errOut.String())
}
