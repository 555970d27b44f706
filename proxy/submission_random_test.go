package proxy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"mailgate/mailtest"
)

// countingBackend is a server with the state machine of SMTP, whose replies are numbered: one that goes astray, or is
// heard twice, shows. What it kept of each message is in its answer.
func countingBackend(k *mailtest.Talk) {
	n, mail, rcpts, chunked := 0, false, 0, ""
	say := func(format string, args ...any) { k.Send(fmt.Sprintf(format, args...) + fmt.Sprintf(" #%d\r\n", n)) }
	for {
		line := k.Line()
		name, args := verb(line)
		n++
		switch {
		case name == "MAIL" && mail:
			say("503 5.5.1 nested")
		case name == "MAIL" && strings.Contains(args, "refuse"):
			say("550-5.7.1 not\r\n550 5.7.1 you")
		case name == "MAIL":
			mail, rcpts, chunked = true, 0, ""
			say("250 2.1.0 mail")
		case name == "RCPT" && !mail, name == "DATA" && !mail:
			say("503 5.5.1 MAIL first")
		case name == "RCPT" && strings.Contains(args, "refuse"):
			say("450 4.2.0 not now")
		case name == "RCPT":
			rcpts++
			say("250 2.1.5 rcpt")
		case name == "DATA" && rcpts == 0:
			say("554 5.5.1 no recipients")
		case name == "DATA":
			say("354 go")
			message := ""
			for l := k.Line(); l != "."; l = k.Line() {
				message += strings.TrimPrefix(l, ".") + "|"
			}
			mail = false
			say("250 2.0.0 kept %s", message)
		case name == "BDAT":
			size, last, _ := chunkSize(args)
			chunked += strings.ReplaceAll(k.ReadN(int(size)), "\r\n", "|")
			if !last {
				say("250 2.0.0 chunk")
				continue
			}
			mail = false
			say("250 2.0.0 kept %s", chunked)
		case name == "RSET":
			mail = false
			say("250 2.0.0 reset")
		case name == "NOOP", name == "VRFY", name == "HELP":
			say("252 2.0.0 %s", name)
		case name == "QUIT":
			say("221 2.0.0 bye")
			return
		default:
			say("500 5.5.2 what is %s", line)
		}
	}
}

// talkAtRandom speaks a session that depends on the seed only, pipelining at random, and returns what it heard.
func talkAtRandom(k *mailtest.Talk, seed uint64) (heard string) {
	r := rand.New(rand.NewPCG(seed, 7))
	hear := func() (last string) {
		for {
			last = k.Line()
			heard += last + "\n"
			if len(last) < 4 || last[3] != '-' {
				return last
			}
		}
	}
	body := func() string {
		var b strings.Builder
		for range r.IntN(6) {
			b.WriteString([]string{"\r\n", "..\r\n", "..x\r\n", "text\r\n", strings.Repeat("y", r.IntN(5000)) + "\r\n"}[r.IntN(5)])
		}
		return b.String()
	}
	rcpts, mail := 0, false // as far as BDAT may be said: without a recipient its answer is ours
	for range 5 + r.IntN(10) {
		group, asked := "", 0
		for range 1 + r.IntN(5) {
			group += []string{"MAIL FROM:<a@example.com>", "MAIL FROM:<refuse@example.com>", "RCPT TO:<b@example.com>",
				"RCPT TO:<refuse@example.com>", "RCPT TO:<c@example.com>", "NOOP", "VRFY x", "RSET", "HELP"}[r.IntN(9)] + "\r\n"
			asked++
		}
		data := r.IntN(2) == 0
		if data {
			group += "DATA\r\n"
			asked++
		}
		k.Send(group)
		last := ""
		for range asked {
			last = hear()
			switch {
			case strings.HasPrefix(last, "250 2.1.0"):
				mail, rcpts = true, 0
			case strings.HasPrefix(last, "250 2.1.5"):
				rcpts++
			case strings.HasPrefix(last, "250 2.0.0 reset"):
				mail = false
			}
		}
		switch {
		case data && strings.HasPrefix(last, "354"):
			k.Send(body() + ".\r\n")
			mail = false
			hear()
		case !data && mail && rcpts > 0:
			chunks := 1 + r.IntN(3)
			text := ""
			for i := range chunks {
				b := body()
				text += fmt.Sprintf("BDAT %d%s\r\n%s", len(b), map[bool]string{true: " LAST"}[i == chunks-1], b)
			}
			k.Send(text)
			for range chunks {
				hear()
			}
			mail = false
		}
	}
	k.Send("QUIT\r\n")
	hear()
	return heard
}

// TestAtRandom: whatever a client says, in whatever segments, he hears through the gateway what he would hear without.
func TestAtRandom(t *testing.T) {
	extensions := []string{"PIPELINING", "CHUNKING", "8BITMIME"}
	r := newSMTPRig(t, smtpRigOptions{}, smtpBackend(extensions, countingBackend), idleBackend(extensions...))
	kept := 0
	for seed := range uint64(250) {
		direct := mailtest.Dial(t, r.old.Addr, nil)
		direct.Expect("220 ...")
		clientLogin(direct)
		want := talkAtRandom(direct, seed)
		direct.Close()
		through := r.login()
		if got := talkAtRandom(through, seed); got != want {
			t.Fatalf("seed %d\ndirect\n%s\nthrough the gateway\n%s", seed, want, got)
		}
		through.Close()
		kept += strings.Count(want, " kept ")
	}
	if kept < 200 {
		t.Errorf("only %d messages", kept)
	}
}

// TestChunksAtRandom: a message in chunks arrives at a backend without CHUNKING as it was sent.
func TestChunksAtRandom(t *testing.T) {
	r := newSMTPRig(t, smtpRigOptions{}, smtpBackend(nil, countingBackend), idleBackend())
	rnd := rand.New(rand.NewPCG(3, 4))
	k := r.login()
	for range 300 {
		message := ""
		for range rnd.IntN(8) {
			message += []string{"\r\n", ".\r\n", "..\r\n", ".x\r\n", "text\r\n", strings.Repeat("y", rnd.IntN(6000)) + "\r\n"}[rnd.IntN(6)]
		}
		text, chunks := "", 0
		for rest := message; ; {
			n := rnd.IntN(len(rest) + 1)
			if chunks++; rnd.IntN(4) == 0 || rest == "" {
				text += fmt.Sprintf("BDAT %d LAST\r\n%s", len(rest), rest)
				break
			}
			text += fmt.Sprintf("BDAT %d\r\n%s", n, rest[:n])
			rest = rest[n:]
		}
		k.Send("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\n" + text)
		k.Dialogue("S: 250 2.1.0 ...\nS: 250 2.1.5 ...")
		for range chunks - 1 {
			k.Expect("250 2.0.0 ... octets taken")
		}
		want := "250 2.0.0 kept " + strings.ReplaceAll(message, "\r\n", "|") + " #"
		if got := k.Line(); !strings.HasPrefix(got, want) {
			t.Fatalf("%q was kept, %q sent in %d chunks", got, message, chunks)
		}
	}
	k.Send("QUIT\r\n")
	k.Expect("221 ...")
	k.Close()
}
