package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
)

// hookGrace is how long the end of mailgate waits for hooks that run.
const hookGrace = 5 * time.Second

// newHooks makes what tells the hooks of flips. g.log and g.conf must be there; Start, Configure and closeHooks are the gateway's.
func newHooks(g *gateway, st op.Store, recorder cutover.HookRecorder) *cutover.HookRunner {
	return cutover.NewHookRunner(cutover.HookOptions{Store: st, Log: g.log, Recorder: recorder, Hooks: g.conf.Load().Hooks, Places: g.hookPlaces})
}

// closeHooks ends it: what runs has a moment to end by itself.
func closeHooks(r *cutover.HookRunner) {
	ctx, cancel := context.WithTimeout(context.Background(), hookGrace)
	defer cancel()
	r.Close(ctx)
}

// hookPlaces are where a user is known at each side, by what is in force now.
func (g *gateway) hookPlaces(user string) (out [2]cutover.HookPlace) {
	conf, route := g.conf.Load(), g.routes.Load().For(user)
	for _, side := range config.Sides {
		out[side].Login = conf.LoginName(side, route)
		for _, h := range conf.Backends[side].Hosts {
			if own := route.Host[side]; own == "" || strings.EqualFold(own, h.Name) {
				out[side].Hosts = append(out[side].Hosts, cutover.HookHost{Name: h.Name, IMAP: h.IMAP.URL, POP3: h.POP3.URL, Submission: h.Submission.URL,
					Sieve: h.Sieve.URL})
			}
		}
	}
	return out
}

// hooks looks whether each hook is there to be told.
func (d *doctor) hooks(ctx context.Context) {
	careful := d.conf.HookWarnings()
	for _, h := range d.conf.Hooks {
		name := "hook " + h.Name
		if len(h.Command) > 0 {
			path, err := exec.LookPath(h.Command[0])
			if err != nil {
				d.note(fail, name, "%v", err)
				continue
			}
			d.note(pass, name, "%s can be run%s", path, vetoText(h))
			continue
		}
		address, err := h.Address()
		if err != nil {
			d.note(fail, name, "%v", err)
			continue
		}
		if _, err := h.Secret(); err != nil {
			d.note(fail, name, "%v", err)
			continue
		}
		u, err := url.Parse(address.Reveal())
		if err != nil {
			d.note(fail, name, "its URL cannot be read") // there may be a token in the error
			continue
		}
		if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u}); proxy != nil || err != nil {
			d.note(unknown, name, "%s is reached by a proxy of the environment", h.Where())
			continue
		}
		port := u.Port()
		if port == "" {
			port = u.Scheme
		}
		if err := d.dial(ctx, net.JoinHostPort(u.Hostname(), port)); err != nil {
			var op *net.OpError
			if errors.As(err, &op) {
				err = op.Err
			}
			d.note(fail, name, "%s does not answer: %v%s", h.Where(), err, vetoText(h))
			continue
		}
		d.note(pass, name, "%s takes connections%s", h.Where(), vetoText(h))
	}
	for _, text := range careful {
		d.note(pass, "hooks", "careful: %s", text)
	}
}

// vetoText says what a hook may do.
func vetoText(h config.Hook) string {
	if h.Veto {
		return "; it may call a flip off, and does so also when it fails"
	}
	return ""
}
