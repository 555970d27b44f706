package mailtest

import (
	"runtime"
	"strconv"
	"strings"
	"time"
)

// exit ends the goroutine of a script; a client's end has done so in fail.
func (k *Talk) exit() {
	if k.script != nil {
		runtime.Goexit()
	}
}

// Dialogue runs a conversation given as text, one step a line, seen from either end: a script sends what stands behind
// S and expects what stands behind C, a client the other way round. Leading blanks do not count.
//
//	# a comment
//	S: * OK ready            a line, CRLF is added; when expected, a pattern as of Expect
//	C: $t LOGIN "u" {4}      $t is the tag from here on
//	S: + go
//	C" "pass\r\n"            bytes as a Go string, exactly
//	S~ $t OK...              lines up to one that matches (when sent: the same as ":")
//	S: $t OK done
//	!forget t                $t is taken anew
//	!late 200ms              a pause
//	!slow 10ms               what this end sends comes byte by byte from here on, 0s ends that
//	!silent                  says nothing more, until the peer is gone
//	!deaf NAME               reads nothing more either, until the event
//	!garbage 300             that many random bytes
//	!endless 1000000         one line of that many bytes, without its end
//	!close !reset !eof       ends the connection; !eof only this direction
//	!end                     the peer ends the connection, saying nothing more
//	!fire NAME, !await NAME  events of the Script
func (k *Talk) Dialogue(text string) {
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimLeft(line, " \t")
		line = strings.TrimRight(line, "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		if !k.step(line) {
			k.fail("line %d of the dialogue is not understood: %q", n+1, line)
			k.exit()
		}
	}
}

func (k *Talk) step(line string) (ok bool) {
	if line[0] == '!' {
		return k.fault(line[1:])
	}
	if len(line) < 2 || line[0] != 'S' && line[0] != 'C' {
		return false
	}
	mine := (line[0] == 'S') == k.server
	text := strings.TrimPrefix(line[2:], " ")
	switch line[1] {
	case ':', '~':
		switch {
		case mine:
			k.Send(k.expand(text) + "\r\n")
		case line[1] == ':':
			k.Expect(text)
		default:
			k.Until(text)
		}
		return true
	case '"':
		raw, err := strconv.Unquote(text)
		if err != nil {
			return false
		}
		raw = k.expand(raw)
		if mine {
			k.Send(raw)
		} else if got := k.ReadN(len(raw)); got != raw {
			k.fail("got %q, want %q", got, raw)
			k.exit()
		}
		return true
	}
	return false
}

func (k *Talk) fault(s string) bool {
	name, arg, _ := strings.Cut(s, " ")
	switch name {
	case "late", "slow":
		d, err := time.ParseDuration(arg)
		if err != nil {
			return false
		}
		if name == "late" {
			k.Late(d)
		} else {
			k.Slow(d)
		}
	case "garbage", "endless":
		n, err := strconv.ParseInt(arg, 10, 64)
		if err != nil {
			return false
		}
		if name == "garbage" {
			k.Garbage(int(n))
		} else {
			k.Endless(n)
		}
	case "silent":
		k.Silent()
	case "deaf":
		k.Deaf(arg)
	case "close":
		k.Close()
	case "reset":
		k.Reset()
	case "eof":
		k.CloseWrite()
	case "end":
		if s := k.ExpectEnd(); s != "" {
			k.fail("got %s, want the end", quoteShort(s))
			k.exit()
		}
	case "forget":
		k.Forget(arg)
	case "fire", "await":
		if k.script == nil {
			return false
		}
		if name == "fire" {
			k.script.Fire(arg)
		} else {
			k.script.Await(arg)
		}
	default:
		return false
	}
	return true
}
