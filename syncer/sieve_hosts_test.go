package syncer_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// sieveRig is a rig that carries scripts.
type sieveRig struct {
	*rig
	t      testing.TB
	decide atomic.Int32 // the side that decides
	ports  [2]atomic.Int32
}

func newSieveRig(t testing.TB, old, new lab.Host, n int) *sieveRig {
	t.Helper()
	r := &sieveRig{t: t}
	r.ports[0].Store(int32(old.Sieve))
	r.ports[1].Store(int32(new.Sieve))
	r.rig = newRig(t, old, new, n, func(o *syncer.Options) {
		o.Route = func(context.Context, string) (config.Side, int64, error) {
			return config.Side(r.decide.Load()), int64(r.decide.Load()), nil
		}
		o.OpenSieve = func(ctx context.Context, side config.Side, user string, _ bool) (*backend.SieveClient, error) {
			var b [2]config.Backend
			for side, h := range r.hosts {
				b[side] = config.Backend{ConnectTimeout: 10 * time.Second, LoginTimeout: 10 * time.Second, Hosts: []config.Host{{Name: h.Name}}}
				if port := int(r.ports[side].Load()); port > 0 {
					b[side].Hosts[0].Sieve = config.Endpoint{Protocol: config.Sieve, Host: "127.0.0.1", Port: port}
				}
			}
			d, err := backend.NewDialer(b, slog.New(slog.DiscardHandler), nil)
			if err != nil {
				return nil, err
			}
			c, err := auth.Password("PLAIN", user, lab.Password(n))
			if err != nil {
				return nil, err
			}
			return d.DialSieve(ctx, side, "", backend.Account{Credentials: c, LoginName: user})
		}
	})
	for _, h := range r.hosts {
		lab.Dial(t, h, n).Close()
	}
	return r
}

// on does something with a side's scripts by a client that shares no code with ours. The session is short: see sievePass.
func (r *sieveRig) on(side config.Side, f func(x *lab.SieveTalk)) {
	r.t.Helper()
	x := lab.DialSieve(r.t, r.hosts[side], r.n)
	defer x.Close()
	f(x)
}

// all is what a side has: name=text, sorted by name, the active one with a star.
func (r *sieveRig) all(side config.Side) (scripts map[string]string, active string) {
	r.t.Helper()
	r.on(side, func(x *lab.SieveTalk) { scripts, active = x.All() })
	return scripts, active
}

// want compares what a side has.
func (r *sieveRig) want(side config.Side, active string, want map[string]string) {
	r.t.Helper()
	got, is := r.all(side)
	if is != active || len(got) != len(want) {
		r.t.Errorf("%s has %q active of %d scripts, want %q of %d: %.300q", side, is, len(got), active, len(want), got)
	}
	for name, text := range want {
		if got[name] != text {
			r.t.Errorf("%s: %q is %.300q, want %.300q", side, name, got[name], text)
		}
	}
}

// carry makes a pass and gives what it says of scripts; each line's sentence has to hold one of the words, in order.
func (r *sieveRig) carry(words ...string) *syncer.SieveReport {
	r.t.Helper()
	s := r.pass(r.t).Sieve
	if s == nil {
		r.t.Fatal("no word of scripts")
	}
	if s.Trouble != "" {
		r.t.Errorf("trouble: %s", s.Trouble)
	}
	r.said(s, words...)
	return s
}

func (r *sieveRig) said(s *syncer.SieveReport, words ...string) {
	r.t.Helper()
	var all []string
	for _, l := range s.Lines {
		all = append(all, l.Sentence(false))
	}
	ok := len(all) == len(words)
	for i := range words {
		ok = ok && strings.Contains(all[i], words[i])
	}
	if !ok {
		r.t.Errorf("it says\n  %s\nwant\n  %s", strings.Join(all, "\n  "), strings.Join(words, "\n  "))
	}
}

