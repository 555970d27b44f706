package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"mailgate/config"
	"mailgate/imapwire"
)

// While a handler of ours runs nothing is read, and a server that cannot write may not read either: so many times the silence
// may it then take nothing.
const handlerPatience = 12

// lastWords is how long what the server has said before it stopped taking anything is waited for: a BYE, most of all.
const lastWords = time.Second

// Client is an IMAP connection that is logged in, for the syncer and other programs of ours (not for splicing).
//
// Commands are pipelined: each method that returns a command has written it when it returns, and Wait gives its outcome.
// One goroutine reads what the server says and calls handlers in the order of the responses; a handler that blocks stops the
// reading, and so the server. Methods are safe for concurrent use; commands go out in the order of the calls.
//
// Deadlines are by progress: a connection that neither takes nor gives a byte while something is outstanding has failed with a
// *SilenceError after one to ten minutes, by what was asked (see client_silence.go); the time of a handler does not count. After an error of the connection every outstanding and every later command
// fails with it: with what the server said in its BYE, if it did. A response that is not IMAP is passed over where nothing can
// be missed for it; a server that says more than is held (client_limits.go) loses the connection with a *LimitError.
type Client struct {
	conn    net.Conn
	host    string
	silence time.Duration // that is put up with whatever is asked; 0 means by command
	health  *health       // of the host; nil in tests
	end     chan struct{} // closed when the reader has ended

	wmu sync.Mutex // held for a command, and from Append to Finish
	w   outgoing
	z   flusher // of a compressed stream, nil otherwise

	mu          sync.Mutex
	caps        []string
	enabled     map[string]bool
	tag         int
	outstanding []*Command // in the order in which they were sent
	untagged    Untagged
	err         error
	unsent      error     // why nothing more can be written
	lastWords   time.Time // with unsent: until when is read
	handling    bool      // the reader is at a handler, not at the connection
	notify      bool      // NOTIFY is on
	appends     int       // outstanding
	mailbox     string    // selected by the last SELECT or EXAMINE that has ended

	r  *imapwire.Scanner // the reader's
	rs readState
}

type flusher interface {
	io.Writer
	Flush() error
}

// DialClient connects, logs in and learns the capabilities. The error is an *Error.
func (d *Dialer) DialClient(ctx context.Context, at config.Side, host string, who Account) (*Client, error) {
	c, err := d.dialIMAP(ctx, at, host, forSync(), LoginIMAP{Credentials: who.Credentials, LoginName: who.LoginName, Authzid: who.Authzid})
	if err != nil {
		return nil, err
	}
	x := newClient(c)
	x.health = c.health
	if err := watchful(c.Conn); err != nil {
		_ = x.Close()
		return nil, &Error{Step: StepConnect, Host: c.Host, Err: err}
	}
	return x, nil
}

func newClient(c *IMAPConn) *Client {
	x := &Client{conn: c.Conn, host: c.Host, end: make(chan struct{}), enabled: map[string]bool{}}
	x.setCapabilities(c.Capabilities)
	x.w.to = progressWriter{x}
	var r io.Reader = progressReader{x}
	if len(c.Buffered) > 0 {
		r = io.MultiReader(strings.NewReader(string(c.Buffered)), r)
	}
	x.r = imapwire.NewScanner(r)
	go x.read() // ends with the connection; Close waits for it
	return x
}

// progressReader and progressWriter push the deadline on with each byte that moves.
type progressReader struct{ c *Client }

func (p progressReader) Read(b []byte) (int, error) {
	p.c.reading(true) // whoever took what came last may have been slow; that is not the server's silence
	n, err := p.c.conn.Read(b)
	if err != nil {
		p.c.rs.ended = true
	}
	p.c.reading(false)
	return n, err
}

// reading says where the reader is, and sets the deadlines for it.
func (c *Client) reading(now bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handling = !now
	c.deadline()
}

type progressWriter struct{ c *Client }

