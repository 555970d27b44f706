package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"
)

// Show prints the configuration in force as YAML, with where each value comes from when that is not the file.
func (c *Config) Show(w io.Writer) error {
	var b strings.Builder
	section := []string{}
	line := func(key, text string) {
		parts := strings.Split(key, ".")
		for i := range parts[:len(parts)-1] {
			if i < len(section) && section[i] == parts[i] {
				continue
			}
			section = append(section[:i:i], parts[i])
			fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", i), parts[i])
		}
		section = section[:len(parts)-1]
		fmt.Fprintf(&b, "%s%s: %s%s\n", strings.Repeat("  ", len(parts)-1), parts[len(parts)-1], text, c.origin(key))
	}
	done := map[string]bool{}
	for _, s := range settings() {
		prefix := s.key[:strings.LastIndexByte(s.key, '.')+1]
		if !done[prefix] {
			done[prefix] = true
			for _, key := range []string{"listen", "hooks", "login.mechanisms", "tls.certificates", "tls.acme.domains", "backends.old.hosts", "backends.new.hosts",
				"backends.old.sync.token_command", "backends.new.sync.token_command", "sync.rename", "sync.exclude", "sync.use", "sync.windows", "sync.waves",
				"waves", "gates.bounces.command"} {
				if strings.HasPrefix(key, prefix) && strings.LastIndexByte(key, '.')+1 == len(prefix) {
					line(key, c.list(key))
				}
			}
		}
		if p, ok := strings.CutSuffix(s.key, ".tls.server_name"); ok {
			line(p+".tls.pins", c.list(p+".tls.pins"))
		}
		if s.key == gateSettings()[0].key { // no scalar stands beside it
			line("gates.custom", c.list("gates.custom"))
		}
		v := s.get(c)
		if x, ok := v.(string); ok {
			v = fmt.Sprintf("%q", x)
		}
		line(s.key, fmt.Sprint(v))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (c *Config) origin(key string) string {
	switch c.source[key] {
	case "file":
		return ""
	case "":
		if strings.HasSuffix(key, ".hosts") && len(c.Listen) > 0 {
			return ""
		}
		return " # default"
	}
	return " # " + c.source[key]
}

// list prints a list in flow style.
func (c *Config) list(key string) string {
	var items []string
	quote := func(v ...string) {
		for _, x := range v {
			items = append(items, fmt.Sprintf("%q", x))
		}
	}
	switch key {
	case "listen":
		quote(urls(c.Listen)...)
	case "proxy_networks":
		for _, n := range c.ProxyNetworks {
			quote(n.String())
		}
	case "login.mechanisms":
		quote(c.Login.Mechanisms...)
	case "tls.acme.domains":
		quote(c.TLS.ACME.Domains...)
	case "login.learn.hook":
		quote(c.Login.Learn.Hook...)
	case "hooks":
		for _, h := range c.Hooks {
			items = append(items, h.shown())
		}
	case "sync.rename":
		for _, x := range c.Sync.Rename {
			items = append(items, fmt.Sprintf("{old: %q, new: %q}", x.From, x.To))
		}
	case "sync.use":
		for _, x := range c.Sync.Use {
			items = append(items, fmt.Sprintf("{use: %q, name: %q}", x.From, x.To))
		}
	case "sync.exclude":
		quote(c.Sync.Exclude...)
	case "sync.windows":
		for _, w := range c.Sync.Windows {
			quote(w.Text)
		}
	case "waves":
		for _, w := range c.Waves {
			items = append(items, waveItem(w))
		}
	case "gates.bounces.command":
		quote(c.Gates.Bounces.Command...)
	case "gates.custom":
		for _, g := range c.Gates.Custom {
			items = append(items, fmt.Sprintf("{name: %q, command: %q, timeout: %s, mode: %s}", g.Name, g.Command, g.Timeout, g.Mode))
		}
	case "sync.waves":
		quote(c.Sync.Waves...)
	case "tls.certificates":
		for _, k := range c.TLS.Certificates {
			items = append(items, fmt.Sprintf("{cert: %q, key: %q}", k.Cert, k.Key))
		}
	default:
		side := Old
		if strings.HasPrefix(key, "backends.new") {
			side = New
		}
		if strings.HasSuffix(key, ".token_command") {
			quote(c.Backends[side].Sync.TokenCommand...)
			break
		}
		if strings.HasSuffix(key, ".pins") {
			quote(c.Backends[side].Pins...)
			break
		}
		for _, h := range c.Backends[side].Hosts {
			item := fmt.Sprintf("{name: %q", h.Name)
			for _, p := range []Protocol{IMAP, POP3, Submission, Sieve} {
				if e := h.Endpoint(p); e.Host != "" {
					item += fmt.Sprintf(", %s: %q", p, e.URL)
				}
			}
			items = append(items, item+"}")
		}
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// NeedsRestart names what differs between two loads and cannot change while serve runs: its sockets and its store.
func NeedsRestart(before, after *Config) []string {
	var out []string
	for key, same := range map[string]bool{
		"listen":         reflect.DeepEqual(urls(before.Listen), urls(after.Listen)),
		"node":           before.Node == after.Node,
		"store.path":     before.Store.Path == after.Store.Path,
		"store.url":      before.Store.URL == after.Store.URL,
		"control.socket": before.Control == after.Control,
		"admin.listen":   before.Admin == after.Admin,
		"log":            before.Log == after.Log,
		"tls.acme":       reflect.DeepEqual(before.TLS.ACME.asOpened(), after.TLS.ACME.asOpened()),
	} {
		if !same {
			out = append(out, key)
		}
	}
	sortStrings(out)
	return out
}

// urls are those of listeners as written: one on localhost is two sockets.
func urls(list []Endpoint) (out []string) {
	for _, e := range list {
		if !contains(out, e.URL) {
			out = append(out, e.URL)
		}
	}
	return out
}
