package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// Judge judges each gate that is not off, in the order of Gates.Names. It is pure. scopes are those whose waivers count for all of the
// users, see op.HoldWave; a waiver of a single user (op.HoldUser) excuses him where a gate knows users.
//
// Small samples: a share of few tries says nothing, and an enforced gate holds on what is not known. So that a pilot of three people can
// pass all the same, few tries pass when none of them failed: that is all that can be shown of few. One failure among them is unknown,
// and a person looks, or waits for more tries, or waives.
//
// Before anybody has moved, what is compared behind the flip cannot be: those gates show the share that will be the measure, and pass.
// What is wrong on OLD then is no reason to stay there. While a wave is on the way (Start, some have moved) only what is proven bad holds:
// the first users have hardly logged in, and one old phone with a wrong password must not stop the others half way.
func Judge(phase Phase, g config.Gates, e Evidence, waivers []Waiver, scopes []string, now time.Time) []Result {
	j := judge{phase: phase, g: g, e: e, now: now}
	var out []Result
	for _, name := range g.Names() {
		r := Result{Gate: name, Mode: g.ModeOf(name)}
		if r.Mode == config.GateOff {
			continue
		}
		j.excused = map[string]bool{}
		for _, w := range waivers {
			switch user, ok := strings.CutPrefix(w.Scope, op.HoldUser("")); {
			case w.Gate != name || !w.Until.After(now):
			case slices.Contains(scopes, w.Scope):
				if r.Waiver == nil || w.Until.After(r.Waiver.Until) {
					r.Waiver = &w
				}
			case ok:
				j.excused[user] = true
			}
		}
		r.Verdict, r.Why = j.answer(name)
		r.Holds = r.Mode == config.Enforce && r.Verdict != Pass && r.Waiver == nil
		out = append(out, r)
	}
	return out
}

// Holding are the results that hold, as one sentence; "" when none does.
func Holding(results []Result) string {
	var out []string
	for _, r := range results {
		if r.Holds {
			out = append(out, fmt.Sprintf("gate %s: %s (%s)", r.Gate, r.Verdict, r.Why))
		}
	}
	return strings.Join(out, "; ")
}

// Failing are the enforced gates that fail, as one sentence: those that take a soaking wave back. What is unknown takes nobody back.
func Failing(results []Result) string {
	return Holding(slices.DeleteFunc(slices.Clone(results), func(r Result) bool { return r.Verdict != Fail }))
}

type judge struct {
	phase   Phase
	g       config.Gates
	e       Evidence
	now     time.Time
	excused map[string]bool // users with a waiver of their own for the gate that is judged
}

func (j *judge) answer(name config.Gate) (Verdict, string) {
	g, e := j.g, j.e
	switch name {
	case config.GateVerified:
		return j.verified()
	case config.GateLag:
		return j.lag()
	case config.GateLoginFailures:
		return j.told(j.ratio(g.LoginFailures, "login failures", "nobody has logged in", true, Counts.Logins))
	case config.GateAuthRegressions:
		return j.regressions()
	case config.GateBackendErrors:
		if e.Moved == 0 {
			return j.told(j.still("failures for the host's sake", e.Before.Backend()))
		}
		return j.told(j.share(g.BackendErrors, "failures for the host's sake", "nobody has logged in since the flip", e.After.Backend(), e.Recent.Backend()))
	case config.GateRefusedSubmissions:
		return j.told(j.ratio(g.RefusedSubmissions, "refused messages", "nobody has sent mail", false, Counts.Mail))
	case config.GateBounces:
		if e.BouncesWhy != "" {
			return Unknown, e.BouncesWhy
		}
		return j.share(g.Bounces.ShareGate, "bounces", "nothing was sent, says the command", e.Bounces, Share{})
	}
	if a, ok := e.Asked[name]; ok && slices.Contains(Verdicts(), a.Verdict) {
		return a.Verdict, a.Why
	}
	return Unknown, "it was not asked"
}

// told makes the answer of what is counted unknown where a gateway has not told what it knows. What is proven bad by the others stays so.
func (j *judge) told(v Verdict, why string) (Verdict, string) {
	if j.e.Untold == "" {
		return v, why
	}
	if v == Pass {
		v = Unknown
	}
	return v, j.e.Untold + "; without that: " + why
}

// still is the answer about a share of a wave of which nobody has moved.
func (j *judge) still(what string, before Share) (Verdict, string) {
	if j.phase == Soak {
		return Unknown, "nobody has moved yet"
	}
	return Pass, fmt.Sprintf("nobody has moved yet; %s were %s in the last 7 days", what, before)
}

// String is for people: "0.7 % of 412".
func (s Share) String() string { return fmt.Sprintf("%s of %d", percent(s.Ratio()), s.Samples) }

func percent(f float64) string {
	text := fmt.Sprintf("%.1f", 100*f)
	return strings.TrimSuffix(text, ".0") + " %"
}

// ratio compares a share behind the flip with the one before. Where none comes, that is no answer: always where it must come, else where
// it came before.
func (j *judge) ratio(g config.RatioGate, what, nobody string, must bool, of func(Counts) Share) (Verdict, string) {
	e, least := j.e, int64(max(g.MinSamples, 1))
	before, after, recent := of(e.Before), of(e.After), of(e.Recent)
	if e.Moved == 0 {
		return j.still(what, before)
	}
	limit, measure := g.Slack, fmt.Sprintf("limit %s", percent(g.Slack))
	known := before.Samples >= least && len(e.Unrecorded) == 0
	if x := g.Times * before.Ratio(); known && x > limit {
		limit, measure = x, fmt.Sprintf("limit %gx baseline %s", g.Times, percent(before.Ratio()))
	}
	if after.Samples == 0 {
		switch {
		case j.phase == Start:
			return Pass, nobody + " since the flip yet"
		case before.Samples < least && !must:
			return Pass, fmt.Sprintf("%s since the flip, and hardly before (%d in 7 days)", nobody, before.Samples)
		}
		return Unknown, fmt.Sprintf("%s since the flip; before it were %d in 7 days", nobody, before.Samples)
	}
	verdict, why := j.against(limit, least, what, measure, after, recent)
	if verdict == Fail && !known {
		return Unknown, why + "; " + j.without(before)
	}
	return verdict, why
}

