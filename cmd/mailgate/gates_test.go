package main

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/backend"
	"mailgate/config"
	wavegate "mailgate/cutover/gate"
	"mailgate/proxy"
)

// TestGatesThroughTheFronts: what happens to users at a gateway that serves is counted, their flips record what it was before, the wave is
// judged by that, metrics show it, and all of it stands behind a restart.
func TestGatesThroughTheFronts(t *testing.T) {
	t.Parallel()
	const alice, bob = "alice@example.com", "bob@example.com"
	m := newMemory(t, alice, bob)
	text := mustRead(t, m.dir+"/mailgate.yaml")
	text = strings.Replace(text, `listen: ["`, `listen: ["submission://`+port(t)+`", "`, 1)
	text = strings.Replace(text, "  old: {imap:", "  old: {login_wait: 0s, submission: 'submission://"+m.hosts[0].Submission+"', imap:", 1)
	text = strings.Replace(text, "  new: {imap:", "  new: {login_wait: 0s, submission: 'submission://"+m.hosts[1].Submission+"', imap:", 1)
	m.write("mailgate.yaml", text+`
gates: {login_failures: {mode: enforce}, backend_errors: {mode: enforce, min_samples: 2}}
`)
	g, stop := m.start()
	imap := func(password string) string {
		c := rawDial(t, g.proxy.Addrs()[1].String(), false)
		defer c.Close()
		c.until(t, "* OK")
		c.send(t, "a LOGIN "+alice+" "+password+"\r\n")
		said := c.until(t, "a ")
		c.send(t, "b LOGOUT\r\n")
		c.until(t, "b OK")
		return said
	}
	for range 4 {
		imap("a")
	}
	imap("wrong")
	submit := func() {
		c := rawDial(t, g.proxy.Addrs()[0].String(), false)
		defer c.Close()
		c.until(t, "220")
		for _, line := range []string{"EHLO x", "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+bob+"\x00b")), "MAIL FROM:<" + bob + ">", "RCPT TO:<bad",
			"RCPT TO:<" + alice + ">", "DATA", "Subject: x\r\n\r\nx\r\n.", "QUIT"} {
			c.send(t, line+"\r\n")
			for said := ""; len(said) < 4 || said[3] != ' '; {
				said = c.until(t, "")
			}
		}
	}
	submit()
	total := func(user string, side config.Side) wavegate.Counts {
		return g.gates.Since(user, side, time.Now().Add(-time.Hour))
	}
	counted := func(user string, side config.Side, want wavegate.Counts) {
		t.Helper()
		until(t, "signals", func() bool { return total(user, side).Sessions >= want.Sessions })
		if got := total(user, side); got != want {
			t.Errorf("%s on %s: %+v, want %+v", user, side, got, want)
		}
	}
	counted(alice, config.Old, wavegate.Counts{LoginsOK: 4, LoginsRefused: 1, Sessions: 4})
	counted(bob, config.Old, wavegate.Counts{LoginsOK: 1, Sessions: 1, MailOK: 1, MailRefused: 1})

	g.gates.Count(alice, config.New, wavegate.LoginRefused) // of an earlier stay there
	for _, user := range []string{alice, bob} {
		o, err := g.manager().Request(t.Context(), user, config.New, "test", true)
		if err != nil {
			t.Fatal(err)
		}
		until(t, "the flip", func() bool {
			o, err = g.store.Operation(t.Context(), o.ID)
			return err == nil && o.Status.Final()
		})
	}
	imap("a")
	c := rawDial(t, g.proxy.Addrs()[1].String(), false)
	c.until(t, "* OK")
	c.send(t, "a LOGIN "+alice+" a\r\n")
	c.until(t, "a OK")
	m.hosts[1].Close()
	c.until(t, "* BYE")
	if said := imap("a"); !strings.Contains(said, "[UNAVAILABLE]") {
		t.Errorf("got %q", said)
	}
	counted(alice, config.New, wavegate.Counts{LoginsOK: 2, LoginsFailed: 1, Sessions: 2, Broken: 1})
	g.seen(alice, config.New, config.IMAP, proxy.LoginRefused, &backend.Error{Kind: backend.AuthFailed, Reply: "Maximum number of connections exceeded"})
	counted(alice, config.New, wavegate.Counts{LoginsOK: 2, LoginsFailed: 2, Sessions: 2, Broken: 1})

	judged := func() string {
		t.Helper()
		list, err := g.judge(t.Context(), "pilot", wavegate.Soak)
		if err != nil {
			t.Fatal(err)
		}
		return wavegate.Holding(list)
	}
	const want = "gate backend_errors: fail (failures for the host's sake 50 % of 6 (limit 2 %))"
	if got := judged(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	families, err := g.metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, f := range families {
		if name := f.GetName(); name == "mailgate_gate_status" || name == "mailgate_wave_baseline_ratio" {
			for _, x := range f.Metric {
				label := name
				for _, l := range x.Label {
					label += " " + l.GetValue()
				}
				if x.Gauge.GetValue() > 0 {
					shown = append(shown, label)
				}
			}
		}
	}
	for _, line := range []string{"mailgate_gate_status backend_errors fail pilot", "mailgate_gate_status login_failures pass pilot", "mailgate_gate_status bounces unknown pilot",
		"mailgate_wave_baseline_ratio login_failures pilot", "mailgate_wave_baseline_ratio refused_submissions pilot"} {
		if !slices.Contains(shown, line) {
			t.Errorf("no %q in %q", line, shown)
		}
	}
	stop()
	g, stop = m.start()
	defer stop()
	if got := judged(); got != want {
		t.Errorf("behind a restart %q", got)
	}
	bases, err := g.store.Baselines(t.Context())
	if err != nil || len(bases) != 2 || bases[0].Week != (wavegate.Counts{LoginsOK: 4, LoginsRefused: 1, Sessions: 4}) {
		t.Errorf("%+v %v", bases, err)
	}
}
