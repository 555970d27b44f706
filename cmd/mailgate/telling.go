package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"mailgate/admin"
	"mailgate/cutover"
	"mailgate/op"
)

// notesPath is how a gateway that does not lead tells the one that does what its sessions have done.
const notesPath = "/notes"

// telling tells who leads what this node's sessions have done: which mailboxes have changed, and what was deleted because somebody asked for
// it. What comes together goes together. It is bounded, and what does not fit is forgotten: then a pass is later, and a delete is not known to
// be meant. It is safe for concurrent use; a nil one tells nobody.
type telling struct {
	g     *gateway
	wake  chan struct{}
	heard heardNotes

	mu      sync.Mutex
	changes map[cutover.Note]bool
	deletes []cutover.Note
	spans   int // of deletes
	number  uint64
}

// Bounds and times of telling.
const (
	maxToldSpans = 1 << 16 // of all deletes that wait: half a mebibyte
	batchSize    = 256     // of notes in one message
	batchSpans   = 1 << 13 // of its deletes, or those of one
	tellGather   = 100 * time.Millisecond
	tellTime     = 5 * time.Second // for one message
	tellLast     = 3 * time.Second // for what is left at the end
)

func newTelling(g *gateway) *telling {
	return &telling{g: g, wake: make(chan struct{}, 1), changes: map[cutover.Note]bool{}, heard: heardNotes{last: map[string]uint64{}}}
}

// originOf is short for the tag of a process.
func originOf(tag string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(tag)) // never fails
	return h.Sum32() >> 1       // the highest bit marks sessions of before, see syncer.Proofs
}

// note keeps what a session has done for who leads, where that is another node; else it is nobody's to tell. It does not block.
func (t *telling) note(n cutover.Note) (kept bool) {
	if t == nil || t.g.leads() {
		return false
	}
	t.mu.Lock()
	t.put(n)
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
	return true
}

// put takes one in, if it fits; mu is held.
func (t *telling) put(n cutover.Note) {
	switch {
	case n.Deletes == nil && len(t.changes) < maxNotes:
		t.changes[n] = true
	case n.Deletes != nil && len(t.deletes) < maxNotes && t.spans+spansOf(n) <= maxToldSpans:
		t.deletes = append(t.deletes, n)
		t.spans += spansOf(n)
	}
}

func spansOf(n cutover.Note) int { return len(n.Deletes.UIDs) + len(n.Deletes.Marked) }

// batch is what goes in one message.
type batch struct {
	number uint64
	list   []cutover.Note
	asked  int64 // term of who was asked and may have heard it, without an answer; 0 when nobody was
}

// take gives some of what waits, deletes first: the pass that a change asks for is to know of them. nil when nothing waits.
func (t *telling) take() *batch {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, spans, n := &batch{}, 0, 0
	for ; n < len(t.deletes) && n < batchSize && (n == 0 || spans+spansOf(t.deletes[n]) <= batchSpans); n++ {
		spans += spansOf(t.deletes[n])
	}
	b.list = append(b.list, t.deletes[:n]...)
	t.deletes = append([]cutover.Note(nil), t.deletes[n:]...) // moved, so that what has gone is free
	t.spans -= spans
	if len(t.deletes) == 0 {
		for c := range t.changes {
			if len(b.list) >= 2*batchSize {
				break
			}
			b.list = append(b.list, c)
			delete(t.changes, c)
		}
	}
	if len(b.list) == 0 {
		return nil
	}
	t.number++
	b.number = t.number
	return b
}

// start tells until the result is called: that tells what is left, if somebody hears it, and waits.
func (t *telling) start(ctx context.Context) (stop func()) {
	if t == nil {
		return func() {}
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx)) // sessions end behind ctx
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.run(run)
	}()
	return func() {
		cancel()
		<-done
	}
}

