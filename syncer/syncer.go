package syncer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"mailgate/backend"
	"mailgate/config"
)

// Options of a Syncer.
type Options struct {
	Store Store
	// Open logs in at a side as user.
	Open func(ctx context.Context, side config.Side, user string) (*backend.Client, error)
	// OpenSieve logs in at a side's ManageSieve as user; backend.ErrNoHost where it has none. write tells that something may be written
	// for that. Nil: scripts are not carried.
	OpenSieve  func(ctx context.Context, side config.Side, user string, write bool) (*backend.SieveClient, error)
	SieveNames [2]string // "utf-8" or "utf-7": how scripts name mailboxes; else as the product does by default
	// Route tells the side that decides.
	Route       func(ctx context.Context, user string) (config.Side, int64, error) // side and epoch
	Rules       Rules
	Connections int           // to each side, for one user; 0 means 3
	Batch       int           // messages of one append, at most; 0 means 256
	BatchBytes  int64         // bytes of one append, at most; 0 means 8 MiB
	Settle      time.Duration // how long UIDNEXT must stand still before an append of unknown outcome is done again; 0 means 2 s
	Grace       time.Duration // before a folder that is gone on one side is deleted on the other; 0 means 24 h, less means at once
	Confirm     time.Duration // for how long deletes must have been held back before somebody may release them; 0 means at once
	Keep        time.Duration // how long a connection to each side is kept for the next pass over the same user; 0 means not at all
	Budget      *Budget       // of connections, over all users; nil means as many as each pass takes
	// Doubt says why what the side that decides has lost may have been nobody's wish, "" for nothing: then only proven deletes are carried. May be nil.
	Doubt  func(ctx context.Context, user string) string
	Proofs *Proofs         // of deletes that people asked for; nil means that nobody tells of any
	Limits *Limits         // how fast mail is copied; nil means as fast as it goes
	Owner  string          // names this process towards the store
	Enough context.Context // ends when what is left to be done at the end of passes may take no longer; nil means never
	Lease  time.Duration   // how long an account stays with a process that has died; 0 means 90 s
	Log    *slog.Logger
	Now    func() time.Time
	Clock  *Clock // the process\'s, for what must not be done early; nil means Now
}

// RunOptions of one pass.
type RunOptions struct {
	DryRun     bool          // say what would be done
	Deletes    bool          // a person says that mass deletes are meant: the guard lets go what it has held back for Options.Confirm
	Wait       time.Duration // for the first connections where a host is crowded (ErrCrowded then, and no report); 0 means as long as it takes
	SieveAfter time.Duration // with Wait: Sieve scripts that were looked at less than this long ago are left alone; 0 means none are
	NoSieve    bool          // scripts are left alone
	// Decides is asked which side decides, and for the epoch, instead of Options.Route: a flip moves the user, and its own pass goes on.
	Decides  func(ctx context.Context, user string) (config.Side, int64, error)
	Recount  bool           // folders whose numbers of messages are not those that are known of are read as a whole
	Leave    bool           // mail that is gone from the side that does not decide is not made again there: see Report.Missing
	Fenced   bool           // nobody is at the mailboxes, and somebody waits: what is due by time alone waits for the next pass
	Progress func(Progress) // called often, from one goroutine at a time; may be nil
}

// Progress is how far a pass is.
type Progress struct {
	Phase    string // "plan", "scan", "copy", "changes", "done"
	Folder   string // as people read it, the one worked on
	Folders  [2]int // done, of
	Messages [2]int64
	Bytes    [2]int64
	Began    time.Time
	Failed   int64 // quarantined
}

