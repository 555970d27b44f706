package syncer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"slices"

	"mailgate/backend"
	"mailgate/imapwire"
)

// bodySum is what is compared of a message.
type bodySum struct {
	exact [sha256.Size]byte
	loose [sha256.Size]byte // with line ends, NULs, the end, and 8-bit characters of the header made alike
	head  [sha256.Size]byte // the header, with line ends and NULs made alike
	eight bool              // 8-bit characters stand in the header
}

// alike says in which small ways two messages that are not the same differ; "" when it is more than that.
func (a bodySum) alike(b bodySum) string {
	switch {
	case a.loose != b.loose:
		return ""
	case a.head == b.head:
		return "only line ends, NULs or the end of the message differ"
	case a.eight != b.eight: // one side has made X of them
		return "only characters of the header that are not ASCII, line ends, NULs or the end of the message differ"
	}
	return ""
}

// hashBodies hashes messages.
func hashBodies(ctx context.Context, c *backend.Client, uids []uint32) (map[uint32]bodySum, error) {
	slices.Sort(uids)
	out := make(map[uint32]bodySum, len(uids))
	var list []*backend.Command
	for _, set := range imapwire.SplitUIDs(uids, lineLength) {
		list = append(list, c.Fetch(set, backend.FetchOptions{Items: []string{"BODY.PEEK[]"},
			Body: func(m *backend.Message, _ string, _ int64, r io.Reader) error {
				exact, n := sha256.New(), newLoose()
				if _, err := io.Copy(io.MultiWriter(exact, n), r); err != nil {
					return err
				}
				out[m.UID] = n.sum([sha256.Size]byte(exact.Sum(nil)))
				return nil
			}}))
	}
	return out, waitAll(ctx, list)
}

// loose hashes a message without CRs anywhere, with NULs as Dovecot keeps them, with a line end at the end, and with X for what is not
// ASCII in the header, as Cyrus has it. Besides it hashes the header without that.
type loose struct {
	h, head hash.Hash
	some    bool // there is text
	body    bool // the header is over
	eight   bool
	last    byte
	text    []byte // between two writes only its memory is kept
}

func newLoose() *loose { return &loose{h: sha256.New(), head: sha256.New(), last: '\n'} }

func (l *loose) Write(p []byte) (int, error) {
	l.text = l.text[:0]
	for rest := p; len(rest) > 0; {
		part, behind, _ := bytes.Cut(rest, []byte{'\r'})
		l.text, rest = append(l.text, part...), behind
	}
	for q := l.text; ; {
		i := bytes.IndexByte(q, 0)
		if i < 0 {
			break
		}
		q[i], q = 0x80, q[i+1:]
	}
	if !l.body {
		n := l.header()
		l.head.Write(l.text[:n])
		for i, c := range l.text[:n] {
			if c >= 0x80 {
				l.text[i], l.eight = 'X', true
			}
		}
	}
	if n := len(l.text); n > 0 {
		l.last, l.some = l.text[n-1], true
	}
	l.h.Write(l.text)
	return len(p), nil
}

// header tells how much of the text belongs to the header; an empty line ends it.
func (l *loose) header() int {
	last := l.last
	for i, c := range l.text {
		if c == '\n' && last == '\n' {
			l.body = true
			return i
		}
		last = c
	}
	return len(l.text)
}

func (l *loose) sum(exact [sha256.Size]byte) bodySum {
	if l.last != '\n' || !l.some {
		l.h.Write([]byte{'\n'})
	}
	return bodySum{exact, [sha256.Size]byte(l.h.Sum(nil)), [sha256.Size]byte(l.head.Sum(nil)), l.eight}
}
