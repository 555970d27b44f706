package tlsconf

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

// holding is a TCP connection whose writes wait until the test passes them on.
type holding struct {
	net.Conn
	mu   sync.Mutex
	on   bool
	held bytes.Buffer
}

func (h *holding) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.on {
		return h.held.Write(b)
	}
	return h.Conn.Write(b)
}

// tlsPair is a TLS session over loopback: the side that reads through a Stream, and the one that writes to it.
type tlsPair struct {
	stream Stream
	reader *tls.Conn
	writer *tls.Conn
	wire   *holding
}

// newPair makes one; server says which side the Stream is on. A client gets session tickets, which are handshake messages
// behind the handshake in TLS 1.3.
func newPair(t *testing.T, crt tls.Certificate, server bool, version uint16) *tlsPair {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	q, err := NewQuiet(near)
	if err != nil {
		t.Fatal(err)
	}
	p := &tlsPair{wire: &holding{Conn: far}}
	sc := &tls.Config{Certificates: []tls.Certificate{crt}, MaxVersion: version, DynamicRecordSizingDisabled: true}
	cc := &tls.Config{InsecureSkipVerify: true, MaxVersion: version, ServerName: "x", ClientSessionCache: tls.NewLRUClientSessionCache(1),
		DynamicRecordSizingDisabled: true}
	if server {
		p.reader, p.writer = tls.Server(q, sc), tls.Client(p.wire, cc)
	} else {
		p.reader, p.writer = tls.Client(q, cc), tls.Server(p.wire, sc)
	}
	done := make(chan error, 1)
	go func() { done <- p.writer.Handshake() }()
	if err := errors.Join(p.reader.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		far.Close()
		near.Close()
	})
	var ok bool
	if p.stream, ok = NewStream(p.reader); !ok {
		t.Fatal("no stream")
	}
	p.wire.on = true
	return p
}

// pass lets n bytes of the wire through.
func (p *tlsPair) pass(t *testing.T, n int) {
	t.Helper()
	if _, err := p.wire.Conn.Write(p.wire.held.Next(n)); err != nil {
		t.Fatal(err)
	}
}

// read reads until want bytes are there and the stream is drained, or, with want < 0, what there is until it is drained.
func (p *tlsPair) read(t *testing.T, want int) (got []byte) {
	t.Helper()
	buf := make([]byte, 700)
	for {
		n, err := p.stream.ReadNow(buf)
		got = append(got, buf[:n]...)
		switch {
		case err == nil:
		case !errors.Is(err, ErrWouldBlock):
			t.Fatal(err)
		case len(got) >= want:
			return got
		default:
			if err := p.stream.Wait(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func testCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"x"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

// variants are the sides and versions that a gateway meets.
var variants = []struct {
	name    string
	server  bool
	version uint16
}{{"front 1.3", true, tls.VersionTLS13}, {"front 1.2", true, tls.VersionTLS12}, {"back 1.3", false, tls.VersionTLS13},
	{"back 1.2", false, tls.VersionTLS12}}

func TestIdleTLSKeepsNoBuffer(t *testing.T) {
	crt := testCertificate(t)
	heap := func() int {
		runtime.GC()
		runtime.GC() // pools are emptied by the second
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	const k = 50
	data := make([]byte, 64<<10)
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			var pairs []*tlsPair
			for range k {
				p := newPair(t, crt, v.server, v.version)
				if _, err := p.writer.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				p.pass(t, p.wire.held.Len())
				p.read(t, 1)
				pairs = append(pairs, p)
			}
			before := heap()
			for _, p := range pairs {
				if _, err := p.writer.Write(data); err != nil {
					t.Fatal(err)
				}
				p.pass(t, p.wire.held.Len())
				p.wire.held = bytes.Buffer{}
				p.read(t, len(data))
			}
			kept := (heap() - before) / k
			runtime.KeepAlive(pairs)
			if kept > 2048 {
				t.Errorf("%d bytes are kept by each connection that has read full records and is idle", kept)
			}
		})
	}
}

// maxPass fits into the socket's buffers: nobody reads while it is written.
const maxPass = 32 << 10

// Messages of any size arrive whole and in order, with the connection idle anywhere between and within records.
func TestReleaseLosesNothing(t *testing.T) {
	crt := testCertificate(t)
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			p := newPair(t, crt, v.server, v.version)
			rnd := mrand.New(mrand.NewPCG(1, 2))
			var sent, got []byte
			for range 200 {
				b := make([]byte, 1+rnd.IntN([]int{10, 600, 3000, 40000}[rnd.IntN(4)]))
				for i := range b {
					b[i] = byte(rnd.Uint32())
				}
				sent = append(sent, b...)
				if _, err := p.writer.Write(b); err != nil {
					t.Fatal(err)
				}
				for p.wire.held.Len() > 0 && rnd.IntN(5) > 0 {
					p.pass(t, 1+rnd.IntN(min(p.wire.held.Len(), maxPass)))
					if err := p.stream.Wait(); err != nil {
						t.Fatal(err)
					}
					got = append(got, p.read(t, -1)...)
				}
			}
			for p.wire.held.Len() > 0 {
				p.pass(t, min(p.wire.held.Len(), maxPass))
				got = append(got, p.read(t, -1)...)
			}
			got = append(got, p.read(t, len(sent)-len(got))...)
			if !bytes.Equal(got, sent) {
				t.Errorf("%d bytes sent, %d received, or not the same", len(sent), len(got))
			}
		})
	}
}
