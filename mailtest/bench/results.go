package main

import (
	"fmt"
	"slices"
)

// key names a measurement of one proxy.
type key struct {
	kind kind
	tls  bool
	peer string
}

func (k key) String() string {
	return fmt.Sprintf("%s, %s", k.kind, map[bool]string{false: "plain", true: "TLS"}[k.tls])
}

// results keeps the figures of each round, in their order.
type results map[key][]figures

func (r *results) add(k key, f figures) {
	if *r == nil {
		*r = results{}
	}
	(*r)[k] = append((*r)[k], f)
}

// values are one figure over the rounds.
func (r results) values(k key, figure string) []float64 {
	var out []float64
	for _, f := range r[k] {
		if v, ok := f[figure]; ok {
			out = append(out, v)
		}
	}
	return out
}

// ratios compares two proxies round by round.
func (r results) ratios(k kind, tls bool, a, b, figure string) []float64 {
	x, y := r.values(key{k, tls, a}, figure), r.values(key{k, tls, b}, figure)
	var out []float64
	for i := range min(len(x), len(y)) {
		out = append(out, x[i]/y[i])
	}
	return out
}

func median(v []float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// gate is what mailgate promises. With a peer it bounds the ratio to it, without one the figure itself.
type gate struct {
	text    string
	kind    kind
	tls     bool
	figure  string
	peer    string
	limit   float64
	atLeast bool
}

// pumpBuffer is what mailgate reads at once while bytes flow. A session that kept even one while idle would show it.
const pumpBuffer = 32 // KiB

// gates are checked at the end of a run.
func gates() []gate {
	out := []gate{
		{"idle session, memory", idle, true, "pss_kib", nginx, 1.25, false},
		{"idle POP3 session, memory", popIdle, true, "pss_kib", nginx, 1.25, false},
		{"idle POP3 session, descriptors", popIdle, true, "fds", "", 2.01, false},
		{"storm of 2,000, failed logins", storm, true, "failed", "", 0, false},
		{"storm of 2,000, until the last is in", storm, true, "last_ms", nginx, 1.5, false},
		{"storm of 2,000, out of order", storm, true, "displaced", "", 0.5, false},
		{"idle session, descriptors", idle, true, "fds", "", 2.01, false},
		{"idle session, pipes", idle, true, "pipes", "", 0.01, false},
		{"idle session, descriptors", idle, false, "fds", "", 2.01, false},
		{"idle session, pipes", idle, false, "pipes", "", 0.01, false},
		{"idle session, KiB: no buffer of 32 is held", idle, false, "pss_kib", "", pumpBuffer, false},
		{"idle session, KiB: no buffer of 32 is held", idle, true, "pss_kib", "", pumpBuffer, false},
	}
	for _, tls := range []bool{false, true} {
		out = append(out, gate{"CPU per 1,000 logins", logins, tls, "cpu_s", dovecot, 1, false},
			gate{"CPU per 1,000 POP3 logins", popLogins, tls, "cpu_s", dovecot, 1, false},
			gate{"POP3 login, one client alone, p50", popAlone, tls, "p50_us", dovecot, 1.2, false},
			gate{"POP3 STAT, added p50", popStat, tls, "added_us", bare, 2, false})
	}
	out = append(out, gate{"CPU per GB relayed", fetch, true, "cpu_s", nginx, 1, false})
	out = append(out, gate{"SCRAM login at a real host, p50", scramHost, false, "p50_us", direct, 1.3, false})
	for _, tls := range []bool{false, true} {
		out = append(out,
			gate{"login, one client alone, p50", loginAlone, tls, "p50_us", dovecot, 1.2, false},
			gate{"submission, one client alone, p50", submitAlone, tls, "p50_us", dovecot, 1.2, false},
			gate{"NOOP, added p50", noop, tls, "added_us", bare, 2, false},
			gate{"submissions a second, 64 clients", submissions, tls, "rate", nginx, 1, true})
	}
	return out
}

// check gives the median over the rounds of what the gate bounds, their range, and whether it is kept.
func (g gate) check(r results) (value, low, high float64, kept bool) {
	v := r.values(key{g.kind, g.tls, mailgate}, g.figure)
	if g.peer != "" {
		v = r.ratios(g.kind, g.tls, mailgate, g.peer, g.figure)
	}
	if len(v) == 0 {
		return 0, 0, 0, false
	}
	value = median(v)
	kept = value <= g.limit
	if g.atLeast {
		kept = value >= g.limit
	}
	return value, slices.Min(v), slices.Max(v), kept
}
