package cutover

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mailgate/config"
)

// hookSchema is the version of HookCall: it rises when a member changes its meaning or goes.
const hookSchema = 1

// HookCall is what a hook is told: a program as JSON on its standard input, a server as the body of a POST.
type HookCall struct {
	Schema  int              `json:"schema"`
	ID      string           `json:"id"` // the same each time that the same thing is told
	Hook    string           `json:"hook"`
	Event   config.HookEvent `json:"event"`
	Text    string           `json:"text"` // the whole in a sentence, for people
	Op      string           `json:"op"`
	User    string           `json:"user"`
	From    string           `json:"from"` // "old" or "new", as To
	To      string           `json:"to"`
	Epoch   int64            `json:"epoch"` // of From
	Wave    string           `json:"wave"`  // "" when he is in none
	By      string           `json:"by"`
	Now     bool             `json:"now"`           // rollback --now
	Why     string           `json:"why,omitempty"` // of "abort": why the flip was called off
	Time    time.Time        `json:"time"`          // of the event
	Attempt int              `json:"attempt"`       // from 1
	Old     HookPlace        `json:"old"`
	New     HookPlace        `json:"new"`
}

// call is what a hook is told of a job.
func (r *HookRunner) call(j hookJob, attempt int) HookCall {
	m, places := j.move, r.o.Places(j.move.User)
	for i := range places {
		if places[i].Hosts == nil {
			places[i].Hosts = []HookHost{}
		}
	}
	c := HookCall{Schema: hookSchema, ID: j.id(), Hook: j.hook, Event: j.event, Op: m.Op, User: m.User, From: m.From.String(), To: m.To.String(), Epoch: m.Epoch,
		Wave: m.Wave, By: m.By, Now: m.Now, Why: j.why, Time: j.at.UTC(), Attempt: attempt, Old: places[config.Old], New: places[config.New]}
	from, to := strings.ToUpper(c.From), strings.ToUpper(c.To)
	switch j.event {
	case config.HookAfter:
		c.Text = fmt.Sprintf("%s is on %s now (was on %s; %s, by %s)", m.User, to, from, m.Op, m.By)
	case config.HookAbort:
		c.Text = fmt.Sprintf("%s stays on %s: the move to %s was called off: %s (%s, by %s)", m.User, from, to, j.why, m.Op, m.By)
	default:
		c.Text = fmt.Sprintf("%s is about to move from %s to %s (%s, by %s)", m.User, from, to, m.Op, m.By)
	}
	return c
}

// run tells a hook once.
func (r *HookRunner) run(ctx context.Context, h config.Hook, j hookJob, attempt int) (res result) {
	call := r.call(j, attempt)
	body, err := json.Marshal(call)
	if err != nil { // nothing in it can be the cause
		return result{outcome: hookFailed, said: err.Error()}
	}
	begun := time.Now()
	limit, cancel := context.WithTimeoutCause(ctx, h.Timeout, errHookLate)
	defer cancel()
	if len(h.Command) > 0 {
		res = runProgram(limit, h.Command, call, body)
	} else {
		res = post(limit, h, call, body)
	}
	res.took = time.Since(begun)
	if res.outcome != hookDone && errors.Is(context.Cause(limit), errHookLate) {
		res.outcome, res.said, res.veto = hookLate, errHookLate.Error(), ""
	}
	return res
}

// vetoExit is the exit code by which a program says no.
const vetoExit = 3

// Bounds of what is read of a hook, and of what is told of that, in bytes.
const (
	maxHookSaid   = 16 << 10
	shownHookSaid = 300
)

