package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/cutover/gate"
	"mailgate/logins"
	"mailgate/op"
	"mailgate/router"
)

// Gateway is the running program as the API sees it; cmd/mailgate implements it.
type Gateway interface {
	// Reload reads configuration and routes anew: whole, or not at all.
	Reload(ctx context.Context, by, from string) (Reloaded, error)
	// SetSide edits the user's line of the routes file and reloads.
	SetSide(ctx context.Context, user string, side config.Side, by, from string) (Reloaded, error)
	// Approve takes over the routes file that an operation waits with.
	Approve(ctx context.Context, id, by, from string) (cutover.Imported, error)
	// Overview and Resolve tell what is in force: Resolve gives the canonical user and his line.
	Overview(ctx context.Context) Overview
	Resolve(login string) (user string, r config.Route, listed bool, err error)
	// Authority tells who verifies a user with that route, who is on a side, and why he cannot log in so, "" when he can.
	Authority(r config.Route, side config.Side) (by config.Authority, trouble string)
}

// API answers the verbs: on the control socket of serve, where who reaches the socket (mode 0600) may do all, and within
// a verb that opened the store itself because nothing runs.
type API struct {
	Gateway Gateway
	Router  *router.Router
	Manager *cutover.Manager
	Store   op.Store
	Fellows Fellows        // nil: there is one process
	Syncing Syncing        // nil in a verb that has no use for it
	Logins  logins.Store   // nil: nothing is told of logins
	Waves   *cutover.Waves // nil: there are none
	Waivers Waivers        // nil: no gate can be waived
	// Shares names the members of a wave who share folders with people outside of it, and those of whom nobody knows; Kept the waves whose
	// mailboxes are kept in sync.
	Shares func(ctx context.Context, wave string) (list []WaveShare, unknown []WaveUnlooked)
	Kept   func() []string
	// Compared is the last comparison of a user's sides; nil: nothing is told of that.
	Compared func(ctx context.Context, user string) (c gate.Compared, ok bool, err error)
	// Ready tells whether a user is ready for the other side; nil: nothing is told of that.
	Ready func(ctx context.Context, u *UserStatus) *Readiness
	// Behind tells what a user has left on the other side, "" for nothing; nil: nothing is told of that.
	Behind func(ctx context.Context, user string) string
}

// Fellows are the nodes on one store; cmd/mailgate implements it.
type Fellows interface {
	Nodes(ctx context.Context) ([]NodeInfo, error)
	// RemoveNode takes one out that is down.
	RemoveNode(ctx context.Context, name, by, from string) error
	// Sessions are those of other nodes, of one user unless it is "", and Kick ends a user's there. silent are nodes that have not answered.
	Sessions(ctx context.Context, user string) (list []SessionInfo, silent []string, err error)
	Kick(ctx context.Context, user, by, from string) (Kicked, error)
	// Counts are the numbers of sessions of other nodes: of the members of a wave, of everybody where that is "".
	Counts(ctx context.Context, wave string) (n SessionCounts, silent []string, err error)
	// Node is the name of this one, "" where there is one process.
	Node() string
}

// Exit codes of design.md, section 9.
const (
	ExitFailed   = 1
	ExitNotFound = 2
	ExitRefused  = 3
	ExitTimeout  = 5
	ExitUnknown  = 6
	ExitUsage    = 64
)

// fault is an error with its exit code.
type fault struct {
	exit int
	err  error
}

func (f fault) Error() string { return f.err.Error() }
func (f fault) Unwrap() error { return f.err }

