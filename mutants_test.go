package mailgate

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mutant is the program with one of its guards taken out. Each test named must fail with it.
type mutant struct {
	guard string // what is taken out
	file  string
	edits []edit
	pkg   string
	tests []string
}

// edit puts new in the place of old, which must stand in the file once.
type edit struct{ old, new string }

// underLoad is the test that flips users while many clients work.
const underLoad = "TestFlipsUnderManyClients"

func mutants() []mutant {
	const atAdmit = "if l.void || l.r.waits(u) != nil || u.place.Generation != p.Generation || u.place.Side != p.Side {\n\t\tu.mu.Unlock()"
	return []mutant{
		{"the generation check when a login becomes a session", "router/login.go",
			[]edit{{atAdmit, "if l.void || l.r.waits(u) != nil {\n\t\tu.mu.Unlock()"}},
			".", []string{"TestLoginAcrossFlip", "TestTwoFlipsDuringLogin", underLoad}},
		{"the generation in that check, though not the side", "router/login.go",
			[]edit{{atAdmit, "if l.void || l.r.waits(u) != nil || u.place.Side != p.Side {\n\t\tu.mu.Unlock()"}},
			".", []string{"TestTwoFlipsDuringLogin"}},
		{"the fence that logins wait at", "router/login.go",
			[]edit{{"\t\tif wait == nil {\n\t\t\tif !u.known", "\t\tif true {\n\t\t\tif !u.known"}},
			".", []string{"TestFenceHoldsLogins"}},
		{"the fence for logins, at the gate and at their admission", "router/login.go",
			[]edit{{"\t\tif wait == nil {\n\t\t\tif !u.known", "\t\tif true {\n\t\t\tif !u.known"},
				{atAdmit, strings.Replace(atAdmit, "l.void || l.r.waits(u) != nil || ", "", 1)}},
			".", []string{"TestFenceHoldsLogins", underLoad}},
		{"the fence as a whole", "router/hold.go", []edit{{"u.fenced, u.isEmpty = true, false", "u.isEmpty = false"}},
			".", []string{"TestFenceHoldsLogins", underLoad}},
		{"the fence for logins that wait for a backend", "router/session.go", []edit{{"l.cancel(ErrMoved)", "_ = l.cancel"}},
			".", []string{"TestFenceCancelsLogins"}},
		{"the order: the hold first, then the route", "router/login.go",
			[]edit{{"\tvar limit <-chan time.Time\n", "\tvar limit <-chan time.Time\n\tl.u.mu.Lock()\n\tearly := l.u.place\n\tl.u.mu.Unlock()\n"},
				{"p := u.place\n\t\t\tu.mu.Unlock()", "p := early\n\t\t\tu.mu.Unlock()"}},
			".", []string{"TestFenceHoldsLogins"}},
		{"the drain", "cutover/flip.go", []edit{{"\tleft, err := f.m.ask(ctx, f.message(AskDrain), nodes)", "\tleft, err := 0, error(nil)"}},
			".", []string{"TestDrainComesBeforeCommit"}}, // DELTA gives sessions time to end: under load that hides it
		{"a node heeds no leader who was followed by another", "cutover/node.go", []edit{{"\tif term < n.term {", "\tif false {"}},
			"./cutover", []string{"TestFormerLeader"}},
		{"who joins amid a flip holds its user", "cutover/member.go", []edit{{"if row.State.Fenced() && row.State != op.Release {", "if false {"}},
			"./cutover", []string{"TestMemberJoinsAmid"}},
		{"a node that joins keeps the rules from changing unheard", "cutover/import.go", []edit{{"\ttx.Nodes = stood\n", "\t_ = stood\n"}},
			"./cutover", []string{"TestMemberJoinsAmidRules"}},
		{"what a node owed that was taken out is not written", "cutover/member.go",
			[]edit{{"if err := m.o.Newcomers.forget(ctx); err != nil {", "if err := ctx.Err(); err != nil {"}}, "./cutover", []string{"TestMemberRemoved"}},
		{"the boundary at which a session may end", "proxy/link_end.go", []edit{{"l.ended = l.track.Boundary()", "l.ended = true"}},
			".", []string{"TestSessionsEndAtBoundaries", underLoad}},
		{"the difference between wrong and temporary", "proxy/login.go", []edit{{"&be) && be.Kind == backend.AuthFailed", "&be)"}},
			".", []string{"TestTemporaryIsNotWrongPassword"}},
		{"the base of each side: a flag that one side cannot keep is no flag taken off", "syncer/merge/merge_mailbox.go",
			[]edit{{"now[auth][n] != base[auth][n], now", "now[auth][n] != base[follower][n], now"}},
			"./syncer/merge", []string{"TestPoorSide"}},
		{"deletes on the follower do not travel", "syncer/merge/merge_mailbox.go",
			[]edit{{"if m.in.FollowerDeletes && !changed {", "if !changed {"}}, "./syncer/merge", []string{"TestTable", "TestConverges"}},
		{"a pair that cannot be proves nothing", "syncer/merge/merge_mailbox.go",
			[]edit{{"|| uid == before {", "|| uid == before && false {"}}, "./syncer/merge", []string{"TestTable"}},
		{"recovery looks before it appends again, and what it did again is known", "syncer/recover.go",
			[]edit{{"found, err := p.look(ctx, src, dst, f, in.Side, in.UIDNext, items, in.Created)", "found, err := p.look(ctx, src, dst, f, in.Side, in.UIDNext, nil, in.Created)"},
				{"if len(missing) > 0 {", "if false {"}},
			"./syncer", []string{"TestAnswersLost/old_to_new,_old_decides,_new_fails", "TestFaults"}},
		{"late twins are known", "syncer/recover.go",
			[]edit{{"if len(missing) > 0 {", "if false {"}}, "./syncer", []string{"TestLateAppends/old_to_new,_old_decides,_new_fails"}},
		{"what could not be moved stands where it was", "syncer/conclude.go",
			[]edit{{"st.from.work.again = true", "_ = st"}}, "./syncer", []string{"TestMoveRefused"}},
		{"a passing refusal of a flag is no loss of it", "syncer/apply.go",
			[]edit{{"!refused(err) || flag[0] == '\\\\' || passing(err)", "!refused(err)"}}, "./syncer", []string{"TestFlagRefusedForNow"}},
		{"flags are set and taken off each for itself, never replaced", "backend/client_message.go",
			[]edit{{`what, flags := "+FLAGS.SILENT", o.Add`, `what, flags := "FLAGS.SILENT", o.Add`}}, "./syncer", []string{"TestFaults"}},
		{"half a listing is no listing", "syncer/scan.go",
			[]edit{{"if snap.mode == scanFull && uint32(len(snap.entries))+expunged.in(s) < sel.Exists {", "if false {"}},
			"./syncer", []string{"TestListingLies"}},
		{"deletes come last: mail is there twice rather than nowhere", "syncer/pass.go",
			[]edit{{"p.stays, p.copy, p.stays, p.flags, p.stays, p.expunges,", "p.stays, p.expunges, p.stays, p.flags, p.stays, p.copy,"}},
			"./syncer", []string{"TestDeletesComeLast"}},
		{"the intent comes before the first byte", "syncer/copy_line.go",
			[]edit{{"a, err := l.p.write(ctx, Change{AddIntents: []Intent{in}})", "_, a, err := in, Applied{Intents: []int64{0}}, error(nil)"}},
			"./syncer", []string{"TestFaults"}},
		{"the guard of deletes that nobody has confirmed", "syncer/guard.go", []edit{{"guardMessages = 50", "guardMessages = 50000"},
			{"guardEmptied  = 10", "guardEmptied  = 10000"}}, "./syncer", []string{"TestAccountEmptied"}},
		{"what a host does not tell of a user is unknown, not none", "syncer/gaps.go",
			[]edit{{"g.Answer, g.Do = GapUnknown, do", "g.Answer, g.Do = GapNone, do"}}, "./syncer", []string{"TestGapsPartly"}},
		{"proof is of no more deletes than the server says", "imapwire/tracker_deletes.go", []edit{{"a.gone += n", "a.gone += 1000 * n"}},
			"./imapwire", []string{"TestTrackerDeletes"}},
		{"proof by number is used once", "syncer/guard.go", []edit{{"whole := uint64(len(here)) <= room", "whole := true"}}, "./syncer", []string{"TestGuardHeedsProof"}},
		{"deletes are seen twice", "syncer/observed.go", []edit{{"return known && p.reopened &&", "return known ||"}}, "./syncer", []string{"TestGuardReleases"}},
		{"a mailbox that did not open is not read", "backend/client_fetch.go",
			[]edit{{"if c.rs.closed != nil {", "if false {"}}, "./backend", []string{"TestWrongMailbox"}},
		{"the response codes of a refused login", "backend/imap_login.go",
			[]edit{{"switch code {\n\t\tcase \"AUTH", "switch \"AUTHFAILED\" {\n\t\tcase \"AUTH"}},
			".", []string{"TestTemporaryIsNotWrongPassword"}},
		{"the literals of the client", "imapwire/tracker_client.go",
			[]edit{{"l.tail.literal(); ok && !l.quoted {", "l.tail.literal(); ok && !l.quoted && size == 0 && sync {"}},
			".", []string{"TestSessionsEndAtBoundaries"}},
		{"the literals of the server", "imapwire/tracker_server.go",
			[]edit{{"case phase == serverData && !status && literal:", "case phase == serverData && !status && literal && size == 0:"}},
			"./imapwire", []string{"TestTracker"}},
	}
}

