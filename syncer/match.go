package syncer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"slices"
	"strings"

	"mailgate/backend"
	"mailgate/imapwire"
)

// digest is what a message is known by where UIDs do not tell: k1 of uid-stable.md, section 4.2.
type digest struct {
	uid    uint32
	zone   int16 // minutes east of UTC
	date   int64
	size   int64
	header [12]byte // of the fields that no server changes, unfolded
	id     [12]byte // of Message-ID alone: some do change the others (Cyrus writes X for bytes that are not ASCII)
	weak   bool     // there was no Message-ID: the header alone says little
}

// identifying are the fields of a digest, in this order.
var identifying = []string{"Date", "From", "To", "Cc", "Subject", "Message-ID", "In-Reply-To", "References", "Received"} //nolint:gochecknoglobals // a constant

func headerItem() string {
	return "BODY.PEEK[HEADER.FIELDS (" + strings.ToUpper(strings.Join(identifying, " ")) + ")]"
}

// maxHeader bounds what is read of one message's fields; what is beyond does not tell messages apart.
const maxHeader = 64 << 10

// lineLength bounds a command line: servers take 8 kB at least.
const lineLength = 7000

// digests reads those of messages in the mailbox that is selected, in the order of uids. Messages that are gone are left out. What a server gives in place of
// a message that it cannot open is read once more, when the server has looked at its mailbox again.
func digests(ctx context.Context, c *backend.Client, uids []uint32) ([]digest, error) {
	out, away, err := digestsOnce(ctx, c, uids)
	if err != nil || len(away) == 0 {
		return out, err
	}
	if err := c.Noop().Wait(ctx); err != nil {
		return nil, err
	}
	again, _, err := digestsOnce(ctx, c, away)
	out = slices.DeleteFunc(out, func(d digest) bool { return slices.Contains(away, d.uid) })
	out = append(out, again...)
	slices.SortFunc(out, func(a, b digest) int { return slices.Index(uids, a.uid) - slices.Index(uids, b.uid) })
	return out, err
}

func digestsOnce(ctx context.Context, c *backend.Client, uids []uint32) (out []digest, away []uint32, err error) {
	found := make(map[uint32]digest, len(uids))
	var commands []*backend.Command
	var h, id [12]byte
	var weak, read bool
	take := func(m *backend.Message) error {
		d := found[m.UID]
		d.uid = m.UID
		if m.DateText != "" {
			x := dateOfMessage(m)
			d.date, d.zone = x.date, x.zone
		}
		if m.Size > 0 {
			d.size = m.Size
		}
		if read {
			d.header, d.id, d.weak, read = h, id, weak, false
		}
		found[m.UID] = d
		return nil
	}
	for _, set := range imapwire.SplitUIDs(uids, lineLength) {
		commands = append(commands, c.Fetch(set, backend.FetchOptions{
			Items: []string{"INTERNALDATE", "RFC822.SIZE", headerItem()}, Message: take,
			Body: func(_ *backend.Message, _ string, _ int64, r io.Reader) error {
				b, err := io.ReadAll(io.LimitReader(r, maxHeader))
				h, id, weak = headerDigest(b)
				read = true
				return err
			}}))
	}
	if err := waitAll(ctx, commands); err != nil {
		return nil, nil, err
	}
	out = make([]digest, 0, len(found))
	for _, u := range uids {
		if d, ok := found[u]; ok {
			out = append(out, d)
			if d.weak && d.header == standInHeader {
				away = append(away, u)
			}
		}
	}
	return out, away, nil
}

func waitAll(ctx context.Context, commands []*backend.Command) error {
	for _, c := range commands {
		if err := c.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// headerDigest hashes the identifying fields of a header, however it is folded and in whatever order they stand.
func headerDigest(b []byte) (sum, id [12]byte, weak bool) {
	values := map[string][]byte{}
	var name string
	for len(b) > 0 {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte("\n"))
		line = bytes.TrimRight(line, "\r")
		if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			if name != "" {
				values[name] = append(append(values[name], ' '), line...)
			}
			continue
		}
		before, after, ok := bytes.Cut(line, []byte(":"))
		name = ""
		if !ok {
			continue
		}
		n := strings.ToLower(strings.TrimSpace(string(before)))
		if _, seen := values[n]; !seen { // the first Received, and the first of what should stand once
			name = n
			values[n] = append([]byte(nil), after...)
		}
	}
	h := sha256.New()
	for _, f := range identifying {
		h.Write(bytes.Join(bytes.Fields(values[strings.ToLower(f)]), []byte(" ")))
		h.Write([]byte{0})
	}
	copy(sum[:], h.Sum(nil))
	own := bytes.TrimSpace(values["message-id"])
	one := sha256.Sum256(own)
	copy(id[:], one[:])
	return sum, id, len(own) == 0
}

