package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
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
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c := Default()
	c.File = file
	l := loader{file: file, c: &c, lines: map[string]int{}, from: map[string]string{}}
	if !l.parse(b) {
		return nil, l.errs.orNil()
	}
	l.layer(b, o)
	l.scalars()
	l.lists()
	c.source = l.from
	if len(l.errs) == 0 || !l.fatal {
		l.resolve()
		l.check()
	}
	return &c, l.errs.orNil()
}

type loader struct {
	file  string
	c     *Config
	v     *viper.Viper
	lines map[string]int    // key -> line
	from  map[string]string // key -> "file", "environment" or "flag"
	errs  Errors
	fatal bool
}

func (l *loader) bad(key, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if key != "" {
		text = key + ": " + text
	}
	switch l.from[key] {
	case "environment":
		text += " (set by the environment, " + envName(key) + ")"
	case "flag":
		text += " (set by a flag)"
	}
	l.errs = append(l.errs, Problem{l.file, l.line(key), text})
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

// parse reads the YAML for lines, unknown and double keys. viper keeps neither.
func (l *loader) parse(b []byte) bool {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		p := Problem{File: l.file, Text: strings.TrimPrefix(err.Error(), "yaml: ")}
		if m := regexp.MustCompile(`line (\d+): `).FindStringSubmatch(p.Text); m != nil {
			p.Line, _ = strconv.Atoi(m[1])
			p.Text = "not YAML: " + strings.Replace(p.Text, m[0], "", 1)
		}
		l.errs = append(l.errs, p)
		return false
	}
	if len(doc.Content) == 0 {
		l.errs = append(l.errs, Problem{l.file, 1, "the file is empty; mailgate init writes one"})
		return false
	}
	if doc.Content[0].Kind != yaml.MappingNode {
		l.errs = append(l.errs, Problem{l.file, doc.Content[0].Line, "expected keys such as hostname: and listen:"})
		return false
	}
	l.walk("", doc.Content[0])
	return true
}

// walk notes the line of each key and complains of those that are unknown, double or of the wrong kind.
func (l *loader) walk(prefix string, n *yaml.Node) {
	known := knownUnder(prefix)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		key := prefix + k.Value
		if _, ok := known[k.Value]; !ok {
			l.lines[key] = k.Line
			l.errs = append(l.errs, Problem{l.file, k.Line, fmt.Sprintf("unknown key %q%s", key, didYouMean(k.Value, keysOf(known)))})
			continue
		}
		if l.lines[key] > 0 {
			l.errs = append(l.errs, Problem{l.file, k.Line, fmt.Sprintf("%q stands in line %d already; keep one", key, l.lines[key])})
			continue
		}
		l.lines[key], l.from[key] = k.Line, "file"
		l.walkValue(key, known[k.Value], v)
	}
}

func (l *loader) walkValue(key, kind string, v *yaml.Node) {
	switch {
	case v.Tag == "!!null":
		l.kindError(v, key, "has no value; leave the key out or write one")
	case kind == "section" && v.Kind == yaml.MappingNode:
		l.walk(key+".", v)
	case kind == "list" && v.Kind == yaml.SequenceNode:
		for i, item := range v.Content {
			l.lines[fmt.Sprintf("%s[%d]", key, i)] = item.Line
			l.walkItem(key, item)
		}
	case kind == "scalar" && v.Kind == yaml.ScalarNode:
	case kind == "section":
		l.kindError(v, key, "takes keys below it")
	case kind == "list":
		l.kindError(v, key, "takes a list; write one item a line, each behind a dash")
	default:
		l.kindError(v, key, "takes a single value")
	}
}

func (l *loader) kindError(v *yaml.Node, key, text string) {
	l.errs = append(l.errs, Problem{l.file, v.Line, key + ": " + text})
	l.fatal = true
}

