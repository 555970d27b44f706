package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/mailtest"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// withSieve adds ManageSieve to both sides of a syncGate.
func withSieve(t *testing.T, g *gate, l *lab.Lab, old, new int) {
	t.Helper()
	text := mustRead(t, g.file)
	for imap, sieve := range map[int]int{l.Old.IMAP: old, l.New.IMAP: new} {
		at := fmt.Sprintf("'imap://127.0.0.1:%d'", imap)
		text = strings.Replace(text, at, fmt.Sprintf("%s, sieve: 'sieve://127.0.0.1:%d'", at, sieve), 1)
	}
	g.write(g.file, text)
}

// scripts are what a side has, read by a client that shares no code with the gateway.
func scripts(t *testing.T, h lab.Host, n int) (map[string]string, string) {
	t.Helper()
	x := lab.DialSieve(t, h, n)
	defer x.Close()
	return x.All()
}

// TestSieveKept: serve carries scripts with the mail, over STARTTLS too; status, metrics, verify and the verbs say how they stand.
func TestSieveKept(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	g := keptGate(t, l)
	withSieve(t, g, l, l.Old.Sieve, l.New.Sieve)
	addr, front := port(t), port(t)
	g.write(g.file, strings.Replace(mustRead(t, g.file), "listen: [", "listen: [\"sieve://"+front+"\", ", 1))
	g.write(g.file, strings.Replace(mustRead(t, g.file), "sieve: 'sieve://127.0.0.1:", "tls: {ca: "+l.CA+"}, sieve: 'sieve+starttls://127.0.0.1:", 1)+
		"admin: {listen: '"+addr+"'}\n")
	deposit(t, l.Old, 1, "first")
	x := lab.DialSieve(t, l.Old, 1)
	x.Put("main", "require \"fileinto\";\r\nfileinto \"INBOX.Sent\";\r\n")
	x.Put("odd", "require \"editheader\";\r\n")
	x.Activate("main")
	x.Close()
	g.start()
	defer g.stop()
	until(t, "the scripts of the first copy", func() bool {
		all, active := scripts(t, l.New, 1)
		return active == "main" && len(all) == 1 && all["main"] == "require \"fileinto\";\r\nfileinto \"Sent\";\r\n"
	})
	until(t, "what status says", func() bool {
		out := g.mustVerb("status", lab.User(1))
		return strings.Contains(out, "1 of 2 Sieve scripts equal, 1 not carried") && strings.Contains(out, `"odd" is not carried to NEW`) &&
			strings.Contains(out, "NEW lacks the Sieve extension editheader")
	})
	if out := g.mustVerb("status"); !strings.Contains(out, "1 Sieve scripts are not carried") {
		t.Errorf("status says\n%s", out)
	}
	res, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	res.Body.Close()
	for _, want := range []string{`mailgate_sync_sieve_scripts_total{action="written",side="new"} 1`, `mailgate_sync_sieve_scripts_total{action="activated",side="new"} 1`,
		`mailgate_sync_sieve_passes_total{result="failed"} 0`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the metrics lack %s (%v)", want, err)
		}
	}
	if strings.Contains(string(b), lab.User(1)) || strings.Contains(string(b), "main\"") {
		t.Error("the metrics name a user or a script")
	}
	out := g.mustVerb("verify", lab.User(1))
	if !strings.Contains(out, "Sieve scripts: 1 equal, 1 explained, 0 different.") || !strings.Contains(out, "explained  \"odd\": it is on OLD only: NEW says") {
		t.Errorf("verify says\n%s", out)
	}

	// What is changed through the gateway does not wait for its turn.
	c := rawDial(t, front, false)
	c.until(t, "OK")
	put := func(text string) {
		t.Helper()
		c.send(t, fmt.Sprintf("DELETESCRIPT \"odd\"\r\nPUTSCRIPT \"odd\" {%d+}\r\n%s\r\n", len(text), text))
		c.until(t, "OK")
		c.until(t, "OK")
	}
	c.send(t, "AUTHENTICATE \"PLAIN\" \""+plain(lab.User(1), lab.Password(1))+"\"\r\n")
	c.until(t, "OK")
	put("require \"vacation\"; discard;")
	until(t, "the script that was put through the gateway", func() bool {
		all, _ := scripts(t, l.New, 1)
		return all["odd"] == "require \"vacation\"; discard;"
	})
	c.send(t, "DELETESCRIPT \"odd\"\r\n")
	c.until(t, "OK")
	until(t, "the delete through the gateway", func() bool {
		all, _ := scripts(t, l.New, 1)
		return len(all) == 1
	})
	c.send(t, "PUTSCRIPT \"odd\" {22+}\r\nrequire \"editheader\";\n\r\nLOGOUT\r\n")
	c.until(t, "OK")
	c.Close()
	until(t, "what status says", func() bool {
		return strings.Contains(g.mustVerb("status", lab.User(1)), "1 of 2 Sieve scripts equal, 1 not carried")
	})

	// A person asks for a pass: what is done is said, and in JSON too.
	x = lab.DialSieve(t, l.New, 1)
	x.Put("own", "keep;")
	x.Close()
	if out := g.mustVerb("verify", lab.User(1)); !strings.Contains(out, "1 different") || !strings.Contains(out, "DIFFERENT  \"own\": it is on NEW only") {
		t.Errorf("verify says\n%s", out)
	}
	if out := g.mustVerb("sync", "run", lab.User(1), "--dry-run"); !strings.Contains(out, `"own" would be stored on OLD`) {
		t.Errorf("a dry run says\n%s", out)
	}
	if out := g.mustVerb("sync", "run", lab.User(1), "--yes"); !strings.Contains(out, `SCRIPT     "own" was stored on OLD`) || !strings.Contains(out, `NOT DONE   "odd" is not carried`) {
		t.Errorf("sync run says\n%s", out)
	}
	var r syncer.Report
	if err := json.Unmarshal([]byte(g.mustVerb("sync", "run", lab.User(1), "--yes", "-o", "json")), &r); err != nil || r.Sieve == nil || r.Sieve.Equal != 2 || r.Sieve.Scripts != 3 {
		t.Errorf("%+v, %v", r.Sieve, err)
	}
	page := filepath.Join(g.dir, "page.html")
	g.mustVerb("verify", lab.User(1), "--html", page)
	if text := mustRead(t, page); !strings.Contains(text, "Sieve scripts: 2 equal, 1 explained, 0 different.") {
		t.Error("the page says nothing of scripts")
	}
	for _, line := range strings.Split(g.log.String(), "\n") {
		if strings.Contains(line, "editheader\\\";") || strings.Contains(line, "fileinto \\\"") {
			t.Errorf("a script's text is in the log: %s", line)
		}
	}
}

