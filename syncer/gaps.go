package syncer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailgate/backend"
	"mailgate/config"
)

// GapKind is a kind of thing that a mailbox on OLD may have, and that passes do not carry to NEW (uid-stable.md, section 4.5).
type GapKind string

const (
	GapACL           GapKind = "acl"           // rights of others to his folders (RFC 4314)
	GapMetadata      GapKind = "metadata"      // annotations of his folders and his account (RFC 5464)
	GapCalendars     GapKind = "calendars"     // folders that hold no mail
	GapContacts      GapKind = "contacts"      //
	GapGroupware     GapKind = "groupware"     // tasks, notes, journals and the like
	GapNamespaces    GapKind = "namespaces"    // mailboxes of others that he may open
	GapSubscriptions GapKind = "subscriptions" // to folders that do not exist
	GapSpecialUse    GapKind = "special_use"   // marks such as \Sent (RFC 6154)
	GapKeywords      GapKind = "keywords"      // flags that NEW did not keep
	GapQuota         GapKind = "quota"         // limits of the account (RFC 9208)
	GapSizes         GapKind = "sizes"         // messages larger than NEW takes
	GapRights        GapKind = "rights"        // folders of NEW that mail may not be written into
)

// GapAnswer is what was found of a kind. There is no guess among them: what a server does not tell is unknown.
type GapAnswer string

const (
	GapCounted GapAnswer = "counted" // Count things; Why is set where there may be more
	GapNone    GapAnswer = "none"
	GapUnknown GapAnswer = "unknown" // Why tells
)

// Gap is the answer for one kind, for people.
type Gap struct {
	Kind   GapKind    `json:"kind"`
	Answer GapAnswer  `json:"answer"`
	Count  int        `json:"count"`
	What   string     `json:"what,omitempty"`   // what was found, in a line
	Why    string     `json:"why,omitempty"`    // why it could not be told, or not wholly
	Do     string     `json:"do,omitempty"`     // what a person can do about it
	Things []GapThing `json:"things,omitempty"` // the first of them
	More   int        `json:"more,omitempty"`   // those that are not listed
}

// GapThing is one of what was counted.
type GapThing struct {
	Folder  string `json:"folder,omitempty"` // as people read it, on OLD
	What    string `json:"what"`
	Perhaps bool   `json:"perhaps,omitempty"` // it only has such a name; not counted
}

// mostGapThings is how many things of a kind are listed.
const mostGapThings = 200

// mostGapFolders is how many folders are asked about one by one.
const mostGapFolders = 1000

// gapTime bounds the questions to one side.
const gapTime = 5 * time.Minute

// GapReport is what of a user does not travel.
type GapReport struct {
	User string        `json:"user"`
	At   time.Time     `json:"at"`
	Took time.Duration `json:"took_ns"`
	Gaps []Gap         `json:"gaps"`

	Unreached [2]string `json:"unreached"` // by side, why it could not be asked at all; "" where it was
}

// Found is how many things were counted, Open how many kinds could not be told, or not wholly.
func (r *GapReport) Found() (n int) {
	for _, g := range r.Gaps {
		n += g.Count
	}
	return n
}

// Open is how many kinds could not be told, or not wholly.
func (r *GapReport) Open() (n int) {
	for _, g := range r.Gaps {
		if g.Answer == GapUnknown || g.Why != "" {
			n++
		}
	}
	return n
}

// GapSource looks for gaps of other kinds than mailboxes have.
type GapSource func(ctx context.Context, user string) ([]Gap, error)

// GapOptions of a look.
type GapOptions struct {
	Names   [2]string   // what the user is called at login, by side: his own rights are no gap
	Sources []GapSource // their answers stand behind the others
}

// Gaps looks for what of a user does not travel: what OLD has and NEW lacks, whichever side decides. It asks one side after the other,
// with one connection and one command at a time, opens no mailbox, writes nothing to them, and takes no ownership of the account, so a pass
// or a flip may be under way. What a side does not tell is unknown in the report; an error is the store's, a source's, or the cause of
// ctx. The report is kept, see KeptGaps.
func (s *Syncer) Gaps(ctx context.Context, user string, o GapOptions) (*GapReport, error) {
	r := &GapReport{User: user, At: s.o.Now()}
	k, err := s.gapKnown(ctx, user)
	if err != nil {
		return nil, err
	}
	old := s.askGaps(ctx, config.Old, user, o.Names[config.Old], k)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	k.ask = old.asked(k)
	newer := s.askGaps(ctx, config.New, user, o.Names[config.New], k)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	for side, g := range []*gapSide{old, newer} {
		if g.err != nil {
			r.Unreached[side] = whyNot(g.err)
		}
	}
	r.Gaps = compareGaps(old, newer, k)
	for _, f := range o.Sources {
		more, err := f(ctx, user)
		if err != nil {
			return nil, err
		}
		r.Gaps = append(r.Gaps, more...)
	}
	r.Took = s.o.Now().Sub(r.At)
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return r, s.o.Store.SaveGaps(ctx, user, r.At, text)
}