// Handler routes the calls.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			w.Header().Set("Content-Type", "application/json")
			if err != nil {
				w.WriteHeader(http.StatusUnprocessableEntity)
				v = Failure{Error: err.Error(), Exit: exitOf(err)}
			}
			_ = json.NewEncoder(w).Encode(v)
		})
	}
	handle("GET /status", func(r *http.Request) (any, error) { return a.Gateway.Overview(r.Context()), nil })
	handle("GET /user", func(r *http.Request) (any, error) { return a.user(r.Context(), r.FormValue("user")) })
	handle("GET /sessions", a.sessions)
	handle("GET /sessions/counts", a.sessionCounts)
	handle("GET /nodes", func(r *http.Request) (any, error) { return a.nodes(r.Context()) })
	handle("POST /nodes/remove", func(r *http.Request) (any, error) {
		if a.Fellows == nil {
			return nil, fault{ExitRefused, errors.New("there is one process")}
		}
		return struct{}{}, a.Fellows.RemoveNode(r.Context(), r.FormValue("name"), r.FormValue("by"), from(r))
	})
	handle("POST /kick", a.kick)
	handle("POST /reload", moving(func(r *http.Request) (any, error) {
		return a.Gateway.Reload(r.Context(), r.FormValue("by"), from(r))
	}))
	handle("POST /flip", moving(a.flip))
	handle("POST /rollback", moving(a.rollback))
	handle("POST /unpin", moving(a.unpin))
	handle("GET /ops", func(r *http.Request) (any, error) {
		list, err := a.Store.Operations(r.Context(), op.Filter{Open: r.FormValue("all") == "", Limit: number(r, "limit", 200)})
		return a.live(r.Context(), list, err)
	})
	handle("GET /op", func(r *http.Request) (any, error) {
		o, err := a.Store.Operation(r.Context(), r.FormValue("id"))
		if err != nil {
			return nil, err
		}
		return a.Live(r.Context(), o), nil
	})
	handle("POST /op/wait", a.wait)
	handle("POST /op/cancel", moving(a.cancel))
	handle("POST /op/approve", moving(func(r *http.Request) (any, error) {
		return a.Gateway.Approve(r.Context(), r.FormValue("id"), r.FormValue("by"), from(r))
	}))
	handle("GET /history", a.history)
	a.waveRoutes(handle)
	mux.HandleFunc("POST /sync/{verb}", a.stream)
	return mux
}

// history answers the newest events; since is a time as in RFC 3339, section 5.6.
func (a *API) history(r *http.Request) (any, error) {
	f := op.HistoryFilter{Limit: number(r, "limit", 100)}
	if text := r.FormValue("since"); text != "" {
		var err error
		if f.Since, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return nil, fault{ExitUsage, fmt.Errorf("since: %w", err)}
		}
	}
	switch login := r.FormValue("user"); {
	case login == "":
	case a.Waves != nil && !strings.Contains(login, "@") && a.Waves.Exists(login):
		f.Wave = login
	default:
		var err error
		if f.User, _, _, err = a.Gateway.Resolve(login); err != nil {
			return nil, err
		}
	}
	list, err := a.Store.History(r.Context(), f)
	return append([]op.Event{}, list...), err
}

// live adds to operations what the store does not know of them.
func (a *API) live(ctx context.Context, list []op.Operation, err error) ([]op.Operation, error) {
	out := make([]op.Operation, 0, len(list))
	for _, o := range list {
		out = append(out, a.Live(ctx, o))
	}
	return out, err
}

// Live adds what a flip waits for, and how far a pass is. A pass that nobody is at has ended: the record of that may have
// come meanwhile, or never when its process was killed.
func (a *API) Live(ctx context.Context, o op.Operation) op.Operation {
	if o.Kind == op.Wave && a.Waves != nil {
		return a.Waves.Live(ctx, o)
	}
	if o.Kind != op.Sync || o.Status.Final() {
		o = a.Manager.Live(o)
		if o.Kind == op.Flip && o.Reason == "" && op.State(o.Step).Fenced() {
			o.Reason = a.waitsFor(ctx)
		}
		return o
	}
	if a.Syncing != nil {
		if x, ok := a.Syncing.Live(o); ok {
			return x
		}
	}
	if x, err := a.Store.Operation(ctx, o.ID); err == nil && x.Status.Final() {
		return x
	}
	o.Status, o.Reason = op.Interrupted, op.GoesOn
	return o
}

// waitsFor names the nodes of which nothing is heard while a flip needs every one's word.
func (a *API) waitsFor(ctx context.Context) string {
	list, err := a.nodes(ctx)
	if err != nil {
		return ""
	}
	var away []string
	for _, n := range list {
		if n.SilentSeconds > 0 {
			away = append(away, fmt.Sprintf("node %s, not heard of for %d s", n.Name, int(n.SilentSeconds)))
		}
	}
	if len(away) == 0 {
		return ""
	}
	return "waits for " + strings.Join(away, " and ") + ": past the deadline it is called off; nodes that are down are taken out by mailgate nodes remove"
}

// cancelTime is how long cancel waits to see what became of the operation.
const cancelTime = 10 * time.Second

