package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Append is one APPEND command, with one message or, where the server has MULTIAPPEND, several. Next begins a message
// and returns what its bytes are written to: exactly size of them. Finish ends the command. With LITERAL+ (or LITERAL- up to
// 4096 bytes) nothing is waited for; otherwise Next waits for the server's "+", and when the server says NO instead, Next
// and Finish tell it with the connection unharmed. Between Append and Finish no other command can be sent (callers wait).
// It belongs to one goroutine at a time.
type Append struct {
	c     *Client
	x     *AppendCommand
	name  string
	begun bool
	over  bool  // refused before its end, or not sent at all
	left  int64 // bytes of the present message that are missing
	err   error
}

// AppendCommand is an APPEND that was sent whole.
type AppendCommand struct{ *Command }

// ErrMultiAppend means that the server takes one message a command.
var ErrMultiAppend = errors.New("the server has no MULTIAPPEND")

// ErrBinary means that the server takes no literal8.
var ErrBinary = errors.New("the server has no BINARY")

// MultiAppend tells whether several messages may go in one Append.
func (c *Client) MultiAppend() bool { return c.Has("MULTIAPPEND") }

// Append begins the command.
func (c *Client) Append(ctx context.Context, name string) *Append {
	c.wmu.Lock()
	return &Append{c: c, name: name, x: &AppendCommand{&Command{name: "APPEND", append: true}}}
}

// Next begins a message. Its error is that of Finish.
func (a *Append) Next(ctx context.Context, m AppendMessage) (io.Writer, error) {
	c := a.c
	switch {
	case a.err != nil:
		return nil, a.err
	case a.left > 0:
		return nil, fmt.Errorf("APPEND: %d bytes are missing", a.left)
	case m.Binary && !c.Has("BINARY"):
		return nil, a.stop(ErrBinary)
	case a.begun && !c.MultiAppend():
		return nil, a.stop(ErrMultiAppend)
	}
	if !a.begun {
		a.begun = true
		if !c.begin(a.x.Command) {
			a.over = true
			return nil, a.stop(a.x.err)
		}
		_, _ = c.w.WriteString(a.x.tag + " APPEND ")
		if !c.argument(a.x.Command, str(a.name)) {
			a.over = true
			<-a.x.done
			return nil, a.stop(a.x.err)
		}
	}
	var head strings.Builder
	_, _ = head.WriteString(" (" + strings.Join(m.Flags, " ") + ")")
	if !m.Date.IsZero() {
		_, _ = head.WriteString(" \"" + m.Date.Format("_2-Jan-2006 15:04:05 -0700") + "\"")
	}
	_, _ = head.WriteString(" ")
	if m.Binary {
		_, _ = head.WriteString("~")
	}
	_, _ = c.w.WriteString(head.String())
	a.left = m.Size
	if c.nonSync(m.Size) {
		_, _ = fmt.Fprintf(&c.w, "{%d+}\r\n", m.Size)
		return (*appendWriter)(a), nil
	}
	_, _ = fmt.Fprintf(&c.w, "{%d}\r\n", m.Size)
	if err := c.await(a.x.Command); err != nil {
		a.over, a.left = true, 0
		return nil, a.stop(err)
	}
	return (*appendWriter)(a), nil
}

func (a *Append) stop(err error) error {
	a.err = err
	return err
}

// appendWriter takes the bytes of a message.
type appendWriter Append

// ErrAppendSize means that a message is longer than it was said to be.
var ErrAppendSize = errors.New("APPEND: the message is longer than its literal")

func (w *appendWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > w.left {
		return 0, ErrAppendSize
	}
	n, err := w.c.w.Write(p)
	w.left -= int64(n)
	if err != nil {
		err = w.c.lost(err)
	}
	return n, err
}

// lost waits until it is known why the connection could not be written to: what the server has said of it, or err.
func (c *Client) lost(err error) error {
	c.cannotWrite(err)
	t := time.NewTimer(2 * lastWords)
	defer t.Stop()
	select {
	case <-c.end:
		return c.Err()
	case <-t.C: // the reader is at a handler
		return err
	}
}

// ReadFrom implements io.ReaderFrom by what the source does best.
func (w *appendWriter) ReadFrom(r io.Reader) (int64, error) {
	if t, ok := r.(io.WriterTo); ok {
		return t.WriteTo(struct{ io.Writer }{w})
	}
	return io.Copy(struct{ io.Writer }{w}, r)
}

// Finish ends the command and flushes.
func (a *Append) Finish() *AppendCommand {
	c := a.c
	defer c.wmu.Unlock()
	switch {
	case !a.begun:
		a.x.Command = failed("APPEND", a.err)
	case a.over: // the server has ended it
	case a.left > 0:
		c.breakOff(fmt.Errorf("APPEND: %d bytes are missing", a.left))
	default: // also when the next message could not begin: those before are whole
		_, _ = c.w.WriteString("\r\n")
		c.flush()
	}
	return a.x
}

// Abandon gives up in the middle of a message, which costs the connection: what was begun is not stored by any server that
// keeps RFC 3501.
func (a *Append) Abandon(err error) {
	defer a.c.wmu.Unlock()
	if a.begun && !a.over {
		a.c.breakOff(err)
	}
}

// breakOff ends the connection; one that could not be written to any more the reader ends, who knows better why. The caller
// holds wmu.
func (c *Client) breakOff(err error) {
	c.mu.Lock()
	unsent := c.unsent
	c.mu.Unlock()
	if unsent != nil {
		return
	}
	if err == nil {
		err = net.ErrClosed
	}
	_ = c.fail(err)
	_ = c.conn.Close()
}

// Result waits for APPENDUID.
func (x *AppendCommand) Result(ctx context.Context) (Appended, error) {
	if err := x.Wait(ctx); err != nil {
		return Appended{}, err
	}
	var a Appended
	if code := x.Code(); code.Name == "APPENDUID" {
		f := strings.Fields(code.Args)
		if len(f) != 2 {
			return a, nil
		}
		_, _ = fmt.Sscan(f[0], &a.Validity)
		uids, err := expand(f[1], maxExpand)
		if err != nil {
			return a, fmt.Errorf("APPENDUID %s: %w", printable(code.Args), err)
		}
		a.UIDs = uids
	}
	return a, nil
}

// idleRenewal is how often IDLE is renewed: servers end it after 30 minutes (RFC 2177).
const idleRenewal = 25 * time.Minute

// Idle lets the server tell of changes (RFC 2177), to the handlers of SetUntagged, until ctx ends: then it returns nil.
// Where the server has no IDLE it asks by NOOP every minute.
func (c *Client) Idle(ctx context.Context) error {
	for ctx.Err() == nil {
		if !c.Has("IDLE") {
			if err := c.Noop().Wait(context.WithoutCancel(ctx)); err != nil {
				return err
			}
			sleep(ctx, time.Minute)
			continue
		}
		if err := c.idleOnce(ctx); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (c *Client) idleOnce(ctx context.Context) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	x := &Command{name: "IDLE", patient: true}
	if !c.begin(x) {
		return x.err
	}
	_, _ = c.w.WriteString(x.tag + " IDLE\r\n")
	if err := c.await(x); err != nil {
		return err
	}
	t := time.NewTimer(idleRenewal)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-x.done:
		return x.err
	}
	c.mu.Lock()
	x.patient = false
	c.deadline()
	c.mu.Unlock()
	_, _ = c.w.WriteString("DONE\r\n")
	c.flush()
	return x.Wait(context.WithoutCancel(ctx))
}
