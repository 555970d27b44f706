package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/emersion/go-imap/v2"
)

func mutt(a *at) string    { return readWithMutt(a, "mutt") }
func neomutt(a *at) string { return readWithMutt(a, "neomutt") }

// muttTLS are the settings of mutt and neomutt for TLS, and for none.
func (a *at) muttTLS() string {
	if a.secure {
		return fmt.Sprintf("set ssl_starttls=yes ssl_force_tls=yes certificate_file=%s ssl_verify_host=yes\n", a.ca)
	}
	return "set ssl_starttls=no ssl_force_tls=no\n"
}

// muttRest are the other settings: nothing of the machine, and no question.
func (a *at) muttRest() string {
	return fmt.Sprintf(`set from="%s" realname="Tester" use_from=yes hostname=client.example.org
set confirmappend=no confirmcreate=no delete=yes quit=yes move=no mark_old=no wait_key=no copy=yes
set header_cache="" message_cachedir="" tmpdir="%s" history_file="" sleep_time=0 imap_idle=no timeout=600 mail_check=600
`, a.user, a.dir)
}

// muttKeys has a mutt work by keys. A screen in a pseudo-terminal is not to be compared; the exit code, the dialogue and the mailboxes are.
func (a *at) muttKeys(program, rc, keys, more string) string {
	run := fmt.Sprintf(`%s -n -F %s %s -e 'push "%s"'`, program, rc, more, keys)
	screen := a.command("", "script", "-qec", run, "/dev/null")
	return screen[strings.LastIndex(screen, "\nscript: exit"):]
}

// readWithMutt reads, flags, copies, deletes, changes folders, and sends.
func readWithMutt(a *at, program string) string {
	scheme := "imap"
	if a.secure {
		scheme = "imaps"
	}
	base := scheme + "://" + a.imap + "/"
	rc := a.file(program+"rc", fmt.Sprintf(`set imap_user="%s" imap_pass="%s" imap_authenticators="login"
set smtp_url="smtp://%s@%s/" smtp_pass="%s" smtp_authenticators="plain"
%sset folder="%s" spoolfile="%sINBOX" record="%s%sSent" postponed=""
%s`, a.user, a.password, strings.Replace(a.user, "@", "%40", 1), a.smtp, a.password, a.muttTLS(), base, base, base, a.prefix, a.muttRest()))
	keys := "<first-entry><display-message><exit><flag-message><first-entry><copy-message>=" + a.prefix + "Saved<enter><last-entry><delete-message>" +
		"<sync-mailbox><first-entry><clear-flag>N<change-folder>=" + a.prefix + "Archive<enter><last-entry><display-message><exit><quit>"
	out := a.muttKeys(program, rc, keys, "")
	return out + a.command("hello\n.dot\n", program, "-n", "-F", rc, "-s", "by "+program, "-c", "user5@example.com", "user4@example.com")
}

func popMutt(a *popAt) string    { return popWithMutt(a, "mutt") }
func popNeomutt(a *popAt) string { return popWithMutt(a, "neomutt") }

// popWithMutt reads and deletes by POP3, then looks again. What was said in clear is part of what it printed.
func popWithMutt(a *popAt, program string) string {
	host, port := a.hostPort()
	var wires *relay
	if a.secure = a.stls != ""; !a.secure {
		wires = newRelay(a.t, a.addr)
		host, port, _ = net.SplitHostPort(wires.addr)
	}
	rc := a.file(program+"rc", fmt.Sprintf("set pop_user=\"%s\" pop_pass=\"%s\" pop_authenticators=\"user\" pop_delete=no pop_checkinterval=600\n%s%sset folder=\"%s\" spoolfile=\"pop://%s/\" record=\"\"\n",
		a.user, a.password, a.muttTLS(), a.muttRest(), a.dir, net.JoinHostPort(host, port)))
	save := "<first-entry><display-message><exit><next-entry><copy-message>" + filepath.Join(a.dir, "mail", "saved") + "<enter>"
	must(a.t, os.MkdirAll(filepath.Join(a.dir, "mail"), 0o700))
	out := a.muttKeys(program, rc, save+"<first-entry><delete-message><sync-mailbox><quit>", "")
	out += a.muttKeys(program, rc, "<last-entry><display-message><exit><quit>", "")
	if wires != nil {
		for _, w := range wires.end() {
			out += popTranscript(w)
		}
	}
	return out
}

