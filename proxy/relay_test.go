package proxy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/router"
)

// eachProtocol runs a test in each.
func eachProtocol(t *testing.T, name string, f func(t *testing.T, p config.Protocol, g relayTongue)) {
	for p, g := range relayTongues() {
		t.Run(name+" "+string(p), func(t *testing.T) {
			t.Parallel()
			f(t, p, g)
		})
	}
}

// TestRelay: an exchange is passed on to the letter, in all protocols, and each end is told when the other one ends it.
func TestRelay(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 6000)
	for name, tt := range map[string]struct {
		client, backend []string
		result          string
	}{
		"in": {[]string{"auth", "<" + scramCalls, ">" + scramProves, "<" + scramServer, ">", "in"},
			[]string{"hello", "first", "<" + scramCalls, ">" + scramProves, "<" + scramServer, ">", "yes"}, "ok"},
		"in, without a last word": {[]string{"auth", "<" + scramCalls, ">" + scramProves, "in"},
			[]string{"hello", "first", "<" + scramCalls, ">" + scramProves, "yes"}, "ok"},
		"wrong": {[]string{"auth", "<" + scramCalls, ">" + scramProves, "refused", "alive"},
			[]string{"hello", "first", "<" + scramCalls, ">" + scramProves, "no", "!end"}, "backend_rejected"},
		"wrong, with a last word": {[]string{"auth", "<" + scramCalls, ">" + scramProves, "<e=invalid-proof", ">", "refused", "alive"},
			[]string{"hello", "first", "<" + scramCalls, ">" + scramProves, "<e=invalid-proof", ">", "no", "!end"}, "backend_rejected"},
		"nobody": {[]string{"auth", "refused", "alive"}, []string{"hello", "first", "no", "!end"}, "backend_rejected"},
		"busy": {[]string{"auth", "<" + scramCalls, ">" + scramProves, "later", "alive"},
			[]string{"hello", "first", "<" + scramCalls, ">" + scramProves, "busy", "!end"}, "backend_error"},
		"the client cancels": {[]string{"auth", "<" + scramCalls, "cancel", "cancelled", "alive"},
			[]string{"hello", "first", "<" + scramCalls, "off", "!end"}, "abandoned"},
		"the client finds the server false": {[]string{"auth", "<" + scramCalls, ">" + scramProves, "<v=AAAA", "cancel", "cancelled", "alive"},
			[]string{"hello", "first", "<" + scramCalls, ">" + scramProves, "<v=AAAA", "off", "!end"}, "abandoned"},
		"the client sends garbage": {[]string{"auth", "<" + scramCalls, "garbage", "garbled", "alive"},
			[]string{"hello", "first", "<" + scramCalls, "off", "!end"}, "abandoned"},
		"the client says too much": {[]string{"auth", "<" + scramCalls, ">" + long, "refused", "alive"},
			[]string{"hello", "first", "<" + scramCalls, "off", "!end"}, "malformed"},
		"the client's line does not end": {[]string{"auth", "<" + scramCalls, "!endless 40000"},
			[]string{"hello", "first", "<" + scramCalls, "off", "!end"}, "abandoned"},
		"the client leaves": {[]string{"auth", "<" + scramCalls, "!close"},
			[]string{"hello", "first", "<" + scramCalls, "off", "!end"}, "abandoned"},
		"the backend closes": {[]string{"auth", "later", "alive"}, []string{"hello", "first", "!close"}, "backend_error"},
		"the backend closes while the client thinks": {[]string{"auth", "<" + scramCalls, ">" + scramProves, "later", "alive"},
			[]string{"hello", "first", "<" + scramCalls, "!reset"}, "backend_error"},
		"the backend closes behind the proof": {[]string{"auth", "<" + scramCalls, ">" + scramProves, "later", "alive"},
			[]string{"hello", "first", "<" + scramCalls, ">" + scramProves, "!close"}, "backend_error"},
		"the backend says too much": {[]string{"auth", "later", "alive"},
			[]string{"hello", "first", "<" + long, "off", "!end"}, "backend_error"},
		"the backend never ends": {[]string{"auth", "<a", ">", "<b", ">", "<c", ">", "<d", ">", "later", "alive"},
			[]string{"hello", "first", "<a", ">", "<b", ">", "<c", ">", "<d", ">", "<e", "off", "!end"}, "backend_error"},
	} {
		eachProtocol(t, name, func(t *testing.T, p config.Protocol, g relayTongue) {
			r := relayRig(t, p, relayOptions{old: tt.backend})
			k := r.plain()
			k.Dialogue(g.steps("", scramFirst, append([]string{"client"}, tt.client...)...))
			r.until(tt.result, func() bool { return r.rec.results() == "map["+tt.result+":1]" })
			if tt.result == "ok" || tt.result == "abandoned" {
				k.Close()
			}
			r.old.Await("end 2")
			if s := r.log.String(); strings.Contains(s, "fyko") || strings.Contains(s, "p=v0X8") || strings.Contains(s, enc(scramCalls)[:12]) || strings.Contains(s, enc(scramProves)[:12]) {
				t.Errorf("the log tells of the exchange:\n%s", s)
			}
		})
	}
}

