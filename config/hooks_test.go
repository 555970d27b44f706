package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const hooksHead = `listen: ["imap://127.0.0.1:1143"]
backends:
  old: {imap: 'imap://127.0.0.1:10143'}
  new: {imap: 'imap://127.0.0.1:11143'}
hooks:
`

// TestHooks: what is left out has its default, paths are from the file's folder, and what may be secret is not shown.
func TestHooks(t *testing.T) {
	dir := t.TempDir()
	key := write(t, dir, "key", "hidden-key\n")
	link := write(t, dir, "url", "https://chat.example.com/T0/hidden-token\n")
	for _, f := range []string{key, link} {
		if err := os.Chmod(f, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := load(t, hooksHead+`
  - {name: who, on: [before], command: [/bin/sh, -c, "exit 0"]}
  - name: observer
    on: [before, after, abort]
    command: [true]
    veto: false
    waves: [pilot, sales]
    timeout: 1m
    retries: 0
  - {name: chat, on: [after], url: "https://chat.example.com/T0/hidden-token", secret_file: `+key+`}
  - {name: local, on: [abort], url: "http://127.0.0.1:8080/"}
  - {name: filed, on: [abort], url_file: `+link+`}
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Hook{
		{Name: "who", On: []HookEvent{HookBefore}, Command: []string{"/bin/sh", "-c", "exit 0"}, Timeout: 10 * time.Second, Retries: 5, Veto: true},
		{Name: "observer", On: HookEvents(), Command: []string{"true"}, Timeout: time.Minute, Waves: []string{"pilot", "sales"}},
		{Name: "chat", On: []HookEvent{HookAfter}, URL: "https://chat.example.com/T0/hidden-token", Timeout: 10 * time.Second, Retries: 5, SecretFile: key},
		{Name: "local", On: []HookEvent{HookAbort}, URL: "http://127.0.0.1:8080/", Timeout: 10 * time.Second, Retries: 5},
		{Name: "filed", On: []HookEvent{HookAbort}, URLFile: link, Timeout: 10 * time.Second, Retries: 5},
	}
	for i, h := range c.Hooks {
		if !reflect.DeepEqual(h, want[i]) {
			t.Errorf("got  %+v\nwant %+v", h, want[i])
		}
	}
	if len(c.Hooks) != len(want) {
		t.Errorf("%d hooks", len(c.Hooks))
	}
	var b strings.Builder
	if err := c.Show(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "hidden") || !strings.Contains(b.String(), `{name: "who", on: ["before"], command: ["/bin/sh", "-c", "exit 0"], timeout: 10s, retries: 5, veto: true}`) ||
		!strings.Contains(b.String(), `url: "https://chat.example.com/..."`) || strings.Contains(b.String(), `"***"`) {
		t.Error(b.String())
	}
	for i, x := range []struct {
		event HookEvent
		wave  string
		want  bool
	}{{HookBefore, "pilot", true}, {HookBefore, "other", false}, {HookBefore, "", false}} {
		if got := c.Hooks[1].Tells(x.event, x.wave); got != x.want {
			t.Errorf("%d: %t", i, got)
		}
	}
	if !c.Hooks[0].Tells(HookBefore, "") || c.Hooks[0].Tells(HookAfter, "") {
		t.Error("a hook without waves is told of everybody, and of what it has asked for only")
	}
	if a, err := c.Hooks[4].Address(); err != nil || a != "https://chat.example.com/T0/hidden-token" {
		t.Error(a.Reveal(), err)
	}
	if s, err := c.Hooks[2].Secret(); err != nil || s != "hidden-key" {
		t.Error(s.Reveal(), err)
	}
}

// TestHookRelative: a program with a slash is found from the file's folder, not from where mailgate was started.
func TestHookRelative(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "routes", "")
	program := write(t, dir, "who", "#!/bin/sh\n")
	if err := os.Chmod(program, 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := Load(write(t, dir, "mailgate.yaml", hooksHead+"  - {name: who, on: [before], command: [./who, x]}\n"), nil)
	if err != nil || c.Hooks[0].Command[0] != program {
		t.Errorf("%v %v", c, err)
	}
}

// TestHookFiles: a program that everybody can change, or put another in the place of, is refused, also behind an interpreter; one that a group
// can change is worth a word; and so with files of secrets.
func TestHookFiles(t *testing.T) {
	for name, x := range map[string]struct {
		mode, dir os.FileMode
		as        string // item
		want      string // of the error; "" for none
		warn      bool
	}{
		"as it should be":      {0o755, 0o755, "command: [FILE]", "", false},
		"not executable":       {0o644, 0o755, "command: [FILE]", "permission denied", false},
		"written by all":       {0o757, 0o755, "command: [FILE]", "everybody on this machine can write", false},
		"behind env":           {0o757, 0o755, "command: [/usr/bin/env, A=b, FILE]", "everybody on this machine can write", false},
		"folder of all":        {0o755, 0o757, "command: [FILE]", "another file in the place of", false},
		"sticky folder of all": {0o755, 0o757 | os.ModeSticky, "command: [FILE]", "", false},
		"written by a group":   {0o775, 0o755, "command: [FILE]", "", true},
		"group behind sh":      {0o664, 0o755, "command: [/bin/sh, FILE]", "", true},
		"a secret for all":     {0o644, 0o755, "url: 'https://x', secret_file: FILE", "others can read", false},
		"a secret":             {0o600, 0o755, "url: 'https://x', secret_file: FILE", "", false},
		"a URL for all":        {0o640, 0o755, "url_file: FILE", "others can read", false},
		"a URL that is none":   {0o600, 0o755, "url_file: FILE", "no URL of a hook", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := write(t, dir, "hook", "#!/bin/sh hidden")
			for f, mode := range map[string]os.FileMode{file: x.mode, dir: x.dir} {
				if err := os.Chmod(f, mode); err != nil {
					t.Fatal(err)
				}
			}
			c, err := load(t, hooksHead+"  - {name: h, on: [after], "+strings.Replace(x.as, "FILE", file, 1)+"}\n", nil)
			switch {
			case x.want == "" && err != nil:
				t.Error(err)
			case x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "hidden")):
				t.Errorf("%v, want %q", err, x.want)
			}
			if x.want == "" && (len(c.Warnings()) > 0) != x.warn {
				t.Errorf("%q", c.Warnings())
			}
		})
	}
	if err := checkProgram([]string{filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a program that is not there is taken")
	}
}
