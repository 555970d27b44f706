package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"mailgate/mailtest/lab"
)

// at is where a client works: addresses, and what it knows of the account.
type at struct {
	t              *testing.T
	imap, smtp     string
	secure         bool // imap is imaps, smtp offers STARTTLS
	ca             string
	user, password string
	prefix, sep    string // of the side's mailbox names
	dir            string // for its files
	host           lab.Host
}

// clients are the real ones, by name. Each runs its course and returns what it printed, exit codes with it.
var clients = []struct {
	name string
	run  func(*at) string
}{{"curl", curl}, {"mutt", mutt}, {"neomutt", neomutt}, {"mbsync", mbsync}, {"offlineimap", offlineimap}, {"swaks", swaks}, {"go", goClient}}

// outcome is all that can be seen of a client's course.
type outcome struct {
	printed, imap, smtp string
	mail                string // what is in the account afterwards
	files               string // what the client has on disk
}

// TestClients runs each client directly against a side and through the gateway: what it says and hears behind the
// login, what it prints and returns, its files and the mailboxes must be the same. Over TLS, where nothing listens in,
// all but the dialogue.
func TestClients(t *testing.T) {
	t.Parallel()
	l := lab.Start(t)
	g := labGate(t, l, twoUsers, "")
	g.start()
	defer g.stop()
	t.Run("sides", func(t *testing.T) { // returns when both have ended
		for n, h := range []lab.Host{l.Old, l.New} {
			t.Run(h.Name, func(t *testing.T) {
				t.Parallel()
				for _, secure := range []bool{false, true} {
					for _, c := range clients {
						if c.name == "offlineimap" && secure != (n == 1) {
							continue // a slow one: each side sees one of the two
						}
						t.Run(c.name+map[bool]string{true: " over TLS"}[secure], func(t *testing.T) {
							compare(t, account{h, n + 1, l.CA, l.Reset}, g, secure, c.name, c.run)
						})
					}
				}
			})
		}
	})
}

// account is a user of a host: the one whom a gateway takes there.
type account struct {
	lab.Host
	n     int
	ca    string                       // of the host
	reset func(t testing.TB, user int) // empties it
}

// compare runs a client directly and through the gateway.
func compare(t *testing.T, who account, g *gate, secure bool, name string, run func(*at) string) {
	var got [2]outcome
	for i, through := range []bool{false, true} {
		who.reset(t, who.n)
		a := &at{t: t, secure: secure, user: lab.User(who.n), password: lab.Password(who.n),
			prefix: who.Prefix, sep: who.Sep, dir: t.TempDir(), host: who.Host, ca: who.ca}
		if through {
			a.ca = filepath.Join(g.dir, "cert.pem")
		}
		seed(t, who.Host, a.user, a.password)
		got[i] = a.course(name, run, g, through)
	}
	for _, part := range []struct{ what, direct, through string }{
		{"printed", got[0].printed, got[1].printed}, {"IMAP", got[0].imap, got[1].imap},
		{"SMTP", got[0].smtp, got[1].smtp}, {"mailboxes", got[0].mail, got[1].mail}, {"files", got[0].files, got[1].files},
	} {
		if d := differ(part.direct, part.through); d != "" {
			t.Errorf("%s %s", part.what, d)
		}
	}
	if !strings.Contains(got[0].printed, "exit 0") || len(got[0].mail) < 500 {
		t.Errorf("the client has done nothing: %.2000s\n%.2000s", got[0].printed, got[0].mail)
	}
	t.Logf("%d bytes of IMAP, %d of SMTP, %d printed, %d of mail, %d of files", len(got[1].imap), len(got[1].smtp), len(got[1].printed),
		len(got[1].mail), len(got[1].files))
	if !secure && len(got[0].imap)+len(got[0].smtp) < 500 {
		t.Errorf("no dialogue:\n%s\n%s", got[0].imap, got[0].smtp)
	}
}

