package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailgate/backend"
	"mailgate/config"
)

// write stores a script on a side as the other has it. What the server refuses is not tried again before the text, the folders' names
// or what the server can is another.
func (x *sievePass) write(ctx context.Context, st sieveStep) error {
	from, s := st.to.Other(), x.sides[st.to]
	text, refs, notes, err := x.names.translate(from, x.sides[from].held.scripts[st.name].text)
	if err != nil {
		x.refuse(st.name, st.to, err.Error(), "", nil)
		return nil
	}
	lacks := s.caps.Lacks(refs.requires)
	tried := x.tried(st.to, text)
	if b := x.base(st.name); b.State == ScriptRefused && b.Tried == tried {
		x.refuse(st.name, st.to, b.Why, tried, lacks)
		return nil
	}
	why, lasting, err := x.store(ctx, st, text)
	switch {
	case err != nil:
		return &SideError{st.to, err}
	case why != "":
		if !lasting {
			tried = ""
		}
		x.refuse(st.name, st.to, why, tried, lacks)
		return nil
	}
	x.report.Written[st.to]++
	x.report.say(st.name, st.to, SieveWrote, st.why)
	x.doubt(st.name, st.to, notes)
	if !x.dry {
		s.held.scripts[st.name] = sieveText{text: text}
		x.agree(st.name)
	}
	return nil
}

// tried names an attempt: the text, and what the server can.
func (x *sievePass) tried(to config.Side, text string) string {
	caps := x.sides[to].caps
	ext := slices.Clone(caps.Extensions)
	slices.Sort(ext)
	return sieveHash(text + "\x00" + caps.Implementation + "\x00" + caps.Version + "\x00" + strings.Join(ext, " "))
}

// store checks a script and stores it. why is why not, lasting whether trying again is in vain while nothing changes.
func (x *sievePass) store(ctx context.Context, st sieveStep, text string) (why string, lasting bool, err error) {
	s := x.sides[st.to]
	c := s.client
	if !c.Findable(st.name) {
		return "the server would take a script of this name, and never find it again; another name is needed", true, nil
	}
	if len(text) > backend.MaxScript {
		return backend.ErrScriptSize.Error(), true, nil
	}
	verdict := func(err error) (string, bool, error) {
		if err == nil {
			return "", false, nil
		}
		e := backend.SieveRefused(err)
		if e == nil {
			return "", false, err
		}
		// Room may be made, and times change; a fault in the text stays.
		return fmt.Sprintf("%s says %q", sideName(st.to), e.Text+codeWords(e)), !e.Has("QUOTA") && !e.Has("TRYLATER"), nil
	}
	if _, err := c.Check(ctx, text); !errors.Is(err, backend.ErrNoCheckScript) { // PUTSCRIPT checks, too
		if why, lasting, err := verdict(err); err != nil || why != "" {
			return why, lasting, err
		}
	}
	if why, lasting, err := verdict(c.HaveSpace(ctx, st.name, len(text))); err != nil || why != "" {
		return why, lasting, err
	}
	if x.dry {
		return "", false, nil
	}
	was, there := s.held.scripts[st.name]
	switch now, err := c.Get(ctx, st.name); {
	case err != nil && sieveEnded(err):
		return "", false, err
	case (err == nil) != there || there && now != was.text:
		return "it was changed there just now; the next pass looks again", false, nil
	}
	_, err = c.Put(ctx, st.name, text)
	return verdict(err)
}

func codeWords(e *backend.SieveError) string {
	if e.Code == "" {
		return ""
	}
	return " (" + e.Code + ")"
}

// mark carries the active mark. done tells that it is as it is to be, or may stay as it is.
func (x *sievePass) mark(ctx context.Context) (done bool, err error) {
	m := mergeMarks(x.authority, x.held(), x.known, x.opts.Deletes)
	follower := x.authority.Other()
	if !m.carry {
		if m.why != "" {
			x.report.say("", follower, SieveInactive, m.why)
		}
		return !m.hold, nil
	}
	s := x.sides[m.to]
	if m.name != "" && x.agreed[m.name][0] == "" && !x.wouldBe(m.name) {
		why := fmt.Sprintf("%q is active on %s, and is not the same here", oneLine(m.name, 100), sideName(m.to.Other()))
		if s.held.active != "" {
			why += fmt.Sprintf("; %q stays active", oneLine(s.held.active, 100))
		}
		x.report.say(m.name, m.to, SieveInactive, why)
		return false, nil
	}
	if !x.dry {
		if err := s.client.Activate(ctx, m.name); err != nil {
			if sieveEnded(err) {
				return false, &SideError{m.to, err}
			}
			x.report.say(m.name, m.to, SieveInactive, err.Error())
			return false, nil
		}
		s.held.active, x.report.Activated[m.to] = m.name, true
	}
	x.report.say(m.name, m.to, SieveActive, "")
	return true, nil
}

// wouldBe tells whether a pass that writes nothing would have made a script the same on both sides.
func (x *sievePass) wouldBe(name string) bool {
	return x.dry && slices.ContainsFunc(x.report.Lines, func(l SieveLine) bool { return l.Script == name && l.Act == SieveWrote })
}