// KeptGaps is what the last look at a user found; nil when there was none.
func (s *Syncer) KeptGaps(ctx context.Context, user string) (*GapReport, error) {
	text, ok, err := s.o.Store.Gaps(ctx, user)
	if err != nil || !ok {
		return nil, err
	}
	r := &GapReport{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("gaps of %s: %w", user, err)
	}
	return r, nil
}

// compareGaps makes the rows, always in the same order.
func compareGaps(old, newer *gapSide, k *gapKnown) []Gap {
	out := []Gap{aclGap(old, newer, k), metadataGap(old, newer, k)}
	out = append(out, groupwareGaps(old, newer, k)...)
	return append(out, namespacesGap(old), subscriptionsGap(old), specialUseGap(old, newer, k), keywordsGap(k), quotaGap(old, newer),
		sizesGap(old, newer, k), rightsGap(newer, k))
}

// gapKnown is what the store knows beside.
type gapKnown struct {
	boxes   []Mailbox
	partner map[string]string // raw names of folders: OLD's -> NEW's
	lost    []GapThing        // flags that NEW did not keep
	waiting []Quarantined     // in quarantine, and not waived
	waived  int               // for their size

	ask gapWants // of NEW
}

// gapWants are the folders of NEW that it is worth to ask about.
type gapWants struct{ rights, metadata map[string]bool }

// passed tells that a pass has been over the user's mailboxes.
func (k *gapKnown) passed() bool {
	return slices.ContainsFunc(k.boxes, func(m Mailbox) bool { return m.Cursor != [2]Cursor{} })
}

// unfinished is why not all is known of what passes find out, "" when all is.
func (k *gapKnown) unfinished() string {
	if !k.passed() {
		return errNoPass.Error()
	}
	n := 0
	for _, m := range k.boxes {
		if m.Name[config.Old] != "" && m.Name[config.New] != "" && m.Cursor == [2]Cursor{} { // one that was made by this pass may have none on one side
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("the passes are not through with %s yet", folderCount(n))
}

// errNoPass is why what passes find out is not known.
var errNoPass = errors.New("no whole pass has been over his mailboxes yet")

func (s *Syncer) gapKnown(ctx context.Context, user string) (*gapKnown, error) {
	k := &gapKnown{partner: map[string]string{inboxName: inboxName}}
	var err error
	if k.boxes, err = s.o.Store.Mailboxes(ctx, user); err != nil {
		return nil, err
	}
	for _, m := range k.boxes {
		if m.Name[config.Old] != "" && m.Name[config.New] != "" {
			k.partner[peekName(m.Name[config.Old])] = m.Name[config.New]
		}
	}
	if k.lost, err = s.lostFlags(ctx, k.boxes); err != nil {
		return nil, err
	}
	list, err := s.o.Store.Quarantine(ctx, user)
	if err != nil {
		return nil, err
	}
	for _, q := range list {
		switch {
		case q.Side != config.Old:
		case q.Decision != Waived:
			k.waiting = append(k.waiting, q)
		case q.Reason == "too-big":
			k.waived++
		}
	}
	return k, nil
}

// counted makes the row of a kind. why is what could not be told, "" for nothing.
func counted(kind GapKind, things []GapThing, what, none, why, do string) Gap {
	g := Gap{Kind: kind, Why: why}
	slices.SortFunc(things, func(a, b GapThing) int {
		return cmp.Or(strings.Compare(a.Folder, b.Folder), strings.Compare(a.What, b.What))
	})
	for _, x := range things {
		if !x.Perhaps {
			g.Count++
		}
	}
	switch {
	case g.Count > 0:
		g.Answer, g.What, g.Do = GapCounted, what, do
	case why != "":
		g.Answer, g.Do = GapUnknown, do
	default:
		g.Answer, g.What = GapNone, none
	}
	g.Things = things[:min(len(things), mostGapThings)]
	g.More = len(things) - len(g.Things)
	return g
}

// unknown is the row of a kind that could not be told.
func unknown(kind GapKind, do, format string, args ...any) Gap {
	return Gap{Kind: kind, Answer: GapUnknown, Why: oneLine(fmt.Sprintf(format, args...), 500), Do: do}
}

// gapSide is what a side has told.
type gapSide struct {
	title   string // "OLD", "NEW"
	err     error  // nothing could be asked
	product string // "" where nothing tells
	has     func(capability string) bool
	login   string
	user    string
	naming  *naming

	own        []backend.ListEntry // folders of his that hold mail
	others     []backend.ListEntry // those of others
	there      map[string]bool     // all names that LIST gave
	subscribed []backend.ListEntry
	hidden     []hiddenFolder // that LIST does not show
	rights     map[string][]backend.Right
	mine       map[string]string // our rights
	metadata   map[string][]backend.Metadata
	quota      backend.Quota
	limited    bool // quota was told
	limit      int64
	left       int // folders that were not asked about, because there are so many

	errs map[string]error // by question, what was not answered
}
