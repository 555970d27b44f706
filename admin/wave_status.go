package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/cutover/gate"
	"mailgate/op"
)

// recentEvents is how many events of a wave are shown.
const recentEvents = 8

// wave tells how a wave stands; whole adds what takes longer to find out: its gates, who shares folders, members, and events.
func (a *API) wave(ctx context.Context, name string, whole bool) (WaveStatus, error) {
	w := WaveStatus{Name: name, Sides: map[string]int{"old": 0, "new": 0}, Phases: map[string]int{}, Holds: []op.Hold{}, Pinned: []op.Pin{},
		Protocols: []WaveProtocol{}, Throttles: []string{}, Gates: []WaveGate{}, Shares: []WaveShare{}, Recent: []op.Event{}}
	if !a.Waves.Exists(name) {
		return w, fmt.Errorf("%w: %q (mailgate wave list shows those that there are)", cutover.ErrNoWave, name)
	}
	members := a.Waves.Members(name)
	conf := a.Waves.Settings(name)
	w.Users, w.Row, w.After = len(members), a.Waves.Row(name), conf.After
	if a.Kept != nil {
		kept := a.Kept()
		w.Kept = slices.Contains(kept, name) || slices.Contains(kept, "*") && w.Row.Completed.IsZero()
	}
	a.members(&w, members)
	w.State, w.Since = a.Waves.State(name, w.Kept, w.Copied)
	if o, ok := a.Waves.Open(name); ok {
		o = a.Live(ctx, o)
		w.Op = &o
	}
	if open, until := conf.Windows.Open(time.Now()); !open {
		w.Opens = until
	}
	holds, err := a.Manager.Holds(ctx)
	if err != nil {
		return w, err
	}
	for _, h := range holds {
		if h.Scope == op.HoldAll || h.Scope == op.HoldWave(name) {
			w.Holds, w.Held = append(w.Holds, h), true
		} else if slices.ContainsFunc(members, func(u string) bool { return h.Scope == op.HoldUser(u) }) {
			w.Holds = append(w.Holds, h)
		}
	}
	w.Held = w.Held || w.Row.Gate != ""
	pins, err := a.Store.Pins(ctx)
	if err != nil {
		return w, err
	}
	for _, p := range pins {
		if slices.Contains(members, p.User) {
			w.Pinned = append(w.Pinned, p)
		}
	}
	if whole {
		if err := a.whole(ctx, &w, members); err != nil {
			return w, err
		}
	}
	own, err := a.Waves.OwnPins(ctx, name)
	if err != nil {
		return w, err
	}
	if w.Owed, err = a.Waves.Owed(ctx, name); err != nil {
		return w, err
	}
	w.Refused = a.Waves.Refused(name)
	w.advise(own, conf.Rollback)
	return w, nil
}

// members counts what is known of a wave's users.
func (a *API) members(w *WaveStatus, members []string) {
	type lag struct {
		user    string
		seconds float64
	}
	var lags []lag
	paused, waiting := map[string]int{}, 0
	for _, user := range members {
		p, known := a.Router.Lookup(user)
		if !known {
			p.Side = a.Manager.Side(user)
		}
		w.Sides[p.Side.String()]++
		m := WaveMember{User: user, Side: p.Side}
		if a.Syncing != nil {
			if st := a.Syncing.Status(user); st != nil {
				m.Phase, m.Lag = st.Phase, st.LagSeconds
				w.Phases[st.Phase]++
				lags = append(lags, lag{user, st.LagSeconds})
				if !st.Last.IsZero() && st.Phase != "first copy" {
					w.Copied++
				}
				if st.Paused != nil {
					paused[fmt.Sprintf("paused by %s since %s: %s", st.Paused.By, st.Paused.At.Local().Format(time.DateTime), st.Paused.Reason)]++
				}
				if !st.Opens.IsZero() {
					waiting++
				}
			}
		}
		w.Members = append(w.Members, m)
	}
	for _, why := range sortedKeys(paused) {
		w.Throttles = append(w.Throttles, fmt.Sprintf("sync of %d users %s", paused[why], why))
	}
	if waiting > 0 {
		w.Throttles = append(w.Throttles, fmt.Sprintf("%d users wait with their first copy for sync.windows", waiting))
	}
	slices.SortFunc(lags, func(x, y lag) int { return cmp.Compare(x.seconds, y.seconds) })
	if n := len(lags); n > 0 {
		w.Lag = WaveLag{Known: n, P50: lags[n/2].seconds, Max: lags[n-1].seconds}
		if w.Lag.Max > 0 {
			w.Lag.Oldest = lags[n-1].user
		}
	}
}

