package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// HookEvent is when a hook is told.
type HookEvent string

const (
	HookBefore HookEvent = "before" // ahead of the fence: it may call the flip off
	HookAfter  HookEvent = "after"  // behind the commit and the release
	HookAbort  HookEvent = "abort"  // when a flip was called off behind HookBefore
)

// HookEvents are all of them, for loops.
func HookEvents() []HookEvent { return []HookEvent{HookBefore, HookAfter, HookAbort} }

// Hook is told of users' flips: a program of the admin's, or a web server.
type Hook struct {
	Name       string
	On         []HookEvent
	Command    []string      // program and arguments; none means a web server
	URL        Secret        // https://, or http:// on loopback; there may be a token in it. "" means URLFile or a program
	URLFile    string        // file with the URL, which nobody else may read
	Timeout    time.Duration // of one run
	Retries    int           // further runs after one that has failed, of HookAfter and HookAbort
	Veto       bool          // on HookBefore: a run that says no, fails or is silent calls the flip off
	Waves      []string      // whose users it is told of; none means everybody
	SecretFile string        // the body that is sent to the server is signed with what is in it; "" means not
	CA         string        // PEM file; "" means the system's roots
}

// Tells tells whether the hook is told of an event of a user of a wave ("" for none).
func (h Hook) Tells(e HookEvent, wave string) bool {
	return slices.Contains(h.On, e) && (len(h.Waves) == 0 || wave != "" && slices.Contains(h.Waves, wave))
}

// Address is where the hook is: ReadPrivate of its file, or as written.
func (h Hook) Address() (Secret, error) {
	if h.URLFile == "" {
		return h.URL, nil
	}
	s, err := hookSecret(h.URLFile)
	if err == nil {
		err = checkHookURL(s)
	}
	return s, err
}

// Secret is what bodies are signed with; "" means that they are not.
func (h Hook) Secret() (Secret, error) {
	if h.SecretFile == "" {
		return "", nil
	}
	return hookSecret(h.SecretFile)
}

// hookSecret reads a file with one line.
func hookSecret(file string) (Secret, error) {
	b, err := ReadPrivate(file)
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(b), "\r\n")
	if text == "" || strings.ContainsAny(text, "\r\n") {
		return "", fmt.Errorf("%s does not hold one line", file)
	}
	return Secret(text), nil
}

// Bounds of hooks. The time is that of login.learn.hook_time.
const (
	defaultHookTime    = 10 * time.Second
	defaultHookRetries = 5
	maxHookRetries     = 100
	maxHooksListed     = 64
)

// hookKeys are the keys of an item of hooks.
func hookKeys() []string {
	return []string{"name", "on", "command", "url", "url_file", "timeout", "retries", "veto", "waves", "secret_file", "ca"}
}

// readHooks sets what hooks says. What is left out of an item has its default.
func (l *loader) readHooks() {
	list, _ := l.v.Get("hooks").([]any)
	for i, x := range list {
		m, ok := x.(map[string]any)
		if !ok {
			continue // has its complaint already
		}
		l.c.Hooks = append(l.c.Hooks, l.hook(fmt.Sprintf("hooks[%d]", i), m))
	}
}

