package syncer_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"sync"
	"testing"
)

// answered are the commands whose answers get lost: on one pair of hosts or another a pass sends each of them.
var answered = [...]string{"APPEND", "COPY", "MOVE", "STORE", "EXPUNGE", "CREATE", "RENAME", "DELETE", "SUBSCRIBE", "UNSUBSCRIBE", "SELECT", "FETCH"} //nolint:gochecknoglobals // a constant

// TestAnswersLost loses the answer to one command of a pass, of each kind, while all are carried out: what was done is found, and
// not done again.
func TestAnswersLost(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	asked, pairs := map[string]int{}, 0
	t.Cleanup(func() { // behind all pairs
		for _, verb := range answered {
			if asked[verb] == 0 && pairs == crashPairs { // not with -run of one of them
				t.Errorf("no pass has sent %s: its answer was never lost", verb)
			}
		}
	})
	startPlaces(t).everywhere(t, 16, func(c *crashRig) {
		prepare := func() {
			c.begin()
			c.run()
			c.meddle()
		}
		prepare()
		c.relay.set(fault{})
		c.run()
		sent := c.relay.sent()
		c.end("without faults")
		mu.Lock()
		pairs++
		for verb, n := range sent {
			asked[verb] += n
		}
		mu.Unlock()
		c.t.Log(sent)
		for _, verb := range answered {
			for _, n := range c.which(sent[verb]) {
				for done := false; !done; n = 1 { // connections share the work as it comes: there may be fewer of a kind
					prepare()
					c.relay.set(fault{verb: verb, nth: n})
					c.run()
					done = c.relay.lost()
					c.end(fmt.Sprintf("the answer to %s number %d lost", verb, n))
					if !done && n == 1 {
						c.t.Errorf("%s was not sent", verb)
						done = true
					}
				}
			}
		}
	})
}

// which are the numbers that are tried, of n: one at random, all of them with MAILGATE_SOAK.
func (c *crashRig) which(n int) []int {
	if n == 0 {
		return nil
	}
	if os.Getenv("MAILGATE_SOAK") != "" {
		return c.trials(n)
	}
	return []int{1 + c.rnd.IntN(n)}
}

// sent counts the commands of each kind since set; EXAMINE is SELECT.
func (r *relay) sent() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.verbs)
}

// lost tells whether the answer that was to be lost was.
func (r *relay) lost() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.swallowed
}

// dialogue follows one connection for the answer that is to be lost. The relay's mu guards it.
type dialogue struct {
	r    *relay
	line []byte // to the server, without its end so far
	tail []byte // the last bytes from the server
	tag  []byte // of the command whose answer gets lost, nil for none
}

var commandLine = regexp.MustCompile(`^(s\d+) (?:UID )?([A-Z]+)`)

// up looks at bytes to the server.
func (d *dialogue) up(b []byte) {
	d.r.mu.Lock()
	defer d.r.mu.Unlock()
	d.line = append(d.line, b...)
	for {
		line, rest, whole := bytes.Cut(d.line, []byte("\n"))
		if !whole {
			return
		}
		d.line = slices.Clone(rest)
		m := commandLine.FindSubmatch(line)
		if m == nil {
			continue
		}
		verb := string(m[2])
		if verb == "EXAMINE" {
			verb = "SELECT"
		}
		d.r.verbs[verb]++
		if f := &d.r.fault; f.verb == verb && f.nth == d.r.verbs[verb] {
			d.tag, f.verb = slices.Clone(m[1]), ""
		}
	}
}

// down looks at bytes from the server: when the answer is among them, that many may go on, and the connection has to be cut.
func (d *dialogue) down(b []byte) (n int, cut bool) {
	d.r.mu.Lock()
	defer d.r.mu.Unlock()
	text := append(slices.Clone(d.tail), b...)
	kept := len(d.tail)
	d.tail = text[max(0, len(text)-20):]
	if d.tag == nil {
		return len(b), false
	}
	at := bytes.Index(text, fmt.Appendf(nil, "\n%s ", d.tag)) + 1
	if at == 0 && !bytes.HasPrefix(text, fmt.Appendf(nil, "%s ", d.tag)) {
		return len(b), false
	}
	d.r.swallowed = true
	return max(0, at-kept), true
}
