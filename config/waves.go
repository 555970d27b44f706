package config

import (
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Wave is how a group of users moves. Who is in it stands in the routes file (wave=NAME), never here.
type Wave struct {
	Name     string
	After    string        // the wave that must be complete, or at least soaking, before this one moves; "" means none
	Windows  Windows       // when its flips may be made; none means always
	Soak     time.Duration // how long it is watched behind its last flip before it can be called complete
	Rollback bool          // an enforced gate that fails while it soaks takes it back to OLD by itself
	Gates    Gates
	Listed   bool // it stands in the configuration; others have the defaults

	own map[string]string // gate settings of its own, as written, by key below gates
}

// GateMode is what a gate does.
type GateMode string

const (
	Observe GateMode = "observe" // it is shown, and holds nothing
	Enforce GateMode = "enforce" // a wave moves only while it passes: fail and unknown hold
	GateOff GateMode = "off"     // it is not looked at
)

// Gate names one of the things that are looked at before a wave moves, and while it soaks.
type Gate string

const (
	GateVerified           Gate = "verified"
	GateLag                Gate = "lag"
	GateLoginFailures      Gate = "login_failures"
	GateAuthRegressions    Gate = "auth_regressions"
	GateBackendErrors      Gate = "backend_errors"
	GateRefusedSubmissions Gate = "refused_submissions"
	GateBounces            Gate = "bounces"
)

// GateNames lists those that mailgate has itself, in the order in which they are shown.
func GateNames() []Gate {
	return []Gate{GateVerified, GateLag, GateLoginFailures, GateAuthRegressions, GateBackendErrors, GateRefusedSubmissions, GateBounces}
}

// Gates are the settings of all gates.
type Gates struct {
	Verified           VerifiedGate
	Lag                LagGate
	LoginFailures      RatioGate // logins refused by the password
	AuthRegressions    CountGate // passwords refused that worked on the other side
	BackendErrors      ShareGate // logins and sessions that failed for the host's sake
	RefusedSubmissions RatioGate // mail that the host refused for good
	Bounces            BounceGate
	Custom             []CustomGate
}

// VerifiedGate asks that both sides have been compared.
type VerifiedGate struct {
	Mode   GateMode
	MaxAge time.Duration // of the comparison
}

// LagGate bounds the age of what is not carried to the follower yet.
type LagGate struct {
	Mode GateMode
	Max  time.Duration
}

// RatioGate bounds a share of failures by what it was before the flip, for the same users.
type RatioGate struct {
	Mode       GateMode
	Times      float64 // of the baseline
	Slack      float64 // a share that is always good, however low the baseline: 0 to 1
	MinSamples int     // fewer say nothing
}

// CountGate bounds a number.
type CountGate struct {
	Mode GateMode
	Max  int
}

// ShareGate bounds a share of failures, whatever it was before.
type ShareGate struct {
	Mode       GateMode
	Max        float64 // 0 to 1
	MinSamples int
}

// BounceGate is a share that a command tells.
type BounceGate struct {
	ShareGate
	Command []string // prints {"samples": N, "failures": N}; none means that nothing is known
	Timeout time.Duration
}

// CustomGate is a check of the operator's own.
type CustomGate struct {
	Name    string
	Command string // a program: exit 0 pass, 1 fail, anything else unknown; its first line says why
	Timeout time.Duration
	Mode    GateMode
}

// ModeOf is what a gate does, also one of the operator's own; "" for one that does not exist.
func (g Gates) ModeOf(name Gate) GateMode {
	switch name {
	case GateVerified:
		return g.Verified.Mode
	case GateLag:
		return g.Lag.Mode
	case GateLoginFailures:
		return g.LoginFailures.Mode
	case GateAuthRegressions:
		return g.AuthRegressions.Mode
	case GateBackendErrors:
		return g.BackendErrors.Mode
	case GateRefusedSubmissions:
		return g.RefusedSubmissions.Mode
	case GateBounces:
		return g.Bounces.Mode
	}
	for _, c := range g.Custom {
		if Gate(c.Name) == name {
			return c.Mode
		}
	}
	return ""
}

// Names lists all gates, those of the operator's own last.
func (g Gates) Names() []Gate {
	names := GateNames()
	for _, c := range g.Custom {
		names = append(names, Gate(c.Name))
	}
	return names
}

// Enforced tells whether any gate can hold a wave.
func (g Gates) Enforced() bool {
	return slices.ContainsFunc(g.Names(), func(n Gate) bool { return g.ModeOf(n) == Enforce })
}

// defaultSoak is two working days: what is wrong shows by then in most cases.
const defaultSoak = 48 * time.Hour

func defaultGates() Gates {
	return Gates{
		Verified:           VerifiedGate{Observe, 24 * time.Hour},
		Lag:                LagGate{Observe, 5 * time.Minute},
		LoginFailures:      RatioGate{Observe, 2, 0.02, 20},
		AuthRegressions:    CountGate{Observe, 0},
		BackendErrors:      ShareGate{Observe, 0.02, 20},
		RefusedSubmissions: RatioGate{Observe, 2, 0.02, 20},
		Bounces:            BounceGate{ShareGate{Observe, 0.05, 20}, nil, 30 * time.Second},
	}
}

// Wave is how a wave moves, also one that is not listed.
func (c *Config) Wave(name string) Wave {
	for _, w := range c.Waves {
		if w.Name == name {
			return w
		}
	}
	return Wave{Name: name, Soak: defaultSoak, Gates: c.Gates}
}

// Members are the users of a wave, sorted.
func (f *RouteFile) Members(wave string) (users []string) {
	for user, r := range f.Users {
		if r.Wave == wave && wave != "" {
			users = append(users, user)
		}
	}
	slices.Sort(users)
	return users
}

// Waves are those that the routes file names and those that c lists: the listed ones first, in their order, then the others by name.
// Users of no wave, and patterns, make none.
func (f *RouteFile) Waves(c *Config) (names []string) {
	seen := map[string]bool{"": true}
	for _, w := range c.Waves {
		names, seen[w.Name] = append(names, w.Name), true
	}
	others := map[string]bool{}
	for _, r := range f.Users {
		if !seen[r.Wave] {
			others[r.Wave] = true
		}
	}
	return append(names, slices.Sorted(maps.Keys(others))...)
}

// WaveWarnings are what is odd about the waves, now that their members are known; one in plain words each.
func (c *Config) WaveWarnings(f *RouteFile) (out []string) {
	for _, w := range c.Waves {
		if len(f.Members(w.Name)) == 0 {
			var there []string
			for _, name := range f.Waves(c) {
				if len(f.Members(name)) > 0 {
					there = append(there, name)
				}
			}
			hint := ""
			if n := nearest(w.Name, there); n != "" {
				hint = fmt.Sprintf("; did you mean %q?", n)
			}
			out = append(out, fmt.Sprintf("wave %s has no members: no line of the routes file says wave=%s%s", w.Name, w.Name, hint))
		}
		if w.Rollback && !w.Gates.Enforced() {
			out = append(out, fmt.Sprintf("wave %s has rollback: true, but none of its gates is enforced: it will never go back by itself", w.Name))
		}
	}
	return out
}

// factor is a number of times.
func factor(key string, at func(*Config) *float64) setting {
	return setting{key, func(c *Config, v string) error {
		f, err := parseFloat(v)
		if err != nil || !(f >= 1 && f <= 1000) {
			return fmt.Errorf("%q is not from 1 to 1000: how many times what it was before is still good; write for example 2", v)
		}
		*at(c) = f
		return nil
	}, func(c *Config) any { return *at(c) }}
}

// gateMode is a gate's mode.
func gateMode(key string, at func(*Config) *GateMode) setting {
	return setting{key, func(c *Config, v string) error {
		m, err := parseMode(v)
		if err != nil {
			return err
		}
		*at(c) = m
		return nil
	}, func(c *Config) any { return string(*at(c)) }}
}

func parseMode(v string) (GateMode, error) {
	if known := []string{string(Observe), string(Enforce), string(GateOff)}; !contains(known, v) {
		return "", fmt.Errorf("%q is not understood%s", v, didYouMean(v, known))
	}
	return GateMode(v), nil
}

// gateSettings are the scalar keys of all gates; waves may set them anew under their own gates.
func gateSettings() []setting {
	ratio := func(key string, at func(*Config) *RatioGate) []setting {
		return []setting{
			gateMode(key+".mode", func(c *Config) *GateMode { return &at(c).Mode }),
			factor(key+".times", func(c *Config) *float64 { return &at(c).Times }),
			share(key+".slack", func(c *Config) *float64 { return &at(c).Slack }),
			num(key+".min_samples", func(c *Config) *int { return &at(c).MinSamples }),
		}
	}
	shared := func(key string, at func(*Config) *ShareGate) []setting {
		return []setting{
			gateMode(key+".mode", func(c *Config) *GateMode { return &at(c).Mode }),
			share(key+".max", func(c *Config) *float64 { return &at(c).Max }),
			num(key+".min_samples", func(c *Config) *int { return &at(c).MinSamples }),
		}
	}
	return slices.Concat(
		[]setting{
			gateMode("gates.verified.mode", func(c *Config) *GateMode { return &c.Gates.Verified.Mode }),
			dur("gates.verified.max_age", func(c *Config) *time.Duration { return &c.Gates.Verified.MaxAge }),
			gateMode("gates.lag.mode", func(c *Config) *GateMode { return &c.Gates.Lag.Mode }),
			dur("gates.lag.max", func(c *Config) *time.Duration { return &c.Gates.Lag.Max }),
		},
		ratio("gates.login_failures", func(c *Config) *RatioGate { return &c.Gates.LoginFailures }),
		[]setting{
			gateMode("gates.auth_regressions.mode", func(c *Config) *GateMode { return &c.Gates.AuthRegressions.Mode }),
			num("gates.auth_regressions.max", func(c *Config) *int { return &c.Gates.AuthRegressions.Max }),
		},
		shared("gates.backend_errors", func(c *Config) *ShareGate { return &c.Gates.BackendErrors }),
		ratio("gates.refused_submissions", func(c *Config) *RatioGate { return &c.Gates.RefusedSubmissions }),
		shared("gates.bounces", func(c *Config) *ShareGate { return &c.Gates.Bounces.ShareGate }),
		[]setting{dur("gates.bounces.timeout", func(c *Config) *time.Duration { return &c.Gates.Bounces.Timeout })},
	)
}

// waveKeys are those of an item of waves.
func waveKeys() []string { return []string{"name", "after", "windows", "soak", "rollback", "gates"} }

// waves reads the list of waves. Its items hold lists and sections, which those of other lists do not. The defaults of gates are set
// already.
func (l *loader) waves() {
	if l.waveList == nil {
		return
	}
	for i, item := range l.waveList.Content {
		key := fmt.Sprintf("waves[%d]", i)
		item = deref(item)
		l.lines[key] = item.Line
		w := Wave{Soak: defaultSoak, Gates: l.c.Gates, Listed: true, own: map[string]string{}}
		if item.Kind != yaml.MappingNode {
			l.problem(item, "waves: each item takes the keys %s", strings.Join(waveKeys(), ", "))
			continue
		}
		l.pairsOf(key, item, waveKeys(), func(k string, v *yaml.Node) { l.waveKey(key, k, v, &w) })
		switch {
		case l.lines[key+".name"] == 0:
			l.bad(key, "needs a name: the one that lines of the routes file have behind wave=")
		case w.Name == "": // has its complaint already
		case strings.ContainsFunc(w.Name, func(r rune) bool { return r <= ' ' || r == 0x7f }) || w.Name == "*":
			l.bad(key+".name", "%q could not be named in the routes file; leave out spaces", w.Name)
		case l.c.Wave(w.Name).Listed:
			l.bad(key+".name", "wave %q stands above already; keep one", w.Name)
		default:
			l.c.Waves, l.waveAt = append(l.c.Waves, w), append(l.waveAt, key)
		}
	}
}

// pairsOf calls set for each known key of a mapping, once each.
func (l *loader) pairsOf(at string, n *yaml.Node, known []string, set func(k string, v *yaml.Node)) {
	for j := 0; j+1 < len(n.Content); j += 2 {
		k, v := n.Content[j], deref(n.Content[j+1])
		switch key := at + "." + k.Value; {
		case !contains(known, k.Value):
			l.problem(k, "unknown key %q in %s%s", k.Value, at, didYouMean(k.Value, known))
		case l.lines[key] > 0:
			l.problem(k, "%q stands in line %d already; keep one", k.Value, l.lines[key])
		default:
			l.lines[key] = k.Line
			set(k.Value, v)
		}
	}
}

// waveKey takes one key of a wave.
func (l *loader) waveKey(key, k string, v *yaml.Node, w *Wave) {
	at := key + "." + k
	switch k {
	case "windows":
		if v.Kind != yaml.SequenceNode {
			l.problem(v, "%s: takes a list; write one item a line, each behind a dash", at)
			return
		}
		for i, x := range v.Content {
			window, err := ParseWindow(deref(x).Value)
			if err != nil {
				l.problem(x, "%s[%d]: %v", at, i, err)
				continue
			}
			w.Windows = append(w.Windows, window)
		}
		return
	case "gates":
		if v.Kind != yaml.MappingNode {
			l.problem(v, "%s: takes keys below it", at)
			return
		}
		l.waveGates(at, v, w)
		return
	}
	if v.Kind != yaml.ScalarNode || v.Tag == "!!null" || v.Value == "" {
		l.problem(v, "%s: takes a single value", at)
		return
	}
	var err error
	switch k {
	case "name":
		w.Name = v.Value
	case "after":
		w.After = v.Value
	case "soak":
		c := Config{}
		err = dur("", func(*Config) *time.Duration { return &w.Soak }).set(&c, v.Value)
	case "rollback":
		c := Config{}
		err = boolean("", func(*Config) *bool { return &w.Rollback }).set(&c, v.Value)
	}
	if err != nil {
		l.bad(at, "%v", err)
	}
}

// waveGates takes what a wave sets of its gates.
func (l *loader) waveGates(at string, n *yaml.Node, w *Wave) {
	known := map[string]map[string]setting{}
	w.Gates.Custom = slices.Clone(w.Gates.Custom)
	for i, c := range w.Gates.Custom {
		known[c.Name] = map[string]setting{"mode": gateMode("", func(c *Config) *GateMode { return &c.Gates.Custom[i].Mode })}
	}
	for _, s := range gateSettings() {
		gate, name, _ := strings.Cut(strings.TrimPrefix(s.key, "gates."), ".")
		if known[gate] == nil {
			known[gate] = map[string]setting{}
		}
		known[gate][name] = s
	}
	l.pairsOf(at, n, slices.Sorted(maps.Keys(known)), func(gate string, v *yaml.Node) {
		if v.Kind != yaml.MappingNode {
			l.problem(v, "%s.%s: takes keys below it, such as mode", at, gate)
			return
		}
		l.pairsOf(at+"."+gate, v, slices.Sorted(maps.Keys(known[gate])), func(name string, v *yaml.Node) {
			key := at + "." + gate + "." + name
			if v.Kind != yaml.ScalarNode || v.Tag == "!!null" || v.Value == "" {
				l.problem(v, "%s: takes a single value", key)
				return
			}
			c := Config{Gates: w.Gates}
			if err := known[gate][name].set(&c, v.Value); err != nil {
				l.bad(key, "%v", err)
				return
			}
			w.Gates = c.Gates
			w.own[gate+"."+name] = v.Value
		})
	})
}

// customGates reads the operator's own.
func (l *loader) customGates() {
	for i, m := range l.items("gates.custom") {
		key := fmt.Sprintf("gates.custom[%d]", i)
		if m == nil {
			continue
		}
		g := CustomGate{Name: m["name"], Command: m["command"], Timeout: 30 * time.Second, Mode: Observe}
		if g.Name == "" || g.Command == "" {
			if !has(m, "name") || !has(m, "command") {
				l.bad(key, "needs a name and a command, the path of a program")
			}
			continue
		}
		var err error
		if v := m["timeout"]; v != "" {
			if err = dur("", func(*Config) *time.Duration { return &g.Timeout }).set(nil, v); err != nil {
				l.bad(key+".timeout", "%v", err)
			}
		}
		if v := m["mode"]; v != "" {
			if g.Mode, err = parseMode(v); err != nil {
				l.bad(key+".mode", "%v", err)
			}
		}
		switch {
		case strings.ContainsFunc(g.Name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' }):
			l.bad(key+".name", "%q: names of gates are lower-case letters, digits and _", g.Name)
		case l.c.Gates.ModeOf(Gate(g.Name)) != "":
			l.bad(key+".name", "there is a gate %q already; give each its own name", g.Name)
		}
		if _, err := exec.LookPath(g.Command); err != nil {
			l.bad(key+".command", "%v; write the path of a program that the user of mailgate may run", err)
		}
		if g.Timeout == 0 {
			l.bad(key+".timeout", "must not be 0: the gate would never pass; write for example 30s")
		}
		l.c.Gates.Custom = append(l.c.Gates.Custom, g)
	}
}

// checkWaves looks at how waves follow each other, and at gates that could never pass.
func (l *loader) checkWaves() {
	var names []string
	for _, w := range l.c.Waves {
		names = append(names, w.Name)
	}
	for i, w := range l.c.Waves {
		key := l.waveAt[i]
		switch circle := l.c.circle(w.Name); {
		case w.After == "":
		case !contains(names, w.After):
			l.bad(key+".after", "no wave %q stands in this list%s; one that others wait for must, if only by its name", w.After, hintOf(w.After, names, w.Name))
		case len(circle) > 0:
			l.bad(key+".after", "the waves %s wait for each other: none would ever move", strings.Join(circle, ", "))
		}
		l.checkGates(key+".gates", w.Gates, l.c.Gates)
	}
	l.checkGates("gates", l.c.Gates, Gates{})
	if b := l.c.Gates.Bounces.Command; len(b) > 0 {
		if _, err := exec.LookPath(b[0]); err != nil {
			l.bad("gates.bounces.command", "%v; write a program that the user of mailgate may run, and its arguments", err)
		}
	}
}

// checkGates refuses what would hold or pass whatever happens; above are the settings that w's differ from.
func (l *loader) checkGates(key string, g, above Gates) {
	if g.Bounces.Mode == Enforce && len(g.Bounces.Command) == 0 && above.Bounces.Mode != Enforce {
		l.bad(key+".bounces.mode", "without gates.bounces.command nothing is known about bounces, and an enforced gate holds on that: the wave would never "+
			"move; write a command, or observe")
	}
	for _, x := range []struct {
		key        string
		now, above time.Duration
	}{{"verified.max_age", g.Verified.MaxAge, above.Verified.MaxAge}, {"lag.max", g.Lag.Max, above.Lag.Max},
		{"bounces.timeout", g.Bounces.Timeout, above.Bounces.Timeout}} {
		if x.now == 0 && x.above != 0 || x.now == 0 && key == "gates" {
			l.bad(key+"."+x.key, "must not be 0: the gate would never pass; write more, or mode: off")
		}
	}
}

// circle names the waves that wait for each other, beginning with one of them; none when its order ends.
func (c *Config) circle(name string) (names []string) {
	for at := name; ; {
		names = append(names, at)
		w := c.Wave(at)
		if w.After == "" || !w.Listed {
			return nil
		}
		if w.After == name {
			return names
		}
		if contains(names, w.After) { // others, whose complaint it is
			return nil
		}
		at = w.After
	}
}

func hintOf(word string, names []string, not string) string {
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == not })
	if n := nearest(word, names); n != "" {
		return fmt.Sprintf("; did you mean %q?", n)
	}
	return ""
}

// waveItem is a wave as config show prints it.
func waveItem(w Wave) string {
	item := fmt.Sprintf("{name: %q", w.Name)
	if w.After != "" {
		item += fmt.Sprintf(", after: %q", w.After)
	}
	if len(w.Windows) > 0 {
		var list []string
		for _, x := range w.Windows {
			list = append(list, fmt.Sprintf("%q", x.Text))
		}
		item += ", windows: [" + strings.Join(list, ", ") + "]"
	}
	item += fmt.Sprintf(", soak: %s, rollback: %t", w.Soak, w.Rollback)
	if len(w.own) > 0 {
		var gates []string
		of := map[string][]string{}
		for _, k := range slices.Sorted(maps.Keys(w.own)) {
			gate, name, _ := strings.Cut(k, ".")
			if len(of[gate]) == 0 {
				gates = append(gates, gate)
			}
			of[gate] = append(of[gate], fmt.Sprintf("%s: %q", name, w.own[k]))
		}
		for i, gate := range gates {
			gates[i] = gate + ": {" + strings.Join(of[gate], ", ") + "}"
		}
		item += ", gates: {" + strings.Join(gates, ", ") + "}"
	}
	return item + "}"
}