// hook reads one item.
func (l *loader) hook(key string, m map[string]any) Hook {
	text := func(name string) string { s, _ := m[name].(string); return s }
	words := func(name string) (out []string) {
		list, _ := m[name].([]any)
		for _, x := range list {
			if s, _ := x.(string); s != "" {
				out = append(out, s)
			}
		}
		return out
	}
	h := Hook{Name: text("name"), Command: words("command"), URL: Secret(text("url")), URLFile: text("url_file"), Timeout: defaultHookTime,
		Retries: defaultHookRetries, Waves: words("waves"), SecretFile: text("secret_file"), CA: text("ca")}
	for j, word := range words("on") {
		e := HookEvent(word)
		switch {
		case !slices.Contains(HookEvents(), e):
			l.bad(fmt.Sprintf("%s.on[%d]", key, j), "unknown event %q%s", word, didYouMean(word, []string{"before", "after", "abort"}))
		case slices.Contains(h.On, e):
			l.bad(fmt.Sprintf("%s.on[%d]", key, j), "%s stands in the list already; keep one", word)
		}
		h.On = append(h.On, e)
	}
	h.Veto = slices.Contains(h.On, HookBefore)
	if v := text("veto"); v != "" {
		if v != "true" && v != "false" {
			l.bad(key+".veto", "%q is neither true nor false", v)
		}
		if !h.Veto && v == "true" {
			l.bad(key+".veto", "only a hook that is told before a flip can call it off; write before into on")
		}
		h.Veto = h.Veto && v != "false"
	}
	if v := text("timeout"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			l.bad(key+".timeout", "%q is no duration; write for example 10s", v)
			d = defaultHookTime
		}
		h.Timeout = d
	}
	if v := text("retries"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 || n > maxHookRetries {
			l.bad(key+".retries", "%q is not a number from 0 to %d", v, maxHookRetries)
			n = defaultHookRetries
		}
		h.Retries = n
	}
	return h
}

// hookPaths are the paths in hooks, to be made absolute. A program without a slash is looked for in PATH.
func (c *Config) hookPaths() (out []*string) {
	for i := range c.Hooks {
		h := &c.Hooks[i]
		h.Command = slices.Clone(h.Command)
		out = append(out, &h.URLFile, &h.SecretFile, &h.CA)
		if len(h.Command) > 0 && strings.Contains(h.Command[0], "/") {
			out = append(out, &h.Command[0])
		}
	}
	return out
}

// checkHooks looks whether each hook can be run.
func (l *loader) checkHooks() {
	if len(l.c.Hooks) > maxHooksListed {
		l.bad("hooks", "%d hooks are more than %d; have one program call the others", len(l.c.Hooks), maxHooksListed)
	}
	names, n := map[string]bool{}, -1
	list, _ := l.v.Get("hooks").([]any)
	for i, x := range list {
		if _, ok := x.(map[string]any); !ok {
			continue
		}
		n++
		h, key := l.c.Hooks[n], fmt.Sprintf("hooks[%d]", i)
		switch {
		case l.lines[key+".name"] > 0 && h.Name == "": // has its complaint
		case h.Name == "" || strings.ContainsFunc(h.Name, notInHookName):
			l.bad(key+".name", "%q is no name; write letters, digits, - and _: it stands in the history and in reasons", h.Name)
		case names[h.Name]:
			l.bad(key+".name", "a hook named %q stands above already; give each its own name", h.Name)
		}
		names[h.Name] = true
		if len(h.On) == 0 && l.lines[key+".on"] == 0 {
			l.bad(key, "says nowhere when it is told; write for example on: [before, after, abort]")
		}
		if h.Timeout < minHookTime || h.Timeout > maxHookTime {
			l.bad(key+".timeout", "%s is not from 1s to 10m; write for example 10s", h.Timeout)
		}
		l.checkHookTarget(key, h)
	}
}

func notInHookName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// checkHookTarget looks at what is run or called.
func (l *loader) checkHookTarget(key string, h Hook) {
	ways := 0
	for _, name := range []string{"command", "url", "url_file"} {
		if l.lines[key+"."+name] > 0 {
			ways++
		}
	}
	switch {
	case ways == 0:
		l.bad(key, "runs nothing; write command: [/usr/local/bin/PROGRAM], or url: https://HOST/PATH")
	case ways > 1:
		l.bad(key, "command, url and url_file stand for one another; keep one")
	case len(h.Command) > 0:
		if err := checkProgram(h.Command); err != nil {
			l.bad(key+".command", "%v", err)
		}
	case h.URLFile != "":
		if _, err := h.Address(); err != nil {
			l.bad(key+".url_file", "%v", err)
		}
	case h.URL != "":
		if err := checkHookURL(h.URL); err != nil {
			l.bad(key+".url", "%v", err)
		}
	}
	if len(h.Command) > 0 {
		for _, name := range []string{"secret_file", "ca"} {
			if l.lines[key+"."+name] > 0 {
				l.bad(key+"."+name, "is for hooks with a url; take it out")
			}
		}
		return
	}
	if _, err := h.Secret(); err != nil {
		l.bad(key+".secret_file", "%v", err)
	}
	l.checkCA(key+".ca", h.CA)
}