// TestSievePairs carries scripts between real hosts, both ways: names of folders are the other side's, the active mark is kept, changes
// of the follower come back and its deletes do not, and nothing is done when nothing has changed.
func TestSievePairs(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	classic := lab.StartCyrus(t, lab.Classic())
	for i, x := range []struct {
		old, new lab.Host
		names    [2]string // how "Entwürfe/x y" stands in scripts
	}{
		{l.Old, l.New, [2]string{"INBOX.Entwürfe.x y", "Entwürfe/x y"}},
		{l.New, classic.Host, [2]string{"Entwürfe/x y", "INBOX.Entw&APw-rfe.x y"}},
		{classic.Host, l.Old, [2]string{"INBOX.Entw&APw-rfe.x y", "INBOX.Entwürfe.x y"}},
	} {
		t.Run(x.old.Name+" to "+x.new.Name, func(t *testing.T) {
			r := newSieveRig(t, x.old, x.new, i+1)
			d := lab.Dial(t, x.old, r.n)
			d.Do(`CREATE "%sEntw&APw-rfe%sx y"`, x.old.Prefix, x.old.Sep)
			d.Append(x.old.Prefix+"Entw&APw-rfe"+x.old.Sep+"x y", "", letter(1))
			d.Close()
			text := func(side config.Side) string {
				return fmt.Sprintf("require [\"fileinto\"];\r\n# keep \"%s\"\r\nif header :is \"subject\" \"%s\" {\r\n\tfileinto \"%s\"; }\n", x.names[0], x.names[0], x.names[side])
			}
			big := "keep;\r\n" + strings.Repeat("# 0123456789\r\n", 70000)
			r.on(config.Old, func(s *lab.SieveTalk) {
				s.Put("main", text(config.Old))
				s.Put("a 2", "keep;")
				s.Put("big", big)
				s.Activate("main")
			})
			r.carry(`"a 2" was stored on NEW`, `"big" was stored on NEW`, `"main" was stored on NEW`, `"main" is now the active script on NEW`)
			first := map[string]string{"main": text(config.New), "a 2": "keep;", "big": big}
			r.want(config.New, "main", first)
			if s := r.carry(); s.Equal != 3 || s.Scripts != 3 || s.Active != [2]string{"main", "main"} {
				t.Errorf("%+v", s)
			}
			r.want(config.New, "main", first)

			r.on(config.New, func(s *lab.SieveTalk) { // people work on NEW, too
				s.Put("a 2", "stop;")
				s.Put("new", strings.ReplaceAll(text(config.New), "# keep", "# new"))
				s.Activate("new")
				s.Delete("big")
			})
			r.carry(`"a 2" was stored on OLD`, `"big" was stored on NEW: it was deleted there`, `"new" was stored on OLD`, `"new" is now the active script on OLD`)
			second := func(side config.Side) map[string]string {
				return map[string]string{"main": text(side), "a 2": "stop;", "big": big, "new": strings.ReplaceAll(text(side), "# keep", "# new")}
			}
			r.want(config.Old, "new", second(config.Old))
			r.want(config.New, "new", second(config.New))

			r.on(config.Old, func(s *lab.SieveTalk) { // conflicts, and deletes where they count
				s.Put("a 2", "discard;")
				s.Activate("main")
				s.Delete("new")
				s.Delete("big")
			})
			r.on(config.New, func(s *lab.SieveTalk) {
				s.Put("a 2", "keep;keep;")
				s.Put("big", "keep;")
				s.Activate("")
			})
			r.carry(`"a 2" was stored on NEW: another text stood there`, `"big" stays on NEW: it was deleted on OLD, and changed here since`,
				`"main" is now the active script on NEW`, `"new" was deleted on NEW`)
			third := map[string]string{"main": text(config.New), "a 2": "discard;", "big": "keep;"}
			r.want(config.New, "main", third)
			r.carry(`"big" stays on NEW`)
			r.want(config.New, "main", third)

			r.decide.Store(1) // the user is moved: NEW decides now
			r.on(config.New, func(s *lab.SieveTalk) { s.Delete("a 2"); s.Activate("") })
			r.carry(`"big" was stored on OLD`, `no script is now active on OLD`, `"a 2" was deleted on OLD`)
			r.want(config.Old, "", map[string]string{"main": text(config.Old), "big": "keep;"})
			r.want(config.New, "", map[string]string{"main": text(config.New), "big": "keep;"})
		})
	}
}

