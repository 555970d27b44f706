package syncer_test

import (
	"slices"
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// hosts are the real servers, with what the probe says of each.
type hosts struct {
	old, new []lab.Host
	profiles map[string]*syncer.Profile
}

func startHosts(t *testing.T) *hosts {
	t.Helper()
	l := lab.Start(t, lab.MailboxesOnly())
	courier, cyrus := lab.StartCourier(t), lab.StartCyrus(t, lab.CyrusSetting("munge8bit: no"))
	h := &hosts{old: []lab.Host{l.Old, courier.Host}, new: []lab.Host{l.New, cyrus.Host}, profiles: map[string]*syncer.Profile{}}
	for i := range h.old {
		for side, p := range newRig(t, h.old[i], h.new[i], lab.Users, nil).probe(t) {
			h.profiles[[]lab.Host{h.old[i], h.new[i]}[side].Name] = p
		}
	}
	return h
}

// probe makes the profiles of both hosts.
func (r *rig) probe(t testing.TB) (p [2]*syncer.Profile) {
	t.Helper()
	for _, side := range config.Sides {
		var err error
		if p[side], err = r.Probe(t.Context(), side, lab.User(r.n)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// same verifies with everything hashed; what differs has to be explained, or wait in quarantine.
func (r *rig) same(t testing.TB) *syncer.Verification {
	t.Helper()
	v, err := r.Verify(t.Context(), lab.User(r.n), syncer.VerifyOptions{Deep: true})
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	if v.Equal == (v.Open > 0) || v.Different() > 0 {
		var b strings.Builder
		_ = v.WriteTable(&b)
		t.Error(b.String())
	}
	return v
}

// quiet runs a pass that must find nothing to do.
func (r *rig) quiet(t testing.TB) {
	t.Helper()
	rep := r.pass(t)
	if rep.Copied != [2]int64{} || rep.Flags != [2]int64{} || rep.Expunged != [2]int64{} || rep.Moved != [2]int64{} || rep.Created != [2]int{} ||
		rep.Subscribed != [2]int{} || rep.Paired != 0 {
		t.Errorf("a pass without changes did something: %+v", rep)
	}
}

// TestPairs copies an account with everything in it between all pairs of hosts, and carries what people do afterwards, pass
// by pass. The comparison is made twice: by verify, and by a reader that shares no code with it.
func TestPairs(t *testing.T) {
	t.Parallel()
	h := startHosts(t)
	n := 0
	for _, old := range h.old {
		for _, new := range h.new {
			n++
			user := n
			t.Run(old.Name+" to "+new.Name, func(t *testing.T) {
				t.Parallel()
				copyAndChange(t, h, old, new, user)
			})
		}
	}
}

func copyAndChange(t *testing.T, h *hosts, old, new lab.Host, n int) {
	r := newRig(t, old, new, n, nil)
	for side, host := range r.hosts {
		if err := r.SaveProfile(t.Context(), config.Side(side), h.profiles[host.Name]); err != nil {
			t.Fatal(err)
		}
	}
	corpus.Load(t, old, n, corpus.Mailbox(1200, 40, 2, corpus.Options{Mean: 2000}))
	r.pass(t)
	r.same(t)
	r.compare(t)
	r.quiet(t)
	x := lab.Dial(t, old, n)
	for seed := range uint64(2) {
		change(t, x, old, seed+1)
		r.pass(t)
		r.same(t)
		r.compare(t)
		r.quiet(t)
	}
	stragglers(t, lab.Dial(t, new, n), new)
	rep := r.pass(t)
	if rep.Copied[config.Old] != 5 || rep.Moved[config.New] != 1 || rep.Copied[config.New] != 1 {
		t.Errorf("stragglers: %+v", rep)
	}
	r.pass(t)
	r.same(t)
	r.compare(t)
	r.quiet(t)
}

// stragglers is what may happen on the side that does not decide: mail that was delivered there, a folder of its own, flags, a
// delete, a move.
func stragglers(t testing.TB, x *lab.Talk, h lab.Host) {
	for i := range 3 {
		x.Append("INBOX", `\Flagged`, letter(9000+i))
	}
	x.Do(`CREATE "%sElsewhere"`, h.Prefix)
	x.Append(h.Prefix+"Elsewhere", `\Seen`, letter(9100))
	x.Append(h.Prefix+"Elsewhere", "", letter(9101))
	x.Do(`SELECT "%sMoved 1"`, h.Prefix)
	uids := x.UIDs()
	x.Do(`UID STORE %d +FLAGS (\Answered)`, uids[0])
	x.Do(`UID STORE %d +FLAGS (\Deleted)`, uids[1])
	x.Do(`UID EXPUNGE %d`, uids[1])
	x.Do(`UID MOVE %d "%sMoved 2"`, uids[len(uids)-1], h.Prefix)
	x.Close()
}

// compare looks at both accounts with another reader. What a product does to mail that it is given is known; nothing else may
// differ. What was read is given back.
func (r *rig) compare(t testing.TB) [2]corpus.Account {
	t.Helper()
	plan, err := r.Plan(t.Context(), lab.User(r.n))
	if err != nil {
		t.Fatal(err)
	}
	path := func(f syncer.Folder, side config.Side) corpus.Path {
		return corpus.PathOf(strings.Split(strings.TrimPrefix(f.Shown[side], plan.Prefix[side]), string(plan.Separator[side]))...)
	}
	to := map[corpus.Path]corpus.Path{}
	for _, f := range plan.Folders {
		to[path(f, config.Old)] = path(f, config.New)
	}
	known := []string{`"CR at the end"`, `missing: "", UID`, `"bare CR"`, `"NUL"`, `"bare LF`, `subscribed`}
	a := r.snapshots(t)
	for _, d := range corpus.Diff(a[config.Old], a[config.New], corpus.DiffOptions{Limit: 50,
		Map: func(p corpus.Path) (corpus.Path, bool) {
			if q, ok := to[p]; ok {
				return q, true
			}
			return p, true
		},
		OnlyB: func(_ corpus.Path, c *corpus.Contents) bool { return c.Count == 0 }}) {
		if !slices.ContainsFunc(known, func(s string) bool { return strings.Contains(d, s) }) {
			t.Error(d)
		}
	}
	return a
}
