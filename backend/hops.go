package backend

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
)

// MaxHops is how many gateways a login may pass: each tells the next one less, and one that would tell 0 goes no further. It is Dovecot's
// number too.
const MaxHops = 7

// ErrLoop means that a login went round in a circle: the backend is this gateway itself, or leads back to it.
var ErrLoop = errors.New("mail loop: the backend is this gateway, or leads back to it")

// newID makes the name of one run of the gateway.
func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Gateway marks a greeting as that of a gateway, and of which: "(mailgate/ID)" stands in each greeting of ours, so that another one, and
// this one itself, knows whom it speaks with, whatever lies between.
func (d *Dialer) Gateway() string { return gatewayMark + d.id + ")" }

const gatewayMark = "(mailgate/"

// GatewayID finds the mark in a greeting: which gateway it is.
func GatewayID(greeting string) (id string, ok bool) {
	_, rest, ok := strings.Cut(greeting, gatewayMark)
	if !ok {
		return "", false
	}
	id, _, ok = strings.Cut(rest, ")")
	return id, ok
}

// greeted looks at the greeting: this gateway itself is no backend, and another gateway is told how many hops are left.
func (c *conn) greeted(text string) error {
	c.peer, c.gateway = GatewayID(text)
	if c.gateway && c.peer == c.own {
		return c.fail(StepBanner, Refused, text, ErrLoop)
	}
	return nil
}

// after notes how many hops were left when the client came to us; 0 means that nobody told.
func (a asker) after(hops int) asker {
	a.hops = hops
	return a
}

// hopsLeft is what the next gateway is told of a client who came with so many hops left, 0 where nobody told.
func hopsLeft(hops int) int {
	if hops <= 0 || hops > MaxHops {
		hops = MaxHops
	}
	return hops - 1
}

// hopsWord is what NOOP says to another gateway in protocols in which it takes an argument, or where we do not mind one (RFC 5321, section
// 4.1.1.9; RFC 5804, section 2.13): no server of another kind ever hears it.
const hopsWord = "mailgate-hops="

// hopsNoop is the argument of NOOP.
func hopsNoop(hops int) string { return hopsWord + strconv.Itoa(hopsLeft(hops)) }

// Hops reads the argument of NOOP that another gateway says; ok tells whether it is one. At 0 and 1 the login goes no further.
func Hops(argument string) (hops int, ok bool) {
	digits, ok := strings.CutPrefix(argument, hopsWord)
	if !ok {
		return 0, false
	}
	return HopsValue(digits)
}

// HopsValue reads a number of hops left as x-proxy-ttl of ID has it. What is more than MaxHops counts as that: whoever says it can only
// shorten the way of his own login.
func HopsValue(digits string) (hops int, ok bool) {
	n, err := strconv.ParseUint(digits, 10, 8)
	if err != nil {
		return 0, false
	}
	return max(1, min(int(n), MaxHops)), true
}