// TestSieveRefused: what a side does not take is not written, whatever is active there stays, and the report says why. It is tried again
// when the text is another.
func TestSieveRefused(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newSieveRig(t, l.Old, l.New, 1)
	odd := "require [\"editheader\", \"fileinto\"];\r\naddheader \"X\" \"y\";\r\n"
	r.on(config.Old, func(s *lab.SieveTalk) { s.Put("main", odd); s.Put("fine", "keep;"); s.Activate("main") })
	r.on(config.New, func(s *lab.SieveTalk) { s.Put("own", "stop;"); s.Activate("own") })
	rel := newRelay(t, lab.Addr(l.New.Sieve))
	r.ports[1].Store(int32(rel.port()))
	var checks atomic.Int32
	rel.before = map[string]func(){"addheader": func() { checks.Add(1) }}
	for range 2 {
		s := r.pass(t).Sieve
		if n := checks.Load(); n != 1 {
			t.Errorf("sent %d times, want once", n)
		}
		if n := s.Count(syncer.SieveRefused); n != 1 || s.Active != [2]string{"main", "own"} || s.Trouble != "" {
			t.Errorf("%+v", s)
		}
		all := fmt.Sprint(s.Lines)
		for _, word := range []string{"unknown Sieve capability `editheader'", "[editheader]", `"main" is active on OLD, and is not the same here; "own" stays active`} {
			if !strings.Contains(all, word) {
				t.Errorf("%s is missing in %s", word, all)
			}
		}
		r.want(config.New, "own", map[string]string{"own": "stop;", "fine": "keep;"})
	}
	r.want(config.Old, "main", map[string]string{"main": odd, "fine": "keep;", "own": "stop;"})
	r.on(config.Old, func(s *lab.SieveTalk) { s.Put("main", "discard;") })
	r.carry(`"main" was stored on NEW`, `"main" is now the active script on NEW`)
	r.want(config.New, "main", map[string]string{"own": "stop;", "fine": "keep;", "main": "discard;"})
	r.on(config.Old, func(s *lab.SieveTalk) { s.Put("main", odd) }) // what is there stays, in its older form
	r.carry(`"main" is not carried to NEW`)
	r.want(config.New, "main", map[string]string{"own": "stop;", "fine": "keep;", "main": "discard;"})
}

// TestSieveSeeded: what somebody has copied to NEW byte for byte names OLD's folders there: it is stored anew. What is right already is not.
func TestSieveSeeded(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newSieveRig(t, l.Old, l.New, 9)
	text := "require \"fileinto\"; fileinto \"INBOX.Sent\";"
	right := strings.Replace(text, "INBOX.Sent", "Sent", 1)
	r.on(config.Old, func(s *lab.SieveTalk) { s.Put("bytes", text); s.Put("right", text); s.Activate("right") })
	r.on(config.New, func(s *lab.SieveTalk) { s.Put("bytes", text); s.Put("right", right); s.Activate("right") })
	if s := r.carry(`"bytes" was stored on NEW`); s.Equal != 2 {
		t.Errorf("%+v", s)
	}
	r.want(config.New, "right", map[string]string{"bytes": right, "right": right})
	r.carry()
}

// TestSieveLearns: when NEW has learned an extension, what it refused is carried by itself.
func TestSieveLearns(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newSieveRig(t, l.Old, l.New, 10)
	r.on(config.Old, func(s *lab.SieveTalk) {
		s.Put("main", "require \"editheader\"; deleteheader \"X\";")
		s.Activate("main")
	})
	r.carry(`"main" is not carried to NEW`, `the active script on NEW is left as it is`)
	conf := filepath.Join(l.New.Dir, "dovecot.conf")
	b, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	with := strings.Replace(string(b), l.New.SieveSettings, "sieve_extensions = +editheader", 1)
	if err := os.WriteFile(conf, []byte(with), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("doveadm", "-c", conf, "reload").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) { // a server that reloads gives no sign
		if rep, err := r.Run(t.Context(), lab.User(r.n), syncer.RunOptions{}); err == nil && rep.Sieve.Active == [2]string{"main", "main"} {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it is not carried")
		}
	}
	if s := r.carry(); s.Equal != 1 {
		t.Errorf("%+v", s)
	}
}