func (a *API) cancel(r *http.Request) (any, error) {
	id, by, from := r.FormValue("id"), r.FormValue("by"), from(r)
	known := a.Syncing != nil && a.Syncing.Cancel(id, by, from)
	if !known && a.Waves != nil {
		var err error
		if known, err = a.Waves.Cancel(r.Context(), id, by, from); err != nil {
			return nil, err
		}
	}
	if !known {
		if err := a.Manager.Cancel(r.Context(), id, by, from); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), cancelTime)
	defer cancel()
	o, err := a.Manager.Wait(ctx, id)
	if err != nil {
		return nil, fault{ExitTimeout, fmt.Errorf("%s was told to stop and has not ended yet: %s %s", id, o.Status, o.Reason)}
	}
	if o.Status != op.Cancelled {
		return nil, fault{ExitRefused, fmt.Errorf("%s ended before it could be cancelled: %s %s", id, o.Status, o.Reason)}
	}
	return o, nil
}

func number(r *http.Request, key string, def int) int {
	if n, err := strconv.Atoi(r.FormValue(key)); err == nil && n > 0 {
		return n
	}
	return def
}

// moving words the store's trouble for who wanted something moved: that is refused, not broken.
func moving(f func(*http.Request) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		v, err := f(r)
		if errors.Is(err, op.ErrUnavailable) {
			err = fault{ExitRefused, fmt.Errorf("the store cannot be written, so nobody can be moved now; nothing was changed, "+
				"ask again when it can (%w)", err)}
		}
		return v, err
	}
}

func exitOf(err error) int {
	var f fault
	var refusal *cutover.Refusal
	var coded interface {
		error
		Exit() int
	}
	switch {
	case errors.As(err, &f):
		return f.exit
	case errors.As(err, &coded):
		return coded.Exit()
	case errors.Is(err, cutover.ErrNoWave):
		return ExitUsage
	case errors.As(err, &refusal):
		return ExitRefused
	case errors.Is(err, op.ErrNotFound):
		return ExitNotFound
	case errors.Is(err, config.ErrAddress):
		return ExitUsage
	case errors.Is(err, cutover.ErrAway), errors.Is(err, cutover.ErrFinal), errors.Is(err, cutover.ErrFileChanged),
		errors.Is(err, cutover.ErrAddressRules), config.IsErrors(err):
		return ExitRefused
	}
	return ExitFailed
}

func info(s *router.Session) SessionInfo {
	return SessionInfo{ID: s.ID, User: s.User, Protocol: s.Protocol, Side: s.Side, Epoch: s.Epoch, Host: s.Host,
		Client: s.Client.String(), Started: s.Started}
}

func (a *API) nodes(ctx context.Context) ([]NodeInfo, error) {
	if a.Fellows == nil {
		return []NodeInfo{}, nil
	}
	return a.Fellows.Nodes(ctx)
}

// sessions are those of all nodes, or of this one alone where it is asked as one of several.
func (a *API) sessions(r *http.Request) (any, error) {
	user, login := "", r.FormValue("user")
	if login != "" {
		var err error
		if user, _, _, err = a.Gateway.Resolve(login); err != nil {
			return nil, err
		}
	}
	out := []SessionInfo{}
	for _, s := range a.Router.Sessions(user) {
		out = append(out, info(s))
	}
	if a.Fellows == nil || r.FormValue("here") != "" {
		return out, nil
	}
	for i := range out {
		out[i].Node = a.Fellows.Node()
	}
	more, _, err := a.Fellows.Sessions(r.Context(), user)
	if err != nil && !errors.Is(err, op.ErrUnavailable) {
		return nil, err
	}
	return append(out, more...), nil
}

// kickTime is how long kick waits for sessions to reach a boundary.
const kickTime = 10 * time.Second

func (a *API) kick(r *http.Request) (any, error) {
	user, _, _, err := a.Gateway.Resolve(r.FormValue("user"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), kickTime)
	defer cancel()
	var other Kicked
	var wg sync.WaitGroup
	if a.Fellows != nil && r.FormValue("here") == "" {
		wg.Go(func() { other, err = a.Fellows.Kick(ctx, user, r.FormValue("by"), from(r)) })
	}
	asked, left := a.Router.Kick(ctx, user, "Your session was ended by the administrator, please reconnect", false)
	if wg.Wait(); err != nil && !errors.Is(err, op.ErrUnavailable) {
		return nil, err
	}
	if asked == 0 {
		return other, nil
	}
	e := op.Event{At: time.Now(), User: user, What: "sessions kicked", By: r.FormValue("by"), From: from(r),
		Detail: strconv.Itoa(asked-left) + " of " + strconv.Itoa(asked)}
	if err := a.Store.AddEvents(r.Context(), e); err != nil && !errors.Is(err, op.ErrUnavailable) {
		return nil, err
	}
	return Kicked{Asked: asked + other.Asked, Left: left + other.Left, Silent: other.Silent}, nil
}