// whole adds the rest.
func (a *API) whole(ctx context.Context, w *WaveStatus, members []string) error {
	if err := a.protocols(ctx, w); err != nil {
		return err
	}
	if err := a.back(ctx, w); err != nil {
		return err
	}
	phase := gate.Start
	if w.Row.Soaking() {
		phase = gate.Soak
	}
	list, err := a.Waves.Judged(ctx, w.Name, phase)
	if err != nil {
		return err
	}
	for _, r := range list {
		w.Gates = append(w.Gates, WaveGate{r, a.Waves.SaysSince(w.Name, r.Gate)})
	}
	if err := a.compared(ctx, w, members); err != nil {
		return err
	}
	if a.Shares != nil {
		shares, unknown := a.Shares(ctx, w.Name)
		w.Shares, w.Unlooked = append(w.Shares, shares...), unknown
	}
	events, err := a.Store.History(ctx, op.HistoryFilter{Wave: w.Name, Limit: recentEvents})
	w.Recent = append(w.Recent, events...)
	return err
}

// compared sums up when both sides of the members were compared last.
func (a *API) compared(ctx context.Context, w *WaveStatus, members []string) error {
	if a.Compared == nil {
		return nil
	}
	for _, user := range members {
		c, ok, err := a.Compared(ctx, user)
		if err != nil {
			return err
		}
		if !ok {
			w.Verify.Never++
			continue
		}
		if c.Equal {
			w.Verify.Equal++
		} else {
			w.Verify.Unequal = append(w.Verify.Unequal, c.User)
		}
		if w.Verify.Oldest.IsZero() || c.At.Before(w.Verify.Oldest) {
			w.Verify.Oldest = c.At
		}
	}
	return nil
}

// protocols counts by protocol.
func (a *API) protocols(ctx context.Context, w *WaveStatus) error {
	count := map[config.Protocol]*WaveProtocol{}
	of := func(p config.Protocol) *WaveProtocol {
		if count[p] == nil {
			count[p] = &WaveProtocol{Protocol: p, Users: map[string]int{"old": 0, "new": 0}, Sessions: map[string]int{"old": 0, "new": 0}}
		}
		return count[p]
	}
	used := map[string]map[config.Protocol]bool{}
	if a.Logins != nil {
		list, err := a.Logins.Logins(ctx, "")
		if err != nil {
			return err
		}
		for _, l := range list {
			if used[l.User] == nil {
				used[l.User] = map[config.Protocol]bool{}
			}
			used[l.User][l.Protocol] = true
		}
	}
	for _, m := range w.Members {
		for p := range used[m.User] {
			of(p).Users[m.Side.String()]++
		}
	}
	sessions, silent := a.CountSessions(ctx, w.Name)
	w.Silent = silent
	for _, p := range config.Protocols() {
		for _, side := range config.Sides {
			if n := sessions.of(p, side); n > 0 {
				of(p).Sessions[side.String()] = n
			}
		}
		if count[p] != nil {
			w.Protocols = append(w.Protocols, *count[p])
		}
	}
	return nil
}

// back tells whether the wave can go back, and how long that would take by how long its flips have taken.
func (a *API) back(ctx context.Context, w *WaveStatus) error {
	switch {
	case !w.Row.Completed.IsZero():
		w.Rollback.Why = "the wave is complete: its mailboxes are not kept in sync any more"
		return nil
	case w.Sides["new"] == 0:
		w.Rollback.Why = "nothing to roll back: nobody is on new"
		return nil
	case slices.ContainsFunc(w.Holds, func(h op.Hold) bool { return h.Scope == op.HoldAll || h.Scope == op.HoldWave(w.Name) }):
		w.Rollback.Why = "held"
		return nil
	case !w.Kept:
		w.Rollback.Open, w.Rollback.Why = true, "the wave is not kept in sync: the flips carry what came to new since"
	default:
		w.Rollback.Open, w.Rollback.Why = true, "until the wave is complete"
	}
	list, err := a.Store.Operations(ctx, op.Filter{Kind: op.Wave, Limit: 100})
	if err != nil {
		return err
	}
	for _, o := range list { // the newest that moved it
		if o.Wave != w.Name || o.Status != op.Done {
			continue
		}
		if o = a.Waves.Live(ctx, o); o.Done > 0 {
			w.Rollback.Seconds = o.Took.Seconds() / float64(o.Done) * float64(w.Sides["new"])
			break
		}
	}
	return nil
}

