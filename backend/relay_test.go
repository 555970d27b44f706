package backend

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/config"
	"mailgate/mailtest"
)

// The exchange of the tests: what client and server say, to the letter as it is passed on.
const (
	scramFirst    = "n,,n=u,r=c"
	scramCalls    = "r=cs,s=QSXCR+Q6sek8bf92,i=4096"
	scramProves   = "c=biws,r=cs,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	scramServer   = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
	scramRefusing = "e=invalid-proof"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// scramCredentials are a client's who has said first, and answers challenges by ask.
func scramCredentials(t testing.TB, first string, ask func(challenge string) (string, error)) *auth.Credentials {
	t.Helper()
	x, err := auth.Start("SCRAM-SHA-256")
	if err != nil {
		t.Fatal(err)
	}
	_, c, err := x.Next([]byte(first))
	if err != nil {
		t.Fatal(err)
	}
	c.Relay.Ask = func(b []byte) ([]byte, error) {
		s, err := ask(string(b))
		return []byte(s), err
	}
	return c
}

// scramClient answers as a client does that has the right password.
func scramClient(challenge string) (string, error) {
	return map[string]string{scramCalls: scramProves}[challenge], nil
}

// relayDialer dials a script by any protocol.
func relayDialer(t testing.TB, s *mailtest.Script, patience time.Duration) *Dialer {
	t.Helper()
	e := func(p config.Protocol) config.Endpoint {
		return config.Endpoint{Protocol: p, Host: "127.0.0.1", Port: s.Port()}
	}
	b := config.Backend{ConnectTimeout: 30 * time.Second, LoginTimeout: patience, Hosts: []config.Host{{Name: "a", IMAP: e(config.IMAP),
		POP3: e(config.POP3), Submission: e(config.Submission), Sieve: e(config.Sieve)}}}
	d, err := NewDialer([2]config.Backend{b, {}}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// relayDial logs in by a protocol; final is what ManageSieve's OK holds for the client.
func relayDial(ctx context.Context, d *Dialer, p config.Protocol, c *auth.Credentials) (final string, err error) {
	var in interface{ Close() error }
	switch p {
	case config.IMAP:
		in, err = closing(d.DialIMAP(ctx, config.Old, "", LoginIMAP{Credentials: c, LoginName: "u"}))
	case config.POP3:
		in, err = closing(d.DialPOP3(ctx, config.Old, "", LoginPOP3{Credentials: c, LoginName: "u"}))
	case config.Sieve:
		s, serr := d.DialSieveSession(ctx, config.Old, "", Account{Credentials: c, LoginName: "u"}, netip.AddrPort{})
		if in, err = closing(s, serr); err == nil {
			final = s.Final
		}
	default:
		in, err = closing(d.DialSubmission(ctx, config.Old, "", LoginSubmission{Credentials: c, LoginName: "u", GatewayName: "g"}))
	}
	if err == nil {
		in.Close()
	}
	return final, err
}

func closing[C interface{ Close() error }](c C, err error) (interface{ Close() error }, error) {
	return c, err
}

// words of each protocol: up to the mechanism's name, a challenge, a response, yes and no.
var relayWords = map[config.Protocol]struct{ hello, first, later, challenge, response, yes, no, busy, cancel string }{
	config.IMAP: {hello: "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=SCRAM-SHA-256] x\n", first: "C: $l AUTHENTICATE SCRAM-SHA-256 FIRST\n",
		later: "C: $l AUTHENTICATE SCRAM-SHA-256\nS: + \nC: FIRST\n", challenge: "S: + %\n", response: "C: %\n",
		yes: "S: $l OK [CAPABILITY IMAP4rev1] in\n", no: "S: $l NO [AUTHENTICATIONFAILED] no\n", busy: "S: $l NO [UNAVAILABLE] no\n", cancel: "C: *\nS: $l BAD off\n"},
	config.POP3: {hello: "S: +OK hi\nC: CAPA\nS: +OK\nS: SASL PLAIN SCRAM-SHA-256\nS: AUTH-RESP-CODE\nS: .\n", first: "C: AUTH SCRAM-SHA-256 FIRST\n",
		later:     "C: AUTH SCRAM-SHA-256\nS: + \nC: FIRST\n",
		challenge: "S: + %\n", response: "C: %\n", yes: "S: +OK in\n", no: "S: -ERR [AUTH] no\nC: QUIT\n", busy: "S: -ERR [SYS/TEMP] no\nC: QUIT\n", cancel: "C: *\nS: -ERR off\nC: QUIT\n"},
	config.Submission: {hello: "S: 220 hi\nC: EHLO g\nS: 250-x\nS: 250 AUTH PLAIN SCRAM-SHA-256\n", first: "C: AUTH SCRAM-SHA-256 FIRST\n",
		later:     "C: AUTH SCRAM-SHA-256\nS: 334 \nC: FIRST\n",
		challenge: "S: 334 %\n", response: "C: %\n", yes: "S: 235 2.7.0 in\n", no: "S: 535 5.7.8 no\nC: QUIT\n", busy: "S: 454 4.7.0 no\nC: QUIT\n", cancel: "C: *\nS: 501 off\nC: QUIT\n"},
	config.Sieve: {hello: "S: \"SASL\" \"PLAIN SCRAM-SHA-256\"\nS: OK\n", first: "C: AUTHENTICATE \"SCRAM-SHA-256\" \"FIRST\"\n",
		challenge: "S: \"%\"\n", response: "C: \"%\"\n", yes: "S: OK \"in\"\n", no: "S: NO \"no\"\n", busy: "S: NO (TRYLATER) \"no\"\n", cancel: "C: \"*\"\nS: NO \"off\"\n"},
}

// relayScript makes a dialogue out of steps: "hello"; "first", "later" (the first message behind an empty challenge), "<" and a challenge,
// ">" and a response, "yes", "no", "busy", "off" (the client's side calls it off), "end"; others stand for themselves.
func relayScript(p config.Protocol, first string, steps ...string) string {
	w, out := relayWords[p], ""
	for _, s := range steps {
		switch {
		case s[0] == '<':
			out += strings.Replace(w.challenge, "%", b64(s[1:]), 1)
		case s[0] == '>':
			out += strings.Replace(w.response, "%", b64(s[1:]), 1)
		default:
			word, ok := map[string]string{"hello": w.hello, "first": w.first, "later": w.later, "yes": w.yes, "no": w.no, "busy": w.busy,
				"off": w.cancel, "end": "!end\n"}[s]
			if !ok {
				word = s + "\n"
			}
			out += word
		}
	}
	return strings.ReplaceAll(out, "FIRST", b64(first))
}

// errClient is what becomes of a client in the tests.
var errClient = errors.New("the client went away")

// TestRelay: the exchange goes on between server and client, to the letter, in all protocols; what ends it is what it is.
func TestRelay(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 9000)
	for name, tt := range map[string]struct {
		steps  []string
		first  string
		ask    func(string) (string, error)
		failed bool
		kind   Kind
		is     error
		asked  int
	}{
		"in":                          {steps: []string{"hello", "first", "<" + scramCalls, ">" + scramProves, "<" + scramServer, ">", "yes", "end"}, asked: 2},
		"the last word left out":      {steps: []string{"hello", "first", "<" + scramCalls, ">" + scramProves, "yes", "end"}, asked: 1},
		"wrong":                       {steps: []string{"hello", "first", "<" + scramCalls, ">" + scramProves, "no", "end"}, asked: 1, failed: true, kind: AuthFailed},
		"wrong, with a word of SCRAM": {steps: []string{"hello", "first", "<" + scramCalls, ">" + scramProves, "<" + scramRefusing, ">", "no", "end"}, asked: 2, failed: true, kind: AuthFailed},
		"nobody of that name":         {steps: []string{"hello", "first", "no", "end"}, failed: true, kind: AuthFailed},
		"busy":                        {steps: []string{"hello", "first", "<" + scramCalls, ">" + scramProves, "busy", "end"}, asked: 1, failed: true, kind: Temporary},
		"called off":                  {steps: []string{"hello", "first", "<" + scramCalls, "off", "end"}, ask: func(string) (string, error) { return "", errClient }, asked: 1, failed: true, is: errClient},
		"called off at the last word": {steps: []string{"hello", "first", "<" + scramCalls, ">" + scramProves, "<" + scramServer, "off", "end"}, ask: func(s string) (string, error) {
			if s == scramServer { // which the client has found wrong
				return "", errClient
			}
			return scramProves, nil
		}, asked: 2, failed: true, is: errClient},
		"closes":                {steps: []string{"hello", "first", "<" + scramCalls, ">" + scramProves, "!close"}, asked: 1, failed: true, kind: Temporary},
		"closes at once":        {steps: []string{"hello", "first", "!close"}, failed: true, kind: Temporary},
		"asks for ever":         {steps: []string{"hello", "first", "<a", ">", "<b", ">", "<c", ">", "<d", ">", "<e", "off", "end"}, asked: 4, failed: true, kind: Temporary},
		"a challenge too long":  {steps: []string{"hello", "first", "<" + long, "off", "end"}, failed: true, kind: Temporary},
		"a response too long":   {steps: []string{"hello", "first", "<" + scramCalls, "off", "end"}, ask: func(string) (string, error) { return long, nil }, asked: 1, failed: true, is: auth.ErrMalformed},
		"knows channel binding": {steps: []string{"hello", "first", "<" + scramCalls, ">" + scramProves, "yes", "end"}, first: "y,,n=u,r=c", asked: 1},
	} {
		for _, p := range config.Protocols() {
			t.Run(string(p)+" "+name, func(t *testing.T) {
				t.Parallel()
				first := scramFirst
				if tt.first != "" {
					first = tt.first
				}
				s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { k.Dialogue(relayScript(p, first, tt.steps...)) })
				asked := 0
				c := scramCredentials(t, first, func(challenge string) (string, error) {
					asked++
					if tt.ask != nil {
						return tt.ask(challenge)
					}
					return scramClient(challenge)
				})
				_, err := relayDial(t.Context(), relayDialer(t, s, 30*time.Second), p, c)
				var e *Error
				switch {
				case !tt.failed && err != nil:
					t.Error(err)
				case tt.failed && (!errors.As(err, &e) || e.Kind != tt.kind || e.Step != StepLogin):
					t.Errorf("%v, want kind %d", err, tt.kind)
				case tt.is != nil && !errors.Is(err, tt.is):
					t.Errorf("%v, want %v", err, tt.is)
				case err != nil && (strings.Contains(err.Error(), "r=cs") || strings.Contains(err.Error(), b64(scramCalls)[:20])):
					t.Errorf("the error tells of the exchange: %v", err)
				}
				if asked != tt.asked {
					t.Errorf("the client was asked %d times, want %d", asked, tt.asked)
				}
			})
		}
	}
}

// TestRelayLater: where the first message does not fit into the command, it follows behind an empty challenge.
func TestRelayLater(t *testing.T) {
	t.Parallel()
	long := "n,,n=u,r=" + strings.Repeat("c", 700)
	for p, hello := range map[config.Protocol]string{
		config.IMAP:       "S: * OK [CAPABILITY IMAP4rev1 AUTH=SCRAM-SHA-256] x",
		config.POP3:       strings.TrimSuffix(relayWords[config.POP3].hello, "\n"),
		config.Submission: strings.TrimSuffix(relayWords[config.Submission].hello, "\n"),
	} {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
				k.Dialogue(relayScript(p, long, hello, "later", "<"+scramCalls, ">"+scramProves, "yes", "end"))
			})
			if _, err := relayDial(t.Context(), relayDialer(t, s, 30*time.Second), p, scramCredentials(t, long, scramClient)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRelayNotOffered: nothing is sent to a server that does not take the mechanism, or would take it for an attack.
func TestRelayNotOffered(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		listed, first string
		want          error // nil means that it goes on
	}{
		"not listed":                            {"SCRAM-SHA-1", scramFirst, ErrNotOffered},
		"channel binding that the client knows": {"SCRAM-SHA-256 SCRAM-SHA-256-PLUS", "y,,n=u,r=c", errBinds},
		"channel binding that he does not know": {"SCRAM-SHA-256 SCRAM-SHA-256-PLUS", scramFirst, nil},
		"of another mechanism":                  {"SCRAM-SHA-256 SCRAM-SHA-1-PLUS", "y,,n=u,r=c", nil},
	} {
		for _, p := range config.Protocols() {
			t.Run(string(p)+" "+name, func(t *testing.T) {
				t.Parallel()
				listed := tt.listed
				if p == config.IMAP {
					listed = "AUTH=" + strings.ReplaceAll(listed, " ", " AUTH=")
				}
				hello := strings.NewReplacer("AUTH=SCRAM-SHA-256", listed, "SCRAM-SHA-256", listed).Replace(relayWords[p].hello)
				steps := []string{strings.TrimSuffix(hello, "\n"), "first", "yes", "end"}
				if tt.want != nil {
					steps = []string{strings.TrimSuffix(hello, "\n"), "end"}
					if p == config.POP3 || p == config.Submission {
						steps = []string{steps[0], "C: QUIT", "end"}
					}
				}
				s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { k.Dialogue(relayScript(p, tt.first, steps...)) })
				_, err := relayDial(t.Context(), relayDialer(t, s, 30*time.Second), p, scramCredentials(t, tt.first, scramClient))
				var e *Error
				if tt.want == nil && err != nil || tt.want != nil && (!errors.Is(err, tt.want) || !errors.As(err, &e) || e.Kind != Refused) {
					t.Errorf("%v, want %v", err, tt.want)
				}
			})
		}
	}
}