// flip edits the file, so that file and request agree, and asks for the flip if the edit did not.
func (a *API) flip(r *http.Request) (any, error) {
	side, ok := config.ParseSide(r.FormValue("side"))
	if !ok {
		return nil, fault{ExitUsage, errors.New("the side is old or new")}
	}
	user, _, _, err := a.Gateway.Resolve(r.FormValue("user"))
	if err != nil {
		return nil, err
	}
	by := r.FormValue("by")
	wave := ""
	if a.Waves != nil {
		wave = a.Waves.Wave(user)
	}
	if err := a.Manager.Held(r.Context(), user, wave); err != nil { // before the file is edited
		return nil, err
	}
	if p, _ := a.Router.Lookup(user); a.Waves != nil && p.Side != side { // the window, the order and the gates of his wave too
		if err := a.Waves.Begin(r.Context(), cutover.Move{User: user, From: p.Side, To: side, Wave: wave, By: by}, false); err != nil {
			return nil, err
		}
	}
	defer a.Manager.Asked(user, side, from(r), r.FormValue("plan"))()
	re, err := a.Gateway.SetSide(r.Context(), user, side, by, from(r))
	if err != nil {
		return nil, err
	}
	if re.Import.Waiting != nil {
		return *re.Import.Waiting, nil
	}
	for _, o := range re.Import.Operations {
		if o.User == user {
			return o, nil
		}
	}
	return a.Manager.Ask(r.Context(), op.Operation{User: user, Target: side, By: by, From: from(r), Plan: r.FormValue("plan")})
}

// callOff ends the flips of a user to NEW that are not committed: a rollback does not wait behind them. One that goes back at once does not
// wait either behind one that needs NEW.
func (a *API) callOff(ctx context.Context, user, by, from string, now bool) error {
	open, err := a.Store.Operations(ctx, op.Filter{Open: true, Kind: op.Flip, User: user})
	if err != nil {
		return err
	}
	for _, o := range open {
		if o.Target == config.Old && (!now || o.Now) {
			continue
		}
		if err := a.Manager.Cancel(ctx, o.ID, by, from); err != nil && !errors.Is(err, cutover.ErrFinal) {
			return err
		}
	}
	return nil
}

func (a *API) rollback(r *http.Request) (any, error) {
	user, _, _, err := a.Gateway.Resolve(r.FormValue("user"))
	if err != nil {
		return nil, err
	}
	wave := ""
	if a.Waves != nil {
		wave = a.Waves.Wave(user)
		if err := a.Waves.Reversible(user); err != nil {
			return nil, err
		}
	}
	if err := a.Manager.Held(r.Context(), user, wave); err != nil { // the flag file too
		return nil, err
	}
	if err := a.callOff(r.Context(), user, r.FormValue("by"), from(r), r.FormValue("now") != ""); err != nil {
		return nil, err
	}
	return a.Manager.Ask(r.Context(), op.Operation{User: user, Target: config.Old, By: r.FormValue("by"), Pin: true, Now: r.FormValue("now") != "",
		From: from(r), Plan: r.FormValue("plan")})
}

func (a *API) unpin(r *http.Request) (any, error) {
	user, _, _, err := a.Gateway.Resolve(r.FormValue("user"))
	if err != nil {
		return nil, err
	}
	o, err := a.Manager.Unpin(r.Context(), user, r.FormValue("by"), from(r), r.FormValue("plan"))
	switch {
	case errors.Is(err, cutover.ErrNotPinned):
		return Unpinned{User: user}, nil
	case err != nil:
		return nil, err
	case o.ID == "":
		return Unpinned{User: user, Pinned: true}, nil
	}
	return Unpinned{User: user, Pinned: true, Operation: &o}, nil
}

func (a *API) wait(r *http.Request) (any, error) {
	d, err := time.ParseDuration(r.FormValue("timeout"))
	if err != nil || d <= 0 {
		d = time.Minute
	}
	ctx, cancel := context.WithTimeout(r.Context(), d)
	defer cancel()
	o, err := a.Manager.Wait(ctx, r.FormValue("id"))
	if err != nil && (ctx.Err() != nil || errors.Is(err, cutover.ErrStopping)) && o.ID != "" {
		why := ""
		if o.Reason != "" {
			why = ": " + o.Reason
		}
		return nil, fault{ExitTimeout, fmt.Errorf("%s has not ended, it goes on (%s%s)", o.ID, strings.TrimSpace(string(o.Status)+" "+o.Step), why)}
	}
	return o, err
}

