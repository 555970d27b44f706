package backend

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/mailtest/lab"
)

// A dialogue file holds what was said on a connection to a real server, and what the engine made of it: "C: " and "S: " are
// lines of client and server, literals where they stand; "\x" and two digits are a byte that is not printable; "\x-" at the
// end says that no CRLF follows. "R: " are the lines of the scenario, "#" comments. MAILGATE_RECORD=1 makes them anew.

// said is a stretch of bytes of one end.
type said struct {
	by   byte // 'C' or 'S'
	text []byte
}

func writeDialogue(title string, all []said, report []string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n", title)
	for _, s := range all {
		lines := strings.Split(string(s.text), "\r\n")
		for i, l := range lines {
			if i == len(lines)-1 {
				if l == "" {
					break
				}
				l += `\x-`
			}
			fmt.Fprintf(&b, "%c: %s\n", s.by, escape(l))
		}
	}
	for _, r := range report {
		fmt.Fprintf(&b, "R: %s\n", r)
	}
	return b.Bytes()
}

func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c > '~', c == '\\' && strings.HasPrefix(s[i+1:], "x") && s[i:] != `\x-`:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

var escaped = regexp.MustCompile(`\\x[0-9a-f]{2}`)

func readDialogue(t testing.TB, name string) (all []said, report []string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		text := ""
		if len(l) >= 3 {
			text = l[3:]
		}
		switch {
		case strings.HasPrefix(l, "#"):
		case strings.HasPrefix(l, "R: "):
			report = append(report, text)
		case strings.HasPrefix(l, "C: ") || strings.HasPrefix(l, "S: "):
			text, open := strings.CutSuffix(text, `\x-`)
			text = escaped.ReplaceAllStringFunc(text, func(x string) string {
				c, _ := strconv.ParseUint(x[2:], 16, 8)
				return string([]byte{byte(c)})
			})
			if !open {
				text += "\r\n"
			}
			if n := len(all); n > 0 && all[n-1].by == l[0] {
				all[n-1].text = append(all[n-1].text, text...)
			} else {
				all = append(all, said{l[0], []byte(text)})
			}
		default:
			t.Fatalf("%s: %q", name, l)
		}
	}
	return all, report
}

// TestReplay plays the servers of the dialogue files: the engine says the same as it did then, and tells the same.
func TestReplay(t *testing.T) {
	for _, name := range []string{"dovecot", "cyrus", "courier"} {
		t.Run(name, func(t *testing.T) {
			all, want := readDialogue(t, filepath.Join("testdata", "dialogues", name+".txt"))
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				defer l.Close()
				conn, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				play(t, conn, all)
			}()
			s := &scenario{t: t, ctx: ctx(t), c: dialed(t, l.Addr().String(), lab.User(1), lab.Password(1))}
			s.run()
			<-ended
			differ(t, "the report", strings.Join(s.out, "\n"), strings.Join(want, "\n"))
		})
	}
}