// course runs a client behind relays and gathers what is to be seen.
func (a *at) course(name string, run func(*at) string, g *gate, through bool) outcome {
	switch {
	case a.secure && through:
		a.imap, a.smtp = g.imaps, g.smtpTLS
	case a.secure:
		a.imap, a.smtp = lab.Addr(a.host.IMAPS), lab.Addr(a.host.Submission)
	case through:
		a.imap, a.smtp = g.imapPlain, g.smtp
	default:
		a.imap, a.smtp = lab.Addr(a.host.IMAP), lab.Addr(a.host.Submission)
	}
	var i, s *relay
	if !a.secure {
		i, s = newRelay(a.t, a.imap), newRelay(a.t, a.smtp)
		a.imap, a.smtp = i.addr, s.addr
	}
	clean := strings.NewReplacer(a.dir, "DIR", a.imap, "IMAP", a.smtp, "SMTP")
	out := outcome{printed: normal(clean.Replace(run(a)))}
	if !a.secure {
		for _, w := range i.end() {
			said := normal(imapTranscript(a.t, w)) + "\n"
			if a.host.Name == "courier" { // it tells no capabilities at the login, as we do for it; it is asked for them all the same
				said = loginCapabilities.ReplaceAllString(said, "login:\n")
			}
			out.imap += said
		}
		for _, w := range s.end() {
			out.smtp += normal(smtpTranscript(w)) + "\n"
		}
		if strings.HasSuffix(name, "mutt") { // it sends QUIT and does not wait for the answer
			out.smtp = strings.ReplaceAll(out.smtp, "221 2.0.0 Bye\n", "")
		}
	}
	out.mail = normal(dump(a.t, a.host, a.user, a.password))
	out.files = normal(tree(a.t, filepath.Join(a.dir, "mail")))
	return out
}

var loginCapabilities = regexp.MustCompile(`(?m)^login: .*\n`)

// seed puts the same mail into a fresh account.
func seed(t *testing.T, h lab.Host, user, password string) {
	t.Helper()
	c := direct(t, h, user, password)
	defer c.Close()
	archive := h.Prefix + "Archive"
	if err := c.Create(archive, nil).Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		box := "INBOX"
		if i >= 3 {
			box = archive
		}
		text := fmt.Sprintf("From: sender%d@example.org\r\nTo: %s\r\nSubject: seed %d\r\nMessage-ID: <seed%d@example.org>\r\n"+
			"Date: Mon, 1 Jun 2026 10:0%d:00 +0000\r\n\r\nbody %d\r\n%s", i, user, i, i, i, i, strings.Repeat("line\r\n", i*300))
		put(t, c, box, text, []imap.Flag{imap.FlagSeen})
	}
}

func direct(t *testing.T, h lab.Host, user, password string) *imapclient.Client {
	t.Helper()
	c, err := imapclient.DialInsecure(lab.Addr(h.IMAP), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Login(user, password).Wait(); err != nil {
		c.Close()
		t.Fatal(err)
	}
	return c
}

func put(t *testing.T, c *imapclient.Client, box, text string, flags []imap.Flag) {
	t.Helper()
	a := c.Append(box, int64(len(text)), &imap.AppendOptions{Flags: flags, Time: time.Date(2026, 6, 1, 10, 0, 0, 0, time.UTC)})
	if _, err := a.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Wait(); err != nil {
		t.Fatal(err)
	}
}

// dump is all of an account: mailboxes, UIDs, flags, messages.
func dump(t *testing.T, h lab.Host, user, password string) string {
	t.Helper()
	c := direct(t, h, user, password)
	defer c.Close()
	list, err := c.List("", "*", nil).Collect()
	if err != nil {
		t.Fatal(err)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Mailbox < list[j].Mailbox })
	var b strings.Builder
	for _, box := range list {
		if slices.Contains(box.Attrs, imap.MailboxAttrNonExistent) || slices.Contains(box.Attrs, imap.MailboxAttrNoSelect) {
			fmt.Fprintf(&b, "== %s %v\n", box.Mailbox, box.Attrs)
			continue
		}
		sel, err := c.Select(box.Mailbox, &imap.SelectOptions{ReadOnly: true}).Wait()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "== %s %v, %d messages, next %d\n", box.Mailbox, box.Attrs, sel.NumMessages, sel.UIDNext)
		if sel.NumMessages == 0 {
			continue
		}
		var set imap.SeqSet
		set.AddRange(1, sel.NumMessages)
		msgs, err := c.Fetch(set, &imap.FetchOptions{UID: true, Flags: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range msgs {
			var flags []string
			for _, f := range m.Flags {
				if !strings.EqualFold(string(f), `\Recent`) {
					flags = append(flags, string(f))
				}
			}
			sort.Strings(flags)
			fmt.Fprintf(&b, "-- %d %v\n%s\n", m.UID, flags, m.BodySection[0].Bytes)
		}
	}
	return b.String()
}

// tree is a folder as text. A file of a Maildir goes by its folder and flags: its name is made of time and host.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) || err == nil && d.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		folder, file := filepath.Split(name)
		if i := strings.Index(file, ",U="); i >= 0 {
			file = file[i:]
		}
		out = append(out, folder+file+"\n"+string(b))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(out)
	return strings.Join(out, "\n")
}

