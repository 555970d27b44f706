package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/cutover/gate"
	"mailgate/op"
)

// WaveStatus answers wave show, and in short wave list.
type WaveStatus struct {
	Name  string        `json:"name"`
	Users int           `json:"users"`
	State string        `json:"state"` // planned, copying, ready, moving, soaking, rolled back, complete
	Since time.Time     `json:"since,omitzero"`
	Held  bool          `json:"held"` // by a hold, or by an enforced gate
	Kept  bool          `json:"kept_in_sync"`
	Row   op.WaveRow    `json:"record"`
	Op    *op.Operation `json:"operation,omitempty"` // that moves it now
	Holds []op.Hold     `json:"holds"`               // that stop it, or one of its members
	After string        `json:"after,omitempty"`
	Opens time.Time     `json:"window_opens,omitzero"` // zero while it may move

	Sides     map[string]int `json:"sides"` // members by side
	Protocols []WaveProtocol `json:"protocols"`
	Silent    []string       `json:"sessions_unknown,omitempty"` // nodes that have not answered: their sessions are not counted
	Pinned    []op.Pin       `json:"pinned"`
	Copied    int            `json:"copied"`    // members whose first copy is done
	Phases    map[string]int `json:"phases"`    // members by phase of their sync
	Throttles []string       `json:"throttles"` // what holds its sync back, in plain words
	Lag       WaveLag        `json:"lag"`
	Rollback  WaveRollback   `json:"rollback"`
	Owed      *cutover.Owed  `json:"rollback_owed,omitempty"`    // what a rollback by a gate has left to do
	Refused   string         `json:"rollback_refused,omitempty"` // why a gate's rollback could not be asked for
	Gates     []WaveGate     `json:"gates"`
	Verify    WaveVerify     `json:"verify"`
	Shares    []WaveShare    `json:"shares"`                   // members who share folders with people outside
	Unlooked  []WaveUnlooked `json:"shares_unknown,omitempty"` // of whom that is not known, or not wholly
	Next      string         `json:"next"`
	Command   string         `json:"next_command,omitempty"`
	Recent    []op.Event     `json:"recent"`
	Members   []WaveMember   `json:"members,omitempty"`
}

// WaveMember is a user of a wave.
type WaveMember struct {
	User  string      `json:"user"`
	Side  config.Side `json:"side"`
	Phase string      `json:"phase,omitempty"`
	Lag   float64     `json:"lag_seconds"`
}

// WaveProtocol counts a wave's users of a protocol: those who have ever logged in by it, and the sessions there are now.
type WaveProtocol struct {
	Protocol config.Protocol `json:"protocol"`
	Users    map[string]int  `json:"users"`    // by the side that they are on
	Sessions map[string]int  `json:"sessions"` // by side
}

// WaveLag is how far behind the followers of a wave's members are.
type WaveLag struct {
	Known  int     `json:"known"` // members of whom it is known
	P50    float64 `json:"p50_seconds"`
	Max    float64 `json:"max_seconds"`
	Oldest string  `json:"oldest,omitempty"` // whose that is
}

// WaveRollback tells whether a wave can go back.
type WaveRollback struct {
	Open    bool    `json:"open"`
	Why     string  `json:"why"`
	Seconds float64 `json:"estimate_seconds,omitempty"` // for all
}

// WaveVerify tells when both sides of a wave's members were compared last.
type WaveVerify struct {
	Oldest  time.Time `json:"oldest,omitzero"` // comparison of a member
	Equal   int       `json:"equal"`
	Unequal []string  `json:"unequal,omitempty"`
	Never   int       `json:"never"` // members who were not compared
}

// WaveGate is what a gate says, and since when.
type WaveGate struct {
	gate.Result
	Since time.Time `json:"since,omitzero"`
}

// WaveShare is a member who shares folders with somebody outside of the wave.
type WaveShare struct {
	User    string   `json:"user"`
	With    string   `json:"with"`
	Folders []string `json:"folders"`
}

// WaveUnlooked is a member of whom nobody knows whether he shares folders.
type WaveUnlooked struct {
	User string `json:"user"`
	Why  string `json:"why"`
}

// Held answers hold and unhold.
type Held struct {
	Hold    op.Hold        `json:"hold"`
	Changed bool           `json:"changed"`
	DryRun  bool           `json:"dry_run,omitempty"` // nothing was changed: Changed is what would be
	Stops   []op.Operation `json:"stops,omitempty"`   // what is under way that a hold would stop; with DryRun only
}

// Changed answers verbs that may find nothing to do.
type Changed struct {
	Changed bool `json:"changed"`
	DryRun  bool `json:"dry_run,omitempty"` // nothing was changed: Changed is what would be
}

