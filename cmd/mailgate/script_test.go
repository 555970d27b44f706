package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"mailgate/mailtest"
	"mailgate/mailtest/lab"
)

// TestScripts runs testdata/*.txtar: one for each verb and each exit code. Beside testscript's commands there are
//
//	mailgate EXIT ARGS...  runs a verb, which must end with EXIT
//	serve, halt            run mailgate serve before two hosts in memory, and end it
//	busy USER              a session in the middle of an APPEND, which no flip may cut, until idle
//	login USER             a session that waits between commands
//	deliver SIDE USER N    puts N messages into an INBOX
//	limit SIDE N           makes a host refuse APPENDs of more bytes than N; 0 takes all
//	block, unblock         what OLD says stands still, and goes on
//	start NAME ARGS...     runs a verb as a process of its own
//	interrupt NAME         sends it SIGINT
//	sigkill NAME           sends it SIGKILL
//	end NAME EXIT          waits for its end, which must be with EXIT (-1 when it was killed)
//	until REGEXP ARGS...   runs a verb again and again until what it prints fits
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: scriptSetup, Cmds: map[string]func(*testscript.TestScript, bool, []string){
		"mailgate": scriptMailgate, "serve": scriptServe, "halt": func(ts *testscript.TestScript, _ bool, _ []string) { scriptOf(ts).stop() },
		"busy": scriptBusy, "idle": scriptIdle, "login": scriptLogin,
		"deliver": scriptDeliver, "limit": scriptLimit, "block": func(ts *testscript.TestScript, _ bool, _ []string) { scriptOf(ts).relay.block() },
		"unblock": func(ts *testscript.TestScript, _ bool, _ []string) { scriptOf(ts).relay.unblock() },
		"start":   scriptStart, "end": scriptEnd, "until": scriptUntil,
		"interrupt": func(ts *testscript.TestScript, _ bool, args []string) { scriptSignal(ts, args[0], syscall.SIGINT) },
		"sigkill":   func(ts *testscript.TestScript, _ bool, args []string) { scriptSignal(ts, args[0], syscall.SIGKILL) },
	}})
}

// script is what a script has running.
type script struct {
	dir, imap string
	hosts     [2]*mailtest.Memory
	end       func()
	conns     []net.Conn
	relay     *gatedRelay // before OLD's IMAP
	children  map[string]*child
}

type scriptKey struct{}

func scriptOf(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

func scriptSetup(e *testscript.Env) error {
	s := &script{dir: e.WorkDir, children: map[string]*child{}}
	e.Values[scriptKey{}] = s
	users := map[string]string{"alice@example.com": "a", "bob@example.com": "b", "ivan@example.com": "i", "judy@example.com": "j"}
	for i, name := range []string{"old", "new"} {
		var err error
		if s.hosts[i], err = mailtest.StartMemory(name, users); err != nil {
			return err
		}
		e.Defer(s.hosts[i].Close)
	}
	var err error
	if s.relay, err = newGatedRelay(s.hosts[0].IMAP); err != nil {
		return err
	}
	e.Defer(s.relay.close)
	ports, giveBack, err := lab.Take(1)
	if err != nil {
		return err
	}
	e.Defer(giveBack)
	s.imap = lab.Addr(ports[0])
	e.Defer(func() {
		for _, c := range s.conns {
			c.Close()
		}
		for _, c := range s.children {
			_ = c.cmd.Process.Kill()
			<-c.done
		}
		s.stop()
	})
	yaml := fmt.Sprintf(`hostname: mail.example.com
listen: ["imap://%s"]
backends:
  old: {imap: 'imap://%s', sync: {secrets: secrets}}
  new: {imap: 'imap://%s', sync: {secrets: secrets}}
routes: {file: routes, watch: 0s, approve_min: 1}
store: {path: state.db}
control: {socket: control.sock}
flip: {deadline: 8s, hold: 10s}
shutdown: 1s
sync: {settle: 50ms}
`, s.imap, s.relay.addr(), s.hosts[1].IMAP)
	if err := os.WriteFile(filepath.Join(s.dir, "secrets"), []byte("alice@example.com a\nbob@example.com b\nivan@example.com i\njudy@example.com j\n"), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.dir, "routes"), []byte("alice@example.com old wave=pilot\nbob@example.com new\n"), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "mailgate.yaml"), []byte(yaml), 0o600)
}

func scriptMailgate(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if neg || err != nil {
		ts.Fatalf("usage: mailgate EXIT ARGS...")
	}
	args = append([]string{"-c", ts.MkAbs("mailgate.yaml")}, args[1:]...)
	if got := run(context.Background(), args, strings.NewReader(""), ts.Stdout(), ts.Stderr()); got != want {
		ts.Fatalf("exit %d, want %d", got, want)
	}
}

func scriptServe(ts *testscript.TestScript, _ bool, _ []string) {
	s := scriptOf(ts)
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	log := &syncBuffer{}
	p := &program{in: strings.NewReader(""), out: log, err: log, file: ts.MkAbs("mailgate.yaml")}
	go func() { done <- p.serve(ctx, func(*gateway) { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		ts.Fatalf("serve: %v\n%s", err, log)
	}
	s.end = sync.OnceFunc(func() {
		cancel()
		<-done
	})
}

func (s *script) stop() {
	if s.end != nil {
		s.end()
	}
}

// converse logs a user in and sends more lines; it returns when the last is answered with the word.
func (s *script) converse(ts *testscript.TestScript, user, more, word string) {
	c, err := net.Dial("tcp", s.imap)
	ts.Check(err)
	s.conns = append(s.conns, c)
	ts.Check(c.SetDeadline(time.Now().Add(2 * time.Minute)))
	r := bufio.NewReader(c)
	say := func(text, word string) {
		_, err := c.Write([]byte(text))
		ts.Check(err)
		for line := ""; !strings.HasPrefix(line, word); {
			line, err = r.ReadString('\n')
			ts.Check(err)
		}
	}
	say("", "* OK")
	say(fmt.Sprintf("a LOGIN %s %s\r\n", user, user[:1]), "a OK")
	if more != "" {
		say(more, word)
	}
}

func scriptLogin(ts *testscript.TestScript, _ bool, args []string) {
	scriptOf(ts).converse(ts, args[0], "", "")
}

func scriptBusy(ts *testscript.TestScript, _ bool, args []string) {
	scriptOf(ts).converse(ts, args[0], "b APPEND INBOX {100}\r\n", "+")
}

func scriptIdle(ts *testscript.TestScript, _ bool, _ []string) {
	for _, c := range scriptOf(ts).conns {
		c.Close()
	}
}
