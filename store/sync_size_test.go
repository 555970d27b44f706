package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailgate/syncer"
)

// TestBytesPerMessage: 20,000 messages in 40 folders, written as the first pass writes them, take under 8 bytes each, all
// in all. A pair takes 3 bytes here.
func TestBytesPerMessage(t *testing.T) {
	const folders, messages, batch = 40, 500, 250
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	token := acquire(t, s, anna, "p1")
	for i := range folders {
		m := syncer.Mailbox{User: anna, Name: [2]string{fmt.Sprintf("INBOX.Projects.folder %d", i), fmt.Sprintf("Projects/folder %d", i)}, Validity: [2]uint32{1700000000, 1700000001}}
		chunk := syncer.Chunk{Mailbox: -1, Low: 1}
		for n := batch; n <= messages; n += batch {
			a, err := s.Apply(ctx, syncer.Change{User: anna, Token: token, Mailboxes: []syncer.Mailbox{m}, AddIntents: []syncer.Intent{{Mailbox: -1,
				Kind: syncer.IntentAppend, Payload: make([]byte, 20*batch), Created: time.Now()}}})
			must(t, err)
			m.ID, m.Pairs, chunk.Data = a.Mailboxes[0], int64(n), make([]byte, 3*n)
			m.Cursor = [2]syncer.Cursor{{UIDNext: uint32(n), Messages: uint32(n), Scanned: time.Now()}, {UIDNext: uint32(n), Messages: uint32(n), Scanned: time.Now()}}
			_, err = s.Apply(ctx, syncer.Change{User: anna, Token: token, Mailboxes: []syncer.Mailbox{m}, Chunks: []syncer.Chunk{chunk}, DropIntents: a.Intents})
			must(t, err)
			chunk.Generation++
		}
	}
	must(t, s.Close())
	st, err := os.Stat(path)
	must(t, err)
	per := float64(st.Size()) / (folders * messages)
	t.Logf("%d bytes, %.2f a message", st.Size(), per)
	if per >= 8 {
		t.Errorf("%.2f bytes a message", per)
	}
}

// BenchmarkApply writes a full chunk, takes an intent out and puts one in.
func BenchmarkApply(b *testing.B) {
	ctx := b.Context()
	s, err := Open(ctx, filepath.Join(b.TempDir(), "state.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	token, err := s.Acquire(ctx, anna, "p1", time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	c := syncer.Change{User: anna, Token: token, Mailboxes: []syncer.Mailbox{sample(anna)},
		Chunks: []syncer.Chunk{{Mailbox: -1, Low: 1, Data: make([]byte, 16<<10)}}, AddIntents: []syncer.Intent{{Mailbox: -1, Payload: make([]byte, 5000)}}}
	for b.Loop() {
		a, err := s.Apply(ctx, c)
		if err != nil {
			b.Fatal(err)
		}
		c.Mailboxes[0].ID, c.DropIntents = a.Mailboxes[0], a.Intents
		c.Chunks[0].Generation++
	}
}