// TestRelayBackendGarbage: a challenge that is none goes to nobody.
func TestRelayBackendGarbage(t *testing.T) {
	t.Parallel()
	eachProtocol(t, "", func(t *testing.T, p config.Protocol, g relayTongue) {
		r := relayRig(t, p, relayOptions{old: []string{"hello", "first", strings.Replace(g.ask, "%", "no!base64", 1), "off", "!end"}})
		k := r.plain()
		k.Dialogue(g.steps("", scramFirst, "client", "auth", "later", "alive"))
		r.old.Await("end 2")
	})
}

// TestRelaySieveFinal: the server's last word in ManageSieve's OK reaches the client.
func TestRelaySieveFinal(t *testing.T) {
	t.Parallel()
	final := `S: OK (SASL "` + enc(scramServer) + `") "`
	r := relayRig(t, config.Sieve, relayOptions{old: []string{"hello", "first", "<" + scramCalls, ">" + scramProves, final + `in"`, "C: LOGOUT", "S: OK"}})
	k := r.plain()
	k.Dialogue(relayTongues()[config.Sieve].steps("", scramFirst, "client", "auth", "<"+scramCalls, ">"+scramProves, final+`Logged in."`, "C: LOGOUT", "S: OK"))
}

// TestRelayLaterFirst: a client may send his first message behind an empty challenge.
func TestRelayLaterFirst(t *testing.T) {
	t.Parallel()
	eachProtocol(t, "", func(t *testing.T, p config.Protocol, g relayTongue) {
		r := relayRig(t, p, relayOptions{old: []string{"hello", "first", "<" + scramCalls, ">" + scramProves, "yes"}})
		k := r.plain()
		bare := strings.TrimSuffix(strings.TrimSuffix(g.auth, " FIRST"), ` "FIRST"`)
		k.Dialogue(g.steps("", scramFirst, "client", bare, strings.Replace(g.ask, "%", "", 1), ">"+scramFirst, "<"+scramCalls, ">"+scramProves, "in"))
	})
}

