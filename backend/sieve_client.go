package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"mailgate/config"
)

// sievePatience is how long an answer may take.
const sievePatience = 2 * time.Minute

// SieveScript is a script of a user: LISTSCRIPTS (RFC 5804, section 2.7).
type SieveScript struct {
	Name   string // UTF-8, as it goes back to the server
	Active bool
}

// SieveClient is a user's session at a ManageSieve server (RFC 5804). It belongs to one goroutine. An error that SieveRefused knows is
// the server's answer, and leaves the session usable, as does ErrScriptSize; any other ends it.
type SieveClient struct {
	c        *conn
	caps     SieveCapabilities
	patience time.Duration
	err      error // why it has ended
}

// Host is the name of the host in the configuration.
func (c *SieveClient) Host() string { return c.c.host.Name }

// Capabilities are those behind the login.
func (c *SieveClient) Capabilities() SieveCapabilities { return c.caps }

// Close ends the connection.
func (c *SieveClient) Close() error { return c.c.Close() }

// Logout says goodbye. The connection is to be closed all the same.
func (c *SieveClient) Logout(ctx context.Context) error {
	_, err := c.do(ctx, "LOGOUT", 0)
	return err
}

// do sends a command and reads its answer.
func (c *SieveClient) do(ctx context.Context, command string, most int, args ...string) (sieveAnswer, error) {
	if c.err != nil {
		return sieveAnswer{}, c.err
	}
	if err := ctx.Err(); err != nil {
		return sieveAnswer{}, err
	}
	a, err := c.talk(ctx, command, most, args)
	switch {
	case err == nil:
		c.c.host.heard(config.Sieve)
	case ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded): // its silence costs a turn of a pass, minutes each
		c.c.host.muted(config.Sieve, err)
	}
	switch {
	case ctx.Err() != nil && err != nil:
		err = context.Cause(ctx)
	case err == nil && a.status != "OK":
		err = &SieveError{Command: command, Status: a.status, Code: a.code, Text: sieveWords(a.text)}
	case err != nil:
		err = fmt.Errorf("%s: %s: %w", c.Host(), command, err)
	}
	if err != nil && SieveRefused(err) == nil {
		c.err = err
		_ = c.c.Close()
	}
	if err == nil && a.big {
		err = ErrScriptSize
	}
	return a, err
}

func (c *SieveClient) talk(ctx context.Context, command string, most int, args []string) (sieveAnswer, error) {
	defer c.c.within(ctx, c.patience)()
	var b strings.Builder
	b.WriteString(command)
	for _, s := range args {
		b.WriteString(" " + s)
	}
	b.WriteString("\r\n")
	if err := c.c.send(b.String()); err != nil {
		// What it said before it closed may tell why.
		r := sieveReader{c: c.c}
		if a, rerr := r.answer(nil); rerr == nil && a.status != "OK" {
			a.status = "BYE"
			return a, nil
		}
		return sieveAnswer{}, err
	}
	r := sieveReader{c: c.c, most: most}
	return r.answer(nil)
}

// cyrus tells a timsieved, which writes names into its lists as they are, without a backslash before a quote.
func (c *SieveClient) cyrus() bool { return strings.HasPrefix(c.caps.Implementation, "Cyrus") }

// List lists the user's scripts, in the server's order.
func (c *SieveClient) List(ctx context.Context) ([]SieveScript, error) {
	a, err := c.do(ctx, "LISTSCRIPTS", 0)
	if err != nil {
		return nil, err
	}
	var out []SieveScript
	for _, l := range a.lines {
		s, ok := c.listed(l)
		if !ok { // half a list is none: what is not in it would seem to be deleted
			c.err = fmt.Errorf("%s: LISTSCRIPTS: %w: %q", c.Host(), errSieveGrammar, printable(l.raw))
			_ = c.c.Close()
			return nil, c.err
		}
		out = append(out, s)
	}
	return out, nil
}

func (c *SieveClient) listed(l sieveLine) (SieveScript, bool) {
	if c.cyrus() || l.bad {
		name, active := strings.CutSuffix(l.raw, " ACTIVE")
		if len(name) >= 2 && name[0] == '"' && name[len(name)-1] == '"' {
			return SieveScript{name[1 : len(name)-1], active}, true
		}
	}
	name, ok := l.string(0)
	return SieveScript{name, l.atom(1) == "ACTIVE"}, ok && !l.bad && (len(l.tokens) == 1 || len(l.tokens) == 2 && l.atom(1) == "ACTIVE")
}

// Findable tells whether the server finds a script of this name again. Cyrus 3.6 takes every name, and then neither lists, gives,
// activates nor deletes what is not plain ASCII, begins or ends with a blank, or is long: it stays for ever.
func (c *SieveClient) Findable(name string) bool {
	if !c.cyrus() {
		return true
	}
	odd := strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r >= 0x7f })
	return !odd && name != "" && strings.TrimSpace(name) == name && len(name) <= 60 && !strings.Contains(name, "=?")
}

// Get reads a script.
func (c *SieveClient) Get(ctx context.Context, name string) (string, error) {
	a, err := c.do(ctx, "GETSCRIPT", MaxScript, sieveString(name))
	if err != nil {
		return "", err
	}
	if len(a.lines) == 1 && len(a.lines[0].tokens) == 1 {
		if text, ok := a.lines[0].string(0); ok {
			return text, nil
		}
	}
	c.err = fmt.Errorf("%s: GETSCRIPT: %w", c.Host(), errSieveGrammar)
	_ = c.c.Close()
	return "", c.err
}

// script writes a script's text: always as a literal, for it has line ends.
func script(text string) string { return "{" + strconv.Itoa(len(text)) + "+}\r\n" + text }

// Check has the server look at a script without storing it (RFC 5804, section 2.12); warnings is what it says of one that it takes.
func (c *SieveClient) Check(ctx context.Context, text string) (warnings string, err error) {
	if c.caps.Version == "" {
		return "", ErrNoCheckScript
	}
	a, err := c.do(ctx, "CHECKSCRIPT", 0, script(text))
	return warning(a), err
}

// Put stores a script, over one of that name. A server that finds fault with it stores nothing (RFC 5804, section 2.6).
func (c *SieveClient) Put(ctx context.Context, name, text string) (warnings string, err error) {
	if len(text) > MaxScript {
		return "", ErrScriptSize
	}
	a, err := c.do(ctx, "PUTSCRIPT", 0, sieveString(name), script(text))
	return warning(a), err
}

func warning(a sieveAnswer) string {
	if a.code != "WARNINGS" {
		return ""
	}
	return sieveWords(a.text)
}

// HaveSpace asks whether a script of size bytes would fit (RFC 5804, section 2.5).
func (c *SieveClient) HaveSpace(ctx context.Context, name string, size int) error {
	_, err := c.do(ctx, "HAVESPACE", 0, sieveString(name), strconv.Itoa(size))
	return err
}

// Activate makes a script the active one, and every other one inactive; "" is for none (RFC 5804, section 2.8).
func (c *SieveClient) Activate(ctx context.Context, name string) error {
	_, err := c.do(ctx, "SETACTIVE", 0, sieveString(name))
	return err
}

// Delete deletes a script that is not active; one that is not there is no error.
func (c *SieveClient) Delete(ctx context.Context, name string) error {
	_, err := c.do(ctx, "DELETESCRIPT", 0, sieveString(name))
	if e := (*SieveError)(nil); errors.As(err, &e) && e.Has("NONEXISTENT") {
		return nil
	}
	return err
}