func (p progressWriter) Write(b []byte) (int, error) {
	p.c.progress()
	n, err := p.c.conn.Write(b)
	if n > 0 {
		p.c.progress()
	}
	return n, err
}

// progress sets the deadline anew: something has moved, or has begun.
func (c *Client) progress() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline()
}

// deadline sets it. The caller holds mu.
func (c *Client) deadline() {
	silence := c.patience()
	now := time.Now()
	var read time.Time
	switch {
	case c.unsent != nil:
		read = c.lastWords
	case len(c.outstanding) == 0 || slices.ContainsFunc(c.outstanding, func(x *Command) bool { return x.patient }):
	default:
		read = now.Add(silence)
	}
	_ = c.conn.SetReadDeadline(read)
	if c.handling {
		silence *= handlerPatience
	}
	_ = c.conn.SetWriteDeadline(now.Add(silence))
}

// Close ends the connection at once, and waits for the reader.
func (c *Client) Close() error {
	c.fail(net.ErrClosed)
	err := c.conn.Close()
	<-c.end
	return err
}

// Logout ends the connection by LOGOUT, waiting as long as ctx lets it.
func (c *Client) Logout(ctx context.Context) error {
	err := c.send("LOGOUT", "LOGOUT").Wait(ctx)
	_ = c.Close()
	var s *StatusError
	if errors.As(err, &s) && s.Status == "BYE" || errors.Is(err, io.ErrUnexpectedEOF) { // some do not say OK behind it
		return nil
	}
	return err
}

// Has tells whether the server offers a capability, in any letter case.
func (c *Client) Has(capability string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.caps, strings.ToUpper(capability))
}

// Capabilities lists what the server offers, upper case.
func (c *Client) Capabilities() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.caps)
}

func (c *Client) setCapabilities(list []string) {
	up := make([]string, len(list))
	for i, s := range list {
		up[i] = strings.ToUpper(s)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.caps = up
}

// Host is the name of the machine.
func (c *Client) Host() string { return c.host }

// Done is closed when the connection has ended; Err says why then.
func (c *Client) Done() <-chan struct{} { return c.end }

// Err is the error of the connection, nil while it is well.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// SetUntagged replaces the handlers.
func (c *Client) SetUntagged(u Untagged) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.untagged = u
}

func (c *Client) handlers() Untagged {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.untagged
}

// fail ends everything outstanding with the first error of the connection, which is returned.
func (c *Client) fail(err error) error {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	err = c.err
	list := c.outstanding
	c.outstanding, c.appends = nil, 0
	c.mu.Unlock()
	for _, x := range list {
		x.finish(err)
	}
	return err
}

// Command is one that was sent. Wait returns nil for a tagged OK, a *StatusError for NO and BAD, else the error of the
// connection. When ctx ends first Wait returns its cause and the command goes on. Wait may be called more than once, from
// any goroutine.
type Command struct {
	name    string
	tag     string
	patient bool // no deadline: IDLE
	append  bool
	done    chan struct{}
	err     error // valid when done is closed
	code    Code

	more chan string // continuation requests, for who waits for them; nil otherwise

	// What the reader gives of the responses that belong to the command.
	fetch    *fetching
	search   func(Range)
	vanished func(Range)
	selected *Selected
	mailbox  string // to be selected, or what STATUS is asked of
	futile   bool   // it is sent to be refused
	list     func(ListEntry) error
	status   func(Status)                    // of mailbox; of any where list is set too
	answered bool                            // by a STATUS of that name
	other    func(word string) (bool, error) // takes a response of another kind, from behind its name
	copied   func(Code)
	modified func(Range)
	compress func() // runs in the reader between the OK and what follows it
	told     error  // a handler's
}

func (x *Command) finish(err error) {
	x.err = err
	close(x.done)
}