// TestSieveRace: somebody stores another text on NEW while a pass is about to replace the one it has read. The pass leaves it, and the
// next one decides with both known.
func TestSieveRace(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newSieveRig(t, l.Old, l.New, 11)
	r.on(config.Old, func(s *lab.SieveTalk) { s.Put("a", "keep;") })
	r.carry(`"a" was stored on NEW`)
	rel := newRelay(t, lab.Addr(l.New.Sieve))
	var once sync.Once
	rel.before = map[string]func(){"CHECKSCRIPT": func() {
		once.Do(func() { r.on(config.New, func(s *lab.SieveTalk) { s.Put("a", "stop;") }) })
	}}
	r.ports[1].Store(int32(rel.port()))
	r.on(config.Old, func(s *lab.SieveTalk) { s.Put("a", "discard;") })
	r.carry(`"a" is not carried to NEW: it was changed there just now`)
	r.want(config.New, "", map[string]string{"a": "stop;"})
	r.carry(`"a" was stored on NEW: another text stood there, and the side that decides wins`)
	r.want(config.New, "", map[string]string{"a": "discard;"})
}

// TestSieveQuota: NEW takes twelve scripts. What has no place is told, and carried when there is room.
func TestSieveQuota(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newSieveRig(t, l.Old, l.New, 2)
	r.on(config.Old, func(s *lab.SieveTalk) {
		for i := range 14 {
			s.Put(fmt.Sprintf("s%02d", i), "keep;")
		}
		s.Activate("s13")
	})
	rep := r.pass(t).Sieve
	if rep.Written[config.New] != 12 || rep.Count(syncer.SieveRefused) != 2 || rep.Active[config.New] != "" || !strings.Contains(fmt.Sprint(rep.Lines), "QUOTA/MAXSCRIPTS") {
		t.Errorf("%+v", rep)
	}
	r.on(config.Old, func(s *lab.SieveTalk) { s.Delete("s00"); s.Delete("s01"); s.Delete("s02") })
	if rep = r.pass(t).Sieve; rep.Deleted[config.New] != 3 || rep.Count(syncer.SieveRefused) != 2 { // deletes come last, as with mail
		t.Errorf("%+v", rep)
	}
	r.carry(`"s12" was stored`, `"s13" was stored`, `"s13" is now the active script`)
	if rep = r.carry(); rep.Equal != 11 || rep.Active != [2]string{"s13", "s13"} {
		t.Errorf("%+v", rep)
	}
}

// TestSieveNamesOfScripts: a name that Cyrus would take and lose is not given to it; others travel, whatever is in them.
func TestSieveNamesOfScripts(t *testing.T) {
	t.Parallel()
	l, c := lab.Start(t, lab.MailboxesOnly()), lab.StartCyrus(t)
	names := []string{`q"u\o`, "Regeln für Büro", " blank", strings.Repeat("n", 70), "plain"}
	put := func(s *lab.SieveTalk) {
		for _, n := range names {
			s.Put(n, "keep;")
		}
	}
	r := newSieveRig(t, l.Old, l.New, 3)
	r.on(config.Old, put)
	if s := r.pass(t).Sieve; s.Equal != len(names) || s.Count(syncer.SieveRefused) > 0 {
		t.Errorf("%+v", s)
	}
	got, _ := r.all(config.New)
	for _, n := range names {
		if got[n] != "keep;" {
			t.Errorf("%q is not on NEW: %q", n, got)
		}
	}
	r = newSieveRig(t, l.Old, c.Host, 4)
	r.on(config.Old, put)
	for range 2 {
		if s := r.pass(t).Sieve; s.Equal != 2 || s.Count(syncer.SieveRefused) != 3 || !strings.Contains(fmt.Sprint(s.Lines), "never find it again") {
			t.Errorf("%+v", s)
		}
	}
	r.on(config.New, func(s *lab.SieveTalk) {
		if list := s.Do("LISTSCRIPTS"); len(list) != 2 {
			t.Errorf("Cyrus has %q", list)
		}
	})
}

