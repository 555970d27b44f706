package proxy

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"mailgate/imapwire"
	"mailgate/router"
	"mailgate/tlsconf"
)

// boundary follows a spliced session in both directions; imapwire.Tracker is one. The link locks around each call.
type boundary interface {
	// Client says how many of the client's bytes may be passed on now; with stop set no new command.
	Client(b []byte, stop bool) int
	// Server returns what the client gets for the server's bytes, Flush what was held back.
	Server(b []byte) []byte
	Flush() []byte
	// What follows is as imapwire.Tracker has it.
	Boundary() bool
	ReadsOnly() bool
	ReadsPending() bool
	Writes() uint64
	Changes() uint64
	ChangesPending() bool
	TakeDeletes() []imapwire.Deletes
	// Answering tells whether whole commands are under way whose answers have not come. IDLE does not count.
	Answering() bool
	// Bye is the line that tells the client of the end, "" where none may be put in or the server has said its own.
	ByeLine(text string) string
	// Leave is what ends the session on the backend politely, "" where nothing may be put in.
	Leave() string
}

// link is a spliced session: two goroutines, no buffer while idle. It is the session's router.Ender.
type link struct {
	srv   *Server
	front net.Conn
	back  net.Conn
	fs    tlsconf.Stream
	bs    tlsconf.Stream
	log   *slog.Logger
	sess  *router.Session
	left  atomic.Int32 // pumps that still run
	up    int64        // bytes from the client; written by its pump
	down  int64

	mu       sync.Mutex
	changed  sync.Cond
	track    boundary
	pressure router.Pressure
	text     string             // for the client, when pressed
	sending  bool               // the client's pump has taken bytes and not passed them on
	writing  bool               // the server's pump has
	owes     bool               // ... and in them is the answer to a command that does more than read
	deletes  []imapwire.Deletes // that the client asked for, and not told of yet
	leaving  bool               // in them the server says by itself that it goes
	told     bool               // what the server's pump has taken is a sign of change in the user's mailboxes
	writes   int64              // chunks passed on to the client
	lent     *[]byte            // that pumpDown reads into; its goroutine's alone
	stuckAt  int64              // writes when last judged
	stuckIn  bool               // a write was under way then: the same one is when writes is still so
	ended    bool               // no byte is passed on any more
	clientIn bool               // false once the client has sent his end
	handOn   bool               // his end is to be handed on once the commands before it are answered
	silence  time.Time          // when the backend must have said something, once the client has sent his end
	frontBy  time.Time          // write deadlines
	backBy   time.Time
	lost     struct{ front, back bool } // gone, or a write failed: what was sent is cut somewhere, nothing may follow
	resting  bool                       // the server is gone, and the client, who waited for nothing, was left in peace for a while
	awake    bool                       // he is to be told
	cut      bool                       // the server was gone without a word
	reason   string
	uncount  func() // the session is none of its host's any more
}

// Limits of a link's end. There is none for an idle session: one in IDLE lives as long as the backend lets it, and who
// is gone without a word is found by keepalive (tlsconf.KeepAlive).
const (
	byeTime   = 3 * time.Second        // for the last words to a client
	leaveTime = 500 * time.Millisecond // for the backend to say goodbye
	afterEOF  = 30 * time.Second       // for the backend to say something once the client has sent his end
	stallTime = 10 * time.Minute       // for a peer to take a chunk; Dovecot gives its clients five
)

// bufferSize is what a pump reads at once while bytes flow: two TLS records.
const bufferSize = 32 << 10

// bufferPool lends the pumps their buffers.
type bufferPool struct{ p sync.Pool }

func (b *bufferPool) get() *[]byte {
	if x, ok := b.p.Get().(*[]byte); ok {
		return x
	}
	x := make([]byte, bufferSize)
	return &x
}

func (b *bufferPool) put(x *[]byte) { b.p.Put(x) }

// newLink prepares a splice of two connections; both must be, or run over, a tlsconf.Quiet.
func newLink(s *Server, front, back net.Conn, t boundary) (*link, error) {
	l := &link{srv: s, front: front, back: back, track: t, clientIn: true}
	l.changed.L = &l.mu
	var ok bool
	if l.fs, ok = tlsconf.NewStream(front); !ok {
		return nil, errors.New("client connection cannot be waited for")
	}
	if l.bs, ok = tlsconf.NewStream(back); !ok {
		return nil, errors.New("backend connection cannot be waited for")
	}
	return l, nil
}

// start runs the splice in goroutines of the server, beginning with what each side has sent already. The connections
// and the session belong to it from now on.
func (l *link) start(sess *router.Session, log *slog.Logger, fromClient, fromServer []byte) {
	l.sess, l.log = sess, log
	l.uncount = l.srv.spread.begin(l.service())
	l.left.Store(2)
	l.srv.wg.Add(2)
	go l.pumpUp(fromClient)
	go l.pumpDown(fromServer)
}

// arm moves a write deadline on; l.mu is held, and the session has not ended.
func (l *link) arm(c net.Conn, by *time.Time) {
	if now := time.Now(); by.Sub(now) < l.srv.stall/2 {
		*by = now.Add(l.srv.stall)
		_ = c.SetWriteDeadline(*by)
	}
}

