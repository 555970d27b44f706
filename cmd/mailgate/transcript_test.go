package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// relay stands between a client and a server and keeps what each of them says.
type relay struct {
	addr string
	l    net.Listener
	wg   sync.WaitGroup
	mu   sync.Mutex
	all  []*wire
}

// wire is one connection: what the client sent and what the server sent.
type wire struct{ client, server bytes.Buffer }

func newRelay(t *testing.T, target string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{addr: l.Addr().String(), l: l}
	r.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", target)
			if err != nil {
				c.Close()
				continue
			}
			w := &wire{}
			r.mu.Lock()
			r.all = append(r.all, w)
			r.mu.Unlock()
			r.wg.Go(func() { relayPass(s, c, &w.client) })
			r.wg.Go(func() { relayPass(c, s, &w.server) })
		}
	})
	return r
}

// pass copies one direction, keeps it, and hands the end on.
func relayPass(to, from net.Conn, keep *bytes.Buffer) {
	_, err := io.Copy(to, io.TeeReader(from, keep))
	if w, ok := to.(*net.TCPConn); ok && err == nil {
		_ = w.CloseWrite()
		return
	}
	to.Close()
	from.Close()
}

// end waits for the connections to end and returns them in the order that they were made.
func (r *relay) end() []*wire {
	r.l.Close()
	r.wg.Wait()
	return r.all
}

// imapTranscript is what was said behind the login, tags numbered anew, in two parts: all that the client said, then
// all that the server said. What a server makes up (times, UIDVALIDITY) is put out of sight.
func imapTranscript(t *testing.T, w *wire) string {
	t.Helper()
	n := &tags{names: map[string]string{}}
	var client, server strings.Builder
	login := n.client(t, &client, bufio.NewReader(&w.client))
	n.server(t, &server, bufio.NewReader(&w.server), login)
	return "client:\n" + client.String() + "server:\n" + server.String()
}

// tags gives each tag the number of its command behind the login.
type tags struct{ names map[string]string }

var literalEnd = regexp.MustCompile(`\{(\d+)(\+?)\}\r?\n$`)

// client reads the client's commands; those up to the login are left out. It returns the login's tag.
func (n *tags) client(t *testing.T, out *strings.Builder, r *bufio.Reader) (login string) {
	idle := false
	for {
		line, err := r.ReadString('\n')
		if line == "" && err != nil {
			return login
		}
		tag, rest, _ := strings.Cut(line, " ")
		if idle {
			tag, rest, idle = "", line, false
		}
		whole := rest
		for m := literalEnd.FindStringSubmatch(line); m != nil; m = literalEnd.FindStringSubmatch(line) {
			size, _ := strconv.Atoi(m[1])
			b := make([]byte, size)
			if _, err := io.ReadFull(r, b); err != nil {
				t.Errorf("the client's literal ends early: %v", err)
				return login
			}
			line, _ = r.ReadString('\n')
			whole += string(b) + line
		}
		word, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(rest)), " ")
		switch {
		case login != "" && len(n.names) == 0 && !strings.Contains(strings.TrimSpace(line), " "): // a response
		case login != "" && tag != "":
			n.names[tag] = "T" + strconv.Itoa(len(n.names)+1)
			out.WriteString(n.names[tag] + " " + whole)
		case login != "":
			out.WriteString(whole)
		case word == "LOGIN" || word == "AUTHENTICATE":
			login = tag
		}
		idle = word == "IDLE"
	}
}

// server reads the server's responses behind its answer to the login.
func (n *tags) server(t *testing.T, out *strings.Builder, r *bufio.Reader, login string) {
	begun, caps := false, ""
	for {
		line, err := r.ReadString('\n')
		if line == "" && err != nil {
			if !begun {
				t.Error("no login in the transcript")
			}
			return
		}
		tag, rest, _ := strings.Cut(line, " ")
		if !begun {
			// A client that asked for them before hears its new capabilities untagged; in the tagged OK they stand too
			// when the gateway speaks. Their place does not matter, their content does.
			if list, ok := strings.CutPrefix(line, "* CAPABILITY "); ok {
				caps = strings.TrimSpace(list)
			} else if begun = tag == login; begun {
				text := strings.TrimPrefix(rest, "OK ")
				if list, after, ok := strings.Cut(strings.TrimPrefix(text, "[CAPABILITY "), "] "); ok {
					caps, text = list, after
				}
				out.WriteString("login: " + caps + "\n" + text)
			} else if tag != "*" {
				caps = ""
			}
			continue
		}
		if name := n.names[tag]; name != "" {
			line = name + " " + rest
		}
		out.WriteString(line)
		for m := literalEnd.FindStringSubmatch(line); m != nil && strings.HasPrefix(line, "*"); m = nil {
			size, _ := strconv.Atoi(m[1])
			if _, err := io.CopyN(out, r, int64(size)); err != nil {
				t.Errorf("the server's literal ends early: %v", err)
				return
			}
		}
	}
}