// advise says what comes next, as a command. own are the pins that keep members on OLD when the wave moves; back tells that a gate takes it back by
// itself.
func (w *WaveStatus) advise(own map[string]op.Pin, back bool) {
	name := url.PathEscape(w.Name)
	var onNew, pinned []string
	for _, m := range w.Members {
		switch _, stays := own[m.User]; {
		case m.Side == config.New:
			onNew = append(onNew, m.User)
		case stays:
			pinned = append(pinned, m.User)
		}
	}
	i := slices.IndexFunc(w.Holds, func(h op.Hold) bool { return h.Scope == op.HoldAll || h.Scope == op.HoldWave(w.Name) })
	held := ""
	if i >= 0 {
		held = cutover.HeldBy(w.Holds[i]).Why
	}
	switch {
	case w.Users == 0:
		w.Next, w.Command = "it has no members: write wave="+w.Name+" behind users in the routes file, and reload", "mailgate reload"
	case w.Op != nil && w.Op.Status == op.Waiting:
		w.Next, w.Command = w.Op.ID+" moves it when its window opens", "mailgate op wait "+w.Op.ID
	case w.Op != nil:
		w.Next, w.Command = w.Op.ID+" is moving it", "mailgate op show "+w.Op.ID
	case held != "":
		w.Next, w.Command = held, "mailgate unhold "+w.Holds[i].Verb()
		if h := w.Holds[i]; cutover.ByFile(h) {
			w.Command = "remove " + cutover.FileOf(h)
		}
		if w.Owed != nil {
			w.Next += fmt.Sprintf("; %d members are to go back still", len(w.Owed.Users))
		}
	case w.Owed != nil:
		w.Next = fmt.Sprintf("%d members are to go back still; it is tried again by itself", len(w.Owed.Users))
		if w.Owed.Again.After(time.Now()) {
			w.Next += " from " + w.Owed.Again.Local().Format(time.TimeOnly) + " on"
		}
		w.Next, w.Command = w.Next+"; see what keeps them", "mailgate op show "+w.Owed.Op
	case w.Row.Gate != "" && back:
		w.Next, w.Command = "gate "+w.Row.Gate+" fails since "+w.Row.GateAt.Local().Format(time.DateTime)+" ("+w.Row.GateWhy+"): the wave is taken back by itself", "mailgate wave show "+name
	case w.Row.Gate != "":
		w.Next, w.Command = "gate "+w.Row.Gate+" fails since "+w.Row.GateAt.Local().Format(time.DateTime)+" ("+w.Row.GateWhy+"): mend that, or go back", "mailgate rollback "+name
	case w.State == cutover.WavePlanned:
		w.Next, w.Command = "have its mailboxes kept in sync", "mailgate wave start "+name
	case w.State == cutover.WaveCopying:
		w.Next, w.Command = fmt.Sprintf("first copies: %d of %d done", w.Copied, w.Users), "mailgate status"
	case w.State == cutover.WaveReady:
		w.Next, w.Command = "rehearse it, then move it", "mailgate wave rehearse "+name
	case w.State == cutover.WaveRolledBack && len(onNew) > 0:
		w.Next, w.Command = fmt.Sprintf("it went back, but %d members are on new (%s): bring them back, or leave them there and move the wave again when what was wrong is mended (mailgate flip %s new)",
			len(onNew), few(onNew), name), "mailgate rollback "+name
	case w.State == cutover.WaveRolledBack:
		w.Next, w.Command = "it went back; move it again when what was wrong is mended", "mailgate flip "+name+" new"
	case w.State == cutover.WaveSoaking && len(pinned) > 0 && len(pinned) == w.Sides["old"]:
		w.Next, w.Command = fmt.Sprintf("%d members stay on old, as they are pinned (%s); one who is let go moves where the file says", len(pinned), few(pinned)), "mailgate unpin "+pinned[0]
	case w.State == cutover.WaveSoaking && w.Sides["old"] > 0:
		w.Next, w.Command = fmt.Sprintf("%d members are on old still", w.Sides["old"]), "mailgate flip "+name+" new"
	case w.State == cutover.WaveSoaking && time.Now().Before(w.Row.SoakUntil):
		w.Next, w.Command = "the soak ends "+w.Row.SoakUntil.Local().Format(time.DateTime)+"; then", "mailgate wave complete "+name+" --confirm "+name
	case w.State == cutover.WaveSoaking:
		w.Next, w.Command = "the soak is over", "mailgate wave complete "+name+" --confirm "+name
	case w.State == cutover.WaveComplete:
		w.Next = "nothing: it is complete"
	}
}

// few names some users.
func few(list []string) string {
	const most = 5
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}

func sortedKeys(m map[string]int) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
