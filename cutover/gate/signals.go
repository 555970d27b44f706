package gate

import (
	"cmp"
	"container/list"
	"crypto/rand"
	"math"
	"slices"
	"sync"
	"time"

	"mailgate/config"
)

// Kind is one of the things that are counted.
type Kind uint8

const (
	LoginOK Kind = iota
	LoginRefused
	LoginFailed
	SessionOver   // in any way but the next
	SessionBroken // by the host
	MailOK
	MailRefused
	kinds
)

// Signals count what happens to the users of the routes file, by user and side, in buckets of time: of 5 minutes for an hour, of an hour
// for two days, of a day (UTC) for two weeks. Strangers are never kept, nor is more than those buckets of anybody: 77 of 32 bytes at
// most. It is safe for concurrent use, and does not block.
type Signals struct {
	now    func() time.Time
	listed func(user string) bool

	of string // names these counts among those of other processes

	mu      sync.Mutex
	own     table
	others  map[string]table        // by node
	dirty   map[dayOf]bool          // days that the store does not have as they are
	changes *list.List              // of change, the oldest first: what was counted or dropped since the process began, each place once
	changed map[place]*list.Element // in changes
	seq     uint64                  // of the last change
}

// table is what one node has counted.
type table struct {
	since  int64 // when the counting by hours and less began: before, only days are known; Unix seconds
	series map[place]*series
	mark   Mark      // of what was told, zero for one's own and for what the store had
	heard  time.Time // when it was told last
}

// change is that something was counted of a place, or that all of it was dropped.
type change struct {
	at   place
	seq  uint64
	when int64 // Unix seconds
}

type place struct {
	user string
	side config.Side
}

type dayOf struct {
	place
	day int64
}

// level is a width of buckets and how many are kept: one more than what is asked for, since the oldest is partly over.
type level struct {
	width int64 // seconds
	keep  int64
}

const (
	fives = iota
	hours
	days
	levels
)

func levelOf(i int) level {
	return [levels]level{{300, 13}, {3600, 49}, {24 * 3600, 15}}[i]
}

// horizon is how far back anything is known.
const horizon = 14 * 24 * time.Hour

// tally is Counts as small as may be.
type tally [kinds]uint32

func (t *tally) add(k Kind, n uint32) {
	if t[k] > math.MaxUint32-n {
		n = math.MaxUint32 - t[k]
	}
	t[k] += n
}

func (t tally) counts() Counts {
	return Counts{int64(t[LoginOK]), int64(t[LoginRefused]), int64(t[LoginFailed]), int64(t[SessionOver]) + int64(t[SessionBroken]),
		int64(t[SessionBroken]), int64(t[MailOK]), int64(t[MailRefused])}
}

func tallyOf(c Counts) tally {
	n := func(x int64) uint32 { return uint32(min(max(x, 0), math.MaxUint32)) }
	return tally{n(c.LoginsOK), n(c.LoginsRefused), n(c.LoginsFailed), n(c.Sessions - c.Broken), n(c.Broken), n(c.MailOK), n(c.MailRefused)}
}

type bucket struct {
	at uint32 // Unix time divided by the level's width
	n  tally
}

// series is what happened to a user on a side: buckets in order, those in which nothing happened left out.
type series [levels][]bucket

// at is the bucket of a time; the last one where the clock has gone back.
func (s *series) at(lv int, now int64) *bucket {
	w := levelOf(lv)
	at, list := uint32(now/w.width), s[lv]
	if n := len(list); n > 0 && list[n-1].at >= at {
		return &list[n-1]
	}
	for len(list) > 0 && int64(at-list[0].at) >= w.keep {
		list = list[1:]
	}
	if cap(list) == len(list) { // moved together, so that what was let go is free
		list = append(make([]bucket, 0, min(len(list)+1+len(list)/2, int(w.keep))), list...)
	}
	s[lv] = append(list, bucket{at: at})
	return &s[lv][len(s[lv])-1]
}

// sum adds the buckets of a level that end behind from.
func (s *series) sum(lv int, from int64) (c Counts) {
	if s == nil {
		return c
	}
	w := levelOf(lv).width
	for _, b := range s[lv] {
		if (int64(b.at)+1)*w > from {
			c = c.Add(b.n.counts())
		}
	}
	return c
}

// idle tells whether nothing is left of it at a time.
func (s *series) idle(now int64) bool {
	w := levelOf(days)
	n := len(s[days])
	return n == 0 || now/w.width-int64(s[days][n-1].at) >= w.keep
}

// NewSignals makes one for the users that listed names; it must not block. now is the clock, nil means time.Now.
func NewSignals(listed func(user string) bool, now func() time.Time) *Signals {
	if now == nil {
		now = time.Now
	}
	return &Signals{now: now, listed: listed, of: rand.Text(), own: table{since: now().Unix(), series: map[place]*series{}}, others: map[string]table{},
		dirty: map[dayOf]bool{}, changes: list.New(), changed: map[place]*list.Element{}}
}