// smtpTranscript is what was said behind AUTH; all of it when there was none.
func smtpTranscript(w *wire) string {
	client, server := w.client.String(), w.server.String()
	if i := strings.Index(server, "\n235 "); i >= 0 {
		turns := 1 + strings.Count(server[:i], "\n334 ") // lines of the client up to there: AUTH and its responses
		at := strings.Index("\n"+client, "\nAUTH ")
		for ; turns > 0 && at >= 0; turns-- {
			at += strings.IndexByte(client[at:], '\n') + 1
		}
		client, server = client[max(at, 0):], server[i+1:]
	}
	return "client:\n" + client + "server:\n" + server
}

// unseen is what servers and clients make up afresh each time, or what names an address.
var unseen = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(` \(\d+\.\d+ \+ [^)\n]*secs\)`), ""},
	{regexp.MustCompile(`(UIDVALIDITY|APPENDUID|COPYUID) \d+`), "$1 V"},
	{regexp.MustCompile(`(Far|Near)UidValidity \d+`), "$1 V"},
	{regexp.MustCompile(`"[ \d]\d-\w{3}-\d{4} [\d:]{8} [+-]\d{4}"`), `"D"`},
	{regexp.MustCompile(`(\* LIST \([^)\n]*) \\(Un)?Marked`), "$1"},        // Dovecot tells by the second when a folder was changed
	{regexp.MustCompile(`\d+ bytes queued`), "N bytes queued"},             // a relay's Received is longer by the name of its client
	{regexp.MustCompile(`(?m)^1\d{9}$`), "V"},                              // in mbsync's .uidvalidity
	{regexp.MustCompile(`(?m)^(250-.*\n)+250 .*$`), "250 what is offered"}, // EHLO: the intersection of both sides
	{regexp.MustCompile(`(?m)^Maildir notice: sleeping.*\n`), ""},          // mbsync and a second that is not over
	{regexp.MustCompile(`INTERNALDATE "[^"]*"`), `INTERNALDATE "D"`},
	{regexp.MustCompile(`(?m)^( [-~]> )?(Date|Message-I[dD]|X-TUID):.*$`), "$1$2: X"},
	{regexp.MustCompile(`(?m)^(Received|Return-Path|Delivered-To):.*\r?\n([ \t].*\r?\n)*`), ""},
	{regexp.MustCompile(`(queued as|from|with E?SMTPS?A? id) [0-9A-Za-z]{8,}`), "$1 Q"},
	{regexp.MustCompile(`127\.0\.0\.1(:\d+)?|localhost:\d+`), "ADDRESS"},
	{regexp.MustCompile(` (LOGIN-REFERRALS|MAILBOX-REFERRALS|COMPRESS=DEFLATE)\b`), ""}, // what imapwire.Offerable takes out
	{regexp.MustCompile(`MAILBOXID \(\w+\)`), "MAILBOXID (M)"},
	{regexp.MustCompile(`(?m)^(\*\*\* Finished account 'a' in) [\d:]+$`), "$1 no time"}, // offlineimap
	{sessionName, "SESSIONID"},
	{regexp.MustCompile(`(?m)^(Logging in|Authenticating \(LOGIN\))\.\.\.$`), "Logging in..."}, // mutt, by what is offered before the login
	{regexp.MustCompile(`Completed \(\d+\.\d+ secs?\b`), "Completed (N secs"},
}

func normal(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	for _, u := range unseen {
		s = u.re.ReplaceAllString(s, u.to)
	}
	return s
}

// differ shows two texts from the first line that differs, "" when none does.
func differ(direct, through string) string {
	if direct == through {
		return ""
	}
	a, b := strings.Split(direct, "\n"), strings.Split(through, "\n")
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	part := func(s []string) string { return strings.Join(s[max(0, min(i-3, len(s))):min(len(s), i+8)], "\n  ") }
	return fmt.Sprintf("from line %d:\ndirect\n  %.3000s\nthrough the gateway\n  %.3000s", i+1, part(a), part(b))
}
