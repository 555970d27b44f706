package config

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const withWaves = small + `
flip: {hold_file: state/hold}
waves:
  - name: pilot
    rollback: true
    gates:
      login_failures: {mode: enforce, times: 1.5}
      queue: {mode: enforce}
  - name: sales
    after: pilot
    windows: ["Mon-Fri 19:00-07:00", "Sat,Sun 00:00-24:00"]
    soak: 12h
gates:
  lag: {mode: "off"}
  login_failures: {min_samples: 7}
  bounces: {command: [/bin/sh, -c, "echo {}"], max: 0.1}
  custom:
    - {name: queue, command: /bin/sh, timeout: 5s}
`

func TestWaves(t *testing.T) {
	c, err := load(t, withWaves, nil)
	if err != nil {
		t.Fatal(err)
	}
	pilot, sales, other := c.Wave("pilot"), c.Wave("sales"), c.Wave("other")
	if g := pilot.Gates; !pilot.Listed || !pilot.Rollback || pilot.Soak != 48*time.Hour || len(pilot.Windows) > 0 ||
		g.LoginFailures != (RatioGate{Enforce, 1.5, 0.02, 7}) || g.Lag.Mode != GateOff || g.ModeOf("queue") != Enforce {
		t.Errorf("pilot %+v", pilot)
	}
	if sales.After != "pilot" || sales.Soak != 12*time.Hour || len(sales.Windows) != 2 || sales.Rollback || !reflect.DeepEqual(sales.Gates, c.Gates) {
		t.Errorf("sales %+v", sales)
	}
	if other.Listed || other.Soak != 48*time.Hour || other.Name != "other" || !reflect.DeepEqual(other.Gates, c.Gates) {
		t.Errorf("other %+v", other)
	}
	if g := c.Gates; g.ModeOf("queue") != Observe || g.LoginFailures.Times != 2 || g.Bounces.Max != 0.1 || len(g.Bounces.Command) != 3 || g.Enforced() {
		t.Errorf("a wave's own settings became everybody's, or gates are wrong: %+v", g)
	}
	if !pilot.Gates.Enforced() || pilot.Gates.ModeOf("nothing") != "" || !strings.HasSuffix(c.Flip.HoldFile, "/state/hold") {
		t.Errorf("%+v, hold file %q", pilot.Gates, c.Flip.HoldFile)
	}
	for _, name := range GateNames() {
		if m := Default().Gates.ModeOf(name); m != Observe {
			t.Errorf("gate %s is %q by default", name, m)
		}
	}
	var b bytes.Buffer
	if err := c.Show(&b); err != nil {
		t.Fatal(err)
	}
	again, err := Load(write(t, t.TempDir(), "shown.yaml", b.String()), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	if !reflect.DeepEqual(again.Waves, c.Waves) || !reflect.DeepEqual(again.Gates, c.Gates) {
		t.Errorf("%s\ngot  %+v\nwant %+v", b.String(), again.Waves, c.Waves)
	}
}

func TestWaveMembers(t *testing.T) {
	c, err := load(t, withWaves+"  backend_errors: {mode: observe}\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ParseRoutes("routes", []byte("b@x.org old wave=sales\na@x.org new wave=sales\nc@x.org old wave=pilots\nd@x.org old\n*@y.org old wave=pattern\n"), c)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Members("sales"); !slices.Equal(got, []string{"a@x.org", "b@x.org"}) || len(f.Members("")) > 0 {
		t.Errorf("got %v and %v", got, f.Members(""))
	}
	if got := f.Waves(c); !slices.Equal(got, []string{"pilot", "sales", "pilots"}) {
		t.Errorf("got %v", got)
	}
	c.Waves[1].Rollback = true
	w := c.WaveWarnings(f)
	if len(w) != 2 || !strings.Contains(w[0], `wave pilot has no members: no line of the routes file says wave=pilot; did you mean "pilots"?`) ||
		!strings.Contains(w[1], "wave sales has rollback: true, but none of its gates is enforced") {
		t.Errorf("got %q", w)
	}
}
