package proxy

import (
	"encoding/base64"
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest"
)

// An exchange as it is passed on, to the letter. Whether the proof is one is the server's affair.
const (
	scramFirst  = "n,,n=" + user + ",r=fyko"
	scramCalls  = "r=fyko3rfc,s=QSXCR+Q6sek8bf92,i=4096"
	scramProves = "c=biws,r=fyko3rfc,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
	scramServer = "v=rmF9pqV8S7suAoZWja4dJRkFsKQ="
)

func enc(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// relayTongue is how a protocol says the steps of an exchange, on either side of the gateway: S is the server's part, C the client's.
type relayTongue struct {
	url                                 string // of the listener
	hello, probed, first, ask, say, off string // of the backend; probed is how a look at it ends
	yes, no, busy                       string // the backend's answers
	client, auth, in                    string // the client's beginning, his first message, and how he is let in
	refused, later, unfit               string // how he is not
	cancelled, garbled, alive           string // what he hears then, and what shows that the connection is in step
}

// relayTongues are those of all protocols; % is a message in base64, FIRST the client's first one.
func relayTongues() map[config.Protocol]relayTongue {
	return map[config.Protocol]relayTongue{
		config.IMAP: {url: "imap", hello: "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN MECHS] x", probed: "C: $o LOGOUT\nS: $o OK",
			first: "C: $l AUTHENTICATE SCRAM-SHA-256 FIRST", ask: "S: + %", say: "C: %", off: "C: *\nS: $l BAD off",
			yes: "S: $l OK [CAPABILITY IMAP4rev1] in", no: "S: $l NO [AUTHENTICATIONFAILED] no", busy: "S: $l NO [UNAVAILABLE] no",
			client: "S: * OK ...", auth: "C: a AUTHENTICATE SCRAM-SHA-256 FIRST", in: "S: a OK [CAPABILITY IMAP4rev1] in",
			refused: "S: a NO [AUTHENTICATIONFAILED] ...", later: "S: a NO [UNAVAILABLE] ...", unfit: "S: a NO [CANNOT] This login name cannot be used with SCRAM-SHA-256...",
			cancelled: "S: a BAD Authentication cancelled.", garbled: "S: a BAD The response is not base64.", alive: "C: b NOOP\nS: b OK ..."},
		config.POP3: {url: "pop3", hello: "S: +OK hi\nC: CAPA\nS: +OK\nS: SASL PLAIN MECHS\nS: AUTH-RESP-CODE\nS: .", probed: "C: QUIT\nS: +OK",
			first: "C: AUTH SCRAM-SHA-256 FIRST", ask: "S: + %", say: "C: %", off: "C: *\nS: -ERR off\nC: QUIT", yes: "S: +OK in", no: "S: -ERR [AUTH] no\nC: QUIT",
			busy: "S: -ERR [SYS/TEMP] no\nC: QUIT", client: "S: +OK ...", auth: "C: AUTH SCRAM-SHA-256 FIRST", in: "S: +OK in", refused: "S: -ERR [AUTH] ...",
			later: "S: -ERR [SYS/TEMP] ...", unfit: "S: -ERR [SYS/PERM] This login name...", cancelled: "S: -ERR Authentication cancelled", garbled: "S: -ERR The response is not base64",
			alive: "C: NOOP\nS: +OK ..."},
		config.Submission: {url: "submission", hello: "S: 220 hi\nC: EHLO ...\nS: 250-x\nS: 250 AUTH PLAIN MECHS", probed: "C: QUIT\nS: 221 bye",
			first: "C: AUTH SCRAM-SHA-256 FIRST", ask: "S: 334 %", say: "C: %", off: "C: *\nS: 501 off\nC: QUIT", yes: "S: 235 2.7.0 in", no: "S: 535 5.7.8 no\nC: QUIT",
			busy: "S: 454 4.7.0 no\nC: QUIT", client: "S: 220 ...\nC: EHLO c\nS~ 250 ...", auth: "C: AUTH SCRAM-SHA-256 FIRST", in: "S: 235 2.7.0 in", refused: "S: 535 5.7.8 ...",
			later: "S: 454 4.7.0 ...", unfit: "S: 504 5.5.4 This login name...", cancelled: "S: 501 5.7.0 Authentication cancelled", garbled: "S: 501 5.5.2 The response is not base64",
			alive: "C: NOOP\nS: 250 ..."},
		config.Sieve: {url: "sieve", hello: "S: \"SASL\" \"PLAIN MECHS\"\nS: OK", probed: "C: LOGOUT\nS: OK",
			first: "C: AUTHENTICATE \"SCRAM-SHA-256\" \"FIRST\"", ask: "S: \"%\"", say: "C: \"%\"", off: "C: \"*\"\nS: NO \"off\"", yes: "S: OK \"in\"", no: "S: NO \"no\"",
			busy: "S: NO (TRYLATER) \"no\"", client: "S~ OK ...", auth: "C: AUTHENTICATE \"SCRAM-SHA-256\" \"FIRST\"", in: "S: OK \"Logged in.\"", refused: "S: NO \"Authentication failed.\"",
			later: "S: NO (TRYLATER) ...", unfit: "S: NO \"This login name...", cancelled: "S: NO \"Authentication cancelled.\"", garbled: "S: NO \"The response is not base64.\"",
			alive: "C: NOOP\nS: OK ..."},
	}
}

// steps makes a dialogue of words: names of fields as by word, "<" and a challenge, ">" and a response, other text as it is.
func (g relayTongue) steps(mechanisms, first string, words ...string) string {
	fields := map[string]string{"hello": g.hello, "probed": g.probed, "first": g.first, "off": g.off, "yes": g.yes, "no": g.no, "busy": g.busy, "client": g.client,
		"auth": g.auth, "in": g.in, "refused": g.refused, "later": g.later, "unfit": g.unfit, "cancelled": g.cancelled, "garbled": g.garbled, "alive": g.alive,
		"cancel": strings.Replace(g.say, "%", "*", 1), "garbage": strings.Replace(g.say, "%", "!", 1)}
	var out []string
	for _, w := range words {
		text, ok := fields[w]
		switch {
		case ok:
		case w[0] == '<':
			text = strings.Replace(g.ask, "%", enc(w[1:]), 1)
		case w[0] == '>':
			text = strings.Replace(g.say, "%", enc(w[1:]), 1)
		default:
			text = w
		}
		out = append(out, text)
	}
	return strings.NewReplacer("MECHS", mechanisms, "FIRST", enc(first)).Replace(strings.Join(out, "\n"))
}

// relayOptions are what differs between rigs of relayed exchanges.
type relayOptions struct {
	mechanisms [2]string // that the sides list, besides PLAIN; "" for SCRAM-SHA-256
	first      string    // the client's first message, "" for scramFirst
	old, new   []string  // what each side does behind the look at it; nil for one that must not be asked
	routes     string
	tune       func(*config.Config)
	fail       bool // a side's conversation may be cut short
}

// relayRig is a rig of one protocol whose sides have been looked at.
func relayRig(t testing.TB, p config.Protocol, o relayOptions) *rig {
	t.Helper()
	g := relayTongues()[p]
	if o.first == "" {
		o.first = scramFirst
	}
	side := func(s config.Side, words []string) func(*mailtest.Talk) {
		listed := o.mechanisms[s]
		if listed == "" {
			listed = "SCRAM-SHA-256"
		}
		if p == config.IMAP {
			listed = "AUTH=" + strings.ReplaceAll(listed, " ", " AUTH=")
		}
		return func(k *mailtest.Talk) {
			switch {
			case k.N == 1:
				k.Dialogue(g.steps(listed, o.first, "hello", "probed"))
			case words == nil:
				t.Errorf("%s was asked, and should not", s)
			default:
				k.Dialogue(g.steps(listed, o.first, words...))
				k.Silent()
			}
		}
	}
	r := newRig(t, rigOptions{old: side(config.Old, o.old), new: side(config.New, o.new), routes: o.routes, gone: o.fail, tune: func(c *config.Config) {
		c.Listen = []config.Endpoint{endpoint(t, g.url+"://127.0.0.1:0", true)}
		for s := range c.Backends {
			h := &c.Backends[s].Hosts[0]
			e := endpoint(t, strings.Replace(h.IMAP.URL, "imap", g.url, 1), false)
			*h = config.Host{Name: h.Name}
			switch p {
			case config.IMAP:
				h.IMAP = e
			case config.POP3:
				h.POP3 = e
			case config.Sieve:
				h.Sieve = e
			default:
				h.Submission = e
			}
		}
		if o.tune != nil {
			o.tune(c)
		}
	}})
	if !r.dialer.Refresh(t.Context(), "x") {
		t.Fatal("a side could not be seen")
	}
	return r
}
