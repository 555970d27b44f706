package traffic

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"mailgate/mailtest/lab"
)

// answerTime bounds the wait for an answer. A login may be held for as long as a flip takes.
const answerTime = 90 * time.Second

// wire is a connection, line by line.
type wire struct {
	net.Conn
	r *bufio.Reader
}

func dial(addr string) (*wire, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	return &wire{c, bufio.NewReader(c)}, nil
}

// oneOf chooses a gateway.
func oneOf(addrs []string, rnd *rand.Rand) string { return addrs[rnd.IntN(len(addrs))] }

func (w *wire) send(format string, args ...any) error {
	_ = w.SetDeadline(time.Now().Add(answerTime))
	_, err := fmt.Fprintf(w, format+"\r\n", args...)
	return err
}

var literalOf = regexp.MustCompile(`\{(\d+)\}$`)

// line reads one, with the literals in it.
func (w *wire) line() (string, error) {
	var b strings.Builder
	for {
		line, err := w.r.ReadString('\n')
		if err != nil {
			return "", err
		}
		line = strings.TrimRight(line, "\r\n")
		b.WriteString(line)
		m := literalOf.FindStringSubmatch(line)
		if m == nil {
			return b.String(), nil
		}
		n, _ := strconv.Atoi(m[1])
		body := make([]byte, n)
		if _, err := io.ReadFull(w.r, body); err != nil {
			return "", err
		}
		b.WriteString("\r\n")
		b.Write(body)
	}
}

// Refusal is an answer that says no.
type Refusal struct{ Command, Text string }

func (e *Refusal) Error() string { return e.Command + ": " + e.Text }

// errLater means that the gateway asks to come again.
var errLater = errors.New("later")

// wrongPassword tells what a mail program takes for a wrong password: it asks its user, or locks him out.
func wrongPassword(text string) bool {
	for _, code := range []string{"AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "PRIVACYREQUIRED", "[AUTH]", "535 ", "534 ", "530 "} {
		if strings.Contains(text, code) {
			return true
		}
	}
	return false
}

// passing tells what it takes for trouble that passes.
func passing(text string) bool {
	for _, code := range []string{"[UNAVAILABLE]", "[INUSE]", "[SERVERBUG]", "[LIMIT]", "[SYS/TEMP]", "[IN-USE]", "[LOGIN-DELAY]", "421 ", "421-", "454 ", "451 ", "450 "} {
		if strings.Contains(text, code) {
			return true
		}
	}
	return false
}

// imap is an IMAP session.
type imap struct {
	*wire
	box  *Box
	span *Span
	tag  int
	side int
	caps string
}

// login opens a session at the gateway and finds out on which side it is.
func (c *Crowd) login(b *Box, client string, rnd *rand.Rand) (*imap, error) {
	w, err := dial(oneOf(c.IMAP, rnd))
	if err != nil {
		return nil, errLater
	}
	s := &imap{wire: w, box: b, side: unknown}
	if err := c.letIn(s, client); err != nil {
		w.Close()
		return nil, err
	}
	return s, nil
}

func (c *Crowd) letIn(s *imap, client string) error {
	_ = s.SetDeadline(time.Now().Add(answerTime))
	greeting, err := s.line()
	if err != nil {
		return errLater
	}
	if !strings.HasPrefix(greeting, "* OK") {
		return c.turnedAway(s.box, client, greeting)
	}
	began := time.Now()
	_, err = s.do("LOGIN %s %s", lab.User(s.box.n), lab.Password(s.box.n))
	var no *Refusal
	switch {
	case errors.As(err, &no):
		return c.turnedAway(s.box, client, no.Text)
	case err != nil:
		c.count("logins cut")
		return errLater
	}
	s.span = s.box.begun(client, began)
	c.count("logins")
	lines, err := s.do("CAPABILITY")
	if err != nil {
		return errLater
	}
	s.caps = strings.ToUpper(strings.Join(lines, " "))
	if lines, err = s.do(`LIST "" ""`); err != nil {
		return errLater
	}
	sep := ""
	for _, line := range lines {
		if f := strings.Fields(line); len(f) >= 4 && f[1] == "LIST" {
			sep = strings.Trim(f[3], `"`)
		}
	}
	s.side = c.sideOf(s.caps, sep)
	s.box.mu.Lock()
	s.span.Side = s.side
	s.box.mu.Unlock()
	return nil
}

