//go:build go1.26 && !go1.27

package tlsconf

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"sync"
	"unsafe"
)

// release gives back what an idle TLS connection keeps of its input. crypto/tls has no way to ask for that: the buffer that
// records are read into stays as large as it ever was, 39 KiB once full records have come in a row, where an idle session
// costs 20 KiB in all; and the client's hello stays twice. Both buffers are empty when this is called, and crypto/tls
// makes new ones when it needs them, as it did at first.
//
// It may be called only by the goroutine that reads c, after a read that found no whole record (tls.Conn then holds no
// decrypted bytes). This file is for the versions of Go whose crypto/tls it was compared with: with others, or where a
// field is not what it was, nothing is given back and nothing breaks. TestIdleTLSKeepsNoBuffer then says so.
func release(c *tls.Conn) {
	l := connLayout()
	if !l.known {
		return
	}
	for _, at := range [...]uintptr{l.rawInput, l.hand} {
		b := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), at))
		if b.Len() == 0 && b.Cap() > keptInput {
			*b = bytes.Buffer{}
		}
	}
}

// keptInput is what may stay: enough for short commands, so that these do not need a new buffer each time.
const keptInput = 1024

// layout is where a tls.Conn has its buffers.
type layout struct {
	rawInput, hand uintptr
	known          bool
}

var connLayout = sync.OnceValue(func() (l layout) {
	t := reflect.TypeFor[tls.Conn]()
	raw, ok1 := t.FieldByName("rawInput")
	hand, ok2 := t.FieldByName("hand")
	want := reflect.TypeFor[bytes.Buffer]()
	if ok1 && ok2 && raw.Type == want && hand.Type == want {
		l = layout{raw.Offset, hand.Offset, true}
	}
	return l
})
