package tlsconf

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// stream is a Stream over TCP or TLS, and the peer that writes to it: peer through TLS, raw beneath it.
type stream struct {
	Stream
	q    *Quiet
	peer io.WriteCloser
	raw  *net.TCPConn
}

func newStream(t *testing.T, encrypted bool) *stream {
	t.Helper()
	a, b := pair(t)
	q, err := NewQuiet(a)
	if err != nil {
		t.Fatal(err)
	}
	x := &stream{q: q, peer: b, raw: b}
	c := net.Conn(q)
	if encrypted {
		server := tls.Server(q, &tls.Config{Certificates: []tls.Certificate{issue(t, nil, soon(), "m").tls()}})
		client := tls.Client(b, &tls.Config{InsecureSkipVerify: true})
		done := make(chan error, 1)
		go func() { done <- client.Handshake() }()
		if err := errors.Join(server.Handshake(), <-done); err != nil {
			t.Fatal(err)
		}
		c, x.peer = server, client
	}
	var ok bool
	if x.Stream, ok = NewStream(c); !ok {
		t.Fatal("no stream")
	}
	return x
}

// read waits and reads until n bytes are there or an error that is not ErrWouldBlock.
func (x *stream) read(n int) ([]byte, error) {
	var out []byte
	buf := make([]byte, 4096)
	for len(out) < n {
		if err := x.Wait(); err != nil {
			return out, err
		}
		k, err := x.ReadNow(buf)
		out = append(out, buf[:k]...)
		if err != nil && !errors.Is(err, ErrWouldBlock) {
			return out, err
		}
	}
	return out, nil
}

// idle reads until there is nothing: from then on Wait waits on the socket, with no buffer.
func (x *stream) idle(t *testing.T) {
	t.Helper()
	if n, err := x.ReadNow(make([]byte, 10)); n != 0 || !errors.Is(err, ErrWouldBlock) {
		t.Fatalf("got %d bytes, %v", n, err)
	}
}

func both(t *testing.T, f func(t *testing.T, x *stream)) {
	for name, encrypted := range map[string]bool{"tcp": false, "tls": true} {
		t.Run(name, func(t *testing.T) { f(t, newStream(t, encrypted)) })
	}
}

func TestStreamReads(t *testing.T) {
	both(t, func(t *testing.T, x *stream) {
		x.idle(t)
		if _, err := io.WriteString(x.peer, "hello"); err != nil {
			t.Fatal(err)
		}
		if b, err := x.read(5); string(b) != "hello" || err != nil {
			t.Fatalf("got %q, %v", b, err)
		}
		x.idle(t)
		// Much, in many records, with a reader that takes little at a time.
		text := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
		done := make(chan error, 1)
		go func() { _, err := x.peer.Write(text); done <- err }()
		b, err := x.read(len(text))
		if err := errors.Join(err, <-done); err != nil || !bytes.Equal(b, text) {
			t.Errorf("got %d bytes, %v", len(b), err)
		}
	})
}

// A record that comes byte by byte is read whole, and nothing spins meanwhile: the half record is not taken for data.
func TestRecordsInPieces(t *testing.T) {
	var wire bytes.Buffer
	server, c := newCaught(t, &wire)
	if _, err := io.WriteString(c, "first"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "second"); err != nil {
		t.Fatal(err)
	}
	b := wire.Bytes()
	buf := make([]byte, 100)
	var got []byte
	reads := 0
	for i := range b {
		if _, err := server.raw.Write(b[i : i+1]); err != nil {
			t.Fatal(err)
		}
		if err := server.q.Wait(); err != nil { // the byte is there
			t.Fatal(err)
		}
		for {
			if err := server.Wait(); err != nil {
				t.Fatal(err)
			}
			n, err := server.ReadNow(buf)
			reads++
			got = append(got, buf[:n]...)
			if errors.Is(err, ErrWouldBlock) {
				break
			}
			if err != nil {
				t.Fatalf("after byte %d: %v", i, err)
			}
		}
	}
	if string(got) != "firstsecond" || reads > len(b)+4 {
		t.Errorf("got %q in %d reads of %d bytes", got, reads, len(b))
	}
}

// catcher is a connection whose writes go elsewhere once to is set.
type catcher struct {
	net.Conn
	to *bytes.Buffer
}

func (c *catcher) Write(b []byte) (int, error) {
	if c.to != nil {
		return c.to.Write(b)
	}
	return c.Conn.Write(b)
}

