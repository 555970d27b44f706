package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"mailgate/config"
)

// Command is one run of an operator's own check.
type Command struct {
	Argv  []string
	Wave  string
	Since time.Time // of the wave's first flip; zero before
	Users []string
}

// Asker runs a command and returns its exit status and what it said on standard output, or why it could not be run.
type Asker func(ctx context.Context, c Command) (status int, said []byte, err error)

// maxSaid is how much of what a command says is read, in bytes, and shownSaid how much of that is shown.
const (
	maxSaid   = 4 << 10
	shownSaid = 200
)

// RunCommand runs a command with the members of the wave on its standard input, one a line, and MAILGATE_WAVE and MAILGATE_SINCE in an
// environment that has little else. When ctx ends, it is killed with all that it has started.
func RunCommand(ctx context.Context, c Command) (status int, said []byte, err error) {
	out := &head{}
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	since := ""
	if !c.Since.IsZero() {
		since = c.Since.UTC().Format(time.RFC3339)
	}
	cmd.Env = []string{"MAILGATE_WAVE=" + c.Wave, "MAILGATE_SINCE=" + since}
	for _, name := range []string{"PATH", "HOME", "LANG", "TZ"} { // not ours: there may be secrets in it
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Stdin = strings.NewReader(strings.Join(append(c.Users, ""), "\n"))
	cmd.Stdout = out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 0, nil, context.Cause(ctx)
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), out.b, nil
	case errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success():
		return 0, out.b, nil
	}
	return 0, out.b, err
}

// head keeps the beginning of what is written to it.
type head struct{ b []byte }

func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), maxSaid-len(h.b))]...)
	return len(p), nil
}

// firstLine is what is shown of what a command said.
func firstLine(said []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(strings.ToValidUTF8(string(said), "?")), "\n")
	line = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, line))
	if len(line) > shownSaid {
		line = strings.ToValidUTF8(line[:shownSaid], "") + "..."
	}
	return line
}

// answers are what commands have said a moment ago: a wave of hundreds of flips asks once.
type answers struct {
	mu   sync.Mutex
	kept map[question]*answer
}

type question struct {
	wave string
	gate config.Gate
}

type answer struct {
	mu     sync.Mutex // held while the command runs, so that who asks meanwhile gets the same answer
	at     time.Time
	status int
	said   []byte
	err    error
}

// freshFor is how long an answer stands.
const freshFor = time.Minute

// run asks, unless that was done a moment ago.
func (b *Book) run(ctx context.Context, name config.Gate, timeout time.Duration, c Command) (status int, said []byte, err error) {
	q := question{c.Wave, name}
	b.asked.mu.Lock()
	a := b.asked.kept[q]
	if a == nil {
		a = &answer{}
		b.asked.kept[q] = a
	}
	b.asked.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if age := b.now().Sub(a.at); !a.at.IsZero() && age >= 0 && age < freshFor {
		return a.status, a.said, a.err
	}
	late := fmt.Errorf("it took longer than %s and was ended", timeout)
	limited, cancel := context.WithTimeoutCause(ctx, timeout, late)
	defer cancel()
	a.status, a.said, a.err = b.o.Ask(limited, c)
	if a.at = b.now(); ctx.Err() != nil { // who asked has gone: that is no answer for others
		a.at = time.Time{}
	}
	return a.status, a.said, a.err
}

// ask asks all commands of a wave's gates, side by side.
func (b *Book) ask(ctx context.Context, w config.Wave, members []Member, since time.Time) (bounces Share, why string, asked map[config.Gate]Answer) {
	c := Command{Wave: w.Name, Since: since}
	for _, m := range members {
		c.Users = append(c.Users, m.User)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	asked = map[config.Gate]Answer{}
	for _, g := range w.Gates.Custom {
		if g.Mode == config.GateOff {
			continue
		}
		wg.Go(func() {
			c := c
			c.Argv = []string{g.Command}
			a := customAnswer(b.run(ctx, config.Gate(g.Name), g.Timeout, c))
			mu.Lock()
			defer mu.Unlock()
			asked[config.Gate(g.Name)] = a
		})
	}
	switch g := w.Gates.Bounces; {
	case g.Mode == config.GateOff:
	case len(g.Command) == 0:
		why = "no gates.bounces.command tells"
	default:
		c := c
		c.Argv = g.Command
		bounces, why = bouncesAnswer(b.run(ctx, config.GateBounces, g.Timeout, c))
	}
	wg.Wait()
	return bounces, why, asked
}

func customAnswer(status int, said []byte, err error) Answer {
	line := firstLine(said)
	switch {
	case err != nil:
		return Answer{Unknown, "its command failed: " + err.Error()}
	case status > 1:
		return Answer{Unknown, strings.TrimSuffix(fmt.Sprintf("its command ended with exit status %d: %s", status, line), ": ")}
	case line == "":
		line = fmt.Sprintf("its command ended with exit status %d and said nothing", status)
	}
	if status == 1 {
		return Answer{Fail, line}
	}
	return Answer{Pass, line}
}

func bouncesAnswer(status int, said []byte, err error) (s Share, why string) {
	if err != nil {
		return s, "gates.bounces.command failed: " + err.Error()
	}
	if status != 0 {
		return s, strings.TrimSuffix(fmt.Sprintf("gates.bounces.command ended with exit status %d: %s", status, firstLine(said)), ": ")
	}
	var got struct {
		Samples  *int64 `json:"samples"`
		Failures *int64 `json:"failures"`
	}
	if err := json.Unmarshal(bytes.TrimSpace(said), &got); err != nil || got.Samples == nil || got.Failures == nil || *got.Failures < 0 ||
		*got.Samples < *got.Failures {
		return s, fmt.Sprintf(`gates.bounces.command did not say {"samples": N, "failures": N} but %q`, firstLine(said))
	}
	return Share{*got.Failures, *got.Samples}, ""
}