// touch notes a change for those who are told of it; mu is held.
func (s *Signals) touch(at place) {
	s.seq++
	c := change{at, s.seq, s.now().Unix()}
	if e := s.changed[at]; e != nil {
		e.Value = c
		s.changes.MoveToBack(e)
		return
	}
	s.changed[at] = s.changes.PushBack(c)
}

// Count counts one thing that has happened to a user on a side.
func (s *Signals) Count(user string, side config.Side, what Kind) {
	if what >= kinds || !s.listed(user) {
		return
	}
	now, at := s.now().Unix(), place{user, side}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.own.series[at]
	if x == nil {
		x = &series{}
		s.own.series[at] = x
	}
	for lv := range levels {
		b := x.at(lv, now)
		b.n.add(what, 1)
		if lv == days {
			s.dirty[dayOf{at, int64(b.at)}] = true
		}
	}
	s.touch(at)
}

// Since is what happened to a user on a side since a time, on all nodes: give or take a bucket, of the narrowest kind that goes back so
// far.
func (s *Signals) Since(user string, side config.Side, from time.Time) Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, at := s.now().Unix(), place{user, side}
	c := s.own.sum(at, now, from.Unix())
	for _, t := range s.others {
		c = c.Add(t.sum(at, now, from.Unix()))
	}
	return c
}

func (t table) sum(at place, now, from int64) Counts {
	for lv := range days {
		if w := levelOf(lv); from > t.since && from > now-(w.keep-1)*w.width {
			return t.series[at].sum(lv, from)
		}
	}
	return t.series[at].sum(days, from)
}

// Recent is what happened to a user on a side in the last hour, on all nodes, as far as they have run.
func (s *Signals) Recent(user string, side config.Side) Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, at := s.now().Unix()-3600, place{user, side}
	c := s.own.series[at].sum(fives, from)
	for _, t := range s.others {
		c = c.Add(t.series[at].sum(fives, from))
	}
	return c
}

// Forget drops what a user met on a side, on all nodes: he comes there anew, and what was before his flip must not be counted behind it.
func (s *Signals) Forget(user string, side config.Side) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetOwn(place{user, side})
	for _, t := range s.others {
		delete(t.series, place{user, side})
	}
}

// ForgetHere is Forget of what this node has counted itself, for a node that another one moves users on: that one has dropped what it knew
// when it committed the flip, and is told of this. Call it while the user is fenced.
func (s *Signals) ForgetHere(user string, side config.Side) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetOwn(place{user, side})
}

// forgetOwn drops what this node has counted; mu is held.
func (s *Signals) forgetOwn(at place) {
	x := s.own.series[at]
	if x == nil {
		return
	}
	for _, b := range x[days] {
		s.dirty[dayOf{at, int64(b.at)}] = true
	}
	delete(s.own.series, at)
	s.touch(at)
}

// prune drops users who are not listed any more, and what is older than the horizon.
func (s *Signals) prune() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now().Unix()
	for _, t := range append([]table{s.own}, values(s.others)...) {
		for at, x := range t.series {
			if x.idle(now) || !s.listed(at.user) {
				delete(t.series, at)
			}
		}
	}
	for d := range s.dirty {
		if !s.listed(d.user) {
			delete(s.dirty, d)
		}
	}
	for at, e := range s.changed {
		if s.own.series[at] == nil && (!s.listed(at.user) || now-e.Value.(change).when > int64(toldFor/time.Second)) {
			s.changes.Remove(e)
			delete(s.changed, at)
		}
	}
}

func values(m map[string]table) (out []table) {
	for _, t := range m {
		out = append(out, t)
	}
	return out
}

// rows are the days that the store does not have as they are; they count as written until putBack says that they are not.
func (s *Signals) rows(node string) (rows []Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.dirty {
		r := Row{Node: node, User: d.user, Side: d.side, Day: time.Unix(d.day*levelOf(days).width, 0).UTC()}
		if x := s.own.series[d.place]; x != nil {
			if i := slices.IndexFunc(x[days], func(b bucket) bool { return int64(b.at) == d.day }); i >= 0 {
				r.Counts = x[days][i].n.counts()
			}
		}
		rows = append(rows, r)
	}
	s.dirty = map[dayOf]bool{} // anew, since what it grew to while the store did not answer would stay
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Side, b.Side), a.Day.Compare(b.Day))
	})
	return rows
}

func (s *Signals) putBack(rows []Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rows {
		s.dirty[dayOf{place{r.User, r.Side}, r.Day.Unix() / levelOf(days).width}] = true
	}
}

