package main

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
)

// TestMasterLogins syncs with a master login in both forms, which is proven first, and again when it is another one.
func TestMasterLogins(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	corpus.Load(t, l.Old, 1, corpus.Mailbox(50, 3, 1, corpus.Options{Mean: 1000, Plain: true}))
	g := syncGate(t, l, "")
	g.write(filepath.Join(g.dir, "master"), lab.MasterPassword+"\n")
	master := "sync: {master_user: " + lab.MasterUser + ", master_password: master%s}}"
	parts := strings.SplitN(mustRead(t, g.file), "sync: {secrets: secrets}}", 3)
	configure := func(oldForm, newForm string) {
		g.write(g.file, parts[0]+fmt.Sprintf(master, oldForm)+parts[1]+fmt.Sprintf(master, newForm)+parts[2])
	}
	const separated = `, master_login: "{login}*{master}"`
	configure("", separated)

	looks := [][]string{{"sync", "plan"}, {"verify"}, {"verify", "--deep"}, {"sync", "run", "--dry-run"}}
	refusesLooks := func(side string) {
		t.Helper()
		for _, look := range looks {
			code, out, errOut := g.verb(append(look, lab.User(1))...)
			if code != exitRefused || out != "" || !strings.Contains(errOut, side+": the master login at ") ||
				!strings.Contains(errOut, "run mailgate probe backends first") {
				t.Errorf("%v without a proof: %d %s%s", look, code, out, errOut)
			}
		}
	}
	refusesLooks("old")
	g.mustVerb("sync", "run", lab.User(1), "--yes") // it writes anyway, so it proves
	sameOnBothSides(t, l, 1)
	for _, look := range looks {
		g.mustVerb(append(look, lab.User(1))...)
	}

	configure("", "") // another way to say who is meant: nothing is proven of that
	refusesLooks("new")
	g.mustVerb("probe", "backends", "--user", lab.User(1), "--user", lab.User(2))
	g.mustVerb("verify", lab.User(1), "--deep")
	configure("", separated)
	refusesLooks("new") // one proof is kept for a host: the last one
	g.mustVerb("probe", "backends")
	g.mustVerb("verify", lab.User(1), "--deep")
}

// TestProofNeedsTheSameHost: two users on two hosts are told apart by any server, so they prove nothing.
func TestProofNeedsTheSameHost(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	g := syncGate(t, l, "")
	g.write(filepath.Join(g.dir, "master"), lab.MasterPassword+"\n")
	parts := strings.SplitN(mustRead(t, g.file), "\n  old: ", 2)
	_, rest, _ := strings.Cut(parts[1], "\n")
	g.write(g.file, parts[0]+fmt.Sprintf("\n  old: {hosts: [{name: a, imap: 'imap://127.0.0.1:%d'}, {name: b, imap: 'imap://127.0.0.1:%d'}], "+
		"sync: {master_user: %s, master_password: master}}\n", l.Old.IMAP, l.New.IMAP, lab.MasterUser)+rest)
	one, two, three := lab.User(1), lab.User(2), lab.User(3)
	g.write(g.routes, one+" old old_host=a\n"+two+" old old_host=b\n")
	code, _, errOut := g.verb("probe", "backends", "--user", one, "--user", two)
	if code != exitRefused || !strings.Contains(errOut, "two users with a mailbox there are needed") {
		t.Errorf("users on two hosts: %d %s", code, errOut)
	}
	g.write(g.routes, one+" old old_host=a\n"+two+" old old_host=b\n"+three+" old old_host=a\n")
	g.mustVerb("probe", "backends", "--user", one, "--user", two)
	if code, _, errOut := g.verb("sync", "plan", two); code != exitRefused || !strings.Contains(errOut, "at b is not proven") {
		t.Errorf("proven at a, asked for at b: %d %s", code, errOut)
	}
	g.mustVerb("sync", "plan", three)

	// Who is bound to none may come to either, so both are proven, and kept.
	g.write(g.routes, one+" old\n"+two+" old\n")
	if code, _, errOut := g.verb("sync", "plan", one); code != exitRefused || !strings.Contains(errOut, "at b is not proven") {
		t.Errorf("proven at a, may come to b: %d %s", code, errOut)
	}
	g.mustVerb("probe", "backends")
	for range 3 {
		g.mustVerb("sync", "plan", one)
	}
}