var (
	popLogin = regexp.MustCompile(`(?m)^(PASS|AUTH) .*\r\n`)
	popUIDLs = regexp.MustCompile(`(?m)^(\d+|\+OK \d+) [^\s]{6,}\r?$`)
)

// popTranscript is what was said behind PASS: all that the client said, then all that the server said. The names of messages are made anew
// with each mailbox; Courier lists STLS behind the login too, to who came in clear.
func popTranscript(w *wire) string {
	client, server := w.client.String(), w.server.String()
	at := popLogin.FindStringIndex(client)
	if at == nil {
		return "no login: " + client + server
	}
	_, server, _ = strings.Cut(server, "\n") // the greeting
	for line := range strings.Lines(client[:at[0]]) {
		end := "\n"
		if strings.HasPrefix(line, "CAPA") {
			end = "\n.\r\n"
		}
		_, server, _ = strings.Cut(server, end)
	}
	return "client:\n" + client[at[1]:] + "server:\n" + popUIDLs.ReplaceAllString(strings.Replace(server, "\r\nSTLS\r\n", "\r\n", 1), "$1 UIDL")
}

// offlineimap syncs a Maildir three times, as mbsync does.
func offlineimap(a *at) string {
	host, port, _ := net.SplitHostPort(a.imap)
	secure := "ssl = no\nstarttls = no"
	if a.secure {
		host, secure = "localhost", "ssl = yes\nsslcacertfile = "+a.ca
	}
	mail := filepath.Join(a.dir, "mail")
	rc := a.file("offlineimaprc", fmt.Sprintf(`[general]
accounts = a
metadata = %s/meta
ui = basic
fsync = False
socktimeout = 25
[Account a]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = %s
sep = .
[Repository far]
type = IMAP
remotehost = %s
remoteport = %s
remoteuser = %s
remotepass = %s
auth_mechanisms = PLAIN, LOGIN
%s
`, a.dir, mail, host, port, a.user, a.password, secure))
	run := func() string { return a.command("", "offlineimap", "-c", rc, "-o", "-1") }
	out := run()
	if !a.workOnBothSides(mail, a.prefix) {
		a.t.Fatalf("the first run has not fetched Archive:\n%s", out)
	}
	return out + run() + run()
}

// workOnBothSides makes changes of a mailbox that a client has fetched to a folder: new mail, flags and a deletion far; new mail, a flag
// and a new mailbox near. prefix is of the mailboxes' folders. It is false when the client
// has not fetched what was there.
func (a *at) workOnBothSides(mail, prefix string) bool {
	a.t.Helper()
	old, err := filepath.Glob(filepath.Join(mail, prefix+"Archive", "cur", "*,U=1[:,]*2,S"))
	if must(a.t, err); len(old) != 1 {
		return false
	}
	c := direct(a.t, a.host, a.user, a.password)
	defer c.Close()
	put(a.t, c, "INBOX", fmt.Sprintf(simpleMail, a.user, "the far side"), nil)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		a.t.Fatal(err)
	}
	for n, flag := range map[uint32]imap.Flag{1: imap.FlagDeleted, 2: imap.FlagAnswered} {
		must(a.t, c.Store(imap.SeqSetNum(n), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{flag}}, nil).Close())
	}
	near := strings.ReplaceAll(fmt.Sprintf(simpleMail, a.user, "the near side"), "\r\n", "\n")
	for _, box := range []string{"INBOX", prefix + "Made"} {
		for _, sub := range []string{"cur", "new", "tmp"} {
			must(a.t, os.MkdirAll(filepath.Join(mail, box, sub), 0o700))
		}
		must(a.t, os.WriteFile(filepath.Join(mail, box, "new", "1000.near."+box), []byte(near), 0o600))
	}
	must(a.t, os.Rename(old[0], old[0][:len(old[0])-1]+"FS"))
	return true
}