// play is the server's end of a dialogue.
func play(t testing.TB, conn net.Conn, all []said) {
	for i, s := range all {
		if s.by == 'S' {
			if _, err := conn.Write(s.text); err != nil {
				t.Error(err)
				return
			}
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		b := make([]byte, len(s.text))
		if n, err := io.ReadFull(conn, b); err != nil || !bytes.Equal(b, s.text) {
			t.Errorf("stretch %d: the engine says %q, %v; want %q", i, b[:n], err, s.text)
			return
		}
	}
}

// recorder stands between the engine and a server, and keeps what goes through in the order in which it came.
type recorder struct {
	l   net.Listener
	wg  sync.WaitGroup
	mu  sync.Mutex
	all []said
}

func record(t testing.TB, to string) *recorder {
	t.Helper()
	r := &recorder{}
	var err error
	if r.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	r.wg.Go(func() {
		client, err := r.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", to)
		if err != nil {
			_ = client.Close()
			return
		}
		r.wg.Go(func() { r.pass('C', client, server) })
		r.pass('S', server, client)
	})
	t.Cleanup(func() {
		_ = r.l.Close()
		r.wg.Wait()
	})
	return r
}

// pass hands on what one end says until it ends.
func (r *recorder) pass(by byte, from, to net.Conn) {
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			r.mu.Lock()
			if k := len(r.all); k > 0 && r.all[k-1].by == by {
				r.all[k-1].text = append(r.all[k-1].text, b[:n]...)
			} else {
				r.all = append(r.all, said{by, bytes.Clone(b[:n])})
			}
			r.mu.Unlock()
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// volatile takes out of a dialogue what is another at each run, the same everywhere: it must not change a literal's length.
func volatile(b []byte) []byte {
	for _, x := range []struct{ pattern, with string }{
		{`UIDVALIDITY (\d+)`, "%d"}, {`(?:MAILBOXID|EMAILID|THREADID) \(([^)\s]+)\)`, "id%d"}, {`SESSIONID=(<[^>]+>)`, "<session%d>"},
	} {
		known := map[string]string{}
		for _, m := range regexp.MustCompile(x.pattern).FindAllSubmatch(b, -1) {
			old := string(m[1])
			if known[old] != "" || old == "" {
				continue
			}
			n := len(known) + 1
			if x.with == "%d" {
				n += 1000000000
			}
			known[old] = fmt.Sprintf(x.with, n)
			edges := `\b`
			if old[0] == '<' {
				edges = ""
			}
			b = regexp.MustCompile(edges+regexp.QuoteMeta(old)+edges).ReplaceAll(b, []byte(known[old]))
		}
	}
	b = regexp.MustCompile(`\(\d+\.\d+ \+ \d+\.\d+( \+ \d+\.\d+)? secs\)`).ReplaceAll(b, []byte("(0.001 + 0.000 secs)"))
	b = regexp.MustCompile(`\(\d+\.\d+ secs?\)`).ReplaceAll(b, []byte("(0.001 sec)"))
	if host, err := os.Hostname(); err == nil {
		b = bytes.ReplaceAll(b, []byte(host), []byte("mail"))
	}
	return b
}

// TestRecord makes the dialogue files anew from the servers of the lab. It changes nothing but those files, and only when
// it is asked to: without MAILGATE_RECORD it holds what is written there against the format.
func TestRecord(t *testing.T) {
	dir := filepath.Join("testdata", "dialogues")
	if os.Getenv("MAILGATE_RECORD") == "" {
		for _, name := range []string{"dovecot", "cyrus", "courier"} {
			all, report := readDialogue(t, filepath.Join(dir, name+".txt"))
			b, err := os.ReadFile(filepath.Join(dir, name+".txt"))
			title, _, _ := strings.Cut(string(b), "\n")
			if again := writeDialogue(strings.TrimPrefix(title, "# "), all, report); err != nil || !bytes.Equal(again, b) {
				differ(t, name, string(again), string(b))
			}
			if x := volatile(bytes.Clone(b)); !bytes.Equal(x, b) {
				differ(t, name+": something of a machine is left", string(b), string(x))
			}
		}
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, start := range map[string]func() lab.Host{
		"dovecot": func() lab.Host { return lab.Start(t).New },
		"cyrus":   func() lab.Host { return lab.StartCyrus(t, lab.CyrusSetting("munge8bit: no")).Host },
		"courier": func() lab.Host { return lab.StartCourier(t).Host },
	} {
		r := record(t, lab.Addr(start().IMAP))
		s := &scenario{t: t, ctx: ctx(t), c: dialed(t, r.l.Addr().String(), lab.User(1), lab.Password(1))}
		s.run()
		r.wg.Wait()
		title := "The scenario of the engine's tests with " + strings.ToUpper(name[:1]) + name[1:] + "."
		b := volatile(writeDialogue(title, r.all, s.out))
		if err := errors.Join(os.WriteFile(filepath.Join(dir, name+".txt"), b, 0o644)); err != nil {
			t.Error(err)
		}
	}
}
