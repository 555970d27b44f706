package syncer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/syncer/merge"
)

// pass is one run over one account.
type pass struct {
	s         *Syncer
	user      string
	authority config.Side
	epoch     int64
	opts      RunOptions
	journal   journal
	pools     [2]*pool
	sides     [2]SideFolders
	plan      *Plan
	planner   *planner // what the plan's names were made by; nil where there are no scripts to carry
	fresh     bool     // report.Sieve is this pass's own
	folders   []*folder
	intents   []Intent      // suspects: appends that may still come true
	settled   bool          // what a pass before had sent has had its time, see settleFlags
	release   []Quarantined // to be let go: the message is gone

	newQuarantine []Quarantined          // not written yet
	proofs        map[spot][]proof       // what people have asked to be deleted, taken from Options.Proofs
	seen          map[string]observation // of passes before; see observations
	reopened      bool                   // no connection to the side that decides is one of a pass before
	guarded       string                 // why no deletes at all are carried in this pass, "" when they are
	unseen        string                 // why what is gone may stand elsewhere, "" when it does not; see mayHold
	unlimit       func()                 // the pass takes part in the user's limit no more
	lostOwner     context.CancelCauseFunc
	overOnce      sync.Once
	over          time.Time // when all that is left to do at the end is to be done

	mu     sync.Mutex // guards what follows
	report Report
	prog   Progress
}

// folder is a mailbox of the plan during a pass. Its pairs and flags belong to whoever works on it; mu guards the dictionary,
// which both sides' scans use at once.
type folder struct {
	Folder
	box    Mailbox
	was    Mailbox            // box as it is in the store
	next   [2]uint32          // everything that is appended from now on stands at or above it
	status [2]*backend.Status // as listed
	opened [2]*backend.Selected
	err    error // why it cannot be done in this pass
	// What a side said at the scan: each side's own, as both are looked at at once.
	scanErr [2]error

	mu    sync.Mutex
	dict  *merge.Dict
	pairs *pairSet
	snap  [2]*snapshot
	work  work
	steps [2][]step // how the mail of work.create is brought in, by side

	movedAway []merge.Pair  // moved to another folder on the follower: gone from here when that is done
	stuck     bool          // it was not done, for some
	quar      []Quarantined // those of its messages
	proven    proven
	released  bool    // what the guard would hold back may go
	held      bool    // deletes are held back
	waits     bool    // all of them are, as mail may stand elsewhere
	carried   bool    // deletes were carried, or some of them
	deleted   bool    // it was deleted on the follower
	unread    bool    // the side that decides does not show what is in it
	copied    bool    // mail was moved out of it by COPY, and is to be expunged
	made      bool    // it was created, or was there: it has its place in the store whatever the side says of it now
	reset     [2]bool // UIDVALIDITY is another than that of the pairs
	unsteady  [2]bool // UIDs are others each time that it is opened
}

// name is what people call it.
func (f *folder) name() string {
	if f.Shown[config.Old] != "" {
		return f.Shown[config.Old]
	}
	return f.Shown[config.New]
}

func (s *Syncer) newPass(ctx context.Context, user string, o RunOptions) (*pass, error) {
	if o.Decides == nil {
		o.Decides = s.o.Route
	}
	authority, epoch, err := o.Decides(ctx, user)
	if err != nil {
		return nil, err
	}
	p := &pass{s: s, user: user, authority: authority, epoch: epoch, opts: o}
	p.journal = journal{store: s.o.Store, user: user, owner: s.o.Owner}
	p.report = Report{User: user, Authority: authority.String(), DryRun: o.DryRun, Began: s.o.Now(), Lost: map[string]int64{}, Conflicts: map[string]int64{}}
	p.prog = Progress{Phase: "plan", Began: p.report.Began}
	p.unlimit = s.o.Limits.join(user)
	kept := s.idle.take(user)
	s.freshConns(user, &kept)
	p.reopened = kept[authority].Client == nil
	for _, side := range config.Sides {
		p.pools[side] = newPool(side, user, &s.o)
	}
	for _, side := range config.Sides { // in this order everywhere: see Budget
		if err = errors.Join(err, p.pools[side].reserve(ctx, kept[side].Client, kept[side].slot, o.Wait)); err != nil {
			kept[config.New].end()
			p.close()
			return nil, err
		}
	}
	return p, nil
}

