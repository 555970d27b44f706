package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// TestDemo takes the tour: mail is brought together, and a user moved and moved back.
func TestDemo(t *testing.T) {
	var out, errOut bytes.Buffer
	if code := run(context.Background(), []string{"demo", "--tour-only"}, strings.NewReader(""), &out, &errOut); code != exitOK {
		t.Fatalf("exit %d\n%s%s", code, out.String(), errOut.String())
	}
	for _, want := range []string{"2 messages copied to NEW, 1 to OLD: both hold 3 now", "alice@example.com is on new now", "The tour is over."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if n := strings.Count(out.String(), "This is a message from Bob"); n != 3 {
		t.Errorf("Bob's message was read %d times:\n%s", n, out.String())
	}
}
