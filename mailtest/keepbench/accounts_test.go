//go:build bench

package keepbench

import (
	"bytes"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
)

// The accounts of the bench, by number. Those of the lab itself are not touched.
const (
	active  = 1000 // and the 199 behind it: people who work
	waiting = 2000 // and on: OLD's users while NEW is ill, a block for each state of NEW
	resting = 3000 // and on: people who do not
)

func user(n int) string     { return fmt.Sprintf("user%d@example.com", n) }
func password(n int) string { return fmt.Sprintf("pass%d", n) }

// admit makes both hosts know users of these numbers.
func admit(t testing.TB, l *lab.Lab, numbers []int) {
	t.Helper()
	var text strings.Builder
	for _, n := range numbers {
		fmt.Fprintf(&text, "%s:{PLAIN}%s\n", user(n), password(n))
	}
	for _, h := range []lab.Host{l.Old, l.New} {
		file := filepath.Join(h.Dir, "users") // Dovecot reads it anew when it has changed
		if err := os.WriteFile(file+".tmp", []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".tmp", file); err != nil {
			t.Fatal(err)
		}
	}
}

// letter is a message of two kilobytes with a key.
func letter(key string) []byte {
	body := bytes.Repeat([]byte("It is what one writes in a letter of no great length, on this day.\r\n"), 27)
	return fmt.Appendf(nil, "From: somebody@example.org\r\nTo: somebody@example.com\r\nSubject: %s\r\nMessage-ID: <%s@example.org>\r\n\r\n%s", key, key, body)
}

// letters are those with the keys m-1 to m-count.
func letters(count int) iter.Seq[corpus.Message] {
	return func(yield func(corpus.Message) bool) {
		for i := range count {
			if !yield(corpus.Message{Data: letter(fmt.Sprintf("m-%d", i+1)), Date: time.Unix(1700000000+int64(i)*3600, 0)}) {
				return
			}
		}
	}
}

// furnish gives user n of OLD four folders, with so many messages in INBOX.
func furnish(t testing.TB, l *lab.Lab, n, inbox int) {
	t.Helper()
	corpus.Load(t, l.Old, n, []corpus.Folder{{Levels: []string{"INBOX"}, Subscribed: true, Count: inbox, Messages: letters(inbox)},
		{Levels: []string{"Archive"}, Subscribed: true}, {Levels: []string{"Sent"}, Subscribed: true, Count: 1, Messages: letters(1)},
		{Levels: []string{"Projects"}, Subscribed: true, Count: 1, Messages: letters(1)}})
}

// block are count numbers from first on.
func block(first, count int) (out []int) {
	for i := range count {
		out = append(out, first+i)
	}
	return out
}
