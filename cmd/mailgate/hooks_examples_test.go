package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// example runs one of the examples as serve would, with event.json changed, and gives its exit code and what it says.
func example(t *testing.T, name string, env []string, changes ...string) (int, string) {
	t.Helper()
	event, err := os.ReadFile("../../examples/hooks/event.json")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("../../examples/hooks/" + name)
	c.Stdin = strings.NewReader(strings.NewReplacer(changes...).Replace(string(event)))
	c.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	out, _ := c.CombinedOutput()
	return c.ProcessState.ExitCode(), strings.TrimSpace(string(out))
}

// shellScript is one, as a command.
func shellScript(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "sh " + file
}

// TestDoveadmWho: who counts as past the gateway, and that what cannot be read is no leave to go on.
func TestDoveadmWho(t *testing.T) {
	who := "DOVEADM=" + shellScript(t, `printf 'username\tproto\tpid\tip\nalice@example.com\timap\t1\t198.51.100.7\nALICE@example.com\timap\t2\t198.51.100.7\n'
printf 'alice@example.com.au\timap\t3\t198.51.100.8\nalice@example.com\timap\t4\t192.0.2.10\nalice@example.com\timap\t5\t2001:db8::7\n'`)
	sessions := "SESSIONS=" + shellScript(t, `printf 'ID  USER  PROTOCOL  SIDE  HOST  CLIENT  SINCE\n1  alice@example.com  imap  old  o1  198.51.100.7:4711  2026-11-26 12:00:00\n'
printf '2  alice@example.com  imap  old  o1  [2001:db8::7]:4711  2026-11-26 12:00:00\n3  alice@example.com  imap  new  n1  192.0.2.10:99  2026-11-26 12:00:00\n'`)
	const past, end = "alice@example.com is connected to OLD past the gateway, from ", ": have that client use the gateway's name"
	for name, x := range map[string]struct {
		env     []string
		changes []string
		code    int
		says    string
	}{
		"gateways":             {[]string{who, "GATEWAYS=192.0.2.11 192.0.2.10"}, nil, 3, past + "198.51.100.7 (2 times), 2001:db8::7" + end},
		"all of them gateways": {[]string{who, "GATEWAYS=192.0.2.10,198.51.100.7,2001:db8::7"}, nil, 0, ""},
		"sessions":             {[]string{who, sessions}, nil, 3, past + "198.51.100.7, 192.0.2.10" + end},
		"both":                 {[]string{who, sessions, "GATEWAYS=192.0.2.10"}, nil, 3, past + "198.51.100.7" + end},
		"warn":                 {[]string{who, sessions, "GATEWAYS=192.0.2.10", "DIRECT=warn"}, nil, 0, `{"warn": "` + past + "198.51.100.7" + end + `"}`},
		"another user":         {[]string{who, "GATEWAYS=192.0.2.10"}, []string{`"login":"alice@`, `"login":"bob@`}, 0, ""},
		"not a pattern":        {[]string{who, "GATEWAYS=192.0.2.10"}, []string{`"login":"alice@`, `"login":"a*@`}, 0, ""},
		"the way back":         {[]string{who, "GATEWAYS=192.0.2.10"}, []string{`"from":"old"`, `"from":"new"`}, 0, ""},
		"another event":        {[]string{who, "GATEWAYS=192.0.2.10"}, []string{`"event":"before"`, `"event":"after"`}, 0, ""},
		"no gateways":          {[]string{who}, nil, 1, "set GATEWAYS to the addresses of the gateways: without it they look like clients"},
		"cannot ask":           {[]string{"DOVEADM=" + shellScript(t, "echo no such socket; exit 75"), "GATEWAYS=x"}, nil, 1, "doveadm who: no such socket"},
		"other columns":        {[]string{"DOVEADM=" + shellScript(t, `printf 'user\tip\nalice@example.com\t198.51.100.7\n'`), "GATEWAYS=x"}, nil, 1, "doveadm who answers in a form that is not known here"},
		"nothing at all":       {[]string{"DOVEADM=true", "GATEWAYS=x"}, nil, 1, "doveadm who answers in a form that is not known here"},
		"cannot ask mailgate":  {[]string{who, "SESSIONS=false"}, nil, 1, "false:"},
		"an odd name":          {[]string{who, "GATEWAYS=x"}, []string{`"login":"alice@`, `"login":"a\"lice@`}, 1, "cannot read whom this is about"},
		"a name in another":    {[]string{who, "GATEWAYS=192.0.2.10"}, []string{`"by":"`, `"by":"\"old\":{\"login\":\"bob\"`}, 3, past + "198.51.100.7 (2 times), 2001:db8::7" + end},
	} {
		t.Run(name, func(t *testing.T) {
			code, says := example(t, "doveadm-who", x.env, x.changes...)
			if code != x.code || says != x.says {
				t.Errorf("exit %d, %q; want %d, %q", code, says, x.code, x.says)
			}
		})
	}
}

// TestCloseDirectDoor: what each event does to the file, and that Dovecot sees each change: it looks at the time, in whole seconds.
func TestCloseDirectDoor(t *testing.T) {
	door := filepath.Join(t.TempDir(), "closed")
	env := []string{"DOOR=" + door}
	if code, says := example(t, "close-direct-door", env, `"before"`, `"after"`); code != 1 || !strings.Contains(says, "is not there") {
		t.Errorf("exit %d, %q: a file that nobody reads closes no door", code, says)
	}
	if err := os.WriteFile(door, []byte("bob@example.com:::::::\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	var last time.Time
	const bob, alice = "bob@example.com:::::::\n", "alice@example.com:::::::\n"
	for i, x := range []struct {
		event, from string
		want        string
	}{
		{"before", "old", bob}, {"after", "old", bob + alice}, {"after", "old", bob + alice}, {"before", "new", bob}, {"abort", "new", bob + alice},
		{"after", "new", bob}, {"after", "old", bob + alice}, {"abort", "old", bob},
	} {
		to := map[string]string{"old": "new", "new": "old"}[x.from]
		code, says := example(t, "close-direct-door", env, `"event":"before"`, `"event":"`+x.event+`"`, `"from":"old"`, `"from":"`+x.from+`"`, `"to":"new"`, `"to":"`+to+`"`,
			`"login":"alice@`, `"login":"Alice@`)
		b, err := os.ReadFile(door)
		if err != nil || code != 0 || string(b) != x.want {
			t.Errorf("%d %s from %s: exit %d, %s; %q, want %q", i, x.event, x.from, code, says, b, x.want)
		}
		st, err := os.Stat(door)
		if err != nil || st.Mode().Perm() != 0o640 {
			t.Error(st.Mode(), err)
		}
		if at := st.ModTime().Truncate(time.Second); i > 0 && i != 2 && !at.After(last) {
			t.Errorf("%d %s from %s: Dovecot does not see the change: %s, before %s", i, x.event, x.from, at, last)
		}
		last = st.ModTime().Truncate(time.Second)
	}
	for _, odd := range []string{`"login":"a:b@`, `"login":"a b@`, `"login":"a\nb@`, `"login":"-a@`, `"x":"@`} {
		if code, says := example(t, "close-direct-door", env, `"event":"before"`, `"event":"after"`, `"login":"alice@`, odd); code != 1 || !strings.Contains(says, "cannot tell Dovecot") {
			t.Errorf("%s: exit %d, %q", odd, code, says)
		}
	}
	if left, _ := filepath.Glob(door + ".*"); len(left) != 1 { // the lock
		t.Errorf("left: %q", left)
	}
}