// command runs a program and returns what it printed and its exit code.
func (a *at) command(stdin, name string, args ...string) string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Stdin = strings.NewReader(stdin)
	c.Env = append(os.Environ(), "TERM=xterm", "LC_ALL=C", "HOME="+a.dir)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		a.t.Fatalf("%s: %v %s (make setup installs the clients)", name, err, out)
	}
	return fmt.Sprintf("%s\n%s: exit %d\n", out, filepath.Base(name), c.ProcessState.ExitCode())
}

func (a *at) file(name, text string) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

const simpleMail = "From: %[1]s\r\nTo: user4@example.com\r\nSubject: by %[2]s\r\nDate: Mon, 1 Jun 2026 10:00:00 +0000\r\n\r\nhello\r\n.dot\r\n..dots\r\n"

func curl(a *at) (out string) {
	mail := a.file("mail.eml", fmt.Sprintf(simpleMail, a.user, "curl"))
	scheme := "imap"
	args := []string{"-sS", "--max-time", "90", "-u", a.user + ":" + a.password}
	if a.secure {
		scheme, args = "imaps", append(args, "--cacert", a.ca)
	}
	do := func(path string, more ...string) {
		out += a.command("", "curl", append(append(args, "--url", scheme+"://"+a.imap+path), more...)...)
	}
	do("/", "-X", `LIST "" *`)
	do("/INBOX", "-T", mail)
	do("/INBOX;MAILINDEX=1")
	do("/INBOX;MAILINDEX=2;SECTION=TEXT")
	do("/INBOX?SUBJECT%20seed")
	do("/INBOX", "-X", `STORE 2 +FLAGS (\Flagged $Work)`)
	do("/INBOX", "-X", "FETCH 1:* (UID FLAGS RFC822.SIZE)")
	do("/INBOX", "-X", `STORE 1 +FLAGS.SILENT (\Deleted)`)
	do("/INBOX", "-X", "EXPUNGE")
	do("/Nowhere;MAILINDEX=1")
	send := []string{"-sS", "--max-time", "90", "-u", a.user + ":" + a.password, "--url", "smtp://" + a.smtp + "/client.example.org",
		"--mail-from", a.user, "-T", mail}
	if a.secure {
		send = append(send, "--ssl-reqd", "--cacert", a.ca)
	}
	out += a.command("", "curl", append(send, "--mail-rcpt", "user4@example.com", "--mail-rcpt", "user5@example.com")...)
	out += a.command("", "curl", append(send, "--mail-rcpt", "nobody@example.com")...)
	return out
}

func mbsync(a *at) string {
	host, port, _ := strings.Cut(a.imap, ":")
	tlsPart := "SSLType None"
	if a.secure {
		host = "localhost" // it compares names only
		tlsPart = "SSLType IMAPS\nCertificateFile " + a.ca
	}
	mail := filepath.Join(a.dir, "mail")
	if err := os.MkdirAll(mail, 0o700); err != nil {
		a.t.Fatal(err)
	}
	subs := ""
	if a.prefix != "" {
		subs = "Path " + a.prefix + "\n"
	}
	rc := a.file("mbsyncrc", fmt.Sprintf("IMAPStore far\nHost %s\nPort %s\nUser %s\nPass %s\nAuthMechs LOGIN\n%s\n%s\n"+
		"MaildirStore near\nPath %s/\nInbox %s/INBOX\nSubFolders Verbatim\n\n"+
		"Channel c\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n", host, port, a.user, a.password, tlsPart, subs, mail, mail))
	out := a.command("", "mbsync", "-c", rc, "-a")

	if !a.workOnBothSides(mail, "") {
		a.t.Fatalf("the first run has not fetched Archive:\n%s", out)
	}
	out += a.command("", "mbsync", "-c", rc, "-a")
	return out + a.command("", "mbsync", "-c", rc, "-a") // and nothing is left to do
}

