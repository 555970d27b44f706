package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parse reads the YAML: for lines, which viper does not keep, and for unknown, double and misshapen keys. It returns
// what can be used, so that the rest is looked at as well and all problems are told at once; ok is false when the
// file as a whole cannot be read.
func (l *loader) parse(b []byte) (values map[string]any, ok bool) {
	var doc, second yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		l.notYAML(err)
		return nil, false
	}
	switch err := d.Decode(&second); {
	case err == nil && len(second.Content) > 0:
		l.errs = append(l.errs, Problem{l.file, second.Content[0].Line, "a second document begins behind ---; write one"})
		return nil, false
	case err != nil && !errors.Is(err, io.EOF):
		l.notYAML(err)
		return nil, false
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		l.errs = append(l.errs, Problem{l.file, 1, "the file is empty; mailgate init writes one"})
		return nil, false
	}
	if doc.Content[0].Kind != yaml.MappingNode {
		l.errs = append(l.errs, Problem{l.file, doc.Content[0].Line, "expected keys such as hostname: and listen:"})
		return nil, false
	}
	return l.walk("", doc.Content[0]), true
}

func (l *loader) notYAML(err error) {
	p := Problem{File: l.file, Text: "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := regexp.MustCompile(`line (\d+): `).FindStringSubmatch(p.Text); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.Text = strings.Replace(p.Text, m[0], "", 1)
	}
	if strings.Contains(p.Text, "cannot start any token") {
		p.Text += " (a tab? indent with spaces, and put values that begin with @ or ` in quotes)"
	}
	l.errs = append(l.errs, p)
}

// walk notes the line of each key and complains of those that are unknown, double or of the wrong kind.
func (l *loader) walk(prefix string, n *yaml.Node) map[string]any {
	known := knownUnder(prefix)
	out := map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		key := prefix + k.Value
		first, again := l.lines[key]
		switch {
		case again:
			l.problem(k, "%q stands in line %d already; keep one", key, first)
			continue
		case known[k.Value] == "":
			l.lines[key] = k.Line
			l.problem(k, "unknown key %q%s", key, didYouMean(k.Value, keysOf(known)))
			continue
		}
		l.lines[key] = k.Line
		if x := l.value(key, known[k.Value], deref(v)); x != nil {
			l.from[key] = "file"
			out[k.Value] = x
		}
	}
	return out
}

// deref follows an alias ("*name") to what it stands for.
func deref(v *yaml.Node) *yaml.Node {
	if v.Kind == yaml.AliasNode {
		return v.Alias
	}
	return v
}

func (l *loader) problem(at *yaml.Node, format string, args ...any) {
	l.errs = append(l.errs, Problem{l.file, at.Line, fmt.Sprintf(format, args...)})
}

// value is what stands behind a key; nil when it cannot be used.
func (l *loader) value(key, kind string, v *yaml.Node) any {
	switch {
	case v.Tag == "!!null":
		l.problem(v, "%s: has no value; leave the key out or write one", key)
	case kind == "section" && v.Kind == yaml.MappingNode:
		return l.walk(key+".", v)
	case key == "waves" && v.Kind == yaml.SequenceNode:
		l.waveList = v // its items hold more than single values
		return []any{}
	case kind == "list" && v.Kind == yaml.SequenceNode:
		list := []any{}
		for i, item := range v.Content {
			item = deref(item)
			l.lines[fmt.Sprintf("%s[%d]", key, i)] = item.Line
			list = append(list, l.item(key, i, item))
		}
		return list
	case kind == "scalar" && v.Kind == yaml.ScalarNode:
		return v.Value
	case kind == "section":
		l.problem(v, "%s: takes keys below it", key)
	case kind == "list":
		l.problem(v, "%s: takes a list; write one item a line, each behind a dash", key)
	default:
		l.problem(v, "%s: takes a single value", key)
	}
	return nil
}

// item is an item of a list: a string, or a map of strings. What cannot be used is nil, so that the places of the
// others stay what they are; it has its complaint already.
func (l *loader) item(key string, i int, item *yaml.Node) any {
	sub := listKeys()[key]
	if sub == nil {
		if item.Kind == yaml.ScalarNode && item.Value == "" {
			l.problem(item, "%s[%d]: has no value; leave the item out or write one", key, i)
			return nil
		}
		if item.Kind != yaml.ScalarNode {
			l.problem(item, "%s: takes a list of single values", key)
			return nil
		}
		return item.Value
	}
	m := map[string]any{}
	if item.Kind != yaml.MappingNode {
		l.problem(item, "%s: each item takes the keys %s", key, strings.Join(sub, ", "))
		return nil
	}
	for j := 0; j+1 < len(item.Content); j += 2 {
		k, v := item.Content[j], deref(item.Content[j+1])
		at := fmt.Sprintf("%s[%d].%s", key, i, k.Value)
		switch {
		case !contains(sub, k.Value):
			l.problem(k, "unknown key %q in %s%s", k.Value, key, didYouMean(k.Value, sub))
		case l.lines[at] > 0:
			l.problem(k, "%q stands in line %d already; keep one", k.Value, l.lines[at])
		case contains(itemLists(), key+"."+k.Value):
			l.lines[at] = k.Line
			m[k.Value] = l.itemList(at, v)
		case v.Kind != yaml.ScalarNode || v.Tag == "!!null" || v.Value == "":
			l.lines[at], m[k.Value] = k.Line, nil
			l.problem(v, "%s: takes a single value", at)
		default:
			l.lines[at] = k.Line
			m[k.Value] = v.Value
		}
	}
	return m
}

// itemList is a list of single values in an item. What cannot be used is nil, and has its complaint.
func (l *loader) itemList(at string, v *yaml.Node) []any {
	if v.Kind != yaml.SequenceNode {
		l.problem(v, "%s: takes a list; write for example [ONE, TWO]", at)
		return nil
	}
	list := []any{}
	for i, item := range v.Content {
		item = deref(item)
		place := fmt.Sprintf("%s[%d]", at, i)
		l.lines[place] = item.Line
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" || item.Value == "" {
			l.problem(item, "%s: takes a single value", place)
			list = append(list, nil)
			continue
		}
		list = append(list, item.Value)
	}
	return list
}