// TestRelayOnce: an exchange that has begun goes on with no other connection.
func TestRelayOnce(t *testing.T) {
	t.Parallel()
	c := scramCredentials(t, scramFirst, scramClient)
	if _, err := c.Relay.Next(nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range config.Protocols() {
		steps := []string{"hello", "end"}
		if p == config.POP3 || p == config.Submission {
			steps = []string{"hello", "C: QUIT", "end"}
		}
		s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { k.Dialogue(relayScript(p, scramFirst, steps...)) })
		if _, err := relayDial(t.Context(), relayDialer(t, s, 30*time.Second), p, c); err == nil {
			t.Errorf("%s goes on", p)
		}
	}
}

// TestRelaySieveFinal: ManageSieve has the server's last word in its OK, for the client to check; what could not stand there is left out.
func TestRelaySieveFinal(t *testing.T) {
	t.Parallel()
	for ok, want := range map[string]string{
		"S: OK (SASL \"" + b64(scramServer) + "\") \"in\"":                      b64(scramServer),
		"S: OK (SASL {" + "4}\nS: AAAA) \"in\"":                                 "AAAA",
		"S: OK (WARNINGS) \"in\"":                                               "",
		`S: OK (SASL "no\"\\base64") "in"`:                                      "",
		"S: OK (SASL \"" + strings.Repeat("AAAA", 300) + "\") \"far too long\"": "",
		"S: OK": "",
	} {
		s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
			k.Dialogue(relayScript(config.Sieve, scramFirst, "hello", "first", "<"+scramCalls, ">"+scramProves, ok, "end"))
		})
		final, err := relayDial(t.Context(), relayDialer(t, s, 30*time.Second), config.Sieve, scramCredentials(t, scramFirst, scramClient))
		if err != nil || final != want {
			t.Errorf("%s: %q %v, want %q", ok, final, err, want)
		}
	}
}