// Report is what a pass did. Text of errors is for people; nothing in it is secret.
type Report struct {
	User       string           `json:"user"`
	Authority  string           `json:"authority"`
	DryRun     bool             `json:"dry_run,omitempty"`
	Began      time.Time        `json:"began"`
	Took       time.Duration    `json:"took_ns"`
	Folders    int              `json:"folders"`
	Created    [2]int           `json:"folders_created"` // by side, old and new
	Renamed    [2]int           `json:"folders_renamed"`
	Deleted    [2]int           `json:"folders_deleted"`
	Copied     [2]int64         `json:"copied"` // messages created on that side
	Bytes      [2]int64         `json:"bytes"`
	Moved      [2]int64         `json:"moved"`
	Flags      [2]int64         `json:"flags"` // messages whose flags were changed
	Expunged   [2]int64         `json:"expunged"`
	Subscribed [2]int           `json:"subscriptions"`
	Missing    int64            `json:"missing,omitempty"`    // gone from the side that does not decide, and not made again (RunOptions.Leave), of what was looked at
	Paired     int64            `json:"paired"`               // found on both sides, by content
	Pairs      int64            `json:"pairs"`                // now in all
	Held       []Held           `json:"held,omitempty"`       // deletes that wait for a person
	Lost       map[string]int64 `json:"lost_flags,omitempty"` // flags that the other side cannot keep -> messages
	Conflicts  map[string]int64 `json:"conflicts,omitempty"`  // by kind of merge.Conflict -> messages: both sides had changed them
	Quarantine []Quarantined    `json:"quarantine,omitempty"`
	Waived     []Quarantined    `json:"waived,omitempty"` // in quarantine too, and no obstacle: a person has said so
	Errors     []FolderError    `json:"errors,omitempty"` // folders that could not be done; the others were
	Sieve      *SieveReport     `json:"sieve,omitempty"`  // nil where neither side has ManageSieve; of an earlier pass where this one left scripts alone

	touched []int64
}

// Touched are the mailboxes, by the IDs of the store, in which the pass had something to do.
func (r *Report) Touched() []int64 { return r.touched }

// Held is a delete that the guard keeps back.
type Held struct {
	Folder   string `json:"folder"`
	Side     string `json:"side"`
	Messages int    `json:"messages"`
	Of       int    `json:"of"`
	Why      string `json:"why"`
}

// FolderError is a folder that a pass could not finish.
type FolderError struct {
	Folder string `json:"folder"`
	Error  string `json:"error"`
	Class  Class  `json:"class"`
}

// Errors of a pass as a whole.
var (
	// ErrBusy means that a pass over this user is under way in this process.
	ErrBusy = errors.New("a pass over this user is under way")
	// ErrNoLogin means that nothing says how a side is logged in at for syncing. Whoever opens connections (Options.Open) gives it.
	ErrNoLogin = errors.New("nothing says how to log in for syncing")
	// ErrMoved means that another side decides since the pass began. The next one goes on where it was.
	ErrMoved = errors.New("the user was moved while a pass was under way")
)

// RefusedError is a plan that cannot be carried out as it is: nothing was written anywhere.
type RefusedError struct{ Plan *Plan }

func (e *RefusedError) Error() string {
	var list []string
	for _, f := range e.Plan.Refused() {
		list = append(list, fmt.Sprintf("%s: %s", cmp.Or(f.Shown[config.Old], f.Shown[config.New]), f.Why))
	}
	return "the folder plan cannot be carried out: " + strings.Join(list, "; ")
}

// SideError is trouble with one side that ends a pass.
type SideError struct {
	Side config.Side
	Err  error
}

func (e *SideError) Error() string { return e.Side.String() + ": " + e.Err.Error() }
func (e *SideError) Unwrap() error { return e.Err }

// Syncer keeps accounts equal. It is safe for concurrent use; one pass over a user at a time.
type Syncer struct {
	o Options

	mu      sync.Mutex
	users   map[string]bool         // under way
	told    map[string]time.Time    // trouble with folders that was logged, and when
	strange map[string][2][]uint64  // Peek's: by user and side, hashes of the mailboxes that nothing was known of, ascending
	laden   map[string][2]bool      // by user: some of those have mail
	hot     map[string][]hotMailbox // Peek's too: by user, where something was done lately, the latest last
	sieves  map[string]*SieveReport // the latest, by user
	idle    idleConns
	alone   func() // ends the sharing of a Budget
}

// tellAgain is how often the same trouble with the same folder is logged: passes may come every few seconds.
const tellAgain = time.Hour

// tells whether trouble with a folder is to be logged.
func (s *Syncer) tells(user, folder string, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(s.told, func(_ string, at time.Time) bool { return now.Sub(at) >= tellAgain })
	what := user + "\x00" + folder + "\x00" + err.Error()
	if _, told := s.told[what]; told {
		return false
	}
	s.told[what] = now
	return true
}

