package tlsconf

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// quietPair is a TCP connection, one end of it quiet.
func quietPair(t *testing.T) (*Quiet, *net.TCPConn) {
	t.Helper()
	a, b := pair(t)
	q, err := NewQuiet(a)
	if err != nil {
		t.Fatal(err)
	}
	return q, b
}

// TestQuietWait: it returns for bytes, an end, a reset and a deadline, each told from the others, and takes nothing.
func TestQuietWait(t *testing.T) {
	q, peer := quietPair(t)
	s, ok := NewStream(q)
	if !ok {
		t.Fatal("no stream")
	}
	if _, err := s.ReadNow(make([]byte, 9)); !errors.Is(err, ErrWouldBlock) {
		t.Errorf("nothing there: %v", err)
	}
	_ = q.SetReadDeadline(time.Unix(1, 0))
	if err := s.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	_ = q.SetReadDeadline(time.Time{})
	waited := make(chan error)
	go func() { waited <- s.Wait() }()
	if _, err := io.WriteString(peer, "abc"); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Errorf("bytes: %v", err)
	}
	b := make([]byte, 9)
	if n, err := s.ReadNow(b); string(b[:n]) != "abc" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
	if err := peer.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Errorf("end: %v", err)
	}
	if _, err := s.ReadNow(b); err != io.EOF {
		t.Errorf("end: %v", err)
	}

	q, peer = quietPair(t)
	s, _ = NewStream(q)
	go func() { waited <- s.Wait() }()
	_ = peer.SetLinger(0)
	peer.Close()
	if err := <-waited; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: %v", err)
	}
}

// TestQuietCloses once, and says so once.
func TestQuietCloses(t *testing.T) {
	q, _ := quietPair(t)
	n := 0
	q.OnClose(func() { n++ })
	_ = q.Close()
	_ = q.Close()
	if n != 1 {
		t.Errorf("told %d times", n)
	}
}