func (a *API) user(ctx context.Context, login string) (UserStatus, error) {
	user, route, listed, err := a.Gateway.Resolve(login)
	if err != nil {
		return UserStatus{}, err
	}
	p, known := a.Router.Lookup(user)
	u := UserStatus{User: user, Listed: listed, Known: known, Side: p.Side, Epoch: p.Epoch,
		Login: route.Login, Host: route.Host, Wave: route.Wave, Sessions: []SessionInfo{}, Open: []op.Operation{}, Store: "ok"}
	u.Logins, u.Held = a.Router.Pending(user)
	for _, s := range a.Router.Sessions(user) {
		u.Sessions = append(u.Sessions, info(s))
	}
	if a.Fellows != nil {
		more, _, _ := a.Fellows.Sessions(ctx, user) // what others have is no reason not to answer
		u.Sessions = append(u.Sessions, more...)
	}
	if err := a.stored(ctx, &u); err != nil { // where he is, is known without it; whether he stays there is not
		u.Store = err.Error()
	} else if err := a.logins(ctx, &u); err != nil {
		u.Store = err.Error()
	}
	by, trouble := a.Gateway.Authority(route, u.Side)
	u.Verified, u.LockedOut = string(by), trouble
	if d, ok := a.Manager.Desired(user); ok {
		u.Desired = &d
	}
	if a.Syncing != nil {
		u.Sync = a.Syncing.Status(user)
	}
	if a.Behind != nil {
		u.Behind = a.Behind(ctx, user)
	}
	if a.Ready != nil {
		u.Ready = a.Ready(ctx, &u)
	}
	u.explain()
	return u, nil
}

// stored adds what the store knows of a user. Operations come first: who asks whether a flip has ended must not hear of none under way, beside
// the side from before it.
func (a *API) stored(ctx context.Context, u *UserStatus) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	u.State = ""
	list, err := a.Store.Operations(ctx, op.Filter{Open: true, User: u.User})
	if u.Open, err = a.live(ctx, list, err); err != nil {
		return err
	}
	row, err := a.Store.Row(ctx, u.User)
	if err == nil {
		u.Side, u.Epoch, u.State, u.Since = row.Side, row.Epoch, row.State, row.Since
	} else if !errors.Is(err, op.ErrNotFound) {
		return err
	} else {
		u.State = op.Settled
	}
	pins, err := a.Store.Pins(ctx)
	if err != nil {
		return err
	}
	for i := range pins {
		if pins[i].User == u.User {
			u.Pin = &pins[i]
		}
	}
	return nil
}

// storeTime bounds the wait for a store that does not answer, where there is something to say without it.
const storeTime = 2 * time.Second

// explain puts into words why the user is where he is.
func (u *UserStatus) explain() {
	flips := slices.DeleteFunc(slices.Clone(u.Open), func(o op.Operation) bool { return o.Kind != op.Flip })
	switch {
	case u.State == "" && len(flips) == 0:
		u.Why = "on " + u.Side.String() + " as far as this gateway knows; the store does not answer: whether he is being moved is not known"
	case len(flips) > 0:
		o := flips[len(flips)-1] // the oldest: it runs first
		u.Why = "on " + u.Side.String() + "; " + o.ID + " is to move him to " + o.Target.String()
		if o.Step != "" {
			u.Why += ", " + o.Step
		}
		if o.Reason != "" {
			u.Why += ": " + o.Reason
		}
	case u.Pin != nil:
		u.Why = "pinned to " + u.Pin.Side.String() + " by " + u.Pin.By + "; mailgate unpin lets the routes file decide again"
	case u.Desired != nil && *u.Desired != u.Side:
		u.Why = "the routes file says " + u.Desired.String() + ", but the last flip did not happen (mailgate history " + u.User +
			"); mailgate flip asks again"
	case u.Desired != nil:
		u.Why = "the routes file says so"
	case u.Known:
		u.Why = "he has logged in before; the routes file does not list him, and a deleted line moves nobody"
	default:
		u.Why = "never seen: the default or a pattern of the routes file decides"
	}
	switch {
	case u.Side == config.Old:
		u.Rollback = "nothing to roll back: he is on old"
	case u.Ready != nil:
		u.Rollback = u.Ready.Text(time.Now())
	default:
		u.Rollback = "possible at any time by mailgate rollback"
	}
}