// restore takes in what was counted before this process began: by this node, or by another one that tells nothing itself. It may come again.
func (s *Signals) restore(r Row, own bool) {
	if !s.listed(r.User) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, at := s.own, place{r.User, r.Side}
	if own {
		s.touch(at)
	} else {
		var ok bool
		if t, ok = s.others[r.Node]; !ok {
			t = table{since: s.now().Unix(), series: map[place]*series{}}
			s.others[r.Node] = t
		}
	}
	x := t.series[at]
	if x == nil {
		x = &series{}
		t.series[at] = x
	}
	day, n := uint32(r.Day.Unix()/levelOf(days).width), tallyOf(r.Counts)
	i, there := slices.BinarySearchFunc(x[days], day, func(b bucket, day uint32) int { return cmp.Compare(b.at, day) })
	if !there {
		x[days] = slices.Insert(x[days], i, bucket{at: day})
	}
	for k := range kinds { // what is written is of a moment, and what was told may be of a later one
		x[days][i].n[k] = max(x[days][i].n[k], n[k])
	}
}

// Bucket is what happened in a bucket of time that begins at At (Unix seconds).
type Bucket struct {
	At     int64  `json:"at"`
	Counts Counts `json:"counts"`
}

// Series is a user's buckets on a side, in order.
type Series struct {
	User  string      `json:"user"`
	Side  config.Side `json:"side"`
	Fives []Bucket    `json:"fives,omitempty"` // of 5 minutes
	Hours []Bucket    `json:"hours,omitempty"`
	Days  []Bucket    `json:"days,omitempty"`
}

// Mark is how far one has heard what a process counts; the zero Mark is from nothing.
type Mark struct {
	Of   string `json:"of"`
	Upto uint64 `json:"upto"`
}

// Snapshot is what a node has counted, to be told to others: as a whole, or what has changed.
type Snapshot struct {
	Of    string `json:"of"`    // the process
	Since int64  `json:"since"` // when it began to count by hours and less, Unix seconds
	// After and Upto tell which changes: those behind After. 0 is the beginning of the whole, which replaces what was known.
	After  uint64   `json:"after,omitempty"`
	Upto   uint64   `json:"upto"`
	More   bool     `json:"more,omitempty"` // there is more behind Upto
	Series []Series `json:"series"`         // as they are now; of what was dropped an empty one
}

// Mark is what one who has heard a snapshot asks from.
func (s Snapshot) Mark() Mark { return Mark{s.Of, s.Upto} }

// pageSize bounds the series of a snapshot: 3 MB at most, a fifth of that as a rule. toldFor is how long it can be told that something was
// dropped.
const (
	pageSize = 500
	toldFor  = 24 * time.Hour
)

// Snapshot is what this node has counted itself since a mark, in the order of its changes. What does not fit is told when it is asked
// from the mark of that. A mark of another process is none.
func (s *Signals) Snapshot(from Mark) Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from.Of != s.of {
		from = Mark{}
	}
	e := s.changes.Back()
	for ; e != nil && e.Value.(change).seq > from.Upto; e = e.Prev() {
	}
	if e == nil {
		e = s.changes.Front()
	} else {
		e = e.Next()
	}
	out := Snapshot{Of: s.of, Since: s.own.since, After: from.Upto, Upto: from.Upto, Series: []Series{}}
	for ; e != nil; e = e.Next() {
		c := e.Value.(change)
		if len(out.Series) == pageSize {
			out.More = true
			break
		}
		out.Series, out.Upto = append(out.Series, s.own.told(c.at)), c.seq
	}
	return out
}

// told is what is told of a place.
func (t table) told(at place) Series {
	out := Series{User: at.user, Side: at.side}
	x := t.series[at]
	if x == nil {
		return out
	}
	for lv, to := range [levels]*[]Bucket{&out.Fives, &out.Hours, &out.Days} {
		for _, b := range x[lv] {
			*to = append(*to, Bucket{int64(b.at) * levelOf(lv).width, b.n.counts()})
		}
	}
	return out
}

// Heard is from where a node is to be asked.
func (s *Signals) Heard(node string) Mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.others[node]
	if s.now().Sub(t.heard) > toldFor/2 { // it may have forgotten that it has dropped something
		return Mark{}
	}
	return t.mark
}

// Merge takes in what another node has told: in place of what was known of it, or of what has changed since. Of users who are not listed,
// and beyond the bounds of Signals, nothing is kept. What does not follow on what is known is left out: it is asked again.
func (s *Signals) Merge(node string, told Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.others[node]
	switch {
	case told.After == 0:
		t = table{series: make(map[place]*series, len(told.Series))}
	case t.mark != Mark{told.Of, told.After}:
		return
	}
	t.since, t.mark, t.heard = told.Since, told.Mark(), s.now()
	for _, e := range told.Series {
		at := place{e.User, e.Side}
		if !s.listed(e.User) || len(e.Days) == 0 {
			delete(t.series, at)
			continue
		}
		x := &series{}
		for lv, from := range [levels][]Bucket{e.Fives, e.Hours, e.Days} {
			w := levelOf(lv)
			for _, b := range from[max(0, len(from)-int(w.keep)):] {
				x[lv] = append(x[lv], bucket{uint32(b.At / w.width), tallyOf(b.Counts)})
			}
		}
		t.series[at] = x
	}
	s.others[node] = t
}
