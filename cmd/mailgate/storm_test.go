package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/mailtest/lab"
)

// TestLabRestart: a real host restarts under people who are logged in. They come back as soon as they are told, which is before the host
// does, and nobody's login fails. Then the gateway restarts.
func TestLabRestart(t *testing.T) {
	l := lab.Start(t)
	g := labGate(t, l, "# everybody is on OLD\n", "limits: {disconnect_spread: 1s}\n")
	g.start()
	defer func() { g.stop() }()
	const clients = 60
	idle := func(n int) *lines {
		c, err := dialLine(g.imapPlain)
		if err != nil {
			t.Error(err)
			return nil
		}
		user := n%lab.Users + 1
		for _, step := range []string{"* OK", "a OK", "+ "} {
			switch step {
			case "a OK":
				c.send(t, fmt.Sprintf("a LOGIN %s pass%d\r\n", lab.User(user), user))
			case "+ ":
				c.send(t, "b SELECT INBOX\r\nc IDLE\r\n")
			}
			for {
				line, err := c.read()
				if err != nil || strings.HasPrefix(line, "a NO") || strings.HasPrefix(line, "* BYE") {
					t.Errorf("%s: %q, %v", lab.User(user), line, err)
					c.Close()
					return nil
				}
				if strings.HasPrefix(line, step) {
					break
				}
			}
		}
		return c
	}
	all := make([]*lines, clients)
	again := func() {
		var wg sync.WaitGroup
		for n := range all {
			wg.Go(func() {
				if c := all[n]; c != nil {
					for line := ""; !strings.HasPrefix(line, "* BYE"); {
						var err error
						if line, err = c.read(); err != nil {
							break // the end of the connection tells as much
						}
					}
					c.Close()
				}
				all[n] = idle(n)
			})
		}
		wg.Wait()
	}
	again() // they come
	if t.Failed() {
		return
	}
	back := l.Stop(t, l.Old.Name)
	done := make(chan struct{})
	go func() { defer close(done); again() }()
	time.Sleep(time.Second) // as long as it is away
	back()
	<-done
	if t.Failed() {
		return
	}
	g.stop()
	for _, c := range all {
		c.Close()
	}
	clear(all)
	g.start()
	again()
}
