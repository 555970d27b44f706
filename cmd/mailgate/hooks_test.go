package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/cutover"
)

// TestHookPlaces: hooks hear the user's name on each side, and the hosts that his sessions may go to.
func TestHookPlaces(t *testing.T) {
	host := func(name string) config.Host {
		return config.Host{Name: name, IMAP: config.Endpoint{URL: "imaps://" + name}, Sieve: config.Endpoint{URL: "sieve://" + name}}
	}
	conf := config.Default()
	conf.Backends[config.Old] = config.Backend{Login: "{local}", Hosts: []config.Host{host("o1"), host("o2")}}
	conf.Backends[config.New] = config.Backend{Login: "{address}", Hosts: []config.Host{host("n1")}}
	routes := &config.RouteFile{Users: map[string]*config.Route{"bob@example.com": {Address: "bob@example.com", Host: [2]string{"O2", ""}, Login: [2]string{"", "b"}}}}
	g := &gateway{}
	g.conf.Store(&conf)
	g.routes.Store(routes)
	o1, o2, n1 := hostOf("o1"), hostOf("o2"), hostOf("n1")
	for user, want := range map[string][2]cutover.HookPlace{
		"alice@example.com": {{Login: "alice", Hosts: []cutover.HookHost{o1, o2}}, {Login: "alice@example.com", Hosts: []cutover.HookHost{n1}}},
		"bob@example.com":   {{Login: "bob", Hosts: []cutover.HookHost{o2}}, {Login: "b", Hosts: []cutover.HookHost{n1}}},
	} {
		if got := g.hookPlaces(user); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %+v, want %+v", user, got, want)
		}
	}
}

func hostOf(name string) cutover.HookHost {
	return cutover.HookHost{Name: name, IMAP: "imaps://" + name, Sieve: "sieve://" + name}
}

// TestDoctorHooks: what is not there, or does not answer, is told; tokens are not.
func TestDoctorHooks(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	hook := func(name, url string, command ...string) config.Hook {
		return config.Hook{Name: name, URL: config.Secret(url), Command: command, Veto: name == "sh"}
	}
	d := &doctor{conf: &config.Config{Hooks: []config.Hook{hook("sh", "", "sh"), hook("none", "", "/nowhere/none"), hook("up", s.URL+"/hidden"),
		hook("down", "https://chat.example.com/hidden"), {Name: "file", URLFile: "/nowhere/url"}, {Name: "key", URL: "https://x", SecretFile: "/nowhere/key"}}}}
	d.dial = func(ctx context.Context, address string) error {
		if address == "chat.example.com:https" {
			return errors.New("nobody there")
		}
		return knock(ctx, address)
	}
	d.hooks(t.Context())
	var got []string
	for _, c := range d.checks {
		got = append(got, c.Verdict+" "+c.Name+" "+c.Detail)
	}
	text := strings.Join(got, "\n")
	for _, want := range []string{"pass hook sh /", "sh can be run; it may call a flip off", "fail hook none ", "pass hook up http://127.0.0.1", "fail hook down https://chat.example.com/... does not answer: nobody there",
		"fail hook file open /nowhere/url", "fail hook key open /nowhere/key"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "hidden") {
		t.Error(text)
	}
}
