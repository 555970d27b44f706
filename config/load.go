package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// Overrides are flags of the command line, key to value, such as "log.level": "debug". They win over the environment
// (MAILGATE_LOG_LEVEL), which wins over the file.
type Overrides map[string]string

// Load reads and checks mailgate.yaml. The error is Errors when the content is at fault: all problems at once.
// Relative paths in the file are relative to its folder.
func Load(file string, o Overrides) (*Config, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("configuration: %w; mailgate init writes one", err)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c := Default()
	c.File = file
	l := loader{file: file, c: &c, lines: map[string]int{}, from: map[string]string{}}
	values, ok := l.parse(b)
	if !ok {
		return nil, l.errs.orNil()
	}
	l.layer(values, o)
	l.scalars()
	l.lists()
	c.source = l.from
	l.resolve()
	l.check()
	return &c, l.errs.orNil()
}

type loader struct {
	file   string
	c      *Config
	v      *viper.Viper
	lines  map[string]int    // key -> line
	from   map[string]string // key -> "file", "environment" or "flag"
	listen []string          // key of each c.Listen
	acme   []string          // key of each c.TLS.ACME.Domains
	waveAt []string          // key of each c.Waves
	errs   Errors

	waveList *yaml.Node // the list of waves as it stands in the file
}

// bad notes a problem of a key, such as "listen[2]", where its value comes from.
func (l *loader) bad(key, format string, args ...any) {
	p := Problem{l.file, l.line(key), fmt.Sprintf(format, args...)}
	base, _, _ := strings.Cut(key, "[")
	switch {
	case l.from[base] == "environment":
		p = Problem{"environment", 0, envName(base) + ": " + p.Text}
	case l.from[base] == "flag":
		p = Problem{"command line", 0, "--set " + base + ": " + p.Text}
	case key != "":
		p.Text = key + ": " + p.Text
	}
	l.errs = append(l.errs, p)
}

// line is that of the key, or of the nearest one above it.
func (l *loader) line(key string) int {
	for key != "" {
		if n := l.lines[key]; n > 0 {
			return n
		}
		i := strings.LastIndexAny(key, ".[")
		if i < 0 {
			return 0
		}
		key = key[:i]
	}
	return 0
}

// knownUnder gives the keys directly below a prefix: "section", "list" or "scalar".
func knownUnder(prefix string) map[string]string {
	out := map[string]string{}
	add := func(key, kind string) {
		rest, ok := strings.CutPrefix(key, prefix)
		if !ok {
			return
		}
		if first, _, deeper := strings.Cut(rest, "."); deeper {
			out[first] = "section"
		} else {
			out[rest] = kind
		}
	}
	for _, s := range settings() {
		add(s.key, "scalar")
	}
	for key := range listKeys() {
		add(key, "list")
	}
	for _, key := range shortKeys() {
		add(key, "scalar")
	}
	return out
}

func keysOf(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sortStrings(out)
	return out
}