// TestSieveKilled: serve is killed when it is about to activate what it has stored. The next one goes on.
func TestSieveKilled(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	g := keptGate(t, l)
	reached, dead := make(chan struct{}), make(chan struct{})
	var once sync.Once
	at := beforeCommand(t, lab.Addr(l.New.Sieve), "SETACTIVE", func() (on bool) {
		once.Do(func() { close(reached) })
		select {
		case <-dead:
		case <-t.Context().Done():
		}
		return false
	})
	withSieve(t, g, l, l.Old.Sieve, at)
	x := lab.DialSieve(t, l.Old, 1)
	x.Put("a", "keep;")
	x.Put("b", "stop;")
	x.Activate("a")
	x.Close()
	g.start()
	select {
	case <-reached:
	case <-time.After(time.Minute):
		t.Fatal("nothing was to be activated within a minute")
	}
	g.kill()
	close(dead)
	if all, active := scripts(t, l.New, 1); len(all) != 2 || active != "" {
		t.Errorf("behind the kill: %q, %q is active", all, active)
	}
	text := mustRead(t, g.file)
	g.write(g.file, strings.Replace(text, fmt.Sprintf("sieve://127.0.0.1:%d", at), fmt.Sprintf("sieve://127.0.0.1:%d", l.New.Sieve), 1))
	g.start()
	defer g.stop()
	until(t, "the mark", func() bool {
		all, active := scripts(t, l.New, 1)
		return active == "a" && len(all) == 2 && all["a"] == "keep;" && all["b"] == "stop;"
	})
	if out := g.mustVerb("verify", lab.User(1)); !strings.Contains(out, "Sieve scripts: 2 equal, 0 explained, 0 different.") {
		t.Errorf("verify says\n%s", out)
	}
}

