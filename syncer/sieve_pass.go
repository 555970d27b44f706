package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"mailgate/backend"
	"mailgate/config"
)

// sieveTime bounds what a pass does with scripts: the mail is done before, and waits for nobody.
const sieveTime = 3 * time.Minute

// sieveTurn bounds it in passes that begin by themselves; sieveRest is how long a user's scripts are left alone by those behind a refused login.
const (
	sieveTurn = 20 * time.Second
	sieveRest = 6 * time.Hour
)

// SieveProof begins the names of scripts that prove a master login. They are no user's: one that was left behind is not carried.
const SieveProof = "mailgate-proof-"

// mostScripts is how many bytes of scripts an account may have on a side: they are held in memory while a pass carries them.
const mostScripts = 64 << 20

// sieveSide is a side's ManageSieve during a pass.
type sieveSide struct {
	client *backend.SieveClient
	caps   backend.SieveCapabilities
	held   sieveHeld
}

// sievePass carries a user's scripts. The sessions are short: while a script was stored, Cyrus 3.6 lets no other session of the user
// go on before that one ends.
type sievePass struct {
	*pass
	names  *sieveNames
	sides  [2]*sieveSide
	known  []Script
	report *SieveReport
	dry    bool
	agreed map[string][2]string // hashes of what both sides have when the pass is done with it
	state  map[string]Script    // what else is to be noted of a script
}

// sieve carries the user's Sieve scripts, at the end of a pass. Trouble with them is in the report, and never an error: the mail is done.
func (p *pass) sieve(ctx context.Context) error {
	if p.s.o.OpenSieve == nil {
		return nil
	}
	if p.opts.NoSieve {
		p.report.Sieve = p.s.sieveSeen(p.user)
		return nil
	}
	most := sieveTime
	if p.opts.Wait > 0 { // somebody's turn, and connections for mail, wait meanwhile
		most = sieveTurn
	}
	if before := p.s.sieveSeen(p.user); before != nil && p.opts.Wait > 0 && p.s.o.Now().Sub(before.At) < max(p.opts.SieveAfter, before.rest) {
		p.report.Sieve = before
		return nil
	}
	if err := p.stays(ctx); err != nil {
		return nil // whoever decides now: the next pass is his, and the mail of this one is done
	}
	within, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("not done within %s", most))
	defer cancel()
	x := &sievePass{pass: p, dry: p.opts.DryRun, report: &SieveReport{At: p.s.o.Now()}, agreed: map[string][2]string{}, state: map[string]Script{}}
	err := safely(func() error { return x.run(within) })
	p.s.logDefect(p.user, err)
	x.close(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		x.report.Trouble = err.Error()
		var login *backend.Error
		if errors.As(err, &login) && login.Kind == backend.AuthFailed { // the mail lets him in: hosts lock out who goes on trying
			x.report.rest = sieveRest
		}
		if p.s.tells(p.user, "Sieve", err) {
			p.s.o.Log.Warn("a user's Sieve scripts could not be carried", "user", p.user, "err", err)
		}
	}
	if x.nowhere() {
		return nil
	}
	p.fresh, p.report.Sieve = true, x.report
	if !x.dry {
		p.s.sieveDone(p.user, x.report)
	}
	return nil
}

// nowhere tells that neither side has ManageSieve: there is nothing to tell.
func (x *sievePass) nowhere() bool {
	return x.report.Without == "both"
}

func (x *sievePass) run(ctx context.Context) error {
	if err := x.open(ctx); err != nil || x.report.Without != "" {
		return err
	}
	var err error
	if x.known, err = x.s.o.Store.Scripts(ctx, x.user); err != nil {
		return err
	}
	defer x.count()
	x.names = newSieveNames(x.planner, x.utf7())
	steps := mergeScripts(x.authority, x.held(), x.known, x.same, x.opts.Deletes)
	if err := x.stays(ctx); err != nil { // what was read may have taken a while
		return err
	}
	for _, st := range steps {
		if st.do != sieveDelete { // when the mark is carried: the active script is not deleted
			err = errors.Join(err, x.step(ctx, st))
		}
		if x.over(err) {
			return errors.Join(err, x.save(ctx, false))
		}
	}
	marked, merr := x.mark(ctx)
	err = errors.Join(err, merr)
	for _, st := range steps {
		if st.do == sieveDelete && !x.over(err) {
			err = errors.Join(err, x.step(ctx, st))
		}
	}
	return errors.Join(err, x.save(ctx, marked))
}