// close gives the connections back.
func (p *pass) close() {
	p.unlimit()
	ctx, cancel := p.ending(2 * logoutTime)
	defer cancel()
	// A session that lists a mailbox which it does not open then knows an old list, and may know no other as long as it lives (Dovecot, behind
	// renames in other sessions): the next pass asks in a new one.
	sound := len(p.report.Errors) == 0
	var keep [2]pooled
	var rest []pooled
	var wg sync.WaitGroup
	for side, pl := range p.pools {
		pl.end()
		list := pl.take()
		rest = append(rest, list...)
		if p.s.o.Keep > 0 && len(list) > 0 && sound {
			wg.Go(func() {
				if leave(ctx, list[0].Client) {
					keep[side] = list[0]
				}
			})
		}
	}
	wg.Wait()
	if keep[0].Client != nil || keep[1].Client != nil {
		p.s.keep(p.user, keep)
	}
	logout(ctx, slices.DeleteFunc(rest, func(c pooled) bool { return c == keep[0] || c == keep[1] }))
}

// ownTime is how long an account stays with a process that has died.
func (s *Syncer) ownTime() time.Duration {
	if s.o.Lease > 0 {
		return s.o.Lease
	}
	return 90 * time.Second
}

// acquire makes this process the one who may write for the user, and keeps it so until stop.
func (p *pass) acquire(ctx context.Context) (stop func(), err error) {
	if err := p.journal.acquire(ctx, p.s.ownTime()); err != nil {
		return nil, err
	}
	return func() {
		ctx, cancel := p.ending(storeEndTime)
		defer cancel()
		if err := p.journal.release(ctx); err != nil {
			p.s.o.Log.Warn("the account is given up late", "user", p.user, "err", err)
		}
	}, nil
}

// fenced renews the ownership while the pass runs: when that fails for too long the context it returns ends, before
// somebody else may take over.
func (p *pass) fenced(ctx context.Context) (context.Context, error) {
	ctx, p.lostOwner = context.WithCancelCause(ctx)
	return ctx, nil
}

// own renews until ctx ends.
func (p *pass) own(ctx context.Context) {
	last := time.Now()
	t := time.NewTicker(p.s.ownTime() / 6)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		switch err := p.journal.acquire(ctx, p.s.ownTime()); {
		case err == nil:
			last = time.Now()
		case errors.Is(err, ErrFenced) || time.Since(last) > p.s.ownTime()*2/3:
			p.lostOwner(fmt.Errorf("cannot keep the account: %w", err))
			return
		}
	}
}