// TestRelaySlowClient: the time that a client takes is not the server's; and a login that is called off meanwhile says nothing more.
func TestRelaySlowClient(t *testing.T) {
	t.Parallel()
	const patience = 2 * time.Second
	for _, p := range config.Protocols() {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
				k.Dialogue(relayScript(p, scramFirst, "hello", "first", "<"+scramCalls, ">"+scramProves, "yes", "end"))
			})
			_, err := relayDial(t.Context(), relayDialer(t, s, patience), p, scramCredentials(t, scramFirst, func(string) (string, error) {
				time.Sleep(patience + patience/4) // what is tested is that this time passes
				return scramProves, nil
			}))
			if err != nil {
				t.Error(err)
			}
		})
		t.Run(string(p)+" cancelled", func(t *testing.T) {
			t.Parallel()
			s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
				k.Dialogue(relayScript(p, scramFirst, "hello", "first", "<"+scramCalls))
				k.Silent()
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := relayDial(ctx, relayDialer(t, s, 30*time.Second), p, scramCredentials(t, scramFirst, func(string) (string, error) {
				cancel()
				return scramProves, nil
			}))
			var e *Error
			if !errors.As(err, &e) || e.Kind != Temporary {
				t.Errorf("%v", err)
			}
			s.Await("end 1")
			if s.Said(b64(scramProves)) > 0 {
				t.Errorf("the server heard the proof: %q", s.Received())
			}
		})
	}
}

