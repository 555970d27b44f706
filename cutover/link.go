package cutover

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Link carries requests both ways between two processes of one machine, over one connection. A request that is under way when the
// connection ends may have been carried out all the same.
type Link struct {
	conn net.Conn

	writing sync.Mutex

	mu      sync.Mutex
	next    uint64
	pending map[uint64]chan []byte // of one
	over    chan struct{}          // closed when the connection has ended
	isOver  bool
}

// ErrLink means that the other process is not to be reached: it has ended, or hands over.
var ErrLink = errors.New("the connection to the other process has ended")

// maxFrame bounds a message, in bytes: the rows of a million users are less.
const maxFrame = 512 << 20

// NewLink makes one of a connection. Run serves it.
func NewLink(conn net.Conn) *Link {
	return &Link{conn: conn, pending: map[uint64]chan []byte{}, over: make(chan struct{})}
}

// Over is closed when the connection has ended.
func (l *Link) Over() <-chan struct{} { return l.over }

// Run has handle carry out what the other side asks, each in a goroutine, until the connection or ctx ends; then it waits for them, and
// their ctx ends. The connection is closed.
func (l *Link) Run(ctx context.Context, handle func(ctx context.Context, request []byte) (answer []byte)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(ErrLink)
	defer context.AfterFunc(ctx, func() { l.conn.Close() })()
	defer l.end()
	r := bufio.NewReader(l.conn)
	for {
		kind, id, body, err := readFrame(r)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrLink, err)
		}
		if kind == frameRequest {
			wg.Go(func() {
				if answer := handle(ctx, body); ctx.Err() == nil {
					_ = l.write(frameAnswer, id, answer)
				}
			})
			continue
		}
		l.mu.Lock()
		c := l.pending[id]
		delete(l.pending, id)
		l.mu.Unlock()
		if c != nil { // else nobody waits any more
			c <- body
		}
	}
}

// end tells all who wait.
func (l *Link) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isOver {
		l.isOver = true
		close(l.over)
	}
	l.conn.Close()
}

// Ask sends a request and returns its answer. It needs Run.
func (l *Link) Ask(ctx context.Context, request []byte) ([]byte, error) {
	answer := make(chan []byte, 1)
	l.mu.Lock()
	l.next++
	id := l.next
	l.pending[id] = answer
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.pending, id)
	}()
	if err := l.write(frameRequest, id, request); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLink, err)
	}
	select {
	case b := <-answer:
		return b, nil
	case <-l.over:
		return nil, ErrLink
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Kinds of frames: a byte of these, the number of the request, the length of the body, the body.
const (
	frameRequest = 1
	frameAnswer  = 2
)

const frameHead = 1 + 8 + 4

func (l *Link) write(kind byte, id uint64, body []byte) error {
	if len(body) > maxFrame {
		return fmt.Errorf("a message of %d bytes", len(body))
	}
	b := make([]byte, frameHead, frameHead+len(body))
	b[0] = kind
	binary.BigEndian.PutUint64(b[1:], id)
	binary.BigEndian.PutUint32(b[9:], uint32(len(body)))
	l.writing.Lock()
	defer l.writing.Unlock()
	// The other process may be stopped: who waits for it must not wait in a full buffer.
	_ = l.conn.SetWriteDeadline(time.Now().Add(frameTime + time.Duration(len(body))*frameByte))
	_, err := l.conn.Write(append(b, body...))
	if err != nil { // half a frame may have gone
		l.conn.Close()
	}
	return err
}

// frameTime is how long the other process may take for a message, and frameByte what each byte adds.
const (
	frameTime = 5 * time.Second
	frameByte = 100 * time.Nanosecond
)

func readFrame(r io.Reader) (kind byte, id uint64, body []byte, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[9:])
	if kind = head[0]; kind != frameRequest && kind != frameAnswer || n > maxFrame {
		return 0, 0, nil, fmt.Errorf("a frame of kind %d and %d bytes", kind, n)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return kind, binary.BigEndian.Uint64(head[1:]), body, err
}