// New makes a Syncer. Close ends it.
func New(o Options) *Syncer {
	if o.Connections <= 0 {
		o.Connections = 3
	}
	if o.Batch <= 0 {
		o.Batch = 256
	}
	if o.BatchBytes <= 0 {
		o.BatchBytes = 8 << 20
	}
	if o.Settle <= 0 {
		o.Settle = 2 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = 24 * time.Hour
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Proofs == nil {
		o.Proofs = &Proofs{}
	}
	s := &Syncer{o: o, users: map[string]bool{}, told: map[string]time.Time{}, strange: map[string][2][]uint64{}, laden: map[string][2]bool{}, hot: map[string][]hotMailbox{},
		sieves: map[string]*SieveReport{}}
	s.idle.enough = o.Enough
	s.alone = o.Budget.share(&s.idle)
	return s
}

// Close ends the connections that are kept. No pass may be under way.
func (s *Syncer) Close() {
	s.idle.closeAll()
	s.alone()
}

// begin makes sure that only one pass is over a user.
func (s *Syncer) begin(user string) (end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[user] {
		return nil, fmt.Errorf("%s: %w", user, ErrBusy)
	}
	s.users[user] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.users, user)
	}, nil
}

// Plan reads both sides and makes the plan. Nothing is written anywhere.
func (s *Syncer) Plan(ctx context.Context, user string) (*Plan, error) {
	p, err := s.newPass(ctx, user, RunOptions{DryRun: true})
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := safely(func() error { return p.list(ctx) }); err != nil {
		return nil, err
	}
	return p.plan, nil
}

// Run makes one pass: afterwards both sides are equal, as far as the report does not say otherwise. After an error, or a
// crash at any moment, Run goes on where it was. The report is there also beside an error, when anything was done.
func (s *Syncer) Run(ctx context.Context, user string, o RunOptions) (r *Report, err error) {
	end, err := s.begin(user)
	if err != nil {
		return nil, err
	}
	defer end()
	p, err := s.newPass(ctx, user, o)
	if err != nil {
		return nil, causeOf(ctx, err)
	}
	defer p.close()
	p.proofs = s.o.Proofs.take(user) // before anything is looked at: what they are about is done
	defer func() {
		p.keepProofs(err)
		p.remember(context.WithoutCancel(ctx), err)
	}()
	asked := ctx
	if !o.DryRun {
		stop, err := p.acquire(ctx)
		if err != nil {
			return nil, causeOf(ctx, err)
		}
		defer stop()
		if ctx, err = p.fenced(ctx); err != nil {
			return nil, err
		}
	}
	err = safely(func() error { return p.run(ctx) })
	s.logDefect(user, err)
	err = causeOf(asked, err)
	err = safely(func() error {
		r, err = p.finish(err)
		return err
	})
	return r, err
}

// causeOf is why ctx has ended, whatever it was that noticed first.
func causeOf(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// logDefect keeps what is needed to mend a defect.
func (s *Syncer) logDefect(user string, err error) {
	var here *PanicError
	var there *backend.DefectError
	switch {
	case errors.As(err, &here):
		s.o.Log.Error("a defect ended a pass", "user", user, "err", err, "stack", string(here.Stack))
	case errors.As(err, &there):
		s.o.Log.Error("a defect ended a pass", "user", user, "err", err, "stack", string(there.Stack))
	}
}

// Probe finds out how a side treats odd messages, flags and names, with a scratch mailbox in user's account, and keeps the
// result for plans and passes to come. Whether a master login was proven stays as it was.
func (s *Syncer) Probe(ctx context.Context, side config.Side, user string) (*Profile, error) {
	release, err := s.o.Budget.Hold(ctx, side, user)
	if err != nil {
		return nil, err
	}
	defer release()
	c, err := s.o.Open(ctx, side, user)
	if err != nil {
		return nil, &SideError{side, err}
	}
	host := c.Host()
	_ = c.Close()
	p, err := probe(ctx, func(ctx context.Context) (*backend.Client, error) { return s.o.Open(ctx, side, user) }, host, s.o.Now)
	if err != nil {
		return nil, &SideError{side, err}
	}
	before, err := s.Profile(ctx, side, host)
	if err != nil {
		return nil, err
	}
	if before != nil {
		p.MasterProven, p.MasterLogin, p.SieveProven, p.Proven = before.MasterProven, before.MasterLogin, before.SieveProven, before.Proven
	}
	return p, s.SaveProfile(ctx, side, p)
}

// Profile is what is known of a host, nil when nothing is.
func (s *Syncer) Profile(ctx context.Context, side config.Side, host string) (*Profile, error) {
	text, ok, err := s.o.Store.Profile(ctx, side, host)
	if err != nil || !ok {
		return nil, err
	}
	p := &Profile{}
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("profile of %s: %w", host, err)
	}
	return p, nil
}

// SaveProfile keeps what is known of a host.
func (s *Syncer) SaveProfile(ctx context.Context, side config.Side, p *Profile) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return s.o.Store.SaveProfile(ctx, side, p.Host, text)
}