func swaks(a *at) (out string) {
	base := []string{"--server", a.smtp, "--ehlo", "client.example.org", "--auth-user", a.user, "--auth-password", a.password,
		"--from", a.user, "--header", "Subject: by swaks", "--body", "hello"}
	run := func(more ...string) {
		args := base
		if a.secure {
			args = append(args, "--tls", "--tls-verify", "--tls-ca-path", a.ca)
		}
		s := a.command("", "swaks", append(append([]string{}, args...), more...)...)
		if i := strings.Index(s, "  235 "); i >= 0 {
			s = s[i:]
		}
		s = strings.ReplaceAll(s, "<~* ", "<~  ")
		out += "swaks " + strings.Join(more, " ") + "\n" + s
	}
	run("--auth", "PLAIN", "--to", "user4@example.com")
	run("--auth", "LOGIN", "--to", "user4@example.com,user5@example.com")
	run("--auth", "PLAIN", "--to", "nobody@example.com")
	run("--auth", "PLAIN", "--to", "user4@example.com,nobody@example.com")
	run("--auth", "PLAIN", "--to", "user4@example.com", "--pipeline")
	run("--auth", "PLAIN", "--to", "user4@example.com", "--quit-after", "RCPT")
	run("--auth", "PLAIN", "--to", "user4@example.com", "--body", strings.Repeat("a line of text\n.\n..\n", 2000), "--silent", "1")
	return out
}

// goClient is go-imap and go-smtp, which this project does not use towards users.
func goClient(a *at) string {
	var b strings.Builder
	say := func(what string, v any, err error) {
		var no *imap.Error
		if errors.As(err, &no) {
			fmt.Fprintf(&b, "%s: %v %s\n", what, no.Code, no.Text)
		} else if err != nil {
			a.t.Errorf("%s: %v", what, err)
		} else {
			fmt.Fprintf(&b, "%s: %+v\n", what, v)
		}
	}
	news := make(chan uint32, 10)
	o := &imapclient.Options{TLSConfig: &tls.Config{RootCAs: pool(a.t, a.ca)},
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{Mailbox: func(d *imapclient.UnilateralDataMailbox) {
			if d.NumMessages != nil {
				news <- *d.NumMessages
			}
		}}}
	dial := imapclient.DialInsecure
	if a.secure {
		dial = imapclient.DialTLS
	}
	c, err := dial(a.imap, o)
	if err != nil {
		a.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(a.user, a.password).Wait(); err != nil {
		a.t.Fatal(err)
	}
	caps, err := c.Capability().Wait()
	var names []string
	for k := range caps {
		if k != "LOGIN-REFERRALS" && !strings.HasPrefix(string(k), "COMPRESS") {
			names = append(names, string(k))
		}
	}
	sort.Strings(names)
	say("CAPABILITY", names, err)
	ns, err := c.Namespace().Wait()
	say("NAMESPACE", fmt.Sprintf("%+v", ns.Personal), err)
	on, err := c.Enable(imap.CapUTF8Accept).Wait()
	say("ENABLE", on, err)
	list, err := c.List("", "*", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{NumMessages: true}, ReturnSpecialUse: true}).Collect()
	for _, m := range list {
		say("LIST", fmt.Sprint(m.Mailbox, m.Attrs, string(m.Delim), *m.Status.NumMessages), err)
	}
	sel, err := c.Select("INBOX", &imap.SelectOptions{CondStore: true}).Wait()
	say("SELECT", fmt.Sprint(sel.NumMessages, sel.UIDNext, sel.PermanentFlags, sel.HighestModSeq > 0), err)
	text := fmt.Sprintf(simpleMail, a.user, "go") + strings.Repeat("0123456789abcdef\r\n", 10_000)
	put(a.t, c, "INBOX", text, []imap.Flag{imap.FlagFlagged})
	all := imap.SeqSet{{Start: 1, Stop: 0}}
	msgs, err := c.Fetch(all, &imap.FetchOptions{UID: true, Flags: true, BodySection: []*imap.FetchItemBodySection{{}}}).Collect()
	for _, m := range msgs {
		say("FETCH", fmt.Sprint(m.SeqNum, m.UID, m.Flags, len(m.BodySection[0].Bytes)), err)
	}
	// One item a command: go-imap asks for several in an order of chance.
	for _, o := range []imap.FetchOptions{{Envelope: true}, {RFC822Size: true}, {BodyStructure: &imap.FetchItemBodyStructure{Extended: true}}} {
		more, err := c.Fetch(all, &o).Collect()
		text, jerr := json.Marshal(more)
		say("FETCH", string(text), errors.Join(err, jerr))
	}
	if n := len(msgs); n == 0 || string(msgs[n-1].BodySection[0].Bytes) != text {
		a.t.Error("the message that was appended came back otherwise")
	}
	st, err := c.Store(imap.UIDSetNum(2), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagAnswered, "$Forwarded"}}, nil).Collect()
	say("STORE", len(st), err)
	found, err := c.Search(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "seed"}}}, nil).Wait()
	say("SEARCH", found.AllSeqNums(), err)
	sorted, err := c.Sort(&imapclient.SortOptions{SearchCriteria: &imap.SearchCriteria{},
		SortCriteria: []imapclient.SortCriterion{{Key: imapclient.SortKeySize, Reverse: true}}}).Wait()
	say("SORT", sorted, err)
	_, err = c.Move(imap.SeqSetNum(1), a.prefix+"Archive").Wait()
	say("MOVE", "", err)
	_, err = c.Copy(imap.SeqSetNum(1), a.prefix+"Nowhere").Wait()
	say("COPY", "", err)
	box := a.prefix + "Entwürfe" + a.sep + "alt"
	say("CREATE", "", c.Create(box, nil).Wait())
	say("RENAME", "", c.Rename(box, a.prefix+"Entwürfe"+a.sep+"neu", nil).Wait())
	for len(news) > 0 {
		<-news
	}
	idle, err := c.Idle()
	if err != nil {
		a.t.Fatal(err)
	}
	other := direct(a.t, a.host, a.user, a.password)
	defer other.Close()
	put(a.t, other, "INBOX", fmt.Sprintf(simpleMail, a.user, "another client"), nil)
	select {
	case n := <-news:
		say("IDLE", n, nil)
	case <-time.After(10 * time.Second):
		a.t.Error("IDLE told of nothing")
	}
	say("DONE", "", errors.Join(idle.Close(), idle.Wait()))
	say("LOGOUT", "", c.Logout().Wait())
	return b.String() + goSubmission(a) + "go: exit 0\n"
}