// run is the pass. What goes wrong with one folder is noted and does not end it.
func (p *pass) run(ctx context.Context) error {
	if !p.opts.DryRun {
		ownCtx, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { p.own(ownCtx) })
		defer wg.Wait()
		defer stop()
		defer p.lostOwner(nil)
	}
	planned := func(ctx context.Context) error {
		if err := p.list(ctx); err != nil {
			return err
		}
		if len(p.plan.Refused()) > 0 {
			return &RefusedError{p.plan}
		}
		return nil
	}
	for _, step := range []func(context.Context) error{planned, p.prepare, p.recover, p.scan, p.pair, p.moves,
		p.stays, p.copy, p.stays, p.flags, p.stays, p.expunges, p.stays, p.conclude, p.sieve} {
		err := step(ctx)
		if ctx.Err() != nil { // whatever the step makes of that
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stays sees to it that the same side still decides: a pass that was begun before a flip ends before it writes what the other side
// has not said.
func (p *pass) stays(ctx context.Context) error {
	side, epoch, err := p.opts.Decides(ctx, p.user)
	if err == nil && (side != p.authority || epoch != p.epoch) {
		err = fmt.Errorf("%s: %w", p.user, ErrMoved)
	}
	return err
}

// list learns what both sides hold, and makes the plan.
func (p *pass) list(ctx context.Context) error {
	var wg sync.WaitGroup
	var errs [2]error
	for _, side := range config.Sides {
		wg.Go(func() { errs[side] = safely(func() error { return p.listSide(ctx, side) }) })
	}
	known, err := p.s.o.Store.Mailboxes(ctx, p.user)
	wg.Wait()
	if err := errors.Join(errs[0], errs[1], err); err != nil {
		return err
	}
	for _, side := range config.Sides {
		if err := p.identify(ctx, side, known); err != nil {
			return err
		}
	}
	if err := p.recognize(ctx, known); err != nil {
		return err
	}
	planner := planFolders(p.user, p.authority, p.sides, known, p.s.o.Rules)
	if p.plan = planner.plan; p.s.o.OpenSieve != nil {
		p.planner = planner
	}
	p.fill(known)
	return nil
}

// statusItems are what a change of a mailbox shows in.
var statusItems = []string{"MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "HIGHESTMODSEQ"} //nolint:gochecknoglobals // a constant

// listSide learns what a side holds. A connection that breaks is replaced.
func (p *pass) listSide(ctx context.Context, side config.Side) error {
	for tries := 1; ; tries++ {
		c, err := p.pools[side].get(ctx, "")
		if err != nil {
			return err
		}
		if err = p.listOn(ctx, side, c); err == nil {
			p.pools[side].put(c)
			return nil
		}
		broken := c.Err() != nil
		p.pools[side].drop(c)
		if !broken || tries >= attempts || ctx.Err() != nil || hopeless(err) {
			return &SideError{side, err}
		}
		if err := pause(ctx, tries); err != nil {
			return err
		}
	}
}

func (p *pass) listOn(ctx context.Context, side config.Side, c *backend.Client) (err error) {
	out := SideFolders{Subscribed: map[string]bool{}}
	var wg sync.WaitGroup
	var nsErr, subErr error
	wg.Go(func() { out.Namespaces, nsErr = c.Namespace(ctx) })
	wg.Go(func() {
		subErr = c.List(ctx, backend.ListOptions{Subscribed: true}, func(e backend.ListEntry) error {
			// LSUB names the parents of what is subscribed too (RFC 3501, section 6.3.9).
			if !slices.ContainsFunc(e.Attributes, func(a string) bool { return strings.EqualFold(a, `\Noselect`) }) {
				out.Subscribed[e.Name] = true
			}
			return nil
		})
	})
	listErr := c.List(ctx, backend.ListOptions{Special: true, Status: statusItems}, func(e backend.ListEntry) error {
		out.Folders = append(out.Folders, e)
		return nil
	})
	wg.Wait()
	if err := errors.Join(nsErr, listErr, subErr); err != nil {
		return err
	}
	if !slices.ContainsFunc(out.Folders, func(e backend.ListEntry) bool { return strings.EqualFold(e.Name, "INBOX") }) {
		return errors.New("the list of mailboxes has no INBOX: it is not taken for whole")
	}
	if out.Profile, err = p.s.Profile(ctx, side, c.Host()); err != nil {
		return storeError{err}
	}
	if out.Profile == nil {
		out.Profile = guess(c.Capabilities())
	}
	p.sides[side] = out
	return nil
}

// identify asks for MAILBOXID where that can tell a folder under a new name from a new one, or from the one that had the name
// before (RFC 8474).
func (p *pass) identify(ctx context.Context, side config.Side, known []Mailbox) error {
	listed := map[string]bool{}
	for _, e := range p.sides[side].Folders {
		listed[e.Name] = true
	}
	stored, alike, gone := map[string]Mailbox{}, map[uint32]int{}, false
	for _, m := range known {
		stored[m.Name[side]] = m
		alike[m.Validity[side]]++
		gone = gone || m.Name[side] != "" && !listed[m.Name[side]]
	}
	// Folders that were made in the same second share a UIDVALIDITY on Cyrus: one under the name of another shows in nothing else.
	doubtful := func(e backend.ListEntry) bool {
		m, ok := stored[e.Name]
		if e.Status == nil || !ok {
			return e.Status != nil && gone
		}
		st, cur := e.Status, m.Cursor[side]
		return m.MailboxID[side] != "" && alike[st.Validity] > 1 &&
			(st.HighestModSeq != cur.HighestModSeq || st.UIDNext != cur.UIDNext || st.Messages != cur.Messages)
	}
	if !slices.ContainsFunc(p.sides[side].Folders, doubtful) {
		return nil
	}
	return p.on(ctx, side, func(c *backend.Client) error {
		if !c.Has("OBJECTID") {
			return nil
		}
		asked := map[int]*backend.SelectCommand{} // a Cyrus of 2022 tells it rightly at EXAMINE only
		for i, e := range p.sides[side].Folders {
			if doubtful(e) {
				asked[i] = c.Select(e.Name, backend.SelectOptions{ReadOnly: true})
			}
		}
		for i, x := range asked {
			sel, err := x.Result(ctx)
			if err != nil {
				if !refused(err) {
					return err
				}
				continue
			}
			p.sides[side].Folders[i].Status.MailboxID = sel.MailboxID
		}
		return nil
	})
}

// fill makes the folders of the pass out of the plan.
func (p *pass) fill(known []Mailbox) {
	status := [2]map[string]*backend.Status{{}, {}}
	for side := range p.sides {
		for _, e := range p.sides[side].Folders {
			status[side][e.Name] = e.Status
		}
	}
	for _, line := range p.plan.Folders {
		if line.Action == ActionSkip || line.Action == ActionRefuse {
			continue
		}
		f := &folder{Folder: line, box: Mailbox{User: p.user}}
		if i := slices.IndexFunc(known, func(m Mailbox) bool { return line.Known != 0 && m.ID == line.Known }); i >= 0 {
			f.box = known[i]
			f.was = known[i]
		}
		f.box.Name, f.box.SpecialUse = line.Name, line.Use
		if line.Action == ActionGone && line.Name != f.was.Name && f.box.GoneSince.IsZero() { // known for gone from now on, by that alone
			f.box.GoneSince = p.s.stamp()
		}
		for side := range f.status {
			if line.Exists[side] {
				f.status[side] = status[side][line.Listed[side]]
				if p.opts.DryRun { // nothing is renamed: it stays where it is
					f.Name[side] = line.Listed[side]
				}
			}
		}
		p.folders = append(p.folders, f)
	}
	p.prog.Folders[1] = len(p.folders)
	p.report.Folders = len(p.folders)
}

// fail notes that a folder cannot be done in this pass. Trouble of the store, or the end of ctx, ends the pass instead.
func (p *pass) fail(ctx context.Context, f *folder, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var side *SideError
	if stackOf(err) != nil || errors.Is(err, ErrFenced) || errors.Is(err, ErrYielded) || isStore(err) || asked(err) > 0 {
		return err
	}
	if errors.As(err, &side) {
		if !p.ofFolder(ctx, f, side) {
			return err
		}
		f.unread = f.unread || side.Side == p.authority
		err = fmt.Errorf("%s: the connection ends each time at this folder: %w", side.Side, side.Err)
	}
	f.err = err
	f.pairs, f.snap, f.work = nil, [2]*snapshot{}, work{}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Errors = append(p.report.Errors, FolderError{Folder: f.name(), Error: err.Error(), Class: ClassOf(err)})
	if p.s.tells(p.user, f.name(), err) {
		p.s.o.Log.Warn("a folder could not be done", "user", p.user, "folder", f.name(), "err", err)
	}
	return nil
}

// storeError is trouble of the store: the pass cannot go on without it.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

func isStore(err error) bool {
	var s storeError
	return errors.As(err, &s)
}

// write makes a change durable.
func (p *pass) write(ctx context.Context, c Change) (Applied, error) {
	a, err := p.journal.write(ctx, c)
	if err != nil {
		return a, storeError{fmt.Errorf("store: %w", err)}
	}
	return a, nil
}

// save writes a folder with its pairs, and whatever else belongs to the same transaction.
func (p *pass) save(ctx context.Context, f *folder, c Change) (Applied, error) {
	f.mu.Lock()
	if f.pairs != nil {
		f.box.Pairs = int64(f.pairs.len())
		c.Chunks = append(c.Chunks, f.pairs.changed(f.box.ID)...)
		f.quar = slices.DeleteFunc(f.quar, func(q Quarantined) bool {
			if q.Validity != f.validity(q.Side) || !f.pairs.wrote(q.Side, q.UID) {
				return false
			}
			c.Release = append(c.Release, q) // it has its copy now
			return true
		})
	}
	if f.dict != nil {
		f.box.Flags = f.dict.Encode()
	}
	c.Mailboxes = append(c.Mailboxes, f.box)
	f.mu.Unlock()
	a, err := p.write(ctx, c)
	if err != nil {
		return a, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pairs != nil {
		f.pairs.stored()
	}
	return a, nil
}

// load reads the pairs and flags of a folder, unless they are there.
func (p *pass) load(ctx context.Context, f *folder) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dict == nil {
		d, err := merge.DecodeDict(f.box.Flags)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		f.dict = d
	}
	if f.pairs != nil {
		return nil
	}
	if f.box.ID == 0 {
		f.pairs = &pairSet{}
		return nil
	}
	chunks, err := p.s.o.Store.Chunks(ctx, f.box.ID)
	if err != nil {
		return storeError{err}
	}
	f.pairs, err = loadPairs(chunks)
	return err
}

// progress changes what is told, and tells it.
func (p *pass) progress(change func(*Progress)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.prog)
	if p.opts.Progress != nil {
		p.opts.Progress(p.prog)
	}
}

// count changes the report.
func (p *pass) count(change func(*Report)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.report)
}

// finish closes the report and keeps it.
func (p *pass) finish(err error) (*Report, error) {
	p.progress(func(g *Progress) { g.Phase = "done"; g.Folder = "" })
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Took = p.s.o.Now().Sub(p.report.Began)
	for _, f := range p.folders {
		p.report.Pairs += f.box.Pairs
		if !f.work.merged { // nothing was looked at: what stood in quarantine still does
			p.report.aside(f.quar...)
		}
	}
	slices.SortFunc(p.report.Errors, func(a, b FolderError) int { return strings.Compare(a.Folder, b.Folder) })
	report := p.report // a copy: reports are kept for long, and the pass with its pairs and folders is not to stay with them
	out := &report
	var refused *RefusedError
	if errors.As(err, &refused) {
		return out, err
	}
	before, _ := p.s.o.Proofs.sighted(p.user)
	// That nothing is held back any more is worth a note too.
	if !p.opts.DryRun && (err != nil && !errors.Is(err, ErrYielded) || out.changed() || len(before) > 0 || p.fresh && out.Sieve.changed()) {
		r := Run{User: p.user, Began: p.report.Began, Ended: p.s.o.Now()}
		r.Summary, _ = json.Marshal(out)
		if err != nil {
			r.Error = err.Error()
		}
		ctx, cancel := p.ending(storeEndTime)
		defer cancel()
		if _, serr := p.s.o.Store.SaveRun(ctx, r); serr != nil && err == nil {
			err = serr
		}
	}
	return out, err
}

// changed tells whether a pass did anything that is worth keeping.
func (r *Report) changed() bool {
	n := r.Copied[0] + r.Copied[1] + r.Moved[0] + r.Moved[1] + r.Flags[0] + r.Flags[1] + r.Expunged[0] + r.Expunged[1] + r.Paired
	for side := range 2 {
		n += int64(r.Created[side] + r.Renamed[side] + r.Deleted[side] + r.Subscribed[side])
	}
	return n > 0 || len(r.Held)+len(r.Errors) > 0
}

// guess is what is taken for granted of a product that was not probed: names that it refuses, so that the plan can say how
// they will be written. It is known by extensions that nobody else has.
func guess(capabilities []string) *Profile {
	has := func(name string) bool { return slices.Contains(capabilities, name) }
	switch {
	case has("X-REPLICATION") || has("XMOVE") || has("NO_ATOMIC_RENAME"):
		return &Profile{Product: "Cyrus", BadNames: "%\"\\{}"}
	case has("ACL2=UNION") || has("THREAD=ORDEREDSUBJECT") && !has("CONDSTORE") && has("CHILDREN"):
		return &Profile{Product: "Courier", BadNames: "/"}
	case has("SNIPPET=FUZZY") || has("PREVIEW=FUZZY") || has("CONDSTORE") && has("THREAD=REFS"):
		return &Profile{Product: "Dovecot", BadFirst: "~"}
	}
	return nil
}
