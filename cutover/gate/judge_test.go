package gate

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mailgate/config"
	"mailgate/op"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// gates are the defaults, all in a mode.
func gates(mode config.GateMode) config.Gates {
	g := config.Default().Gates
	g.Verified.Mode, g.Lag.Mode, g.LoginFailures.Mode, g.AuthRegressions.Mode = mode, mode, mode, mode
	g.BackendErrors.Mode, g.RefusedSubmissions.Mode, g.Bounces.Mode = mode, mode, mode
	return g
}

func logins(ok, refused int64) Counts { return Counts{LoginsOK: ok, LoginsRefused: refused} }
func mails(ok, refused int64) Counts  { return Counts{MailOK: ok, MailRefused: refused} }

func TestJudge(t *testing.T) {
	soak := func(e Evidence) Evidence { e.Users, e.Moved = 3, 3; return e }
	for _, x := range []struct {
		name    string
		gate    config.Gate
		phase   Phase
		e       Evidence
		verdict Verdict
		why     string
	}{
		{"as the example has it", config.GateLoginFailures, Soak, soak(Evidence{Before: logins(993, 7), After: logins(409, 3)}), Pass, "login failures 0.7 % of 412 (limit 2 %)"},
		{"more than twice", config.GateLoginFailures, Soak, soak(Evidence{Before: logins(980, 20), After: logins(95, 5)}), Fail, "login failures 5 % of 100 (limit 2x baseline 2 %)"},
		{"twice is good", config.GateLoginFailures, Soak, soak(Evidence{Before: logins(980, 20), After: logins(96, 4)}), Pass, "login failures 4 % of 100 (limit 2x baseline 2 %)"},
		{"an old phone with a wrong password was there before", config.GateLoginFailures, Soak, soak(Evidence{Before: logins(50, 50), After: logins(10, 12)}), Pass,
			"login failures 54.5 % of 22 (limit 2x baseline 50 %)"},
		{"no baseline: what is little is good", config.GateLoginFailures, Soak, soak(Evidence{After: logins(99, 1)}), Pass, "login failures 1 % of 100 (limit 2 %)"},
		{"no baseline: what is much is not known to be more", config.GateLoginFailures, Soak, soak(Evidence{Before: logins(5, 1), After: logins(90, 10)}), Unknown,
			"login failures 10 % of 100 (limit 2 %); before the flip there were only 6 to compare with"},
		{"a baseline of some only", config.GateLoginFailures, Soak, soak(Evidence{Before: logins(1000, 0), Unrecorded: []string{"a", "b"}, After: logins(90, 10)}), Unknown,
			"login failures 10 % of 100 (limit 2 %); what it was before the flip is not known of a, b"},
		{"a small pilot passes", config.GateLoginFailures, Soak, soak(Evidence{After: logins(3, 0)}), Pass, "no login failures in 3"},
		{"few with a failure", config.GateLoginFailures, Soak, soak(Evidence{After: logins(2, 1)}), Unknown, "1 login failures in 3: too few to tell, 20 are needed"},
		{"few with a failure hold no start", config.GateLoginFailures, Start, Evidence{Users: 9, Moved: 3, After: logins(2, 1)}, Pass,
			"1 login failures in 3: too few to tell, 20 are needed; a start is held by what is proven bad"},
		{"what is proven bad holds a start", config.GateLoginFailures, Start, Evidence{Users: 9, Moved: 3, Before: logins(100, 0), After: logins(10, 10)}, Fail,
			"login failures 50 % of 20 (limit 2 %)"},
		{"nobody has come", config.GateLoginFailures, Soak, soak(Evidence{Before: logins(5, 0)}), Unknown, "nobody has logged in since the flip; before it were 5 in 7 days"},
		{"nobody has come yet", config.GateLoginFailures, Start, Evidence{Users: 9, Moved: 3, Before: logins(500, 0)}, Pass, "nobody has logged in since the flip yet"},
		{"the last hour is bad", config.GateLoginFailures, Soak, soak(Evidence{Before: logins(1000, 0), After: logins(5000, 20), Recent: logins(10, 20)}), Fail,
			"login failures 66.7 % of 30 in the last hour (limit 2 %)"},
		{"the last hour is too short", config.GateLoginFailures, Soak, soak(Evidence{Before: logins(1000, 0), After: logins(5000, 20), Recent: logins(1, 10)}), Pass,
			"login failures 0.4 % of 5020 (limit 2 %)"},
		{"before the flip", config.GateLoginFailures, Start, Evidence{Users: 3, Before: logins(90, 10)}, Pass, "nobody has moved yet; login failures were 10 % of 100 in the last 7 days"},
		{"soak of nobody", config.GateLoginFailures, Soak, Evidence{Users: 3, Before: logins(90, 10)}, Unknown, "nobody has moved yet"},

		{"mail as before", config.GateRefusedSubmissions, Soak, soak(Evidence{Before: mails(90, 10), After: mails(85, 15)}), Pass, "refused messages 15 % of 100 (limit 2x baseline 10 %)"},
		{"mail refused", config.GateRefusedSubmissions, Soak, soak(Evidence{Before: mails(90, 10), After: mails(79, 21)}), Fail, "refused messages 21 % of 100 (limit 2x baseline 10 %)"},
		{"nobody sends, as before", config.GateRefusedSubmissions, Soak, soak(Evidence{Before: mails(3, 0)}), Pass, "nobody has sent mail since the flip, and hardly before (3 in 7 days)"},
		{"nobody sends any more", config.GateRefusedSubmissions, Soak, soak(Evidence{Before: mails(60, 0)}), Unknown, "nobody has sent mail since the flip; before it were 60 in 7 days"},

		{"host well", config.GateBackendErrors, Soak, soak(Evidence{After: Counts{LoginsOK: 100, LoginsFailed: 1, Sessions: 99, Broken: 1}}), Pass,
			"failures for the host's sake 1 % of 200 (limit 2 %)"},
		{"logins fail", config.GateBackendErrors, Soak, soak(Evidence{After: Counts{LoginsOK: 90, LoginsFailed: 10}}), Fail, "failures for the host's sake 10 % of 100 (limit 2 %)"},
		{"sessions break", config.GateBackendErrors, Soak, soak(Evidence{After: Counts{LoginsOK: 50, Sessions: 50, Broken: 10}}), Fail,
			"failures for the host's sake 10 % of 100 (limit 2 %)"},
		{"a wrong password is not the host's", config.GateBackendErrors, Soak, soak(Evidence{After: logins(10, 90)}), Pass, "failures for the host's sake 0 % of 100 (limit 2 %)"},
		{"few, one broken", config.GateBackendErrors, Soak, soak(Evidence{After: Counts{LoginsOK: 3, Sessions: 2, Broken: 1}}), Unknown,
			"1 failures for the host's sake in 5: too few to tell, 20 are needed"},
		{"OLD is ill: away from it", config.GateBackendErrors, Start, Evidence{Users: 3, Before: Counts{LoginsOK: 10, LoginsFailed: 90}}, Pass,
			"nobody has moved yet; failures for the host's sake were 90 % of 100 in the last 7 days"},

		{"no regression", config.GateAuthRegressions, Soak, soak(Evidence{}), Pass, "no password that worked on OLD is refused by NEW"},
		{"regressions", config.GateAuthRegressions, Start, Evidence{Users: 5, Regressed: []string{"a", "b", "c", "d", "e"}}, Fail,
			"NEW refuses passwords that worked on OLD, of a, b, c and 2 more (limit 0)"},
		{"regressions not known", config.GateAuthRegressions, Soak, soak(Evidence{RegressedWhy: "no"}), Unknown, "no"},

		{"verified", config.GateVerified, Start, Evidence{Users: 2, Verified: []Compared{{"a", noon.Add(-time.Hour), true, ""}, {"b", noon.Add(-3 * time.Hour), true, ""}}}, Pass,
			"2 compared and equal, the oldest 3h ago"},
		{"never verified", config.GateVerified, Start, Evidence{Users: 2, Verified: []Compared{{"a", noon, true, ""}}, Unverified: []string{"b"}}, Unknown,
			"never compared: b; mailgate verify does it"},
		{"verified long ago", config.GateVerified, Start, Evidence{Users: 1, Verified: []Compared{{"a", noon.Add(-25 * time.Hour), true, ""}}}, Unknown,
			"compared more than 24h ago: a; mailgate verify does it again"},
		{"comparisons not known", config.GateVerified, Start, Evidence{Users: 1, VerifiedWhy: "no"}, Unknown, "no"},
		{"differs", config.GateVerified, Start, Evidence{Users: 2, Verified: []Compared{{"a", noon, false, "2 differ"}}, Unverified: []string{"b"}}, Fail,
			"the sides differ for a: 2 differ"},

		{"no lag", config.GateLag, Start, Evidence{Users: 1, Lags: []Lag{{User: "a"}}}, Pass, "nothing waits to be carried"},
		{"little lag", config.GateLag, Start, Evidence{Users: 1, Lags: []Lag{{User: "a", Age: 14 * time.Second}, {User: "b"}}}, Pass,
			"the oldest change not carried is 14s old (limit 5m)"},
		{"lag", config.GateLag, Start, Evidence{Users: 2, Lags: []Lag{{User: "b", Unknown: "x"}, {User: "a", Age: 90 * time.Minute}, {User: "c", Age: 6 * time.Minute}}}, Fail,
			"a change of a is not carried since 1h30m (limit 5m)"},
		{"lag not known", config.GateLag, Start, Evidence{Users: 2, Lags: []Lag{{User: "a", Unknown: "his wave is not started"}}}, Unknown,
			"not known of a (his wave is not started)"},

		{"no bounces known", config.GateBounces, Start, Evidence{BouncesWhy: "no command"}, Unknown, "no command"},
		{"bounces", config.GateBounces, Start, Evidence{Bounces: Share{6, 100}}, Fail, "bounces 6 % of 100 (limit 5 %)"},
		{"few bounces", config.GateBounces, Soak, Evidence{Bounces: Share{5, 100}}, Pass, "bounces 5 % of 100 (limit 5 %)"},
		{"nothing sent", config.GateBounces, Soak, Evidence{}, Unknown, "nothing was sent, says the command"},
		{"own check", "queue", Start, Evidence{Asked: map[config.Gate]Answer{"queue": {Fail, "100 wait"}}}, Fail, "100 wait"},
		{"own check not asked", "queue", Start, Evidence{}, Unknown, "it was not asked"},
		{"own check without sense", "queue", Start, Evidence{Asked: map[config.Gate]Answer{"queue": {"perhaps", ""}}}, Unknown, "it was not asked"},
	} {
		t.Run(x.name, func(t *testing.T) {
			g := gates(config.Enforce)
			g.Custom = []config.CustomGate{{Name: "queue", Mode: config.Enforce}}
			all := Judge(x.phase, g, x.e, nil, nil, noon)
			i := slices.IndexFunc(all, func(r Result) bool { return r.Gate == x.gate })
			if r := all[i]; r.Verdict != x.verdict || r.Why != x.why || r.Holds != (x.verdict != Pass) {
				t.Errorf("got %s, holds %v: %s", r.Verdict, r.Holds, r.Why)
			}
			if held := strings.Contains(Holding(all), string(x.gate)); held != (x.verdict != Pass) {
				t.Errorf("%q", Holding(all))
			}
			if failing := strings.Contains(Failing(all), string(x.gate)); failing != (x.verdict == Fail) {
				t.Errorf("%q", Failing(all))
			}
		})
	}
}