// TestRelayFence: a fence in mid-exchange is a temporary failure, is told when the client has had his word, and leads to no other server.
func TestRelayFence(t *testing.T) {
	t.Parallel()
	eachProtocol(t, "while the client thinks", func(t *testing.T, p config.Protocol, g relayTongue) {
		r := relayRig(t, p, relayOptions{fail: true, old: []string{"hello", "first", "<" + scramCalls}})
		k := r.plain()
		k.Dialogue(g.steps("", scramFirst, "client", "auth", "<"+scramCalls))
		drained(t, r.fence(1)) // does not wait for him
		r.release(config.New, 1, 1)
		k.Dialogue(g.steps("", scramFirst, ">"+scramProves, "later", "alive"))
		r.old.Await("end 2")
		if r.old.Said(enc(scramProves)) > 0 {
			t.Error("OLD heard the proof though the user is on NEW")
		}
		if s := r.rec.results(); s != "map[held:1]" {
			t.Error(s)
		}
	})
	eachProtocol(t, "and the client cancels", func(t *testing.T, p config.Protocol, g relayTongue) {
		r := relayRig(t, p, relayOptions{fail: true, old: []string{"hello", "first", "<" + scramCalls}})
		k := r.plain()
		k.Dialogue(g.steps("", scramFirst, "client", "auth", "<"+scramCalls))
		drained(t, r.fence(1))
		k.Dialogue(g.steps("", scramFirst, "cancel", "cancelled", "alive")) // that is what he has asked for
		r.release(config.Old, 0, 2)
	})
	eachProtocol(t, "while the backend thinks", func(t *testing.T, p config.Protocol, g relayTongue) {
		r := relayRig(t, p, relayOptions{fail: true, old: []string{"hello", "first", "<" + scramCalls, ">" + scramProves, "!fire thinks"}})
		k := r.plain()
		k.Dialogue(g.steps("", scramFirst, "client", "auth", "<"+scramCalls, ">"+scramProves))
		r.old.Await("thinks")
		drained(t, r.fence(1))
		k.Dialogue(g.steps("", scramFirst, "later", "alive")) // before the release
		r.release(config.Old, 0, 2)
	})
	eachProtocol(t, "behind the last word", func(t *testing.T, p config.Protocol, g relayTongue) {
		r := relayRig(t, p, relayOptions{fail: true, old: []string{"hello", "first", "<" + scramCalls, ">" + scramProves, "<" + scramServer}})
		k := r.plain()
		k.Dialogue(g.steps("", scramFirst, "client", "auth", "<"+scramCalls, ">"+scramProves, "<"+scramServer))
		drained(t, r.fence(1))
		k.Dialogue(g.steps("", scramFirst, ">", "later", "alive"))
		r.release(config.New, 1, 1)
	})
	eachProtocol(t, "before the first challenge", func(t *testing.T, p config.Protocol, g relayTongue) {
		r := relayRig(t, p, relayOptions{fail: true, old: []string{"hello", "first", "!fire asked"},
			new: []string{"hello", "first", "<" + scramCalls, ">" + scramProves, "yes"}})
		k := r.plain()
		k.Dialogue(g.steps("", scramFirst, "client", "auth"))
		r.old.Await("asked")
		drained(t, r.fence(1))
		r.release(config.New, 1, 1)
		k.Dialogue(g.steps("", scramFirst, "<"+scramCalls, ">"+scramProves, "in")) // on NEW: he has not noticed
	})
}

// TestRelayNames: a name that is not the same everywhere is refused before anybody is asked, and not as a wrong password.
func TestRelayNames(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ first, routes, domain, why string }{
		"another one on NEW":   {routes: user + " old new=other@example.com", why: "u@example.com"},
		"another form of it":   {first: "n,,n=u,r=fyko", domain: "example.com", why: "he typed"},
		"another form, folded": {first: "n,,n=u+tag@example.com,r=fyko", why: "he typed"},
	} {
		eachProtocol(t, name, func(t *testing.T, p config.Protocol, g relayTongue) {
			r := relayRig(t, p, relayOptions{first: tt.first, routes: tt.routes, tune: func(c *config.Config) { c.Routes.DefaultDomain = tt.domain }})
			first := tt.first
			if first == "" {
				first = scramFirst
			}
			r.plain().Dialogue(g.steps("", first, "client", "auth", "unfit", "alive"))
			r.logged("login failed", "result=not_relayable", "the login name is not the same everywhere", tt.why)
		})
	}
}

// TestRelayOffer: SCRAM is offered where it can work, and nowhere else.
func TestRelayOffer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		old, new string
		tune     func(*config.Config)
		want     string
	}{
		"both":                      {"SCRAM-SHA-256 SCRAM-SHA-1", "SCRAM-SHA-1 SCRAM-SHA-256", nil, "SCRAM-SHA-256 SCRAM-SHA-1"},
		"one of them on both":       {"SCRAM-SHA-256 SCRAM-SHA-1", "SCRAM-SHA-1", nil, "SCRAM-SHA-1"},
		"OLD alone":                 {"SCRAM-SHA-256", "CRAM-MD5", nil, ""},
		"channel binding on one":    {"SCRAM-SHA-256 SCRAM-SHA-1", "SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-256-PLUS", nil, "SCRAM-SHA-1"},
		"other names on one side":   {"SCRAM-SHA-256", "SCRAM-SHA-256", func(c *config.Config) { c.Backends[config.New].Login = "{local}" }, ""},
		"other names on both sides": {"SCRAM-SHA-256", "SCRAM-SHA-256", func(c *config.Config) { c.Backends[0].Login, c.Backends[1].Login = "{local}", "{local}" }, "SCRAM-SHA-256"},
		"others verify by default":  {"SCRAM-SHA-256", "SCRAM-SHA-256", func(c *config.Config) { c.Authority.Default = config.ByOld }, ""},
		"not configured":            {"SCRAM-SHA-256", "SCRAM-SHA-256", func(c *config.Config) { c.Login.Mechanisms = []string{"PLAIN", "LOGIN", "XOAUTH2"} }, ""},
	} {
		eachProtocol(t, name, func(t *testing.T, p config.Protocol, g relayTongue) {
			r := relayRig(t, p, relayOptions{mechanisms: [2]string{tt.old, tt.new}, tune: tt.tune})
			k := r.plain()
			var seen string
			switch p {
			case config.IMAP:
				seen = k.Line()
			case config.POP3:
				k.Dialogue("S: +OK ...\nC: CAPA")
				seen = k.Until(".")
			case config.Sieve:
				seen = k.Until("OK ...")
			default:
				k.Dialogue("S: 220 ...\nC: EHLO c")
				seen = k.Until("250 ...")
			}
			var got []string
			for _, w := range strings.Fields(strings.NewReplacer("AUTH=", "", `"`, " ", "]", " ").Replace(seen)) {
				if strings.HasPrefix(w, "SCRAM-") {
					got = append(got, w)
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%q offers %q, want %q", seen, got, tt.want)
			}
			if tt.want == "" {
				if k := r.plain(); p == config.IMAP {
					k.Dialogue(g.steps("", scramFirst, "client", "auth", "S: a NO Unsupported ...", "alive"))
				}
			}
		})
	}
}