// without says why there is no baseline.
func (j *judge) without(before Share) string {
	if len(j.e.Unrecorded) > 0 {
		return fmt.Sprintf("what it was before the flip is not known of %s", some(j.e.Unrecorded))
	}
	return fmt.Sprintf("before the flip there were only %d to compare with", before.Samples)
}

// share bounds a share by a number.
func (j *judge) share(g config.ShareGate, what, none string, now, recent Share) (Verdict, string) {
	if now.Samples == 0 {
		if j.phase == Start {
			return Pass, none + ", yet"
		}
		return Unknown, none
	}
	return j.against(g.Max, int64(max(g.MinSamples, 1)), what, "limit "+percent(g.Max), now, recent)
}

// against holds a share against a limit: as a whole, and that of the last hour, which a long quiet time before would hide.
func (j *judge) against(limit float64, least int64, what, measure string, all, recent Share) (Verdict, string) {
	switch {
	case all.Samples < least:
		if all.Failed == 0 {
			return Pass, fmt.Sprintf("no %s in %d", what, all.Samples)
		}
		why := fmt.Sprintf("%d %s in %d: too few to tell, %d are needed", all.Failed, what, all.Samples, least)
		if j.phase == Start {
			return Pass, why + "; a start is held by what is proven bad"
		}
		return Unknown, why
	case all.Ratio() > limit:
		return Fail, fmt.Sprintf("%s %s (%s)", what, all, measure)
	case recent.Samples >= least && recent.Ratio() > limit:
		return Fail, fmt.Sprintf("%s %s in the last hour (%s)", what, recent, measure)
	}
	return Pass, fmt.Sprintf("%s %s (%s)", what, all, measure)
}

// rest are users that no waiver of their own excuses.
func (j *judge) rest(users []string) (out []string) {
	for _, u := range users {
		if !j.excused[u] {
			out = append(out, u)
		}
	}
	return out
}

// some names users, the first few by name.
func some(users []string) string {
	const shown = 3
	if len(users) <= shown {
		return strings.Join(users, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(users[:shown], ", "), len(users)-shown)
}

// ago rounds an age for people.
func ago(d time.Duration) string {
	if d < time.Minute {
		return d.Round(time.Second).String()
	}
	text := strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	if hours, whole := strings.CutSuffix(text, "h0m"); whole {
		return hours + "h"
	}
	return text
}

func (j *judge) verified() (Verdict, string) {
	var unequal, stale []string
	var oldest time.Duration
	never := j.rest(j.e.Unverified)
	seen := ""
	for _, c := range j.e.Verified {
		switch age := j.now.Sub(c.At); {
		case j.excused[c.User]:
		case !c.Equal:
			if unequal = append(unequal, c.User); c.Seen != "" {
				seen = ": " + c.Seen
			}
		case age > j.g.Verified.MaxAge:
			stale = append(stale, c.User)
			oldest = max(oldest, age)
		default:
			oldest = max(oldest, age)
		}
	}
	if len(unequal) != 1 {
		seen = ""
	}
	switch {
	case len(unequal) > 0:
		return Fail, fmt.Sprintf("the sides differ for %s%s", some(unequal), seen)
	case j.e.VerifiedWhy != "":
		return Unknown, j.e.VerifiedWhy
	case len(never) > 0:
		return Unknown, fmt.Sprintf("never compared: %s; mailgate verify does it", some(never))
	case len(stale) > 0:
		return Unknown, fmt.Sprintf("compared more than %s ago: %s; mailgate verify does it again", ago(j.g.Verified.MaxAge), some(stale))
	}
	return Pass, fmt.Sprintf("%d compared and equal, the oldest %s ago", j.e.Users, ago(oldest))
}

func (j *judge) lag() (Verdict, string) {
	limit := j.g.Lag.Max
	var unknown []string
	var worst Lag
	for _, l := range j.e.Lags {
		switch {
		case j.excused[l.User]:
		case l.Unknown != "":
			unknown = append(unknown, fmt.Sprintf("%s (%s)", l.User, l.Unknown))
		case l.Age >= worst.Age:
			worst = l
		}
	}
	switch {
	case worst.Age > limit:
		return Fail, fmt.Sprintf("a change of %s is not carried since %s (limit %s)", worst.User, ago(worst.Age), ago(limit))
	case len(unknown) > 0:
		return Unknown, "not known of " + some(unknown)
	case worst.Age == 0:
		return Pass, "nothing waits to be carried"
	}
	return Pass, fmt.Sprintf("the oldest change not carried is %s old (limit %s)", ago(worst.Age), ago(limit))
}

func (j *judge) regressions() (Verdict, string) {
	if j.e.RegressedWhy != "" {
		return Unknown, j.e.RegressedWhy
	}
	users := j.rest(j.e.Regressed)
	most := j.g.AuthRegressions.Max
	switch {
	case len(users) > most:
		return Fail, fmt.Sprintf("NEW refuses passwords that worked on OLD, of %s (limit %d)", some(users), most)
	case len(users) > 0:
		return Pass, fmt.Sprintf("NEW refuses a password that worked on OLD of %d (limit %d)", len(users), most)
	}
	return Pass, "no password that worked on OLD is refused by NEW"
}