// bodies hashes messages of the mailbox that is selected, whole or without their headers. Line ends are made alike and an
// end without one counts as one with: some servers do that to what they are given.
func bodies(ctx context.Context, c *backend.Client, uids []uint32, text bool) (map[uint32][32]byte, error) {
	out := make(map[uint32][32]byte, len(uids))
	var commands []*backend.Command
	section := "BODY.PEEK[]"
	if text {
		section = "BODY.PEEK[TEXT]"
	}
	for _, set := range imapwire.SplitUIDs(uids, lineLength) {
		commands = append(commands, c.Fetch(set, backend.FetchOptions{Items: []string{section},
			Body: func(m *backend.Message, _ string, _ int64, r io.Reader) error {
				n := &normal{h: sha256.New()}
				if _, err := io.Copy(n, r); err != nil {
					return err
				}
				n.end()
				out[m.UID] = [32]byte(n.h.Sum(nil))
				return nil
			}}))
	}
	return out, waitAll(ctx, commands)
}

// normal passes text on with LF for every line end and with one at the end.
type normal struct {
	h    hash.Hash
	last byte
}

func (n *normal) Write(p []byte) (int, error) {
	for line := range bytes.SplitAfterSeq(p, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		if n.last == '\r' && line[0] != '\n' {
			n.h.Write([]byte{'\r'})
		}
		n.last = line[len(line)-1]
		switch {
		case n.last == '\n':
			n.h.Write(bytes.TrimRight(line[:len(line)-1], "\r"))
			n.h.Write([]byte{'\n'})
		case n.last == '\r':
			n.h.Write(line[:len(line)-1])
		default:
			n.h.Write(line)
		}
	}
	return len(p), nil
}

func (n *normal) end() {
	if n.last != '\n' {
		n.h.Write([]byte{'\n'})
	}
}

// hasher hashes messages of one of two lists: whole, or their text only.
type hasher func(ctx context.Context, uids []uint32, text bool) (map[uint32][32]byte, error)

// matchDigests pairs messages of two lists by content: the digest ladder of uid-stable.md, section 4.2, as a multiset; equal ones
// are paired in the order of the lists. The result holds indexes.
func matchDigests(ctx context.Context, a, b []digest, hash [2]hasher) ([][2]int, error) {
	m := &matcher{lists: [2][]digest{a, b}, hash: hash}
	m.free[0], m.free[1] = make([]bool, len(a)), make([]bool, len(b))
	for i := range m.free {
		for j := range m.free[i] {
			m.free[i][j] = true
		}
	}
	steps := []struct {
		key  func(digest) digest // what must agree, the rest blanked out
		text bool                // the text must agree too: the size does not, so some header was added or taken off
	}{
		{func(d digest) digest { return d }, false},
		{func(d digest) digest { d.date = 0; return d }, false},
		{func(d digest) digest { d.size = 0; return d }, true},
		{func(d digest) digest { d.date, d.size = 0, 0; return d }, true},
	}
	for _, s := range steps {
		if err := m.step(ctx, s.key, s.text); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(m.pairs, func(x, y [2]int) int { return x[0] - y[0] })
	return m.pairs, nil
}

type matcher struct {
	lists [2][]digest
	free  [2][]bool
	hash  [2]hasher
	sums  [2]map[uint32][32]byte // of this step's kind
	pairs [][2]int
}

func (m *matcher) step(ctx context.Context, key func(digest) digest, text bool) error {
	m.sums = [2]map[uint32][32]byte{{}, {}}
	var groups [2]map[digest][]int
	for side := range groups {
		groups[side] = map[digest][]int{}
		for i, d := range m.lists[side] {
			if m.free[side][i] {
				k := key(d)
				k.uid = 0
				groups[side][k] = append(groups[side][k], i)
			}
		}
	}
	// Groups in which more than one pairing is possible, and those whose header says little, are told apart by their bodies.
	var doubtful []digest
	var ask [2][]uint32
	for k, ga := range groups[0] {
		gb := groups[1][k]
		if len(gb) == 0 {
			continue
		}
		if !text && !k.weak && len(ga) == 1 && len(gb) == 1 {
			m.pair(ga[0], gb[0])
			continue
		}
		doubtful = append(doubtful, k)
		for side, g := range [2][]int{ga, gb} {
			for _, i := range g {
				ask[side] = append(ask[side], m.lists[side][i].uid)
			}
		}
	}
	for side := range ask {
		if len(ask[side]) == 0 {
			continue
		}
		slices.Sort(ask[side])
		sums, err := m.hash[side](ctx, ask[side], text)
		if err != nil {
			return err
		}
		m.sums[side] = sums
	}
	for _, k := range doubtful {
		left := map[[32]byte][]int{}
		for _, j := range groups[1][k] {
			if s, ok := m.sums[1][m.lists[1][j].uid]; ok {
				left[s] = append(left[s], j)
			}
		}
		for _, i := range groups[0][k] {
			s, ok := m.sums[0][m.lists[0][i].uid]
			if g := left[s]; ok && len(g) > 0 {
				m.pair(i, g[0])
				left[s] = g[1:]
			}
		}
	}
	return nil
}

func (m *matcher) pair(i, j int) {
	m.free[0][i], m.free[1][j] = false, false
	m.pairs = append(m.pairs, [2]int{i, j})
}