// Wait waits for the command to end.
func (x *Command) Wait(ctx context.Context) error {
	select {
	case <-x.done:
		return x.err
	default:
	}
	select {
	case <-x.done:
		return x.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Code is the response code of the tagged response; valid after Wait.
func (x *Command) Code() Code {
	select {
	case <-x.done:
		return x.code
	default:
		return Code{}
	}
}

// begin notes a command as outstanding and gives it its tag. After the connection has failed it fails at once.
func (c *Client) begin(x *Command) bool {
	x.done = make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		x.finish(c.err)
		return false
	}
	c.tag++
	x.tag = fmt.Sprintf("s%d", c.tag)
	c.outstanding = append(c.outstanding, x)
	if x.append {
		c.appends++
	}
	c.deadline()
	return true
}

// ended takes a command out of those outstanding.
func (c *Client) ended(tag string) *Command {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, x := range c.outstanding {
		if x.tag == tag {
			c.outstanding = slices.Delete(c.outstanding, i, i+1)
			if x.append {
				c.appends--
			}
			c.deadline()
			return x
		}
	}
	return nil
}

// failed is a command that was not sent.
func failed(name string, err error) *Command {
	x := &Command{name: name, done: make(chan struct{})}
	x.finish(err)
	return x
}

// send writes a command; args follow its name, separated by spaces.
func (c *Client) send(name string, args ...string) *Command {
	return c.start(&Command{name: name}, args...)
}

// start writes a command whose handlers are set.
func (c *Client) start(x *Command, args ...string) *Command {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !c.begin(x) {
		return x
	}
	_, _ = c.w.WriteString(x.tag)
	for _, a := range args {
		_ = c.w.WriteByte(' ')
		if !c.argument(x, a) {
			return x
		}
	}
	_, _ = c.w.WriteString("\r\n")
	c.flush()
	return x
}

// literal marks an argument that has to be sent as a string.
const literal = "\x00"

// argument writes one: as it is, or as a string. A synchronizing literal waits for the server; false when it said no, or the
// connection is gone.
func (c *Client) argument(x *Command, a string) bool {
	s, ok := strings.CutPrefix(a, literal)
	if !ok {
		_, _ = c.w.WriteString(a)
		return true
	}
	if q, ok := imapwire.Quote(s); ok {
		_, _ = c.w.WriteString(q)
		return true
	}
	if c.nonSync(int64(len(s))) {
		_, _ = fmt.Fprintf(&c.w, "{%d+}\r\n", len(s))
	} else {
		_, _ = fmt.Fprintf(&c.w, "{%d}\r\n", len(s))
		if err := c.await(x); err != nil {
			return false
		}
	}
	_, _ = c.w.WriteString(s)
	return true
}

// str is an argument that is any string: a mailbox name, for example.
func str(s string) string { return literal + s }

// nonSync tells whether a literal of a size need not be waited for (RFC 7888).
func (c *Client) nonSync(size int64) bool {
	return c.Has("LITERAL+") || size <= 4096 && (c.Has("LITERAL-") || c.Has("IMAP4REV2"))
}

// await flushes and waits for the server to ask for more. It returns the command's error when the server ends it instead.
func (c *Client) await(x *Command) error {
	more := make(chan string, 1)
	c.mu.Lock()
	x.more = more
	c.mu.Unlock()
	c.flush()
	select {
	case <-more:
		return nil
	case <-x.done:
		if x.err == nil {
			return fmt.Errorf("%s: OK before all was sent", x.name)
		}
		return x.err
	}
}

// flush writes out what is buffered. The caller holds wmu.
func (c *Client) flush() {
	err := c.w.Flush()
	if err == nil && c.z != nil {
		err = c.z.Flush()
	}
	if err != nil {
		c.cannotWrite(err)
	}
}

// cannotWrite leaves it to the reader to end the connection, soon.
func (c *Client) cannotWrite(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unsent == nil { // the reader ends soon, and says why: the server may have
		c.unsent, c.lastWords = err, time.Now().Add(lastWords)
		c.deadline()
	}
}

// Ignore takes capabilities away, as if the server did not offer them.
func (c *Client) Ignore(capabilities ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.caps = slices.DeleteFunc(c.caps, func(s string) bool { return slices.Contains(capabilities, s) })
}