func (l *loader) walkItem(key string, item *yaml.Node) {
	sub := listKeys()[key]
	if sub == nil {
		if item.Kind != yaml.ScalarNode {
			l.kindError(item, key, "takes a list of single values")
		}
		return
	}
	if item.Kind != yaml.MappingNode {
		l.kindError(item, key, "each item takes the keys "+strings.Join(sub, ", "))
		return
	}
	for i := 0; i+1 < len(item.Content); i += 2 {
		if k := item.Content[i]; !contains(sub, k.Value) {
			l.errs = append(l.errs, Problem{l.file, k.Line, fmt.Sprintf("unknown key %q in %s%s", k.Value, key, didYouMean(k.Value, sub))})
		}
	}
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
	for _, side := range Sides {
		add("backends."+side.String()+".imap", "scalar")
		add("backends."+side.String()+".submission", "scalar")
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
func (l *loader) layer(b []byte, o Overrides) {
	l.v = viper.New()
	l.v.SetConfigType("yaml")
	if err := l.v.ReadConfig(bytes.NewReader(b)); err != nil {
		l.errs = append(l.errs, Problem{l.file, 0, err.Error()})
		l.fatal = true
		return
	}
	keys := map[string]string{}
	for _, s := range settings() {
		keys[s.key] = "scalar"
	}
	for k, sub := range listKeys() {
		if sub == nil {
			keys[k] = "list"
		}
	}
	for key := range keys {
		if v, ok := os.LookupEnv(envName(key)); ok {
			l.v.Set(key, v)
			l.from[key] = "environment"
		}
	}
	for key, value := range o {
		if keys[key] == "" {
			l.errs = append(l.errs, Problem{"command line", 0, fmt.Sprintf("unknown key %q%s", key, didYouMean(key, keysOf(keys)))})
			continue
		}
		l.v.Set(key, value)
		l.from[key] = "flag"
	}
}

// scalars sets each single value that was given anywhere.
func (l *loader) scalars() {
	for _, s := range settings() {
		if l.fatal || l.from[s.key] == "" {
			continue
		}
		if err := s.set(l.c, l.v.GetString(s.key)); err != nil {
			l.bad(s.key, "%v", err)
		}
	}
}

func (l *loader) strings(key string) []string {
	if l.from[key] == "" {
		return nil
	}
	if l.from[key] == "file" {
		return l.v.GetStringSlice(key)
	}
	return strings.FieldsFunc(l.v.GetString(key), func(r rune) bool { return r == ',' || r == ' ' })
}

// items gives a list of maps, as strings.
func (l *loader) items(key string) []map[string]string {
	list, _ := l.v.Get(key).([]any)
	var out []map[string]string
	for _, x := range list {
		m := map[string]string{}
		if values, ok := x.(map[string]any); ok {
			for k, v := range values {
				m[k] = fmt.Sprint(v)
			}
		}
		out = append(out, m)
	}
	return out
}

// lists sets what is not a single value.
func (l *loader) lists() {
	if l.fatal {
		return
	}
	for i, u := range l.strings("listen") {
		e, err := ParseEndpoint(u, true)
		if err != nil {
			l.bad(fmt.Sprintf("listen[%d]", i), "%v", err)
			continue
		}
		e.line = l.line(fmt.Sprintf("listen[%d]", i))
		l.c.Listen = append(l.c.Listen, e)
	}
	for i, m := range l.items("tls.certificates") {
		if m["cert"] == "" || m["key"] == "" {
			l.bad(fmt.Sprintf("tls.certificates[%d]", i), "needs both cert and key, each the path of a PEM file")
			continue
		}
		l.c.TLS.Certificates = append(l.c.TLS.Certificates, Certificate{Cert: m["cert"], Key: m["key"]})
	}
	if m := l.strings("login.mechanisms"); m != nil {
		l.c.Login.Mechanisms = nil
		for i, x := range m {
			x = strings.ToUpper(x)
			if known := Default().Login.Mechanisms; !contains(known, x) {
				l.bad(fmt.Sprintf("login.mechanisms[%d]", i), "unknown mechanism %q%s", x, didYouMean(x, known))
			}
			l.c.Login.Mechanisms = append(l.c.Login.Mechanisms, x)
		}
	}
	for _, side := range Sides {
		l.backend(side)
	}
}

func (l *loader) backend(side Side) {
	p := "backends." + side.String()
	b := &l.c.Backends[side]
	b.Pins = l.strings(p + ".tls.pins")
	items := l.items(p + ".hosts")
	short := map[string]string{"imap": l.v.GetString(p + ".imap"), "submission": l.v.GetString(p + ".submission")}
	if short["imap"] != "" || short["submission"] != "" {
		if len(items) > 0 {
			l.bad(p+".hosts", "stands beside %s.imap or .submission; write all hosts into the list", p)
		}
		items = append(items, short)
	}
	for i, m := range items {
		key := fmt.Sprintf("%s.hosts[%d]", p, i)
		if len(l.items(p+".hosts")) == 0 {
			key = p
		}
		h := Host{Name: m["name"]}
		h.IMAP = l.service(key, m["imap"], IMAP)
		h.Submission = l.service(key, m["submission"], Submission)
		if h.Name == "" {
			h.Name = h.IMAP.Host
		}
		if h.Name == "" {
			h.Name = h.Submission.Host
		}
		for _, other := range b.Hosts {
			if other.Name == h.Name {
				l.bad(key, "a host named %q stands above already; give each its own name", h.Name)
			}
		}
		b.Hosts = append(b.Hosts, h)
	}
}

func (l *loader) service(key, u string, p Protocol) Endpoint {
	if u == "" {
		return Endpoint{}
	}
	e, err := ParseEndpoint(u, false)
	switch {
	case err != nil:
		l.bad(key, "%s: %v", p, err)
	case e.Protocol != p:
		l.bad(key, "%s: %q speaks %s", p, u, e.Protocol)
	}
	return e
}

// resolve makes paths absolute, from the file's folder.
func (l *loader) resolve() {
	dir := filepath.Dir(l.file)
	paths := []*string{&l.c.Routes.File, &l.c.Store.Path, &l.c.Control.Socket, &l.c.Backends[Old].CA, &l.c.Backends[New].CA}
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