// pumpUp passes the client's bytes on.
func (l *link) pumpUp(first []byte) {
	defer l.pumpDone()
	ok := l.forward(first)
	for ok {
		if err := l.fs.Wait(); err != nil {
			l.clientGone(err)
			return
		}
		buf := l.srv.buffers.get()
		n, err := l.fs.ReadNow(*buf)
		ok = l.forward((*buf)[:n])
		l.srv.buffers.put(buf)
		if err != nil && !errors.Is(err, tlsconf.ErrWouldBlock) {
			l.clientGone(err)
			return
		}
	}
	// The session has ended: take what the client still sends, so that our last words reach him.
	_ = l.front.SetReadDeadline(time.Now().Add(time.Second))
	discard(l.front)
}

// forward passes bytes to the backend as the tracker lets them, and returns false when the session has ended.
func (l *link) forward(b []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(b) > 0 {
		n := 0
		for !l.ended {
			if l.resting { // there is nobody to pass it on to, and he waits for an answer now
				l.rouse()
			} else if n = l.track.Client(b, l.pressure > 0); n > 0 {
				break
			}
			l.changed.Wait()
		}
		if l.ended {
			return false
		}
		l.sending = true
		l.arm(l.back, &l.backBy)
		l.mu.Unlock()
		l.up += int64(n)
		_, err := l.back.Write(b[:n])
		l.mu.Lock()
		l.sending = false
		l.changed.Broadcast()
		if err != nil {
			l.lost.back = true
			switch {
			case l.ended:
			case errors.Is(err, os.ErrDeadlineExceeded):
				l.back.Close() // pumpDown finds out and tells the client
			default: // what the backend said before it went still lies there: a BYE, most likely
				l.clientIn = false
				l.silence = time.Now().Add(l.srv.afterEOF)
				_ = l.back.SetReadDeadline(l.silence)
			}
			for !l.ended {
				l.changed.Wait()
			}
			return false
		}
		if l.pressure > 0 && l.track.Boundary() {
			l.wake() // a literal that nobody waits for any more has ended
		}
		b = b[n:]
	}
	return !l.ended
}

// pumpDown passes the server's bytes on, and ends the session when that is due.
func (l *link) pumpDown(first []byte) {
	defer l.pumpDone()
	ok := l.deliver(first)
	for ok {
		err := l.bs.Wait()
		n := 0
		if err == nil {
			l.lent = l.srv.buffers.get()
			n, err = l.bs.ReadNow(*l.lent)
			ok = l.deliver((*l.lent)[:n])
			l.giveBack()
		}
		switch {
		case !ok || err == nil || errors.Is(err, tlsconf.ErrWouldBlock):
		case errors.Is(err, os.ErrDeadlineExceeded):
			ok = l.woken()
		default:
			l.noteBroken()
			l.rest()
			l.lastBytes(l.serverGone())
			ok = false
		}
	}
	l.finish()
}

// giveBack returns the buffer that pumpDown reads into; only that pump calls it.
func (l *link) giveBack() {
	if l.lent != nil {
		l.srv.buffers.put(l.lent)
		l.lent = nil
	}
}

// follow has the tracker read the server's bytes; false when the session has ended.
func (l *link) follow(b []byte) (out []byte, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil, false
	}
	out = b
	if len(b) > 0 {
		before, changes := l.track.Writes(), l.track.Changes()
		idle := l.idle()
		out = l.track.Server(b)
		l.leaving = idle && l.track.Boundary() && !l.idle()
		l.owes = l.track.Writes() != before
		l.told = l.track.Changes() != changes
		l.deletes = l.track.TakeDeletes()
	}
	l.writing = len(out) > 0
	l.arm(l.front, &l.frontBy)
	l.changed.Broadcast()
	return out, true
}

// deliver passes bytes to the client, and returns false when the session has ended.
func (l *link) deliver(b []byte) bool {
	out, ok := l.follow(b)
	if !ok {
		return false
	}
	var err error
	if l.leaving { // these bytes say so
		out = bytes.Clone(out) // thousands rest at once: not with a buffer each
		l.giveBack()
		l.rest()
		l.leaving = false
		l.mu.Lock()
		if !l.ended { // the rest may have been longer than the deadline for writing
			l.frontBy = time.Time{}
			l.arm(l.front, &l.frontBy)
		}
		l.mu.Unlock()
	}
	if len(out) > 0 {
		l.down += int64(len(out))
		_, err = l.front.Write(out)
	}
	for _, d := range l.deletes { // before the change: who looks then knows that they were meant
		l.srv.deleted(l.sess, d)
	}
	l.deletes = nil
	if l.told { // also when the client did not get it; only this pump sets it
		l.told = false
		l.srv.changed(l.sess.User, l.sess.Protocol)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.writing, l.owes = false, false
	l.writes++
	if err != nil {
		l.ended, l.lost.front = true, true
		switch {
		case l.reason != "":
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.reason = "client does not read"
		default:
			l.reason = "client gone"
		}
		return false
	}
	if !l.clientIn && len(out) > 0 {
		l.silence = time.Now().Add(l.srv.afterEOF)
		_ = l.back.SetReadDeadline(l.silence)
		if l.handOn && !l.track.Answering() {
			l.handOn = false
			l.closeWrite()
		}
	}
	return !l.tryEnd()
}