// over tells whether a session has ended, with whatever error: nothing more can be done.
func (x *sievePass) over(err error) bool { return err != nil && sieveEnded(err) }

// sieveEnded tells whether an error is more than a server's answer.
func sieveEnded(err error) bool {
	return backend.SieveRefused(err) == nil && !errors.Is(err, backend.ErrScriptSize)
}

// open logs in on both sides and reads what they hold.
func (x *sievePass) open(ctx context.Context) error {
	var wg sync.WaitGroup
	var errs [2]error
	var without [2]bool
	for _, side := range config.Sides {
		x.sides[side] = &sieveSide{}
		wg.Go(func() {
			errs[side] = safely(func() error { return x.openSide(ctx, side) })
			without[side] = errors.Is(errs[side], backend.ErrNoHost)
		})
	}
	wg.Wait()
	switch {
	case without[0] && without[1]:
		x.report.Without = "both"
		return nil
	case without[0] || without[1]:
		there := config.Old
		if without[0] {
			there = config.New
		}
		x.report.Without = there.Other().String()
		x.report.Scripts = len(x.sides[there].held.scripts)
		x.report.Active[there] = x.sides[there].held.active
		return errs[there]
	}
	return errors.Join(errs[:]...)
}

func (x *sievePass) openSide(ctx context.Context, side config.Side) error {
	s := x.sides[side]
	c, err := x.s.o.OpenSieve(ctx, side, x.user, !x.dry)
	if err != nil {
		return &SideError{side, err}
	}
	s.client, s.caps = c, c.Capabilities()
	list, err := c.List(ctx)
	if err != nil {
		return &SideError{side, err}
	}
	s.held.scripts = map[string]sieveText{}
	total := 0
	for _, l := range list {
		if strings.HasPrefix(l.Name, SieveProof) {
			continue
		}
		if l.Active {
			s.held.active = l.Name
		}
		text, err := c.Get(ctx, l.Name)
		if total += len(text); total > mostScripts {
			return &SideError{side, fmt.Errorf("its scripts have more than %d MiB in all", mostScripts>>20)}
		}
		switch {
		case err == nil:
			s.held.scripts[l.Name] = sieveText{text: text}
		case sieveEnded(err):
			return &SideError{side, err}
		default:
			s.held.scripts[l.Name] = sieveText{why: "it is listed, and cannot be read: " + err.Error()}
		}
	}
	return nil
}

// close ends both sessions.
func (x *sievePass) close(ctx context.Context) {
	for _, s := range x.sides {
		if s == nil || s.client == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		_ = s.client.Logout(ctx)
		cancel()
		_ = s.client.Close()
	}
}

func (x *sievePass) held() (out [2]sieveHeld) {
	for side, s := range x.sides {
		out[side] = s.held
	}
	return out
}

// utf7 tells which sides have names in scripts as in IMAP: as is configured, or where the host is a Cyrus, whose default it is.
func (x *sievePass) utf7() (out [2]bool) {
	for side, s := range x.sides {
		switch x.s.o.SieveNames[side] {
		case "utf-7":
			out[side] = true
		case "utf-8":
		default:
			out[side] = strings.HasPrefix(s.caps.Implementation, "Cyrus")
		}
	}
	return out
}

// same tells whether both sides have the same script, but for folders' names.
func (x *sievePass) same(name string) bool {
	for _, from := range []config.Side{x.authority, x.authority.Other()} {
		here, there := x.sides[from].held.scripts[name].text, x.sides[from.Other()].held.scripts[name].text
		out, _, _, err := x.names.translate(from, here)
		if err == nil && out == there || err != nil && here == there {
			return true
		}
	}
	return false
}

// base is what is known of a script.
func (x *sievePass) base(name string) Script {
	if i := slices.IndexFunc(x.known, func(s Script) bool { return s.Name == name }); i >= 0 {
		return x.known[i]
	}
	return Script{Name: name}
}

// agree notes that both sides have the same script.
func (x *sievePass) agree(name string) {
	var h [2]string
	for side, s := range x.sides {
		h[side] = sieveHash(s.held.scripts[name].text)
	}
	x.agreed[name] = h
}

