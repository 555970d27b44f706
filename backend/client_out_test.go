package backend

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// pieces notes what was written, and how.
type pieces struct {
	bytes.Buffer
	sizes []int
	err   error
}

func (p *pieces) Write(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	p.sizes = append(p.sizes, len(b))
	return p.Buffer.Write(b)
}

// TestOutgoing: whatever is written in whatever pieces comes in order, in few writes, and what was needed for it is given back.
func TestOutgoing(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var to pieces
		o := outgoing{to: &to}
		var want []byte
		for range 1 + rnd.IntN(20) {
			piece := make([]byte, rnd.IntN(1<<(1+rnd.IntN(18))))
			for i := range piece {
				piece[i] = byte(rnd.Uint32())
			}
			want = append(want, piece...)
			var n int
			var err error
			if rnd.IntN(2) == 0 {
				n, err = o.Write(piece)
			} else {
				n, err = o.WriteString(string(piece))
			}
			if n != len(piece) || err != nil {
				t.Fatalf("%d of %d, %v", n, len(piece), err)
			}
			if cap(o.b) > outWindow {
				t.Fatalf("holds %d", cap(o.b))
			}
		}
		if to.Len() < len(want)-outWindow {
			t.Fatalf("%d of %d bytes are held back", len(want)-to.Len(), len(want))
		}
		if err := o.Flush(); err != nil || !bytes.Equal(to.Bytes(), want) {
			t.Fatalf("other bytes, or an error: %v", err)
		}
		if most := len(want)/(outWindow/2) + 2; len(to.sizes) > 2*most {
			t.Fatalf("%d writes for %d bytes", len(to.sizes), len(want))
		}
		_ = o.WriteByte('x')
		if err := o.Flush(); err != nil || cap(o.b) > restWindow {
			t.Fatalf("at rest it holds %d bytes, %v", cap(o.b), err)
		}
	}
}

// TestOutgoingError: the first error stays, and nothing is written behind it.
func TestOutgoingError(t *testing.T) {
	gone := errors.New("gone")
	to := pieces{err: gone}
	o := outgoing{to: &to}
	if _, err := o.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if err := o.Flush(); !errors.Is(err, gone) {
		t.Fatal(err)
	}
	to.err = nil
	for _, err := range []error{o.WriteByte('y'), o.Flush()} {
		if !errors.Is(err, gone) {
			t.Errorf("%v, want the first error", err)
		}
	}
	if n, err := o.Write(make([]byte, 2*outWindow)); n != 0 || !errors.Is(err, gone) || to.Len() > 0 {
		t.Errorf("%d, %v: written behind an error", n, err)
	}
}