// TestSieveGuard: a side that decides and lists nothing any more deletes nothing, before a person says so.
func TestSieveGuard(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newSieveRig(t, l.Old, l.New, 5)
	r.on(config.Old, func(s *lab.SieveTalk) { s.Put("a", "keep;"); s.Put("b", "stop;"); s.Activate("a") })
	r.pass(t)
	r.on(config.Old, func(s *lab.SieveTalk) { s.Activate(""); s.Delete("a"); s.Delete("b") })
	for range 2 {
		r.carry(`"a" stays on NEW: OLD lists no script at all`, `"b" stays on NEW`, `the active script on NEW is left as it is`)
		r.want(config.New, "a", map[string]string{"a": "keep;", "b": "stop;"})
		r.want(config.Old, "", nil)
	}
	rep, err := r.Run(t.Context(), lab.User(r.n), syncer.RunOptions{Deletes: true})
	if err != nil {
		t.Fatal(err)
	}
	r.said(rep.Sieve, "no script is now active on NEW", `"a" was deleted`, `"b" was deleted`)
	r.want(config.New, "", nil)
}

// TestSieveDryRun writes nothing, and says what would be done.
func TestSieveDryRun(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newSieveRig(t, l.Old, l.New, 6)
	r.on(config.Old, func(s *lab.SieveTalk) { s.Put("a", "keep;"); s.Put("e", "require \"editheader\";"); s.Activate("a") })
	rep, err := r.Run(t.Context(), lab.User(r.n), syncer.RunOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, line := range rep.Sieve.Lines {
		said = append(said, line.Sentence(true))
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{`"a" would be stored on NEW`, `"e" is not carried to NEW`, `"a" would become the active script on NEW`} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is missing in\n%s", want, all)
		}
	}
	r.want(config.New, "", nil)
	if list, err := r.store.Scripts(t.Context(), lab.User(r.n)); err != nil || len(list) > 0 {
		t.Errorf("the store has %v, %v", list, err)
	}
}

// TestSieveWithout: a side that has no ManageSieve, as Courier, keeps nobody from anything, and what stays behind is counted. Neither
// does one that cannot be reached.
func TestSieveWithout(t *testing.T) {
	t.Parallel()
	l, c := lab.Start(t, lab.MailboxesOnly()), lab.StartCourier(t)
	r := newSieveRig(t, l.Old, c.Host, 7)
	r.on(config.Old, func(s *lab.SieveTalk) { s.Put("a", "keep;"); s.Put("b", "keep;"); s.Activate("a") })
	s := r.carry()
	if s.Without != "new" || s.Scripts != 2 || s.Summary() != "2 Sieve scripts stay where they are: NEW has no ManageSieve" {
		t.Errorf("%+v, %s", s, s.Summary())
	}
	r.ports[0].Store(0)
	if s := r.pass(t).Sieve; s != nil {
		t.Errorf("neither side has any: %+v", s)
	}
	r = newSieveRig(t, l.Old, l.New, 7)
	r.ports[1].Store(1) // nobody listens
	x := lab.Dial(t, l.Old, 7)
	x.Append("INBOX", "", letter(1))
	x.Close()
	rep := r.pass(t)
	if rep.Copied[config.New] != 1 || rep.Sieve == nil || !strings.Contains(rep.Sieve.Trouble, "connect") {
		t.Errorf("%+v, %+v", rep, rep.Sieve)
	}
	r.ports[1].Store(int32(l.New.Sieve))
	r.carry(`"a" was stored on NEW`, `"b" was stored on NEW`, `"a" is now the active script on NEW`)
}

