package main

import (
	"fmt"
	"testing"
	"time"
)

// TestWholeAfter: whole passes of many users are spread over a third of the time, and a user's is always at the same distance.
func TestWholeAfter(t *testing.T) {
	t.Parallel()
	var by [5]int
	for i := range 1000 {
		user := fmt.Sprintf("user%d@example.com", i)
		d := wholeAfter(user)
		if d > wholeEvery || d < wholeEvery*2/3 || d != wholeAfter(user) {
			t.Fatalf("%s: %s", user, d)
		}
		by[min(4, int((wholeEvery-d)/time.Minute))]++
	}
	for i, n := range by {
		if n < 100 {
			t.Errorf("minute %d: %d of 1000", i, n)
		}
	}
}