func (t *telling) run(ctx context.Context) {
	var b *batch
	wait := retryFirst
	for ctx.Err() == nil {
		if b == nil {
			b = t.take()
		}
		next := t.wake
		var after <-chan time.Time
		if b != nil {
			err := t.tell(ctx, b)
			if err == nil {
				b, wait, after = nil, retryFirst, time.After(tellGather)
			} else {
				t.g.log.Debug("what sessions have done is not told yet", "err", err)
				after, wait = time.After(wait), min(2*wait, retryLast)
			}
			next = nil
		}
		select {
		case <-ctx.Done():
		case <-next:
		case <-after:
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellLast)
	defer cancel()
	for ; last.Err() == nil; b = nil {
		if b == nil {
			b = t.take()
		}
		if b == nil || t.tell(last, b) != nil {
			return
		}
	}
}

// tell tells who leads; nil when that has it, and it is in the store.
func (t *telling) tell(ctx context.Context, b *batch) error {
	g := t.g
	ctx, cancel := context.WithTimeoutCause(ctx, tellTime, errSilentNode)
	defer cancel()
	self, leader := g.member.Node(), g.member.Leader()
	from, _, _ := strings.Cut(self.Incarnation, ".") // of the process: it may be registered anew meanwhile
	term := g.term.Load()
	if term != nil {
		leader.Term = term.right.Term()
	}
	if b.asked != 0 && b.asked != leader.Term {
		b.doubt()
	}
	switch {
	case term != nil:
		return g.takeNotes(ctx, from, b.number, b.list)
	case leader.Name == "", leader.Incarnation == self.Incarnation:
		return errors.New("nobody leads")
	}
	text, err := json.Marshal(b.list)
	if err != nil {
		return err
	}
	form := url.Values{"from": {from}, "number": {strconv.FormatUint(b.number, 10)}, "notes": {string(text)}}
	was := b.asked
	b.asked = leader.Term
	reply, err := cutover.AskNode(ctx, g.member.Wire(), op.Node{Name: leader.Name, Incarnation: leader.Incarnation}, cutover.Call{Method: http.MethodPost, Path: notesPath, Form: form})
	switch {
	case errors.Is(err, op.ErrNotAsked):
		b.asked = was
		return err
	case err != nil:
		return err
	case reply.Status == statusNotHeard:
		b.asked = was
		return fmt.Errorf("node %s: %s", leader.Name, reply.Body)
	case reply.Status != http.StatusOK:
		return fmt.Errorf("node %s: %s", leader.Name, reply.Body)
	}
	return nil
}

// doubt leaves out what must not be counted twice: another leads by now, and the one before may have written it down. Of deletes of which
// each message is known the second telling says nothing new.
func (b *batch) doubt() {
	b.asked = 0
	list := b.list[:0]
	for _, n := range b.list {
		if n.Deletes == nil || uint64(n.Deletes.Most) >= n.Deletes.UIDs.Size() {
			list = append(list, n)
		}
	}
	b.list = list
}

// heardNotes is what was heard of other nodes, so that it counts once.
type heardNotes struct {
	mu   sync.Mutex
	last map[string]uint64 // number of the last batch in this term, by process
}

// forget is for a new term: what was heard in one before and not written down must be told again.
func (h *heardNotes) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = map[string]uint64{}
}

// again notes that a batch was heard, and tells whether it was before.
func (h *heardNotes) again(from string, number uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.last[from]
	h.last[from] = max(number, was)
	return number <= was
}

// statusNotHeard answers a batch of which nothing was taken: whoever leads next may be told it without a doubt.
const statusNotHeard = http.StatusServiceUnavailable

// notHeard is why nothing was taken.
type notHeard struct{ why string }

// Error implements error.
func (e notHeard) Error() string { return e.why }

// hearNotes takes what another node tells of its sessions.
func (g *gateway) hearNotes(ctx context.Context, form url.Values) cutover.Reply {
	number, err := strconv.ParseUint(form.Get("number"), 10, 64)
	var list []cutover.Note
	if err == nil {
		err = json.Unmarshal([]byte(form.Get("notes")), &list)
	}
	if err == nil {
		err = g.takeNotes(ctx, form.Get("from"), number, list)
	}
	if err != nil {
		b, _ := json.Marshal(admin.Failure{Error: err.Error(), Exit: admin.ExitUnknown})
		status := http.StatusUnprocessableEntity
		if errors.As(err, new(notHeard)) {
			status = statusNotHeard
		}
		return cutover.Reply{Status: status, Body: b}
	}
	return cutover.Reply{Status: http.StatusOK, Body: []byte("{}")}
}

// takeNotes takes a batch, once, and writes down what it proves. nil means that it is in the store; a notHeard that nothing of it was taken.
func (g *gateway) takeNotes(ctx context.Context, from string, number uint64, list []cutover.Note) error {
	g.terms.Lock() // the term does not end meanwhile
	defer g.terms.Unlock()
	t := g.term.Load()
	switch {
	case t == nil:
		return notHeard{"this node does not lead"}
	case g.syncing == nil || g.syncing.keeping == nil || g.leading.Load() == nil:
		return notHeard{"this node makes no passes yet"}
	}
	if !g.telling.heard.again(from, number) {
		for _, n := range list {
			g.heard(n)
		}
	}
	return g.syncing.proofs.Write(ctx, t.right.SaveProofs)
}