func (a *API) waveRoutes(handle func(pattern string, f func(*http.Request) (any, error))) {
	if a.Waves == nil {
		return
	}
	handle("GET /holds", func(r *http.Request) (any, error) {
		list, err := a.Manager.Holds(r.Context())
		return append([]op.Hold{}, list...), err
	})
	handle("POST /hold", moving(a.hold))
	handle("POST /unhold", moving(a.unhold))
	handle("GET /waves", func(r *http.Request) (any, error) { return a.waves(r.Context()) })
	handle("GET /wave", func(r *http.Request) (any, error) { return a.wave(r.Context(), r.FormValue("wave"), true) })
	handle("POST /wave/start", moving(a.waveStart))
	handle("POST /wave/complete", moving(a.waveComplete))
	handle("POST /wave/waive", moving(a.waive))
	handle("POST /wave/unwaive", moving(a.unwaive))
	handle("GET /move", func(r *http.Request) (any, error) {
		m, err := a.request(r)
		if err != nil {
			return nil, err
		}
		return a.Waves.Plan(r.Context(), m)
	})
	handle("POST /move", moving(func(r *http.Request) (any, error) {
		m, err := a.request(r)
		if err != nil {
			return nil, err
		}
		return a.Waves.Move(r.Context(), m)
	}))
	handle("GET /op/parts", func(r *http.Request) (any, error) {
		list, err := a.Store.Operations(r.Context(), op.Filter{Parent: r.FormValue("id"), Limit: number(r, "limit", 10000)})
		slices.Reverse(list)
		return a.live(r.Context(), list, err)
	})
}

// scope is that of a hold: an address, a wave, or everybody.
func (a *API) scope(r *http.Request) (string, error) {
	what := r.FormValue("what")
	switch {
	case r.FormValue("all") != "" && what == "":
		return op.HoldAll, nil
	case what == "":
		return "", fault{ExitUsage, errors.New("whom? an address, a wave, or all")}
	case strings.Contains(what, "@"):
		user, _, _, err := a.Gateway.Resolve(what)
		return op.HoldUser(user), err
	}
	return op.HoldWave(what), nil
}

func (a *API) hold(r *http.Request) (any, error) {
	scope, err := a.scope(r)
	if err != nil {
		return nil, err
	}
	if name, ok := strings.CutPrefix(scope, "wave:"); ok && !a.Waves.Exists(name) {
		return nil, fault{ExitUsage, fmt.Errorf("%q is no address, and there is no wave of that name (mailgate wave list)", name)}
	}
	if strings.TrimSpace(r.FormValue("reason")) == "" {
		return nil, fault{ExitUsage, errors.New("a hold needs a reason: whoever finds it must know why (--reason TEXT)")}
	}
	h := op.Hold{Scope: scope, By: r.FormValue("by"), Reason: r.FormValue("reason"), At: time.Now()}
	if dryRun(r) {
		return a.wouldHold(r.Context(), h)
	}
	h, changed, err := a.Manager.Hold(r.Context(), h, from(r))
	return Held{Hold: h, Changed: changed}, err
}

// dryRun tells that what a request would do is asked for, and that nothing is to be changed.
func dryRun(r *http.Request) bool { return r.FormValue("dry-run") != "" }

// wouldHold tells what a hold would do.
func (a *API) wouldHold(ctx context.Context, h op.Hold) (Held, error) {
	out := Held{Hold: h, Changed: true, DryRun: true}
	list, err := a.Manager.Holds(ctx)
	if err != nil {
		return out, err
	}
	for _, x := range list {
		if x.Scope == h.Scope && !cutover.ByFile(x) {
			out.Hold, out.Changed = x, false
		}
	}
	open, err := a.Store.Operations(ctx, op.Filter{Open: true})
	if err != nil {
		return out, err
	}
	for _, o := range open {
		committed := o.Step == string(op.Release)
		if o.Kind == op.Flip && !committed && slices.Contains(op.HoldScopes(o.User, a.Waves.Wave(o.User)), h.Scope) {
			out.Stops = append(out.Stops, o)
		}
	}
	return out, nil
}

func (a *API) unhold(r *http.Request) (any, error) {
	scope, err := a.scope(r)
	if err != nil {
		return nil, err
	}
	if dryRun(r) {
		h, err := a.wouldHold(r.Context(), op.Hold{Scope: scope})
		h.Changed, h.Stops = !h.Changed, nil
		return h, err
	}
	changed, err := a.Manager.Unhold(r.Context(), scope, r.FormValue("by"), from(r))
	return Held{Hold: op.Hold{Scope: scope}, Changed: changed}, err
}

