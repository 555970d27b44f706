package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/op"
	"mailgate/syncer"
)

// throttle is how the syncer is held back.
type throttle struct {
	Caps   [2]int // connections to a host, 0 for none
	Limits syncer.LimitSettings
}

// throttleOf is what the configuration says.
func throttleOf(conf *config.Config) (t throttle) {
	for _, side := range config.Sides {
		l := conf.Backends[side].SyncLimits
		t.Caps[side] = l.MaxConnections
		t.Limits.Sides[side] = syncer.Rate{Messages: l.MessagesPerSecond, Bytes: l.BytesPerSecond}
	}
	t.Limits.User = syncer.Rate{Messages: conf.Sync.UserMessagesPerSecond, Bytes: conf.Sync.UserBytesPerSecond}
	return t
}

// newBudget makes the budget of connections for a gateway.
func newBudget(g *gateway, d *backend.Dialer) *syncer.Budget {
	return syncer.NewBudget(syncer.BudgetOptions{Log: g.log, Load: d.Load, Place: g.place})
}

// place names the host that a user's connections to a side go to, "" where it may be any of several.
func (g *gateway) place(side config.Side, user string) string {
	if host := g.routes.Load().For(user).Host[side]; host != "" {
		return host
	}
	var names []string
	for _, h := range g.conf.Load().Backends[side].Hosts {
		if h.IMAP.Host != "" {
			names = append(names, h.Name)
		}
	}
	if len(names) == 1 {
		return names[0]
	}
	return ""
}

// throttle puts in force what the file says, where that is something else than before: a change by hand outlives a reload of the
// routes file.
func (s *syncing) throttle(conf *config.Config) {
	t := throttleOf(conf)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t != s.filed {
		s.filed = t
		s.hold(t)
	}
}

// hold puts a throttle in force.
func (s *syncing) hold(t throttle) {
	s.budget.Set(t.Caps)
	s.limits.Set(t.Limits)
}

// held is the one in force.
func (s *syncing) held() throttle { return throttle{s.budget.Caps(), s.limits.Settings()} }

// windowOpen tells whether first copies may begin by themselves now, and until when that stays so; a zero time means for ever.
func (s *syncing) windowOpen(now time.Time) (open bool, until time.Time) {
	return s.g.conf.Load().Sync.Windows.Open(now)
}

// SyncLimits is what the syncer is held to, and what it takes of that.
type SyncLimits struct {
	Running bool              `json:"running"` // mailgate serve is
	Changed bool              `json:"changed"` // by hand: the file says something else
	Sides   [2]SideSyncLimits `json:"sides"`   // old and new
	User    syncer.Rate       `json:"user"`
	Windows []string          `json:"windows,omitempty"`
	Open    bool              `json:"window_open"`
	Until   time.Time         `json:"window_until,omitzero"` // it stays so; zero for ever
}

// SideSyncLimits is that of a side.
type SideSyncLimits struct {
	MaxConnections int               `json:"max_connections"` // to a host; 0 means no cap
	Limit          syncer.Rate       `json:"limit"`
	Present        syncer.Rate       `json:"present"` // mean of the last ten seconds
	Hosts          []syncer.PlaceUse `json:"hosts,omitempty"`
}

// limitsOf is what a throttle says, with nothing under way.
func limitsOf(conf *config.Config, t throttle, now time.Time) *SyncLimits {
	v := &SyncLimits{User: t.Limits.User, Changed: t != throttleOf(conf)}
	for side := range v.Sides {
		v.Sides[side].MaxConnections, v.Sides[side].Limit = t.Caps[side], t.Limits.Sides[side]
	}
	for _, w := range conf.Sync.Windows {
		v.Windows = append(v.Windows, w.Text)
	}
	v.Open, v.Until = conf.Sync.Windows.Open(now)
	return v
}

// limitKeys are what can be changed: of a side, and of each user.
func limitKeys() []string {
	return []string{"connections", "messages", "bytes", "user-messages", "user-bytes"}
}

// changeLimits makes the changes that a form asks for, and tells them in words; nothing when it asks for none.
func changeLimits(t throttle, form url.Values) (throttle, string, error) {
	var words []string
	for _, key := range limitKeys() {
		if !form.Has(key) {
			continue
		}
		text := form.Get(key)
		n, err := limitValue(key, text)
		if err != nil {
			return t, "", err
		}
		if strings.HasPrefix(key, "user-") {
			words = append(words, strings.Replace(key, "user-", "each user's ", 1)+" "+text)
		} else {
			words = append(words, key+" "+text)
		}
		side, ok := config.ParseSide(form.Get("side"))
		switch {
		case key == "user-messages":
			t.Limits.User.Messages = n
		case key == "user-bytes":
			t.Limits.User.Bytes = n
		case !ok:
			return t, "", fmt.Errorf("--%s is a limit of a side: write --side old or --side new", key)
		case key == "connections":
			t.Caps[side] = int(n)
		case key == "messages":
			t.Limits.Sides[side].Messages = n
		case key == "bytes":
			t.Limits.Sides[side].Bytes = n
		}
	}
	if side := form.Get("side"); side != "" && len(words) > 0 {
		words = append([]string{side + ":"}, words...)
	}
	return t, strings.Join(words, " "), nil
}

// limitValue reads the value of a flag.
func limitValue(key, text string) (int64, error) {
	if strings.HasSuffix(key, "bytes") {
		n, err := config.ParseSize(text)
		if err == nil {
			err = config.CheckByteRate(n)
		}
		if err != nil {
			return 0, fmt.Errorf("--%s: %w", key, err)
		}
		return n, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("--%s: %q is not a number, 0 or more", key, text)
	}
	return n, nil
}

// changeAndShow answers the verb "limits": changes what the form asks for, and shows what is in force.
func (s *syncing) changeAndShow(ctx context.Context, form url.Values) (*SyncLimits, error) {
	conf := s.g.conf.Load()
	s.mu.Lock()
	t := s.held()
	if form.Get("file") != "" {
		t = throttleOf(conf)
	}
	t, words, err := changeLimits(t, form)
	if err != nil {
		s.mu.Unlock()
		return nil, exitError{exitUsage, err}
	}
	s.hold(t)
	s.mu.Unlock()
	if form.Get("file") != "" {
		words = strings.TrimSpace("those of the file " + words)
	}
	if words != "" {
		s.g.log.Info("sync limits changed", "by", form.Get("by"), "limits", words)
		err = s.g.store.AddEvents(ctx, op.Event{At: time.Now(), What: "sync limits", By: form.Get("by"), From: form.Get("from"), Detail: words})
		if errors.Is(err, op.ErrUnavailable) { // to slow down must work then too
			s.g.log.Warn("the change of sync limits is not in the history", "err", err)
			err = nil
		}
	}
	v := limitsOf(conf, t, time.Now())
	v.Running = s.g.serving
	v.Open, v.Until = s.windowOpen(time.Now())
	present := s.limits.Present()
	for side := range v.Sides {
		v.Sides[side].Present = present[side]
	}
	use := s.budget.Use()
	slices.SortFunc(use, func(a, b syncer.PlaceUse) int { return cmp.Compare(a.Place, b.Place) })
	for _, u := range use {
		v.Sides[u.Side].Hosts = append(v.Sides[u.Side].Hosts, u)
	}
	return v, err
}
