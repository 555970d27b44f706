package syncer_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fault is what a relay does to connections.
type fault struct {
	up   int           // cut when so many bytes have gone to the server, of all connections together; 0 means never
	down int           // the same for bytes from the server: what was done is not heard of
	late time.Duration // bytes to the server are under way for so long, and arrive also when the connection is cut

	lose   string // cut before an answer that holds this
	verb   string // cut before the answer to a command, "STORE" also for UID STORE:
	nth    int    // the nth of its kind
	lateAt string // from a command on that holds this bytes are late, and moments later the connection is cut
}

// relay stands before a server, and fails on command.
type relay struct {
	l       net.Listener
	target  string
	hide    []string          // words of the server that do not come through as they are; set before the first connection
	rewrite [2]string         // a word of what is sent to the server, and what it keeps in its place; of equal length
	answer  [2]string         // a word of the server, and what comes through in its place; of equal length
	before  map[string]func() // done before words go to the server, once; set before the first connection
	cutAt   string            // words that end each connection on which they go to the server
	muteAt  string            // words behind which the server is not heard on their connection
	wg      sync.WaitGroup

	mu        sync.Mutex
	fault     fault
	up, down  int
	verbs     map[string]int // commands since set
	swallowed bool           // the answer that verb asks for was lost
	conns     map[net.Conn]bool
}

func newRelay(t testing.TB, target string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{l: l, target: target, conns: map[net.Conn]bool{}, verbs: map[string]int{}}
	r.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.cutAll()
		r.wg.Wait()
	})
	return r
}

func (r *relay) port() int { return r.l.Addr().(*net.TCPAddr).Port }

// set begins to count anew.
func (r *relay) set(f fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault, r.up, r.down, r.verbs, r.swallowed = f, 0, 0, map[string]int{}, false
}

// counts are the bytes that went each way since set.
func (r *relay) counts() (up, down int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.up, r.down
}

func (r *relay) cutAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.Close()
	}
}

// pass counts n bytes and tells how many of them may go on, and whether that is the end.
func (r *relay) pass(up bool, n int) (allowed int, cut bool, late time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	count, limit := &r.down, r.fault.down
	if up {
		count, limit = &r.up, r.fault.up
	}
	if late = r.fault.late; limit == 0 || *count+n < limit-2000 {
		late = 0 // only what is sent shortly before the cut
	}
	if limit > 0 && *count+n >= limit {
		n, cut = max(0, limit-*count), true
		r.fault.up, r.fault.down = 0, 0 // once: whoever connects anew is served
	}
	*count += n
	return n, cut, late
}

func (r *relay) serve(c net.Conn) {
	s, err := net.Dial("tcp", r.target)
	if err != nil {
		c.Close()
		return
	}
	r.mu.Lock()
	r.conns[c], r.conns[s] = true, true
	r.mu.Unlock()
	type chunk struct {
		b  []byte
		at time.Time
	}
	queue := make(chan chunk, 1<<16)
	talk := &dialogue{r: r}
	var mute atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() { // to the server, as late as is asked for
		defer s.Close()
		for x := range queue {
			time.Sleep(time.Until(x.at))
			if _, err := s.Write(x.b); err != nil {
				return
			}
		}
	})
	wg.Go(func() {
		defer close(queue)
		var slow time.Duration
		buf := make([]byte, 32<<10)
		for {
			n, err := c.Read(buf)
			for words, do := range r.before {
				if bytes.Contains(buf[:n], []byte(words)) {
					do()
				}
			}
			if r.rewrite[0] != "" {
				copy(buf, bytes.ReplaceAll(buf[:n], []byte(r.rewrite[0]), []byte(r.rewrite[1])))
			}
			talk.up(buf[:n])
			k, cut, late := r.pass(true, n)
			if at, c := r.broken(buf[:n]); at >= 0 {
				queue <- chunk{append([]byte(nil), buf[:at]...), time.Now()}
				time.Sleep(50 * time.Millisecond) // what was asked before is answered
				copy(buf, buf[at:n])
				if k, cut = k-at, cut || c; c {
					k = 0 // never heard of: its answer could be back before the end is
				}
				mute.Store(!c)
			}
			if d := r.found(&r.fault.lateAt, buf[:n]); d {
				slow = late0(r)
				time.AfterFunc(30*time.Millisecond, func() { c.Close() })
			}
			late = max(late, slow)
			if k > 0 {
				queue <- chunk{append([]byte(nil), buf[:k]...), time.Now().Add(late)}
			}
			if cut || err != nil {
				c.Close()
				return
			}
		}
	})
	wg.Go(func() {
		buf := make([]byte, 32<<10)
		for {
			n, err := s.Read(buf)
			for _, word := range r.hide { // written in one piece, as short answers are
				copy(buf, bytes.ReplaceAll(buf[:n], []byte(word), append([]byte("X"), word[1:]...)))
			}
			if r.answer[0] != "" {
				copy(buf, bytes.ReplaceAll(buf[:n], []byte(r.answer[0]), []byte(r.answer[1])))
			}
			k, cut, _ := r.pass(false, n)
			if mute.Load() {
				k = 0
			}
			if r.found(&r.fault.lose, buf[:n]) {
				k, cut = 0, true
			}
			if i, lost := talk.down(buf[:n]); lost {
				k, cut = min(k, i), true
			}
			if k > 0 {
				if _, werr := c.Write(buf[:k]); werr != nil && err == nil {
					_, _ = io.Copy(io.Discard, s) // the server goes on talking to nobody
					return
				}
			}
			if cut || err != nil {
				c.Close()
				return
			}
		}
	})
	wg.Wait()
	r.mu.Lock()
	delete(r.conns, c)
	delete(r.conns, s)
	r.mu.Unlock()
}

// breaks sets cutAt and muteAt.
func (r *relay) breaks(cut, mute string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cutAt, r.muteAt = cut, mute
}

// broken finds the line at which a connection breaks; -1 when there is none. cut tells that it is ended, and not only silent.
func (r *relay) broken(b []byte) (at int, cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, word := range []string{r.cutAt, r.muteAt} {
		if i := bytes.Index(b, []byte(word)); word != "" && i >= 0 {
			return bytes.LastIndexByte(b[:i], '\n') + 1, word == r.cutAt
		}
	}
	return -1, false
}

func (r *relay) lateness() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault.late > 0 {
		return r.fault.late + 20*time.Millisecond
	}
	return 0
}

// found tells whether bytes hold what a fault waits for, once.
func (r *relay) found(what *string, b []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if *what == "" || !bytes.Contains(b, []byte(*what)) {
		return false
	}
	*what = ""
	return true
}

func late0(r *relay) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fault.late
}