// sideOf tells hosts apart by what they are: Cyrus has URLAUTH, the others differ by their separators.
func (c *Crowd) sideOf(caps, sep string) int {
	for side, h := range c.Hosts {
		if (h.Name == "cyrus") == strings.Contains(caps, "URLAUTH") && h.Sep == sep {
			return side
		}
	}
	return unknown
}

// turnedAway looks at what a client is told who is not let in.
func (c *Crowd) turnedAway(b *Box, client, text string) error {
	switch {
	case wrongPassword(text) || !passing(text):
		c.odd("user%d's %s was told %q, which reads as a wrong password", b.n, client, text)
	case strings.Contains(text, "[UNAVAILABLE]"), strings.Contains(text, "[SYS/TEMP]"):
		c.count("turned away for a while")
	default:
		c.count("turned away: " + text)
	}
	return errLater
}

// do sends a command and gives the untagged lines. NO and BAD are *Refusal; any other error means that the session has ended, and nobody
// knows what became of the command.
func (s *imap) do(format string, args ...any) ([]string, error) {
	s.tag++
	command := fmt.Sprintf(format, args...)
	sent := time.Now()
	if err := s.send("x%d %s", s.tag, command); err != nil {
		return nil, err
	}
	return s.answer(command, sent)
}

func (s *imap) answer(command string, sent time.Time) (lines []string, err error) {
	for {
		line, err := s.line()
		if err != nil {
			if len(lines) > 0 && strings.HasPrefix(lines[len(lines)-1], "* BYE") {
				err = fmt.Errorf("%s (%w)", lines[len(lines)-1], err)
			}
			return nil, err
		}
		if rest, ok := strings.CutPrefix(line, fmt.Sprintf("x%d ", s.tag)); ok {
			if !strings.HasPrefix(rest, "OK") {
				word, _, _ := strings.Cut(command, " ")
				if word != "LOGIN" {
					word = command
				}
				return lines, &Refusal{word, rest}
			}
			if s.span != nil {
				s.box.done(s.span, sent)
			}
			return lines, nil
		}
		lines = append(lines, line)
	}
}

// put appends a message. sent tells whether the text was on its way when it failed: before that it cannot have been stored.
func (s *imap) put(box, flags string, text []byte) (sent bool, err error) {
	s.tag++
	command := fmt.Sprintf("APPEND %q (%s) {%d}", box, flags, len(text))
	if err := s.send("x%d %s", s.tag, command); err != nil {
		return false, err
	}
	for {
		line, err := s.line()
		switch {
		case err != nil:
			return false, err
		case line == "" || line[0] == '+':
		case strings.HasPrefix(line, "* "):
			continue
		default:
			return false, &Refusal{command, line}
		}
		break
	}
	at := time.Now()
	if _, err := s.Write(append(text[:len(text):len(text)], '\r', '\n')); err != nil {
		return true, err
	}
	_, err = s.answer(command, at)
	return true, err
}

// standIn is the subject of what Courier gives for a message whose file another session has renamed or removed.
const standIn = "message unavailable"

var (
	uidOf     = regexp.MustCompile(`\bUID (\d+)`)
	flagsOf   = regexp.MustCompile(`\bFLAGS \(([^)]*)\)`)
	subjectOf = regexp.MustCompile(`(?im)^Subject: *([^\r\n]*)`)
	existsOf  = regexp.MustCompile(`^\* (\d+) EXISTS`)
)

// list opens a folder and reads what is in it. whole is false when some of it could not be read at this moment.
func (s *imap) list(raw string) (items []item, whole bool, err error) {
	lines, err := s.do("SELECT %q", raw)
	if err != nil {
		return nil, false, err
	}
	whole = true
	n := 0
	for _, line := range lines {
		if m := existsOf.FindStringSubmatch(line); m != nil {
			n, _ = strconv.Atoi(m[1])
		}
	}
	if n == 0 {
		return nil, true, nil
	}
	if lines, err = s.do("UID FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])"); err != nil {
		return nil, false, err
	}
	for _, line := range lines {
		uid, flags, subject := uidOf.FindStringSubmatch(line), flagsOf.FindStringSubmatch(line), subjectOf.FindStringSubmatch(line)
		switch {
		case uid == nil || flags == nil || subject == nil:
		case subject[1] == standIn:
			whole = false
		default:
			items = append(items, item{subject[1], plain(strings.Fields(flags[1])), uid[1]})
		}
	}
	return items, whole, nil
}
