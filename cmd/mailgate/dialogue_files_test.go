package main

import (
	"bytes"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mailgate/admin"
	"mailgate/mailtest"
	"mailgate/mailtest/lab"
)

// dialogueFile is one of testdata/dialogues: what a client says, and roughly what he hears. It is held directly with a host and through the
// gateway, and what is heard behind the login must be the same to the letter; at the end the gateway must know that the session stands
// between two commands. Its steps are those of mailtest.Talk.Dialogue; lines of the
// client's that follow each other travel as one segment. {user}, {pass} and {plain} are the login, {length} is
// that of {plain}. Lines that begin with @ set the scene:
//
//	@fresh        the account is put anew before each time, and compared afterwards
//	@before       it begins before the login; then the steps say all that must be the same
//	@gateway      it is held through the gateway alone
//	@hosts NAME…  not for other hosts
//
// and "!tls" makes the handshake.
type dialogueFile struct {
	protocol      string
	name          string
	fresh, before bool
	gateway       bool
	tls           bool
	hosts         []string
	steps         []string
}

// dialogueFiles reads those of a protocol: those that change something come last.
func dialogueFiles(t *testing.T, protocol string) (all []*dialogueFile) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "dialogues", protocol, "*.dlg"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues of %s: %v", protocol, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		must(t, err)
		d := &dialogueFile{protocol: protocol, name: strings.TrimSuffix(filepath.Base(file), ".dlg")}
		segment := ""
		flush := func() {
			if segment != "" {
				d.steps = append(d.steps, `C" `+strconv.Quote(segment))
			}
			segment = ""
		}
		for n, line := range strings.Split(string(b), "\n") {
			switch {
			case line == "" || line[0] == '#':
			case line == "@fresh":
				d.fresh = true
			case line == "@gateway":
				d.gateway = true
			case line == "@before":
				d.before = true
			case strings.HasPrefix(line, "@hosts "):
				d.hosts = strings.Fields(line)[1:]
			case strings.HasPrefix(line, "C:"):
				segment += strings.TrimPrefix(line[2:], " ") + "\r\n"
			case strings.HasPrefix(line, `C"`):
				raw, err := strconv.Unquote(strings.TrimSpace(line[2:]))
				if err != nil {
					t.Fatalf("%s:%d: %v", file, n+1, err)
				}
				segment += raw
			default:
				flush()
				d.tls = d.tls || line == "!tls"
				d.steps = append(d.steps, line)
			}
		}
		flush()
		all = append(all, d)
	}
	slices.SortStableFunc(all, func(a, b *dialogueFile) int {
		switch {
		case a.fresh == b.fresh:
			return 0
		case b.fresh:
			return -1
		}
		return 1
	})
	return all
}

// spoken is where a dialogue is held.
type spoken struct{ addr, ca string }

// tee keeps what is read.
type tee struct {
	net.Conn
	b *bytes.Buffer
}

func (c tee) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.b.Write(b[:n])
	return n, err
}

// CloseWrite hands the client's end on.
func (c tee) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

// dialogueLogin is how a client logs in. What POP3's server says to PASS, which comes behind it, is passed on and compared.
var dialogueLogin = map[string]string{
	"pop3":  "S: +OK ...\nC: USER {user}\nS: +OK...",
	"sieve": "S~ OK...\nC: AUTHENTICATE \"PLAIN\" \"{plain}\"\nS: OK...",
}

// sessionName is what Cyrus makes up for each session.
var sessionName = regexp.MustCompile(`SESSIONID=<[^>]*>`)

// compare holds a dialogue in both ways.
func (d *dialogueFile) compare(t *testing.T, who account, where [2]spoken, anew func(), left func() string, kick func(user string) admin.Kicked) {
	if d.hosts != nil && !slices.Contains(d.hosts, who.Name) {
		return
	}
	fill := strings.NewReplacer("{user}", lab.User(who.n), "{pass}", lab.Password(who.n), "{plain}", plain(lab.User(who.n), lab.Password(who.n)),
		"{length}", strconv.Itoa(len(plain(lab.User(who.n), lab.Password(who.n)))))
	var heard, after [2]string
	for i, at := range where {
		if d.gateway && i == 0 {
			continue
		}
		if d.fresh {
			anew()
		}
		conn, err := net.Dial("tcp", at.addr)
		must(t, err)
		c := tee{conn, &bytes.Buffer{}}
		k := mailtest.NewTalk(titled{t, []string{"direct", "through the gateway"}[i]}, c)
		if !d.before {
			k.Dialogue(fill.Replace(dialogueLogin[d.protocol]))
			c.b.Reset()
			if d.protocol == "pop3" {
				k.Dialogue(fill.Replace("C: PASS {pass}\nS: +OK..."))
			}
		}
		for _, step := range d.steps {
			if step == "!tls" {
				k.StartTLS(&tls.Config{RootCAs: pool(t, at.ca), ServerName: "localhost"})
				continue
			}
			k.Dialogue(fill.Replace(step))
		}
		if last := d.steps[len(d.steps)-1]; i == 1 && !d.before && last != "!end" && last != "!close" { // we know where the session stands
			if k := kick(lab.User(who.n)); k.Asked == 0 || k.Left != 0 {
				t.Errorf("the session does not stand between two commands: %+v", k)
			}
		}
		k.Close()
		heard[i] = sessionName.ReplaceAllString(c.b.String(), "SESSIONID")
		heard[i] = strings.Replace(heard[i], "\r\nSTLS\r\n", "\r\n", 1) // Courier offers it behind the login too, to who came in clear
		if d.fresh {
			after[i] = left()
		}
	}
	if d.before || d.gateway {
		return
	}
	if diff := differ(strings.ReplaceAll(heard[0], "\r", `\r`), strings.ReplaceAll(heard[1], "\r", `\r`)); diff != "" {
		t.Error(diff)
	}
	if diff := differ(after[0], after[1]); diff != "" {
		t.Errorf("left %s", diff)
	}
}