// TestWrongMailbox: every login of the master opens one and the same mailbox, as where a server does not heed the name in
// front. It is refused, both users are named, and nothing stays behind.
func TestWrongMailbox(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	corpus.Load(t, l.New, 1, corpus.Mailbox(20, 2, 1, corpus.Options{Mean: 500, Plain: true}))
	addr := deafHost(t)
	g := syncGate(t, l, "")
	g.write(filepath.Join(g.dir, "master"), "pw\n")
	parts := strings.SplitN(mustRead(t, g.file), "\n  old: ", 2)
	_, rest, _ := strings.Cut(parts[1], "\n")
	g.write(g.file, parts[0]+"\n  old: {imap: 'imap://"+addr+`', sync: {master_user: boss, master_password: master, master_login: "{login}*{master}"}}`+"\n"+rest)
	g.write(g.routes, lab.User(1)+" old\n"+lab.User(2)+" old\n")
	before, err := corpus.Snapshot(lab.Addr(l.New.IMAP), lab.User(1), lab.Password(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range [][]string{{"sync", "run", lab.User(1), "--yes"}, {"sync", "run", lab.User(1), "--yes"},
		{"probe", "backends", "--user", lab.User(1), "--user", lab.User(2)}} {
		code, _, errOut := g.verb(verb...)
		for _, want := range []string{"old: the master login cannot be used", lab.User(1), lab.User(2), "backends.old.sync.secrets"} {
			if code != exitRefused || !strings.Contains(errOut, want) {
				t.Errorf("%v: %d %s\nwant %q", verb, code, errOut, want)
			}
		}
	}
	if code, _, errOut := g.verb("sync", "plan", lab.User(1)); code != exitRefused || !strings.Contains(errOut, "is not proven") {
		t.Errorf("plan: %d %s", code, errOut)
	}
	after, err := corpus.Snapshot(lab.Addr(l.New.IMAP), lab.User(1), lab.Password(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range corpus.Diff(before, after, corpus.DiffOptions{}) {
		t.Errorf("on NEW: %s", d)
	}
	if left := mailboxes(t, addr, "boss", "pw"); fmt.Sprint(left) != "[INBOX]" {
		t.Errorf("on OLD: %q", left)
	}
}

// TestUnprovenIsNotOpened: whatever asks for a login of the master, at a host where nothing is proven he is sent away again.
func TestUnprovenIsNotOpened(t *testing.T) {
	const user = "alice@example.com"
	addr := deafHost(t)
	m := newMemory(t, user, "bob@example.com")
	m.write("master", "pw\n")
	before, rest, _ := strings.Cut(mustRead(t, filepath.Join(m.dir, "mailgate.yaml")), "  old: ")
	_, rest, _ = strings.Cut(rest, "\n")
	m.write("mailgate.yaml", before+"  old: {imap: 'imap://"+addr+`', sync: {master_user: boss, master_password: master, master_login: "{login}*{master}"}}`+"\n"+rest)
	g := m.serve()
	c, err := g.syncing.accounts.open(t.Context(), config.Old, user)
	if err == nil {
		_ = c.Close()
		t.Fatal("it was opened")
	}
	if exitCode(err) != exitRefused || !strings.Contains(err.Error(), "run mailgate probe backends first") {
		t.Error(err)
	}
}

// deafHost is a host that lets anybody in who knows the master's password, and opens the master's mailbox for him.
func deafHost(t *testing.T) (addr string) {
	t.Helper()
	store := imapmemserver.New()
	master := imapmemserver.NewUser("boss", "pw")
	if err := master.Create("INBOX", nil); err != nil {
		t.Fatal(err)
	}
	store.AddUser(master)
	s := imapserver.New(&imapserver.Options{InsecureAuth: true, Caps: imap.CapSet{imap.CapIMAP4rev1: {}},
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return deafSession{store.NewSession()}, nil, nil
		}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		_ = ln.Close()
		<-done
	})
	return ln.Addr().String()
}

type deafSession struct{ imapserver.Session }

func (d deafSession) Login(_, password string) error { return d.Session.Login("boss", password) }

// mailboxes lists an account with a reader that is not ours.
func mailboxes(t *testing.T, addr, user, password string) (names []string) {
	t.Helper()
	c, err := imapclient.DialInsecure(addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(user, password).Wait(); err != nil {
		t.Fatal(err)
	}
	list, err := c.List("", "*", nil).Collect()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range list {
		names = append(names, x.Mailbox)
	}
	return names
}