func envName(key string) string {
	return "MAILGATE_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// layer builds the viper: file, then environment, then flags.
func (l *loader) layer(values map[string]any, o Overrides) {
	l.v = viper.New()
	if err := l.v.MergeConfigMap(values); err != nil {
		l.errs = append(l.errs, Problem{l.file, 0, err.Error()})
	}
	keys := layeredKeys()
	for _, key := range keys {
		if v, ok := os.LookupEnv(envName(key)); ok {
			l.v.Set(key, v)
			l.from[key] = "environment"
		}
	}
	for key, value := range o {
		if !contains(keys, key) {
			l.errs = append(l.errs, Problem{"command line", 0, fmt.Sprintf("--set: unknown key %q%s", key, nearestOnly(key, keys))})
			continue
		}
		l.v.Set(key, value)
		l.from[key] = "flag"
	}
}

// layeredKeys are the keys that the environment and flags can set: single values, and lists of them.
func layeredKeys() []string {
	var keys []string
	for _, s := range settings() {
		keys = append(keys, s.key)
	}
	for k, sub := range listKeys() {
		if sub == nil {
			keys = append(keys, k)
		}
	}
	keys = append(keys, shortKeys()...)
	sortStrings(keys)
	return keys
}

// shortKeys name the one host of a side without a list.
func shortKeys() []string {
	return []string{"backends.old.imap", "backends.old.pop3", "backends.old.submission", "backends.old.sieve",
		"backends.new.imap", "backends.new.pop3", "backends.new.submission", "backends.new.sieve"}
}

// scalars sets each single value that was given anywhere.
func (l *loader) scalars() {
	for _, s := range settings() {
		if l.from[s.key] == "" {
			continue
		}
		if err := s.set(l.c, l.v.GetString(s.key)); err != nil {
			l.bad(s.key, "%v", err)
		}
	}
}

// strings is a list of single values; "" stands for an item that has its complaint already.
func (l *loader) strings(key string) (out []string) {
	switch l.from[key] {
	case "":
		return nil
	case "environment", "flag":
		return strings.FieldsFunc(l.v.GetString(key), func(r rune) bool { return r == ',' || r == ' ' })
	}
	list, _ := l.v.Get(key).([]any)
	for _, x := range list {
		v, _ := x.(string)
		out = append(out, v)
	}
	return out
}

// items is a list of maps; nil stands for an item, and "" for a value, that has its complaint already.
func (l *loader) items(key string) (out []map[string]string) {
	list, _ := l.v.Get(key).([]any)
	for _, x := range list {
		values, ok := x.(map[string]any)
		if !ok {
			out = append(out, nil)
			continue
		}
		m := map[string]string{}
		for k, v := range values {
			m[k], _ = v.(string)
		}
		out = append(out, m)
	}
	return out
}

// lists sets what is not a single value.
func (l *loader) lists() {
	for i, u := range l.strings("listen") {
		key := fmt.Sprintf("listen[%d]", i)
		if u == "" {
			continue
		}
		e, err := ParseEndpoint(u, true)
		if err != nil {
			l.bad(key, "%v", err)
			continue
		}
		for _, e := range e.expand() {
			l.c.Listen, l.listen = append(l.c.Listen, e), append(l.listen, key)
		}
	}
	for i, text := range l.strings("proxy_networks") {
		if text == "" {
			continue
		}
		n, err := network(text)
		if err != nil {
			l.bad(fmt.Sprintf("proxy_networks[%d]", i), "%v", err)
			continue
		}
		l.c.ProxyNetworks = append(l.c.ProxyNetworks, n)
	}
	for i, m := range l.items("tls.certificates") {
		if m["cert"] == "" || m["key"] == "" {
			if m != nil && len(m) < 2 {
				l.bad(fmt.Sprintf("tls.certificates[%d]", i), "needs both cert and key, each the path of a PEM file")
			}
			continue
		}
		l.c.TLS.Certificates = append(l.c.TLS.Certificates, Certificate{Cert: m["cert"], Key: m["key"]})
	}
	l.acmeDomains()
	l.c.Login.Learn.Hook = l.words("login.learn.hook")
	if m := l.strings("login.mechanisms"); l.from["login.mechanisms"] != "" {
		if len(m) == 0 {
			l.bad("login.mechanisms", "nobody could log in; write for example [PLAIN, LOGIN]")
		}
		l.c.Login.Mechanisms = nil
		for i, x := range m {
			x = strings.ToUpper(x)
			key, known := fmt.Sprintf("login.mechanisms[%d]", i), Default().Login.Mechanisms
			switch {
			case x == "":
			case !contains(known, x):
				l.bad(key, "unknown mechanism %q%s", x, didYouMean(x, known))
			case contains(l.c.Login.Mechanisms, x):
				l.bad(key, "%s stands in the list already; keep one", x)
			}
			l.c.Login.Mechanisms = append(l.c.Login.Mechanisms, x)
		}
	} else if l.c.Login.Learn.passwords() { // of a relayed login there is nothing to learn: who wants both says so
		l.c.Login.Mechanisms = withoutRelayed(l.c.Login.Mechanisms)
	}
	l.readHooks()
	l.c.Sync.Rename = l.pairs("sync.rename", "old", "new")
	l.c.Sync.Use = l.pairs("sync.use", "use", "name")
	l.c.Sync.Exclude = l.words("sync.exclude")
	for i, text := range l.words("sync.windows") {
		if text == "" { // has its complaint already, or is none in the environment
			continue
		}
		w, err := ParseWindow(text)
		if err != nil {
			l.bad(fmt.Sprintf("sync.windows[%d]", i), "%v", err)
			continue
		}
		l.c.Sync.Windows = append(l.c.Sync.Windows, w)
	}
	l.c.Sync.Waves = l.words("sync.waves")
	l.c.Gates.Bounces.Command = l.words("gates.bounces.command")
	l.customGates()
	l.waves()
	for _, side := range Sides {
		l.backend(side)
	}
}

// pairs is a list of two names each.
func (l *loader) pairs(key, from, to string) (out []Pair) {
	for i, m := range l.items(key) {
		if m == nil {
			continue
		}
		if m[from] == "" || m[to] == "" {
			l.bad(fmt.Sprintf("%s[%d]", key, i), "needs both %s and %s", from, to)
			continue
		}
		out = append(out, Pair{m[from], m[to]})
	}
	return out
}

// words is a list of single values that may hold spaces and commas.
func (l *loader) words(key string) []string {
	if l.from[key] == "environment" || l.from[key] == "flag" {
		return []string{l.v.GetString(key)}
	}
	return l.strings(key)
}

func (l *loader) backend(side Side) {
	p := "backends." + side.String()
	b := &l.c.Backends[side]
	b.Pins = l.strings(p + ".tls.pins")
	b.Sync.TokenCommand = l.words(p + ".sync.token_command")
	items := l.items(p + ".hosts")
	listed := len(items)
	short := map[string]string{}
	for _, service := range []string{"imap", "pop3", "submission", "sieve"} {
		if v := l.v.GetString(p + "." + service); v != "" {
			short[service] = v
		}
	}
	if len(short) > 0 {
		if listed > 0 {
			l.bad(p+".hosts", "stands beside %s.imap, .pop3, .submission or .sieve; write all hosts into the list", p)
		}
		items = append(items, short)
	}
	for i, m := range items {
		key := fmt.Sprintf("%s.hosts[%d]", p, i)
		if i >= listed {
			key = p
		}
		if m == nil {
			continue
		}
		h := Host{Name: m["name"]}
		h.IMAP = l.service(key+".imap", m["imap"], IMAP)
		h.POP3 = l.service(key+".pop3", m["pop3"], POP3)
		h.Submission = l.service(key+".submission", m["submission"], Submission)
		h.Sieve = l.service(key+".sieve", m["sieve"], Sieve)
		if h.Name == "" {
			h.Name = cmp.Or(h.IMAP.Host, h.POP3.Host, h.Submission.Host, h.Sieve.Host)
		}
		switch {
		case !has(m, "imap") && !has(m, "pop3") && !has(m, "submission") && !has(m, "sieve"):
			l.bad(key, "the host has no service; write imap:, pop3:, submission: or sieve:, or several")
		case strings.ContainsFunc(h.Name, func(r rune) bool { return r <= ' ' || r == '@' || r == '#' || r == 0x7f }):
			l.bad(key, "name %q: the routes file could not name it; leave out spaces, @ and #", h.Name)
		}
		for _, other := range b.Hosts {
			if h.Name != "" && strings.EqualFold(other.Name, h.Name) {
				l.bad(key, "a host named %q stands above already; give each its own name", h.Name)
			}
		}
		b.Hosts = append(b.Hosts, h)
	}
}

func has(m map[string]string, key string) bool {
	_, ok := m[key]
	return ok
}

func (l *loader) service(key, u string, p Protocol) Endpoint {
	if u == "" {
		return Endpoint{}
	}
	e, err := ParseEndpoint(u, false)
	switch {
	case err != nil:
		l.bad(key, "%v", err)
	case e.Protocol != p:
		l.bad(key, "%q speaks %s, not %s", u, e.Protocol, p)
	}
	e.Protocol = p // also of a bad one, so that listeners are not told that the side has no such host
	return e
}

// resolve makes paths absolute, from the file's folder.
func (l *loader) resolve() {
	dir := filepath.Dir(l.file)
	paths := []*string{&l.c.Flip.HoldFile, &l.c.Routes.File, &l.c.Store.Path, &l.c.Control.Socket, &l.c.Login.Learn.Key, &l.c.Backends[Old].CA, &l.c.Backends[New].CA,
		&l.c.TLS.ClientCA, &l.c.Authority.File, &l.c.Authority.LDAP.CA, &l.c.Authority.LDAP.BindPassword, &l.c.Authority.OAuth.CA,
		&l.c.Authority.OAuth.ClientSecret,
		&l.c.TLS.TicketKeys, &l.c.TLS.ACME.CA, &l.c.TLS.ACME.Storage, &l.c.TLS.ACME.DNS.KeyFile, &l.c.TLS.ACME.EAB.KeyFile}
	for _, side := range Sides {
		s := &l.c.Backends[side].Sync
		paths = append(paths, &s.Secrets, &s.MasterPassword)
	}
	paths = append(paths, l.c.hookPaths()...)
	for i := range l.c.TLS.Certificates {
		paths = append(paths, &l.c.TLS.Certificates[i].Cert, &l.c.TLS.Certificates[i].Key)
	}
	for _, p := range paths {
		if *p == "" || filepath.IsAbs(*p) {
			continue
		}
		if abs, err := filepath.Abs(filepath.Join(dir, *p)); err == nil {
			*p = abs
		}
	}
	if l.c.Hostname == "" {
		if name, err := os.Hostname(); err == nil {
			l.c.Hostname = name
		}
	}
}

// IsErrors tells whether err is about what the operator wrote.
func IsErrors(err error) bool {
	var e Errors
	return errors.As(err, &e)
}