// TestWaivers: one of the wave lets the gate pass until its time; one of a user takes him out of what is looked at.
func TestWaivers(t *testing.T) {
	g := gates(config.Enforce)
	e := Evidence{Users: 2, Unverified: []string{"a", "b"}, Lags: []Lag{{User: "a", Age: time.Hour}, {User: "b"}}, Regressed: []string{"a"}}
	waive := func(scope string, name config.Gate, until time.Duration) Waiver {
		return Waiver{Scope: scope, Gate: name, By: "kim", Reason: "why", Until: noon.Add(until)}
	}
	for _, x := range []struct {
		name    string
		waivers []Waiver
		gate    config.Gate
		holds   bool
		verdict Verdict
	}{
		{"none", nil, config.GateLag, true, Fail},
		{"the wave's", []Waiver{waive("wave:pilot", config.GateLag, 1)}, config.GateLag, false, Fail},
		{"over", []Waiver{waive("wave:pilot", config.GateLag, 0)}, config.GateLag, true, Fail},
		{"another wave's", []Waiver{waive("wave:sales", config.GateLag, 1)}, config.GateLag, true, Fail},
		{"another gate's", []Waiver{waive("wave:pilot", config.GateVerified, 1)}, config.GateLag, true, Fail},
		{"the user's", []Waiver{waive("user:a", config.GateLag, 1)}, config.GateLag, false, Pass},
		{"the user's regression", []Waiver{waive("user:a", config.GateAuthRegressions, 1)}, config.GateAuthRegressions, false, Pass},
		{"another user's", []Waiver{waive("user:b", config.GateLag, 1)}, config.GateLag, true, Fail},
		{"one of two users", []Waiver{waive("user:a", config.GateVerified, 1)}, config.GateVerified, true, Unknown},
		{"both", []Waiver{waive("user:a", config.GateVerified, 1), waive("user:b", config.GateVerified, 1)}, config.GateVerified, false, Pass},
	} {
		t.Run(x.name, func(t *testing.T) {
			all := Judge(Start, g, e, x.waivers, []string{op.HoldWave("pilot")}, noon)
			r := all[slices.IndexFunc(all, func(r Result) bool { return r.Gate == x.gate })]
			if r.Holds != x.holds || r.Verdict != x.verdict {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestEnforce: whatever is known, an enforced gate holds unless it passes or is waived, one that observes never holds, one that is off does
// not show, and an answer always has its reason.
func TestEnforce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 40)
		counts := rapid.Custom(func(t *rapid.T) Counts {
			c := Counts{n.Draw(t, "ok"), n.Draw(t, "refused"), n.Draw(t, "failed"), n.Draw(t, "sessions"), 0, n.Draw(t, "mail"), n.Draw(t, "refusals")}
			c.Broken = rapid.Int64Range(0, c.Sessions).Draw(t, "broken")
			return c
		})
		users := []string{"a", "b", "c"}
		some := rapid.Custom(func(t *rapid.T) []string { return users[:rapid.IntRange(0, 3).Draw(t, "n")] })
		why := rapid.SampledFrom([]string{"", "cannot"})
		e := Evidence{Users: 3, Moved: rapid.IntRange(0, 3).Draw(t, "moved"), Before: counts.Draw(t, "before"), After: counts.Draw(t, "after"),
			Recent: counts.Draw(t, "recent"), Unrecorded: some.Draw(t, "unrecorded"), Unverified: some.Draw(t, "unverified"), Regressed: some.Draw(t, "regressed"),
			RegressedWhy: why.Draw(t, "why"), BouncesWhy: why.Draw(t, "bounces")}
		e.Bounces.Samples = n.Draw(t, "samples")
		e.Bounces.Failed = rapid.Int64Range(0, e.Bounces.Samples).Draw(t, "bounced")
		for _, u := range some.Draw(t, "lags") {
			e.Lags = append(e.Lags, Lag{u, time.Duration(n.Draw(t, "age")) * time.Minute, why.Draw(t, "unknown")})
			e.Verified = append(e.Verified, Compared{u, noon.Add(-time.Duration(n.Draw(t, "hours")) * time.Hour), rapid.Bool().Draw(t, "equal"), ""})
		}
		mode := rapid.SampledFrom([]config.GateMode{config.Observe, config.Enforce, config.GateOff}).Draw(t, "mode")
		g := gates(mode)
		g.Custom = []config.CustomGate{{Name: "own", Mode: mode}}
		var waivers []Waiver
		waived := rapid.SampledFrom(append(g.Names(), "")).Draw(t, "waived")
		if waived != "" {
			waivers = []Waiver{{Scope: "wave:w", Gate: waived, Until: noon.Add(time.Second)}}
		}
		all := Judge(Phase(rapid.IntRange(0, 1).Draw(t, "phase")), g, e, waivers, []string{"wave:w"}, noon)
		if want := map[bool]int{true: 0, false: 8}[mode == config.GateOff]; len(all) != want {
			t.Fatalf("%d answers, want %d", len(all), want)
		}
		for _, r := range all {
			if !slices.Contains(Verdicts(), r.Verdict) || r.Why == "" || strings.Contains(r.Why, "%!") || strings.Contains(r.Why, "NaN") {
				t.Fatalf("%+v", r)
			}
			if want := mode == config.Enforce && r.Verdict != Pass && r.Gate != waived; r.Holds != want {
				t.Fatalf("holds %v: %+v", r.Holds, r)
			}
			if (r.Waiver != nil) != (r.Gate == waived) {
				t.Fatalf("waiver %v: %+v", waived, r)
			}
		}
	})
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 14*time.Second + 1: "14s", time.Minute: "1m", 90 * time.Minute: "1h30m", 10 * time.Hour: "10h", 24 * time.Hour: "24h",
		20*time.Hour + 10*time.Minute: "20h10m"} {
		if got := ago(d); got != want {
			t.Errorf("%s: %s", d, got)
		}
	}
	if got := fmt.Sprint(Share{3, 412}); got != "0.7 % of 412" {
		t.Error(got)
	}
}
