package syncer

import (
	"context"
	"strings"

	"mailgate/backend"
)

// oddName is a name that some product refuses or changes.
type oddName struct {
	words string // as notes have it
	char  string // as Profile.BadNames has it, "" for what is no character
	level string // the last level of the name
}

// probedName is the longest level of a name that is tried.
const probedName = 250

func oddNames() []oddName {
	return []oddName{
		{"%", "%", "a%b"}, {"*", "*", "a*b"}, {`"`, `"`, `a"b`}, {"/", "/", "a/b"}, {".", ".", "a.b"}, {"~", "~", "a~b"}, {`\`, `\`, `a\b`},
		{"{", "{", "a{b"}, {"}", "}", "a}b"},
		{"a leading blank", "", " a"}, {"a trailing blank", "", "a "}, {"raw 8-bit", "8", "caf\xc3\xa9"},
		{"& that begins no encoding", "", "a&b"}, {"& with an encoding of ASCII", "", "&AGE-"},
	}
}

// names creates folders with odd names below the scratch mailbox, and looks whether they are there by that name.
func (r *prober) names(ctx context.Context) error {
	base := r.box + "-names"
	if r.sep != 0 {
		base += string(r.sep)
	}
	there := func() (map[string]bool, error) {
		set := map[string]bool{}
		_, err := r.try(ctx, "LIST", func(c *backend.Client) error {
			return c.List(ctx, backend.ListOptions{Pattern: r.box + "*"}, func(e backend.ListEntry) error {
				set[e.Name] = true
				return nil
			})
		})
		return set, err
	}
	create := func(what, name string) (refused string, err error) {
		return r.try(ctx, "CREATE, "+what, func(c *backend.Client) error { return c.Create(name, "").Wait(ctx) })
	}

	said := map[string]string{}
	for _, n := range oddNames() {
		if r.sep != 0 && strings.Contains(n.level, string(r.sep)) {
			continue // it makes two levels
		}
		refused, err := create(n.words, base+n.level)
		if err != nil {
			return err
		}
		said[n.level] = refused
	}
	set, err := there()
	if err != nil {
		return err
	}
	for _, n := range oddNames() {
		refused, tried := said[n.level]
		switch {
		case r.sep != 0 && n.char == string(r.sep):
			r.p.BadNames += n.char
			continue
		case !tried, refused == "" && set[base+n.level]:
			continue
		case refused == "":
			refused = "it is taken, but another name is made of it"
		}
		r.p.BadNames += n.char
		r.p.BadNameForms = append(r.p.BadNameForms, n.words)
		r.note("folder names cannot hold %s: %s", n.words, refused)
	}

	// Some mind a tilde at the beginning of the whole name only.
	tilde := r.prefix + "~" + strings.TrimPrefix(r.box, r.prefix)
	refused, err := create("a leading ~", tilde)
	if err != nil {
		return err
	}
	if refused != "" {
		r.p.BadFirst = "~"
		r.p.BadNameForms = append(r.p.BadNameForms, "a leading ~")
		r.note("folder names cannot begin with ~: %s", refused)
	} else if _, err := r.try(ctx, "DELETE", func(c *backend.Client) error { return c.Delete(tilde).Wait(ctx) }); err != nil {
		return err
	}

	for _, size := range []int{100, 200, probedName} {
		name := r.box + "-"
		name += strings.Repeat("n", size-(len(name)-len(r.prefix)))
		refused, err := create("a long name", name)
		if err != nil {
			return err
		}
		if refused != "" {
			r.note("a folder name of %d bytes is refused: %s", size, refused)
			break
		}
		r.p.MaxName = size
	}

	if _, err := create("letter case", base+"Case"); err != nil {
		return err
	}
	refused, err = create("letter case", base+"cASE")
	if err != nil {
		return err
	}
	if set, err = there(); err != nil {
		return err
	}
	r.p.CaseFolds = set[base+"Case"] && (refused != "" || !set[base+"cASE"])
	return nil
}
