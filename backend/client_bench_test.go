package backend

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// canned is a connection in memory to a server that has its answers ready: what is measured is the engine alone.
type canned struct {
	net.Conn // nil: nothing else is called
	answer   func(command []byte) [][]byte
	tail     []byte // of what was written, since the command before; cut

	mu     sync.Mutex
	more   sync.Cond
	queue  [][]byte
	closed bool
}

// serve makes a client of a server that answers each command, which is told by its first and last bytes, after its last one.
func serve(capabilities string, answer func(command []byte) [][]byte) *Client {
	c := &canned{answer: answer}
	c.more.L = &c.mu
	return newClient(&IMAPConn{Conn: c, Capabilities: strings.Fields(capabilities)})
}

func (c *canned) Write(p []byte) (int, error) {
	if len(c.tail) < 64 {
		c.tail = append(c.tail, p...)
	} else {
		c.tail = append(c.tail[:64], p[max(0, len(p)-64):]...)
	}
	// A line ends a command, but a literal that goes on: those of the tests end in a dot.
	if bytes.HasSuffix(p, []byte("\r\n")) && !bytes.HasSuffix(p, []byte("}\r\n")) || bytes.HasSuffix(c.tail, []byte(".\r\n")) {
		c.mu.Lock()
		c.queue = append(c.queue, c.answer(c.tail)...)
		c.mu.Unlock()
		c.more.Signal()
		c.tail = c.tail[:0]
	}
	return len(p), nil
}

func (c *canned) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) == 0 {
		if c.closed {
			return 0, io.EOF
		}
		c.more.Wait()
	}
	n := copy(p, c.queue[0])
	if c.queue[0] = c.queue[0][n:]; len(c.queue[0]) == 0 {
		c.queue = c.queue[1:]
	}
	return n, nil
}

func (c *canned) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.more.Broadcast()
	return nil
}

func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }

// ok is the end of the answer to a command.
func ok(command []byte, code string) []byte {
	tag, _, _ := bytes.Cut(command, []byte(" "))
	return fmt.Appendf(nil, "%s OK %sdone\r\n", tag, code)
}

const flagMessages = 20_000

// flagLines are answers such as a scan gets.
func flagLines() []byte {
	var b bytes.Buffer
	for i := range flagMessages {
		fmt.Fprintf(&b, "* %d FETCH (UID %d FLAGS (\\Seen \\Answered $Label1) MODSEQ (%d) RFC822.SIZE %d)\r\n", i+1, 2*i+1, 1000+i, 3000+i)
	}
	return b.Bytes()
}

func fetchFlags(t testing.TB, c *Client) {
	n := 0
	if err := c.Fetch("1:*", FetchOptions{Items: []string{"FLAGS", "MODSEQ", "RFC822.SIZE"}, Message: func(m *Message) error {
		if n++; m.UID == 0 || !m.HasFlags || m.ModSeq == 0 || m.Size == 0 {
			t.Errorf("%+v", m)
		}
		return nil
	}}).Wait(t.Context()); err != nil || n != flagMessages {
		t.Errorf("%d %v", n, err)
	}
}

func flagServer(t testing.TB) *Client {
	lines := flagLines()
	c := serve("IMAP4rev1", func(command []byte) [][]byte { return [][]byte{lines, ok(command, "")} })
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestFetchFlagsAllocatesNothing: a scan costs no allocation for a message.
func TestFetchFlagsAllocatesNothing(t *testing.T) {
	c := flagServer(t)
	if n := testing.AllocsPerRun(5, func() { fetchFlags(t, c) }); n > flagMessages/100 {
		t.Errorf("%v allocations for %d messages", n, flagMessages)
	}
}

// BenchmarkFetchFlags scans a mailbox; an operation is a message.
func BenchmarkFetchFlags(b *testing.B) {
	c := flagServer(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(flagLines()) / flagMessages))
	b.ResetTimer()
	for n := 0; n < b.N; n += flagMessages {
		fetchFlags(b, c)
	}
}

// BenchmarkFetchBodies streams bodies of a size into nothing.
func BenchmarkFetchBodies(b *testing.B) {
	for _, size := range []int{4 << 10, 100 << 10, 10 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			count := max(1, (8<<20)/size)
			var all bytes.Buffer
			body := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
			for i := range count {
				fmt.Fprintf(&all, "* %d FETCH (UID %d FLAGS (\\Seen) INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" BODY[] {%d}\r\n%s)\r\n", i+1, i+1, len(body), body)
			}
			c := serve("IMAP4rev1", func(command []byte) [][]byte { return [][]byte{all.Bytes(), ok(command, "")} })
			defer c.Close()
			b.SetBytes(int64(size * count))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				var n int64
				if err := c.Fetch("1:*", FetchOptions{Items: []string{"BODY.PEEK[]"}, Body: func(_ *Message, _ string, _ int64, r io.Reader) error {
					k, err := io.Copy(io.Discard, r)
					n += k
					return err
				}, Message: func(*Message) error { return nil }}).Wait(b.Context()); err != nil || n != int64(size*count) {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*count), "ns/message")
		})
	}
}

// BenchmarkAppend sends a hundred messages in a command; an operation is a command.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{4 << 10, 100 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			const count = 100
			body := []byte(strings.Repeat("x", size-1) + ".")
			c := serve("IMAP4rev1 LITERAL+ MULTIAPPEND", func(command []byte) [][]byte {
				return [][]byte{ok(command, "[APPENDUID 1 1:100] ")}
			})
			defer c.Close()
			date := time.Unix(1e9, 0).UTC()
			b.SetBytes(int64(size * count))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				a := c.Append(b.Context(), "x")
				for range count {
					w, err := a.Next(b.Context(), AppendMessage{Flags: []string{`\Seen`}, Date: date, Size: int64(size)})
					if err == nil {
						_, err = w.Write(body)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				if got, err := a.Finish().Result(b.Context()); err != nil || len(got.UIDs) != count {
					b.Fatal(len(got.UIDs), err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*count), "ns/message")
		})
	}
}

// BenchmarkFetchLoopback is FetchBodies over TCP, deadlines and all.
func BenchmarkFetchLoopback(b *testing.B) {
	const size, count = 100 << 10, 80
	var all bytes.Buffer
	body := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
	for i := range count {
		fmt.Fprintf(&all, "* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n", i+1, i+1, len(body), body)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		command := make([]byte, 1000)
		for {
			n, err := conn.Read(command)
			if err != nil {
				return
			}
			_, _ = conn.Write(all.Bytes())
			_, _ = conn.Write(ok(command[:n], ""))
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	l.Close()
	c := newClient(&IMAPConn{Conn: conn})
	defer func() {
		_ = c.Close()
		<-ended
	}()
	b.SetBytes(size * count)
	b.ResetTimer()
	for range b.N {
		if err := c.Fetch("1:*", FetchOptions{Items: []string{"BODY.PEEK[]"}, Body: func(_ *Message, _ string, _ int64, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		}}).Wait(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