// step does what was decided about a script. An error that sieveEnded does not know is in the report already.
func (x *sievePass) step(ctx context.Context, st sieveStep) error {
	switch st.do {
	case sieveAgree:
		x.agree(st.name)
		x.doubts(st.name)
	case sieveStuck:
		x.refuse(st.name, x.authority.Other(), st.why, "", nil)
	case sieveHold:
		s := x.base(st.name)
		s.State, s.Why, s.Tried = ScriptKept, st.why, ""
		x.state[st.name] = s
		x.report.say(st.name, st.to, SieveKept, st.why)
	case sieveWrite:
		return x.write(ctx, st)
	case sieveDelete:
		return x.delete(ctx, st)
	}
	return nil
}

// doubts tells again, on every pass, what in an equal script wants a look.
func (x *sievePass) doubts(name string) {
	_, _, notes, err := x.names.translate(x.authority, x.sides[x.authority].held.scripts[name].text)
	if err != nil {
		return
	}
	x.doubt(name, x.authority.Other(), notes)
}

func (x *sievePass) doubt(name string, side config.Side, notes []SieveNote) {
	const most = 5
	var why []string
	for _, n := range notes[:min(len(notes), most)] {
		why = append(why, n.String())
	}
	if len(notes) > most {
		why = append(why, fmt.Sprintf("and %d more", len(notes)-most))
	}
	if len(why) > 0 {
		x.report.say(name, side, SieveDoubt, strings.Join(why, "; "))
	}
}

// refuse notes that a script is not carried.
func (x *sievePass) refuse(name string, to config.Side, why, tried string, lacks []string) {
	s := x.base(name)
	s.State, s.Why, s.Tried = ScriptRefused, why, tried
	x.state[name] = s
	x.report.say(name, to, SieveRefused, why, lacks...)
}

// delete deletes a script on the follower, if it is still what it was.
func (x *sievePass) delete(ctx context.Context, st sieveStep) error {
	s := x.sides[st.to]
	if x.dry {
		x.report.say(st.name, st.to, SieveDeleted, st.why)
		return nil
	}
	why := ""
	if s.held.active == st.name {
		why = "it is the active one there"
	} else if text, err := s.client.Get(ctx, st.name); err != nil && sieveEnded(err) {
		return &SideError{st.to, err}
	} else if err != nil || text != s.held.scripts[st.name].text {
		why = "it was changed there just now"
	} else if err := s.client.Delete(ctx, st.name); err != nil && sieveEnded(err) {
		return &SideError{st.to, err}
	} else if err != nil {
		why = err.Error()
	}
	if why != "" {
		b := x.base(st.name)
		b.State, b.Why = ScriptKept, why
		x.state[st.name] = b
		x.report.say(st.name, st.to, SieveKept, why)
		return nil
	}
	delete(s.held.scripts, st.name)
	x.report.Deleted[st.to]++
	x.report.say(st.name, st.to, SieveDeleted, "")
	return nil
}

// count fills in the numbers.
func (x *sievePass) count() {
	names := map[string]bool{}
	for side, s := range x.sides {
		for name := range s.held.scripts {
			names[name] = true
		}
		x.report.Active[side] = s.held.active
	}
	x.report.Scripts, x.report.Equal = len(names), len(x.agreed)
}

// save keeps what is agreed. marked tells that the marks are as they are to be.
func (x *sievePass) save(ctx context.Context, marked bool) error {
	if x.dry {
		return nil
	}
	now := x.s.o.Now()
	c := Change{}
	there := map[string]bool{}
	put := func(s Script) {
		there[s.Name] = true
		for side := range s.Active {
			if marked {
				s.Active[side] = x.sides[side].held.active == s.Name
			}
		}
		was := x.base(s.Name)
		s.Seen = was.Seen
		if was != s || was.State == "" {
			s.Seen = now
			c.Scripts = append(c.Scripts, s)
		}
	}
	for name, h := range x.agreed {
		s := x.base(name)
		s.Base, s.State, s.Why, s.Tried = h, ScriptEqual, "", ""
		put(s)
	}
	for name, s := range x.state {
		s.Name = name
		put(s)
	}
	for _, s := range x.known {
		_, onOld := x.sides[0].held.scripts[s.Name]
		_, onNew := x.sides[1].held.scripts[s.Name]
		switch {
		case there[s.Name]:
		case !onOld && !onNew:
			c.DropScripts = append(c.DropScripts, s.Name)
		default:
			put(s)
		}
	}
	if len(c.Scripts)+len(c.DropScripts) == 0 {
		return nil
	}
	slices.SortFunc(c.Scripts, func(a, b Script) int { return cmp.Compare(a.Name, b.Name) })
	_, err := x.pass.write(ctx, c)
	return err
}