// beforeCommand is a port before a server: do is called before a line that begins with a word goes on; false ends the connection there.
func beforeCommand(t *testing.T, target, word string, do func() bool) (at int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	serve := func(c net.Conn) {
		defer c.Close()
		s, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer s.Close()
		wg.Go(func() { _, _ = io.Copy(c, s); c.Close() })
		for r := bufio.NewReader(c); ; {
			line, err := r.ReadString('\n')
			if err != nil || strings.HasPrefix(line, word) && !do() {
				return
			}
			if _, err := io.WriteString(s, line); err != nil {
				return
			}
		}
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(c) })
		}
	})
	return l.Addr().(*net.TCPAddr).Port
}

// TestSieveMaster: a master login carries scripts where it is proven for the mail, and where the ManageSieve heeds whom he asks for. One
// that lets him in as anybody is not used: those would be his own scripts, each time.
func TestSieveMaster(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	g := syncGate(t, l, "")
	g.write(filepath.Join(g.dir, "master"), lab.MasterPassword+"\n")
	master := "sync: {master_user: " + lab.MasterUser + ", master_password: master}}"
	g.write(g.file, strings.ReplaceAll(mustRead(t, g.file), "sync: {secrets: secrets}}", master))
	withSieve(t, g, l, l.Old.Sieve, l.New.Sieve)
	x := lab.DialSieve(t, l.Old, 1)
	x.Put("a", "keep;")
	x.Activate("a")
	x.Close()
	deposit(t, l.Old, 1, "first")
	if code, _, errOut := g.verb("sync", "run", lab.User(1), "--dry-run"); code != exitRefused || !strings.Contains(errOut, "is not proven") {
		t.Errorf("without a proof: %d %s", code, errOut)
	}
	if out := g.mustVerb("sync", "run", lab.User(1), "--yes"); !strings.Contains(out, `"a" is now the active script on NEW`) {
		t.Errorf("sync run says\n%s", out)
	}
	if all, active := scripts(t, l.New, 1); all["a"] != "keep;" || active != "a" {
		t.Errorf("NEW has %q, %q is active", all, active)
	}
	for _, n := range []int{2, 3} {
		if all, _ := scripts(t, l.New, n); len(all) > 0 {
			t.Errorf("user %d has %q", n, all)
		}
	}

	lax := laxSieve(t)
	text := mustRead(t, g.file)
	g.write(g.file, strings.Replace(text, fmt.Sprintf("sieve://127.0.0.1:%d", l.New.Sieve), fmt.Sprintf("sieve://127.0.0.1:%d", lax.Port()), 1))
	deposit(t, l.Old, 1, "second")
	out := g.mustVerb("sync", "run", lab.User(1), "--yes") // the mail is carried
	if !has(t, l.New, 1, "second") || !strings.Contains(out, "does not heed whose scripts the master asks for") {
		t.Errorf("sync run says\n%s", out)
	}
	if n := lax.Said("GETSCRIPT") + lax.Said("SETACTIVE"); n > 0 || lax.Said("PUTSCRIPT") != 1 || lax.Said("DELETESCRIPT") != 1 {
		t.Errorf("it was told %q", lax.Received())
	}
}

// laxSieve is a ManageSieve that has one account, whoever is asked for.
func laxSieve(t *testing.T) *mailtest.Script {
	var mu sync.Mutex
	names := map[string]bool{}
	return mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
		hello := "\"IMPLEMENTATION\" \"lax\"\r\n\"SASL\" \"PLAIN\"\r\n\"SIEVE\" \"fileinto\"\r\n\"VERSION\" \"1.0\"\r\nOK\r\n"
		for k.Send(hello); ; {
			verb, rest, _ := strings.Cut(k.Line(), " ")
			name, _, _ := strings.Cut(rest, " {")
			mu.Lock()
			switch verb {
			case "CAPABILITY":
				k.Send(hello)
			case "LISTSCRIPTS":
				for n := range names {
					k.Send(n + "\r\n")
				}
				k.Send("OK\r\n")
			case "PUTSCRIPT":
				k.Line()
				k.Line()
				names[name] = true
				k.Send("OK\r\n")
			default:
				delete(names, name)
				k.Send("OK\r\n")
			}
			mu.Unlock()
		}
	}).AllowGone()
}
