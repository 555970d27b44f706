package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"mailgate/admin"
	"mailgate/auth"
	"mailgate/config"
	"mailgate/router"
)

// newVerifiers makes the authorities that are no side, or says what of their files must be mended.
func newVerifiers(conf *config.Config) (*auth.Verifiers, error) {
	v, err := auth.NewVerifiers(conf)
	if err != nil {
		return nil, exitError{exitRefused, err}
	}
	return v, nil
}

// Authority implements admin.Gateway.
func (g *gateway) Authority(r config.Route, side config.Side) (by config.Authority, trouble string) {
	conf := g.conf.Load()
	if by = conf.AuthorityOf(r); by.NeedsMaster(side) {
		trouble = g.notProven(conf, side, r.Host[side])
	}
	return by, trouble
}

// authorities sums up who verifies the users that are known; nil where all are verified by the side where they are. The last decision
// about OLD asks its WithoutOld too: what is in it keeps OLD from being switched off.
func (g *gateway) authorities() *admin.Authorities {
	conf, routes := g.conf.Load(), g.routes.Load()
	if !conf.Delegated(routes) {
		return nil
	}
	out := &admin.Authorities{Users: map[string]int{}, WithoutOld: []string{}, Troubles: []string{}}
	byOld := 0
	type place struct {
		side config.Side
		host string
	}
	troubles := map[place]string{} // the same for very many users
	locked := map[string]int{}     // by trouble
	g.router.Users(func(user string, p router.Place, _ bool) {
		r := routes.For(user)
		by := conf.AuthorityOf(r)
		out.Users[string(by)]++
		if side, ok := by.Verifier(p.Side); ok && side == config.Old && p.Side == config.New {
			byOld++
		}
		if !by.NeedsMaster(p.Side) {
			return
		}
		at := place{p.Side, r.Host[p.Side]}
		trouble, ok := troubles[at]
		if !ok {
			trouble = g.notProven(conf, at.side, at.host)
			troubles[at] = trouble
		}
		if trouble != "" {
			locked[trouble]++
		}
	})
	if byOld > 0 {
		out.WithoutOld = append(out.WithoutOld, fmt.Sprintf("%s on new still verified by old: write authority=route (or another) for them, or authority.default, and reload",
			countUsers(byOld)))
	}
	for _, why := range slices.Sorted(maps.Keys(locked)) {
		out.Troubles = append(out.Troubles, countUsers(locked[why])+" cannot log in, "+why)
	}
	return out
}

func countUsers(n int) string {
	if n == 1 {
		return "1 user"
	}
	return fmt.Sprint(n, " users")
}

// notProven says at which services of a side the master login is not proven for users of a host, "" for any; "" when it is at all, or
// when nobody has looked.
func (g *gateway) notProven(conf *config.Config, side config.Side, host string) string {
	if g.syncing == nil {
		return ""
	}
	var missing []string
	for _, p := range config.Protocols() {
		some, proven := false, false
		for _, h := range conf.Backends[side].Hosts {
			if (host == "" || h.Name == host) && h.Endpoint(p).Host != "" {
				some = true
				proven = proven || g.syncing.accounts.believed(proofAt(conf, side, h.Name, p))
			}
		}
		if some && !proven && listens(conf, p) {
			missing = append(missing, string(p))
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return fmt.Sprintf("since the master login of %s is not proven for %s: run mailgate probe backends", side, strings.Join(missing, ", "))
}

func listens(conf *config.Config, p config.Protocol) bool {
	return slices.ContainsFunc(conf.Listen, func(e config.Endpoint) bool { return e.Protocol == p })
}

func printAuthorities(w io.Writer, a *admin.Authorities) {
	if a == nil {
		return
	}
	var sums []string
	for _, by := range config.Authorities() {
		if n := a.Users[string(by)]; n > 0 {
			sums = append(sums, fmt.Sprintf("%d by %s", n, by))
		}
	}
	fmt.Fprintf(w, "passwords\tverified: %s\n", strings.Join(sums, ", "))
	for _, x := range a.WithoutOld {
		fmt.Fprintf(w, "without old\t%s\n", x)
	}
	for _, x := range a.Troubles {
		fmt.Fprintf(w, "logins\t%s\n", x)
	}
}
