package lab

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"
)

// held are ports on loopback that are ours, also while nothing of ours listens there yet, or for a moment no more: the system gives them
// to no connection and to nobody who asks for any port, and whoever takes his ports here passes over them, in this process and in others.
// It is not safe for concurrent use.
type held struct{ locks []net.PacketConn }

// take takes n ports more.
func (h *held) take(n int) (ports []int, err error) {
	low, high, err := outside()
	if err != nil {
		return nil, err
	}
	for tries := 0; len(ports) < n; tries++ {
		if tries > 100*n {
			return nil, fmt.Errorf("of the ports %d to %d hardly any is free", low, high-1)
		}
		at := Addr(low + rand.IntN(high-low))
		lock, err := net.ListenPacket("udp", at) // no mail goes by UDP: whoever has this has the TCP port of that number
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", at)
		if err != nil { // somebody who does not ask here
			lock.Close()
			continue
		}
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		l.Close()
		h.locks = append(h.locks, lock)
	}
	return ports, nil
}

// release gives all of them back.
func (h *held) release() {
	for _, l := range h.locks {
		l.Close()
	}
	h.locks = nil
}

// outside are the ports, without high, that the system gives to nobody who does not ask for them by number.
func outside() (low, high int, err error) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, 0, err
	}
	f := bytes.Fields(b)
	if len(f) != 2 {
		return 0, 0, fmt.Errorf("the range of ports for connections is %q", b)
	}
	from, err1 := strconv.Atoi(string(f[0]))
	to, err2 := strconv.Atoi(string(f[1]))
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, err
	}
	const first, behind = 10_000, 1 << 16 // below are those of known services
	low, high = first, from
	if behind-to-1 > from-first {
		low, high = to+1, behind
	}
	if high-low < 1000 {
		return 0, 0, fmt.Errorf("the system gives the ports %d to %d to connections: too few are left (net.ipv4.ip_local_port_range)", from, to)
	}
	return low, high, nil
}

// Take takes n ports on loopback that nobody else takes until they are given back.
func Take(n int) (ports []int, giveBack func(), err error) {
	var h held
	if ports, err = h.take(n); err != nil {
		h.release()
		return nil, nil, err
	}
	return ports, h.release, nil
}

// Ports is Take until the test ends.
func Ports(t testing.TB, n int) []int {
	t.Helper()
	ports, giveBack, err := Take(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(giveBack)
	return ports
}
