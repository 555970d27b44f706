package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"
)

// TestAsk: only a yes is one; Ctrl-C ends the wait for an answer.
func TestAsk(t *testing.T) {
	var out bytes.Buffer
	p := &program{in: strings.NewReader("y\n"), err: &out}
	if err := p.agreed(t.Context(), "Go on?"); err == nil || exitCode(err) != exitUsage || out.Len() > 0 {
		t.Errorf("without a terminal: %v %q", err, out.String())
	}
	for said, want := range map[string]int{"y\n": exitOK, " YES \n": exitOK, "yes": exitOK, "n\n": exitRefused, "\n": exitRefused, "": exitRefused, "yeah\n": exitRefused} {
		got := exitOK
		if err := p.answer(t.Context(), strings.NewReader(said), "Go on?"); err != nil {
			got = exitCode(err)
		}
		if got != want {
			t.Errorf("%q: %d, want %d", said, got, want)
		}
	}
	silent, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.answer(ctx, silent, "Go on?"); err == nil || exitCode(err) != exitRefused {
		t.Errorf("interrupted: %v", err)
	}
}
