package tlsconf

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"
)

// handshake begins one over a connection whose client is given, and tells how it ends.
func handshake(t *testing.T, ctx context.Context, h *Handshakes, crt tls.Certificate) (client *tls.Conn, done <-chan error) {
	t.Helper()
	a, b := pair(t)
	q, err := NewQuiet(a)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		s := tls.Server(q, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if len(h.slots) == 0 || ctx.Err() != nil {
				t.Error("it is worked on without a turn")
			}
			return &crt, nil
		}})
		err := h.Do(ctx, q, s)
		if q.before != nil || q.after != nil || q.wrote != nil {
			t.Error("the connection is still watched")
		}
		ended <- err
	}()
	return tls.Client(b, &tls.Config{InsecureSkipVerify: true}), ended
}

// TestHandshakesTakeTurns: one is not worked on while as many as may are, and a client who lets us wait holds up nobody.
func TestHandshakesTakeTurns(t *testing.T) {
	t.Parallel()
	crt := issue(t, nil, soon(), "m").tls()
	h := newHandshakes(1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	patient, give := context.WithCancel(ctx)
	_, silent := handshake(t, patient, h, crt) // says nothing
	a, b := pair(t)                            // says half of its hello and no more
	q, err := NewQuiet(a)
	if err != nil {
		t.Fatal(err)
	}
	halfDone := make(chan error, 1)
	half, stop := context.WithCancel(ctx)
	go func() { halfDone <- h.Do(half, q, tls.Server(q, &tls.Config{Certificates: []tls.Certificate{crt}})) }()
	said := &onlyHello{TCPConn: b}
	if err := tls.Client(said, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(half); err == nil {
		t.Fatal("a handshake without an answer")
	}
	if _, err := b.Write(said.hello[:len(said.hello)/2]); err != nil {
		t.Fatal(err)
	}
	client, done := handshake(t, ctx, h, crt)
	if err := client.HandshakeContext(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}

	h.slots <- struct{}{} // one is worked on
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	client, done = handshake(t, short, h, crt)
	go func() { _ = client.HandshakeContext(ctx) }()
	if err := <-done; err == nil {
		t.Error("it was worked on beside another one")
	}
	client, done = handshake(t, ctx, h, crt)
	ours := make(chan error, 1)
	go func() { ours <- client.HandshakeContext(ctx) }()
	<-h.slots
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-ours; err != nil {
		t.Error(err)
	}
	stop()
	give()
	for _, end := range []<-chan error{halfDone, silent} {
		if err := <-end; err == nil {
			t.Error("a handshake that was not finished is")
		}
	}
	if len(h.slots) != 0 {
		t.Errorf("%d turns are held", len(h.slots))
	}
}

// onlyHello is a client's connection that keeps what he says, and has nothing to read.
type onlyHello struct {
	*net.TCPConn
	hello []byte
}

func (c *onlyHello) Read([]byte) (int, error) { return 0, io.EOF }

func (c *onlyHello) Write(b []byte) (int, error) {
	c.hello = append(c.hello, b...)
	return len(b), nil
}