// TestRelayIdle: who says nothing more in mid-exchange holds nobody up, and his backend connection ends with his time.
func TestRelayIdle(t *testing.T) {
	t.Parallel()
	eachProtocol(t, "", func(t *testing.T, p config.Protocol, g relayTongue) {
		r := relayRig(t, p, relayOptions{fail: true, old: []string{"hello", "first", "<" + scramCalls, "off", "!end"}, tune: func(c *config.Config) {
			c.Limits.CommandTime = 5 * time.Second // of his answer to the challenge
			c.Limits.PreAuth = 2                   // half of it may wait for a side
		}})
		k := r.plain()
		k.Dialogue(g.steps("", scramFirst, "client", "auth", "<"+scramCalls))
		if n := r.asking[config.Old].Load(); n != 0 {
			t.Errorf("%d count as waiting for OLD", n)
		}
		r.old.Await("end 2")
		r.logged("login abandoned", "result=abandoned", "mechanism=SCRAM-SHA-256")
		k.ExpectEnd()
	})
}

// TestConverseTooLate: a challenge that comes when the route is another one goes to nobody, and the exchange has not begun.
func TestConverseTooLate(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(router.ErrMoved)
	relay := &auth.Relay{}
	(&client{}).converse(ctx, target{}, nil, relay) // there is no dialect to speak by
	if _, err := relay.Next([]byte("x")); !errors.Is(err, auth.ErrNotAsked) || !errors.Is(err, router.ErrMoved) || relay.Begun() {
		t.Errorf("%v, begun: %v", err, relay.Begun())
	}
}

// TestMidway: of very many clients in mid-exchange the one who has been silent longest, and for long, gives way.
func TestMidway(t *testing.T) {
	t.Parallel()
	limits := config.Limits{PreAuth: midwayShare, PreAuthPerIP: 0} // more than one is many
	r := newRig(t, rigOptions{})
	var talks []*mailtest.Talk
	for range 3 {
		talks = append(talks, r.plain())
		talks[len(talks)-1].Expect("* OK ...")
	}
	var all []*client
	r.pre.mu.Lock()
	for e := r.pre.all.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*client))
	}
	r.pre.mu.Unlock()
	if len(all) != 3 {
		t.Fatalf("%d clients", len(all))
	}
	ends := []func(){r.pre.midway(all[0], limits)}
	all[0].midway.Store(time.Now().Add(-2 * midwaySilent).UnixNano())
	ends = append(ends, r.pre.midway(all[1], limits))
	talks[0].ExpectEnd()
	ends[0]()
	ends = append(ends, r.pre.midway(all[2], limits)) // all[1] has not been silent for long
	talks[1].Dialogue("C: a NOOP\nS: a OK ...")
	talks[2].Dialogue("C: a NOOP\nS: a OK ...")
	for _, end := range ends[1:] {
		end()
	}
	if n := r.pre.inMidway.Load(); n != 0 || all[1].midway.Load() != 0 {
		t.Errorf("%d are left", n)
	}
}