// TestSieveCut: whenever a session breaks off, between PUTSCRIPT and SETACTIVE too, the next pass goes on, and both sides become equal.
func TestSieveCut(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newSieveRig(t, l.Old, l.New, 8)
	rel := newRelay(t, lab.Addr(l.New.Sieve))
	r.ports[1].Store(int32(rel.port()))
	texts := func(round int) map[string]string {
		return map[string]string{"a": fmt.Sprintf("keep; # %d", round), "b": fmt.Sprintf("stop; # %d", round), fmt.Sprintf("r%d", round): "keep;"}
	}
	apply := func(round int) {
		r.on(config.Old, func(s *lab.SieveTalk) {
			for name, text := range texts(round) {
				s.Put(name, text)
			}
			s.Activate([]string{"a", "b"}[round%2])
			if round > 0 {
				s.Delete(fmt.Sprintf("r%d", round-1))
			}
		})
	}
	apply(0)
	rel.set(fault{})
	r.pass(t)
	apply(1)
	rel.set(fault{})
	r.pass(t)
	up, down := rel.counts()
	broken := 0
	for round := 2; round < 22; round++ {
		apply(round)
		f := fault{up: 1 + up*(round-2)/20}
		if round%2 == 0 {
			f = fault{down: 1 + down*(round-2)/20}
		}
		rel.set(f)
		if r.pass(t).Sieve.Trouble != "" {
			broken++
		}
		rel.set(fault{})
		if s := r.pass(t).Sieve; s.Trouble != "" || s.Equal != 3 || s.Scripts != 3 {
			t.Errorf("round %d: %+v", round, s)
		}
		for _, side := range config.Sides {
			r.want(side, []string{"a", "b"}[round%2], texts(round))
		}
	}
	if broken < 15 {
		t.Errorf("only %d sessions broke off", broken)
	}
}

// TestSieveFiles: the carried script does on NEW what it did on OLD: mail lands in the folder that is the other's, whatever it is called.
func TestSieveFiles(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	cyrus, classic := lab.StartCyrus(t), lab.StartCyrus(t, lab.Classic())
	for i, x := range []struct {
		old, new lab.Host
		name     string // in OLD's script
	}{
		{l.Old, l.New, "INBOX.Entwürfe & mehr.x"}, {l.New, classic.Host, "Entwürfe & mehr/x"},
		{classic.Host, l.Old, "INBOX.Entw&APw-rfe &- mehr.x"}, {l.Old, cyrus.Host, "INBOX.Entwürfe & mehr.x"},
	} {
		t.Run(x.old.Name+" to "+x.new.Name, func(t *testing.T) {
			n := 10 + i
			r := newSieveRig(t, x.old, x.new, n)
			folder := func(h lab.Host) string { return h.Prefix + "Entw&APw-rfe &- mehr" + h.Sep + "x" }
			count := func(side config.Side, folder string) string {
				d := lab.Dial(t, r.hosts[side], n)
				defer d.Close()
				return strings.Join(d.Do(`STATUS "%s" (MESSAGES)`, folder), " ")
			}
			d := lab.Dial(t, x.old, n)
			d.Do(`CREATE "%s"`, folder(x.old))
			d.Append(folder(x.old), "", letter(1))
			d.Close()
			r.on(config.Old, func(s *lab.SieveTalk) {
				s.Put("main", "require \"fileinto\";\r\nif header :contains \"subject\" \"file me\" { fileinto \""+x.name+"\"; }\r\n")
				s.Activate("main")
			})
			r.carry(`"main" was stored on NEW`, `"main" is now the active`)
			for side, h := range r.hosts {
				lab.Deliver(t, h, n, fmt.Sprintf("From: a@example.net\r\nSubject: file me %d\r\nMessage-ID: <%d.%d@example.net>\r\n\r\nhi", side, side, n))
				if got := count(config.Side(side), folder(h)); !strings.Contains(got, "MESSAGES 2") {
					t.Errorf("%s: %s, INBOX: %s", h.Name, got, count(config.Side(side), "INBOX"))
				}
			}
			r.pass(t)
			r.same(t)
		})
	}
}