// TestCommonMechanisms: a mechanism counts where all hosts have it, channel binding where any has.
func TestCommonMechanisms(t *testing.T) {
	t.Parallel()
	imap := func(caps ...string) Seen {
		return Seen{Endpoint: config.Endpoint{Protocol: config.IMAP}, Capabilities: caps}
	}
	got := commonMechanisms([]Seen{imap("IMAP4rev1", "AUTH=PLAIN", "auth=Scram-SHA-256", "AUTH=SCRAM-SHA-1"),
		imap("AUTH=SCRAM-SHA-256", "AUTH=SCRAM-SHA-256-PLUS", "AUTH=PLAIN", "AUTH=LOGIN")})
	if s := strings.Join(got, " "); s != "PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS" {
		t.Error(s)
	}
	for p, seen := range map[config.Protocol]Seen{
		config.POP3:       {Capabilities: []string{"SASL PLAIN SCRAM-SHA-1"}},
		config.Submission: {Extensions: map[string]string{"AUTH": "PLAIN SCRAM-SHA-1"}},
		config.Sieve:      {Sieve: &SieveCapabilities{Mechanisms: []string{"PLAIN", "SCRAM-SHA-1"}}},
	} {
		seen.Endpoint.Protocol = p
		if s := strings.Join(commonMechanisms([]Seen{seen}), " "); s != "PLAIN SCRAM-SHA-1" {
			t.Errorf("%s: %s", p, s)
		}
	}
}