// goSubmission sends by go-smtp, then raw and pipelined (RFC 2920).
func goSubmission(a *at) string {
	var b strings.Builder
	conf := &tls.Config{RootCAs: pool(a.t, a.ca), ServerName: "127.0.0.1"}
	dial := smtp.Dial
	if a.secure {
		dial = func(addr string) (*smtp.Client, error) { return smtp.DialStartTLS(addr, conf) }
	}
	c, err := dial(a.smtp)
	if err != nil {
		a.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", a.user, a.password)); err != nil {
		a.t.Fatal(err)
	}
	say := func(what string, err error) { fmt.Fprintf(&b, "%s: %v\n", what, err) }
	say("MAIL", c.Mail(a.user, &smtp.MailOptions{Size: 100, Body: smtp.Body8BitMIME}))
	for _, to := range []string{"user4@example.com", "nobody@example.com", "user5@example.com"} {
		say("RCPT "+to, c.Rcpt(to, nil))
	}
	w, err := c.Data()
	if err != nil {
		a.t.Fatal(err)
	}
	_, err = io.WriteString(w, fmt.Sprintf(simpleMail, a.user, "go-smtp"))
	say("DATA", errors.Join(err, w.Close()))
	say("RSET", c.Reset())
	say("NOOP", c.Noop())
	say("QUIT", c.Quit())
	if a.secure {
		return b.String()
	}
	raw, err := net.Dial("tcp", a.smtp)
	if err != nil {
		a.t.Fatal(err)
	}
	l := &lines{Conn: raw}
	defer l.Close()
	l.until(a.t, "220 ")
	l.send(a.t, "EHLO client.example.org\r\n")
	l.until(a.t, "250 ")
	l.send(a.t, "AUTH PLAIN "+plain(a.user, a.password)+"\r\n")
	l.until(a.t, "235 ")
	l.send(a.t, "MAIL FROM:<"+a.user+">\r\nRCPT TO:<user4@example.com>\r\nRCPT TO:<nobody@example.com>\r\nRCPT TO:<user5@example.com>\r\nDATA\r\n")
	l.until(a.t, "354 ")
	l.send(a.t, fmt.Sprintf(strings.ReplaceAll(simpleMail, "\r\n.", "\r\n.."), a.user, "pipeline")+".\r\nRSET\r\nMAIL FROM:<"+a.user+">\r\nNOOP\r\nQUIT\r\n")
	l.until(a.t, "221 ")
	var rest bytes.Buffer
	if _, err := io.Copy(&rest, l); err != nil || rest.Len() > 0 {
		a.t.Errorf("behind 221: %q %v", rest.String(), err)
	}
	return b.String()
}
