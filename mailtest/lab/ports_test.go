package lab

import (
	"net"
	"testing"
)

// TestPorts: a port that was taken is given to nobody else while nothing listens there; whoever took it may listen, end, and listen again.
func TestPorts(t *testing.T) {
	t.Parallel()
	low, high, err := outside()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for range 20 {
		for _, p := range Ports(t, 20) {
			if seen[p] {
				t.Fatalf("port %d is given twice", p)
			}
			if seen[p] = true; p < low || p >= high {
				t.Fatalf("port %d is not of %d to %d", p, low, high-1)
			}
			for range 2 {
				l, err := net.Listen("tcp", Addr(p))
				if err != nil {
					t.Fatal(err)
				}
				l.Close()
			}
		}
	}
	for range 200 { // as all do who want any port
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if p := l.Addr().(*net.TCPAddr).Port; seen[p] {
			t.Fatalf("port %d was taken, and the system gives it away", p)
		}
	}
	var h held
	if _, err := h.take(1); err != nil {
		t.Fatal(err)
	}
	at := h.locks[0].LocalAddr().String()
	if c, err := net.ListenPacket("udp", at); err == nil {
		c.Close()
		t.Fatalf("%s is held, and can be taken", at)
	}
	h.release()
	c, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatalf("%s was given back: %v", at, err)
	}
	c.Close()
}
