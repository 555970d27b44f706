package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// TestDemo takes the tour: mailboxes are kept equal, a hold refuses a move, a wave is moved and brought back by every state of the machine,
// and what was written on NEW is on OLD.
func TestDemo(t *testing.T) {
	var out, errOut bytes.Buffer
	if code := run(context.Background(), []string{"demo", "--tour-only"}, strings.NewReader(""), &out, &errOut); code != exitOK {
		t.Fatalf("exit %d\n%s%s", code, out.String(), errOut.String())
	}
	const way = ": PREP -> FENCE -> DRAIN -> DELTA -> VERIFY -> RELEASE -> SETTLED\n"
	for want, times := range map[string]int{
		"flip               ready, about ":          1,
		"rollback           ready, about ":          1,
		"clients download again 3 messages (":       1,
		"careful":                                   0,
		"wave pilot is held by ":                    1,
		"to let flips go on: mailgate unhold pilot": 1,
		"alice@example.com" + way:                   2,
		"bob@example.com" + way:                     2,
		"carol@example.com" + way:                   2,
		"This is a message from Bob\n":              3,
		"INBOX 4: A note, written on NEW\n":         1,
		"  6. RELEASE  ":                            1,
		"3 users move to new, by the same steps\n":  3,
		"3 users to NEW, all together:\n":           1,
		"wave pilot to new (3 of 3 users)  done":    1,
		"wave pilot to old (3 of 3 users)  done":    1,
		"The tour is over.\n":                       1,
	} {
		if n := strings.Count(out.String(), want); n != times {
			t.Errorf("%q is there %d times, not %d", want, n, times)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}