func (a *API) waveStart(r *http.Request) (any, error) {
	if dryRun(r) {
		would, err := a.Waves.Launches(r.FormValue("wave"))
		return Changed{Changed: would, DryRun: true}, err
	}
	changed, err := a.Waves.Launch(r.Context(), r.FormValue("wave"), r.FormValue("by"), from(r))
	return Changed{Changed: changed}, err
}

func (a *API) waveComplete(r *http.Request) (any, error) {
	if dryRun(r) {
		would, err := a.Waves.Completes(r.Context(), r.FormValue("wave"))
		return Changed{Changed: would, DryRun: true}, err
	}
	if name := r.FormValue("wave"); r.FormValue("confirm") != name {
		return nil, fault{ExitUsage, fmt.Errorf("this cannot be undone by a rollback: say it again by name, --confirm %s", name)}
	}
	changed, err := a.Waves.Complete(r.Context(), r.FormValue("wave"), r.FormValue("by"), from(r))
	return Changed{Changed: changed}, err
}

// waiver reads what a waiver is about: a wave or a user, and a gate.
func (a *API) waiver(r *http.Request) (scope string, g config.Gate, err error) {
	if a.Waivers == nil {
		return "", "", fault{ExitFailed, errors.New("this process knows no gates")}
	}
	if scope, err = a.scope(r); err != nil {
		return "", "", err
	}
	name, ok := strings.CutPrefix(scope, "wave:")
	if ok && !a.Waves.Exists(name) {
		return "", "", fault{ExitUsage, fmt.Errorf("there is no wave %q (mailgate wave list)", name)}
	}
	g = config.Gate(r.FormValue("gate"))
	if names := a.Waves.Gates(name); !slices.Contains(names, g) {
		return "", "", fault{ExitUsage, fmt.Errorf("there is no gate %q; there are %v", g, names)}
	}
	return scope, g, nil
}

func (a *API) waive(r *http.Request) (any, error) {
	scope, g, err := a.waiver(r)
	if err != nil {
		return nil, err
	}
	d, err := time.ParseDuration(r.FormValue("until"))
	if err != nil || d <= 0 || strings.TrimSpace(r.FormValue("reason")) == "" {
		return nil, fault{ExitUsage, errors.New("a waiver needs a reason and an end: --reason TEXT --until 24h")}
	}
	err = a.Waivers.Waive(r.Context(), scope, g, r.FormValue("by"), from(r), r.FormValue("reason"), time.Now().Add(d))
	a.Waves.Configure()
	return Changed{Changed: err == nil}, err
}

func (a *API) unwaive(r *http.Request) (any, error) {
	scope, g, err := a.waiver(r)
	if err != nil {
		return nil, err
	}
	changed, err := a.Waivers.Unwaive(r.Context(), scope, g, r.FormValue("by"), from(r))
	a.Waves.Configure()
	return Changed{Changed: changed}, err
}

// Waivers keeps what lets a gate pass by name; package gate implements it.
type Waivers interface {
	Waive(ctx context.Context, scope string, name config.Gate, by, from, reason string, until time.Time) error
	Unwaive(ctx context.Context, scope string, name config.Gate, by, from string) (changed bool, err error)
}

// request reads whom a move is about: wave, all, or user as often as needed.
func (a *API) request(r *http.Request) (m cutover.MoveRequest, err error) {
	if err := r.ParseForm(); err != nil {
		return m, fault{ExitUsage, err}
	}
	side, ok := config.ParseSide(r.FormValue("side"))
	if !ok {
		return m, fault{ExitUsage, errors.New("the side is old or new")}
	}
	m = cutover.MoveRequest{Wave: r.FormValue("wave"), Target: side, Rollback: r.FormValue("rollback") != "", Now: r.FormValue("now") != "",
		By: r.FormValue("by"), From: from(r), Plan: r.FormValue("plan")}
	if m.Rollback && side != config.Old {
		return m, fault{ExitUsage, errors.New("a rollback goes to old")}
	}
	for _, login := range r.Form["user"] {
		user, _, _, err := a.Gateway.Resolve(login)
		if err != nil {
			return m, err
		}
		m.Users = append(m.Users, user)
	}
	if r.FormValue("all") != "" {
		m.All, m.Users = len(m.Users) == 0, append(m.Users, a.Waves.Everybody()...)
	}
	if m.Wave == "" && len(m.Users) == 0 {
		return m, fault{ExitUsage, errors.New("whom? a wave, addresses, or all")}
	}
	if m.Wave != "" && len(m.Users) > 0 {
		return m, fault{ExitUsage, errors.New("a wave, or addresses: not both")}
	}
	slices.Sort(m.Users)
	m.Users = slices.Compact(m.Users)
	return m, nil
}

func (a *API) waves(ctx context.Context) ([]WaveStatus, error) {
	out := []WaveStatus{}
	for _, name := range a.Waves.Names() {
		s, err := a.wave(ctx, name, false)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}
