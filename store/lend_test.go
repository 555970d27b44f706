package store

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"mailgate/op"
)

// TestLend: while a store is lent nothing of it is open, another opens it, and what that has written is there when it comes back.
func TestLend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.AddRows(t.Context(), []op.Row{{User: "a@example.com", State: op.Settled, Since: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Lend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Row(t.Context(), "a@example.com"); !errors.Is(err, ErrLent) || !errors.Is(err, op.ErrUnavailable) {
		t.Errorf("read while it is lent: %v", err)
	}
	if err := s.Check(t.Context()); !errors.Is(err, ErrLent) {
		t.Errorf("write while it is lent: %v", err)
	}
	other, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.TakeBack(t.Context()); !errors.Is(err, op.ErrInUse) {
		t.Errorf("taken back while another has it: %v", err)
	}
	if err := other.AddRows(t.Context(), []op.Row{{User: "b@example.com", State: op.Settled, Since: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.TakeBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"a@example.com", "b@example.com"} {
		if _, err := s.Row(t.Context(), user); err != nil {
			t.Error(user, err)
		}
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), path); !errors.Is(err, op.ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	// A newer program has changed it.
	if err := s.Lend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if other, err = Open(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if _, err := other.write.Exec("PRAGMA user_version = 9999"); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.TakeBack(t.Context()); err == nil {
		t.Error("taken back though a newer program has changed it")
	}
	if err := s.Check(t.Context()); !errors.Is(err, ErrLent) {
		t.Error(err)
	}
}
