package logins

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"mailgate/config"
)

// errLate means that a hook took longer than it may.
var errLate = errors.New("it took longer than login.learn.hook_time and was ended")

// Call is one run of the hook.
type Call struct {
	Argv     []string
	User     string
	Side     config.Side // whose server has let him in
	Password config.Secret
}

// Runner runs the hook; nil means that it is done. The error holds no secret.
type Runner func(ctx context.Context, c Call) error

// maxSaid is how much of what a hook says on standard error is read, in bytes, and shownSaid how much of it is told.
const (
	maxSaid   = 16 << 10
	shownSaid = 300
)

// RunHook runs a command with the password and a line end on its standard input, and MAILGATE_USER and MAILGATE_SIDE in an environment
// that has little else. It is done when it exits with 0. What it says on standard output is nobody's business; of standard error the
// last lines are in the error, but for those in which the password stands. When ctx ends, it is killed with all that it has started.
func RunHook(ctx context.Context, c Call) error {
	said := &tail{}
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env = []string{"MAILGATE_USER=" + c.User, "MAILGATE_SIDE=" + c.Side.String()}
	for _, name := range []string{"PATH", "HOME", "LANG", "TZ"} { // not ours: there may be secrets in it
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Stdin = strings.NewReader(c.Password.Reveal() + "\n")
	cmd.Stderr = said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() { // what it left running holds its standard error
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if text := said.without(c.Password); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > maxSaid {
		t.b = bytes.Clone(t.b[len(t.b)-maxSaid:])
	}
	return len(p), nil
}

// without is what was said last, in one line, without the lines in which a password stands as it is or in a usual disguise, or perhaps
// the end of it.
func (t *tail) without(password config.Secret) string {
	p := password.Reveal()
	forms := []string{p, strings.ToValidUTF8(p, "?"), base64.StdEncoding.EncodeToString([]byte(p)), base64.RawStdEncoding.EncodeToString([]byte(p)),
		base64.URLEncoding.EncodeToString([]byte(p)), hex.EncodeToString([]byte(p)), url.QueryEscape(p), url.PathEscape(p), fmt.Sprintf("%q", p)}
	lines := strings.Split(strings.ToValidUTF8(string(t.b), "?"), "\n")
	if len(t.b) == maxSaid {
		lines = lines[1:] // its beginning is missing
	}
	var out []string
next:
	for _, line := range lines {
		for _, f := range forms {
			if f != "" && strings.Contains(strings.ToLower(line), strings.ToLower(f)) {
				out = append(out, "(a line with the password is left out)")
				continue next
			}
		}
		if line = strings.TrimSpace(strings.Map(printable, line)); line != "" {
			out = append(out, line)
		}
	}
	text := strings.Join(out, "; ")
	if len(text) > shownSaid {
		text = "..." + strings.ToValidUTF8(text[len(text)-shownSaid:], "")
	}
	return text
}

// printable leaves out what does something to a terminal.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}
