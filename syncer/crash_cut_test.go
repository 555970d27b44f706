package syncer_test

import (
	"fmt"
	"testing"
	"time"
)

// TestCutWhileCopying cuts the connections to a side at any byte of the first copy: on the way there, on the way back (what was
// done is not heard of), and with what was sent arriving after everybody has given up.
func TestCutWhileCopying(t *testing.T) {
	t.Parallel()
	startPlaces(t).everywhere(t, 1, func(c *crashRig) { c.cuts(c.begin) })
}

// TestCutWhileChanging does the same while changes are carried.
func TestCutWhileChanging(t *testing.T) {
	t.Parallel()
	startPlaces(t).everywhere(t, 6, func(c *crashRig) {
		c.cuts(func() {
			c.begin()
			c.run()
			c.meddle()
		})
	})
}

func (c *crashRig) cuts(prepare func()) {
	prepare()
	c.relay.set(fault{})
	c.run()
	up, down := c.relay.counts()
	c.end("without faults")
	c.t.Logf("%d bytes there, %d back", up, down)
	for _, f := range []struct {
		n    int
		make func(int) fault
		what string
	}{{up, func(n int) fault { return fault{up: n} }, "to the server"}, {down, func(n int) fault { return fault{down: n} }, "from the server"},
		{up, func(n int) fault { return fault{up: n, late: late} }, "to the server, which come late"}} {
		for _, n := range c.trials(f.n) {
			prepare()
			c.relay.set(f.make(n))
			c.run()
			time.Sleep(c.relay.lateness())
			c.end(fmt.Sprintf("cut after %d bytes %s", n, f.what))
		}
	}
}

// TestLateAppends has appends arrive after they were done again: the twins go.
func TestLateAppends(t *testing.T) {
	t.Parallel()
	startPlaces(t).everywhere(t, 11, func(c *crashRig) {
		for range 2 {
			c.begin()
			c.run()
			c.meddle()
			c.relay.set(fault{lateAt: " APPEND ", late: late})
			c.run()
			time.Sleep(late)
			c.end("appends that come late")
		}
	})
}