// environment is what a program finds: what the JSON says too, for shell scripts, and little else: there may be secrets in ours.
func (c HookCall) environment() []string {
	env := []string{"MAILGATE_SCHEMA=" + strconv.Itoa(c.Schema), "MAILGATE_ID=" + c.ID, "MAILGATE_HOOK=" + c.Hook, "MAILGATE_EVENT=" + string(c.Event),
		"MAILGATE_TEXT=" + c.Text, "MAILGATE_OP=" + c.Op, "MAILGATE_USER=" + c.User, "MAILGATE_FROM=" + c.From, "MAILGATE_TO=" + c.To,
		"MAILGATE_EPOCH=" + strconv.FormatInt(c.Epoch, 10), "MAILGATE_WAVE=" + c.Wave, "MAILGATE_BY=" + c.By, "MAILGATE_NOW=" + strconv.FormatBool(c.Now),
		"MAILGATE_WHY=" + c.Why, "MAILGATE_ATTEMPT=" + strconv.Itoa(c.Attempt), "MAILGATE_TIME=" + c.Time.Format(time.RFC3339),
		"MAILGATE_OLD_LOGIN=" + c.Old.Login, "MAILGATE_NEW_LOGIN=" + c.New.Login}
	for i, v := range env {
		env[i] = strings.Map(oneLineRune, v)
	}
	for _, name := range []string{"PATH", "HOME", "LANG", "TZ"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// runProgram runs a command in a process group of its own. When ctx ends, all of the group is killed.
func runProgram(ctx context.Context, argv []string, call HookCall, body []byte) result {
	var out, told said
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = call.environment()
	cmd.Stdin = bytes.NewReader(append(body, '\n'))
	cmd.Stdout, cmd.Stderr = &out, &told
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	ended := cmd.ProcessState != nil && cmd.ProcessState.Exited()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay) && ended && cmd.ProcessState.Success(): // what it left running holds its output
		return out.judge(call.Event)
	}
	reason := out.first()
	if a, ok := out.answer(); ok {
		reason = a.Veto + a.Warn
	}
	if reason == "" {
		reason = told.first()
	}
	if ended && cmd.ProcessState.ExitCode() == vetoExit {
		if reason == "" {
			reason = "no reason given"
		}
		return result{outcome: hookDone, veto: tidied(reason)}
	}
	text := err.Error()
	if reason != "" {
		text += ": " + reason
	}
	return result{outcome: hookFailed, said: tidied(text)}
}

// said keeps the beginning of what is written to it.
type said struct {
	b    []byte
	more bool
}

func (s *said) Write(p []byte) (int, error) {
	room := maxHookSaid - len(s.b)
	s.b = append(s.b, p[:min(room, len(p))]...)
	s.more = s.more || len(p) > room
	return len(p), nil
}

// answer is what a hook may say in JSON. Other members do not count.
type answer struct {
	Veto string `json:"veto"`
	Warn string `json:"warn"`
}

// answer reads one. What begins otherwise than JSON's objects is chatter.
func (s *said) answer() (a answer, ok bool) {
	text := bytes.TrimSpace(s.b)
	return a, len(text) > 0 && text[0] == '{' && json.Unmarshal(text, &a) == nil
}

// judge is the result of a run that went well, by what was said. Ahead of a flip an object that cannot be read may have been a veto.
func (s *said) judge(e config.HookEvent, secrets ...string) result {
	a, ok := s.answer()
	if text := bytes.TrimSpace(s.b); !ok && e == config.HookBefore && len(text) > 0 && text[0] == '{' {
		return result{outcome: hookFailed, said: `what it says begins as JSON and is none, or too long, or veto and warn in it are no texts: {"veto": "reason"}`}
	}
	return result{outcome: hookDone, veto: tidied(without(a.Veto, secrets)), warn: tidied(without(a.Warn, secrets))}
}

// first is the first line that is not empty.
func (s *said) first(secrets ...string) string {
	for line := range strings.Lines(string(s.b)) {
		if line = tidied(line); line != "" {
			return without(line, secrets)
		}
	}
	return ""
}

// without is a text, or something in its place when a secret stands in it.
func without(text string, secrets []string) string {
	for _, s := range secrets {
		if s != "" && strings.Contains(text, s) {
			return "(there is a secret in what it says)"
		}
	}
	return text
}

// tidied is a text in one line that does nothing to a terminal, cut short.
func tidied(text string) string {
	text = strings.TrimSpace(strings.Map(oneLineRune, strings.ToValidUTF8(text, "?")))
	if len(text) > shownHookSaid {
		text = strings.ToValidUTF8(text[:shownHookSaid], "") + "..."
	}
	return text
}

// oneLineRune leaves out what does something to a terminal, or is another line.
func oneLineRune(r rune) rune {
	if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
		return ' '
	}
	return r
}