// newCaught is an encrypted stream whose peer writes its records to wire.
func newCaught(t *testing.T, wire *bytes.Buffer) (*stream, *tls.Conn) {
	t.Helper()
	a, b := pair(t)
	q, err := NewQuiet(a)
	if err != nil {
		t.Fatal(err)
	}
	caught := &catcher{Conn: b}
	server := tls.Server(q, &tls.Config{Certificates: []tls.Certificate{issue(t, nil, soon(), "m").tls()}})
	client := tls.Client(caught, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	if err := errors.Join(server.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	caught.to = wire
	s, ok := NewStream(server)
	if !ok {
		t.Fatal("no stream")
	}
	return &stream{Stream: s, q: q, raw: b}, client
}

// The peer's half-close is an end, and the other direction still works.
func TestHalfClose(t *testing.T) {
	x := newStream(t, false)
	_, _ = io.WriteString(x.peer, "bye")
	if err := x.raw.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := x.read(100); string(b) != "bye" || !errors.Is(err, io.EOF) {
		t.Fatalf("got %q, %v", b, err)
	}
	if _, err := io.WriteString(x.q, "answer"); err != nil {
		t.Fatal(err)
	}
	if err := x.q.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(x.raw); string(b) != "answer" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestEndOfTLS(t *testing.T) {
	x := newStream(t, true)
	_, _ = io.WriteString(x.peer, "bye")
	x.peer.Close()
	if b, err := x.read(100); string(b) != "bye" || !errors.Is(err, io.EOF) {
		t.Errorf("close_notify: got %q, %v", b, err)
	}
	x = newStream(t, true) // cut off: an end that may hide bytes
	x.raw.Close()
	if _, err := x.read(1); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		t.Errorf("cut: %v", err)
	}
	x = newStream(t, false)
	if err := x.raw.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	x.raw.Close() // a reset
	if _, err := x.read(1); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("reset: %v", err)
	}
}

// A deadline wakes who waits, and what comes behind it is read all the same.
func TestDeadline(t *testing.T) {
	both(t, func(t *testing.T, x *stream) {
		x.idle(t)
		if err := x.q.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if err := x.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if err := x.q.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(x.peer, "later")
		if b, err := x.read(5); string(b) != "later" || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
	})
}

// Close wakes who waits, and is told once.
func TestClose(t *testing.T) {
	x := newStream(t, false)
	var closes atomic.Int32
	x.q.OnClose(func() { closes.Add(1) })
	done := make(chan error, 1)
	go func() { done <- x.Wait() }()
	runtime.Gosched()
	x.q.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	x.q.Close()
	if n := closes.Load(); n != 1 {
		t.Errorf("told %d times", n)
	}
	if _, err := x.ReadNow(make([]byte, 1)); err == nil {
		t.Error("a read of a closed connection")
	}
}

// Outside of ReadNow a Quiet reads as others do: it waits.
func TestQuietReadWaits(t *testing.T) {
	x := newStream(t, false)
	got := make(chan string, 1)
	go func() {
		b := make([]byte, 5)
		n, err := io.ReadFull(x.q, b)
		got <- string(b[:n])
		if err != nil {
			got <- err.Error()
		}
	}()
	_, _ = io.WriteString(x.peer, "he")
	_, _ = io.WriteString(x.peer, "llo")
	if s := <-got; s != "hello" {
		t.Errorf("got %q", s)
	}
	if n, err := x.ReadNow(nil); n != 0 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

// An idle session costs nothing to wait and read again: no buffer is made.
func TestIdleDoesNotAllocate(t *testing.T) {
	x := newStream(t, false)
	buf, b := make([]byte, 64), []byte("x")
	if n := testing.AllocsPerRun(50, func() {
		if _, err := x.peer.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := x.Wait(); err != nil {
			t.Fatal(err)
		}
		if n, err := x.ReadNow(buf); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if _, err := x.ReadNow(buf); !errors.Is(err, ErrWouldBlock) {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestOthersAreNoStreams(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, err := NewQuiet(a); err == nil {
		t.Error("a pipe is quiet")
	}
	if _, ok := NewStream(a); ok {
		t.Error("a pipe is a stream")
	}
	if _, ok := NewStream(tls.Server(a, nil)); ok {
		t.Error("TLS over a pipe is a stream")
	}
}