// TestMutants builds the program with each guard taken out and sees to it that the tests notice.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the tests a dozen times")
	}
	for _, m := range slices.Concat(mutants(), sieveMutants(), flipMutants()) {
		t.Run(m.guard, func(t *testing.T) {
			t.Parallel()
			test := m.build(t)
			for _, name := range m.tests {
				out, err := runTest(test, m.pkg, name)
				for tries := 1; err == nil && name == underLoad && tries < 10; tries++ { // a matter of chance: the instant must be hit
					out, err = runTest(test, m.pkg, name)
				}
				var exit *exec.ExitError
				switch {
				case err == nil:
					t.Errorf("%s passes without %s", name, m.guard)
				case !errors.As(err, &exit):
					t.Fatal(err)
				case !strings.Contains(out, "--- FAIL: "+strings.Split(name, "/")[0]):
					t.Errorf("%s did not run to its end: %s", name, out)
				}
			}
		})
	}
}

// overlay writes the mutated file and the overlay that puts it in the place of the real one.
func (m mutant) overlay(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(m.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range m.edits {
		if n := bytes.Count(text, []byte(e.old)); n != 1 {
			t.Fatalf("%s holds this text %d times, not once; let the mutant follow the code:\n%s", m.file, n, e.old)
		}
		text = bytes.Replace(text, []byte(e.old), []byte(e.new), 1)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "mutated.go")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	real, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]any{"Replace": map[string]string{real: file}})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}

// build makes the tests of the mutant, once for all that are to run: as bin/mailgate is built, which make test needs before, so that all but
// what depends on the mutated file is there already; without the race detector, what only debuggers read, and optimising what runs once.
func (m mutant) build(t *testing.T) (test string) {
	t.Helper()
	test = filepath.Join(t.TempDir(), "mutant.test")
	args := []string{"test", "-c", "-vet=off", "-ldflags=-w", "-gcflags=mailgate/" + filepath.Dir(m.file) + "=-N -l", "-overlay", m.overlay(t), "-o", test}
	c := exec.Command("go", append(args, m.pkg)...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("without %s: %v\n%s", m.guard, err, out)
	}
	return test
}

// runTest runs one test of those that were built for a package.
func runTest(test, pkg, name string) (string, error) {
	c := exec.Command(test, "-test.failfast", "-test.timeout=5m", "-test.run", "^"+strings.ReplaceAll(name, "/", "$/^")+"$")
	c.Dir = pkg
	c.Env = append(os.Environ(), "MAILGATE_SEEDS=80") // of TestFaults
	out, err := c.CombinedOutput()
	return string(out), err
}
