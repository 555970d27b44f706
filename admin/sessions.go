package admin

import (
	"context"
	"net/http"
	"slices"

	"mailgate/config"
)

// SessionCounts are numbers of sessions, by "protocol side".
type SessionCounts map[string]int

// Add adds others.
func (c SessionCounts) Add(more SessionCounts) {
	for k, n := range more {
		c[k] += n
	}
}

// of is the number of one protocol and side.
func (c SessionCounts) of(p config.Protocol, s config.Side) int { return c[sessionKey(p, s)] }

func sessionKey(p config.Protocol, s config.Side) string { return string(p) + " " + s.String() }

// CountSessions counts those of all nodes: of the members of a wave, of everybody where that is "". silent are nodes that have not answered,
// whose sessions are not in it.
func (a *API) CountSessions(ctx context.Context, wave string) (n SessionCounts, silent []string) {
	n = a.countHere(wave)
	if a.Fellows == nil {
		return n, nil
	}
	more, silent, err := a.Fellows.Counts(ctx, wave)
	if err != nil {
		silent = append(silent, "other gateways ("+err.Error()+")")
	}
	n.Add(more)
	return n, silent
}

// countHere counts those of this node.
func (a *API) countHere(wave string) SessionCounts {
	n := SessionCounts{}
	var members []string
	if wave != "" {
		members = slices.Sorted(slices.Values(a.Waves.Members(wave)))
	}
	for _, s := range a.Router.Sessions("") {
		if _, in := slices.BinarySearch(members, s.User); in || wave == "" {
			n[sessionKey(s.Protocol, s.Side)]++
		}
	}
	return n
}

// sessionCounts answers another node: this one's own.
func (a *API) sessionCounts(r *http.Request) (any, error) {
	return a.countHere(r.FormValue("wave")), nil
}