// errHookURL tells what a hook's URL may be. It shows nothing of the one that is there: it may hold a token.
var errHookURL = errors.New("that is no URL of a hook; write https://HOST/PATH (http:// on loopback only); a name and password before HOST are not taken")

func checkHookURL(s Secret) error {
	u, err := url.Parse(s.Reveal())
	if err != nil || u.Hostname() == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return errHookURL
	}
	return nil
}

// checkProgram looks whether a program can be run, and whether everybody on the machine could have mailgate run something else.
func checkProgram(argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return fmt.Errorf("%w; write a program that the user of mailgate may run, and its arguments: [/usr/local/bin/PROGRAM, ARGUMENT]", err)
	}
	for _, file := range append([]string{path}, argv[1:]...) { // of /usr/bin/env and interpreters the program is an argument
		st, err := os.Stat(file)
		if err != nil || !filepath.IsAbs(file) || !st.Mode().IsRegular() {
			continue
		}
		if st.Mode().Perm()&0o002 != 0 {
			return fmt.Errorf("everybody on this machine can write %s, which mailgate would run; run: chmod o-w %s", file, file)
		}
		if dir, err := os.Stat(filepath.Dir(file)); err == nil && dir.Mode().Perm()&0o002 != 0 && dir.Mode()&os.ModeSticky == 0 {
			return fmt.Errorf("everybody on this machine can put another file in the place of %s, which mailgate would run; run: chmod o-w %s", file, filepath.Dir(file))
		}
	}
	return nil
}

// HookWarnings are about programs that a group can change.
func (c *Config) HookWarnings() (out []string) {
	for _, h := range c.Hooks {
		for i, file := range h.Command {
			if i == 0 {
				file, _ = exec.LookPath(file)
			}
			if st, err := os.Stat(file); err == nil && filepath.IsAbs(file) && st.Mode().IsRegular() && st.Mode().Perm()&0o020 != 0 {
				out = append(out, fmt.Sprintf("hook %s: the group of %s can change what mailgate runs; chmod g-w it unless that is meant", h.Name, file))
			}
		}
	}
	return out
}

// shown is the hook as config show prints it, in flow style.
func (h Hook) shown() string {
	var b strings.Builder
	quoted := func(name string, list []string) {
		if len(list) == 0 {
			return
		}
		fmt.Fprintf(&b, ", %s: [", name)
		for i, x := range list {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%q", x)
		}
		b.WriteString("]")
	}
	fmt.Fprintf(&b, "{name: %q", h.Name)
	var on []string
	for _, e := range h.On {
		on = append(on, string(e))
	}
	quoted("on", on)
	quoted("command", h.Command)
	for _, x := range []struct{ key, value string }{{"url", h.Where()}, {"url_file", h.URLFile}, {"secret_file", h.SecretFile}, {"ca", h.CA}} {
		if x.value != "" && (x.key != "url" || h.URL != "") {
			fmt.Fprintf(&b, ", %s: %q", x.key, x.value)
		}
	}
	fmt.Fprintf(&b, ", timeout: %s, retries: %d, veto: %t", h.Timeout, h.Retries, h.Veto)
	quoted("waves", h.Waves)
	return b.String() + "}"
}

// Where names what is run or called, without what may be secret in it: a program's path, or a server.
func (h Hook) Where() string {
	if len(h.Command) > 0 {
		return h.Command[0]
	}
	a, err := h.Address()
	if err != nil {
		return h.URLFile
	}
	u, err := url.Parse(a.Reveal())
	if err != nil {
		return "a web server"
	}
	return u.Scheme + "://" + u.Host + "/..."
}
