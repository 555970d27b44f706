package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/cutover"
	"mailgate/mailtest"
	"mailgate/router"
)

// tourist walks through the demo as a user and an admin would.
type tourist struct {
	p     *program
	g     *gateway
	hosts [2]*mailtest.Memory
	dir   string
	addr  [4]string
	step  int
	steps *demoSteps
	plans int // that were shown
}

// demoSteps is a Recorder that remembers which states users come by. It is safe for concurrent use.
type demoSteps struct {
	cutover.Recorder
	mu   sync.Mutex
	seen map[string][]router.State
}

// Transition implements cutover.Recorder.
func (d *demoSteps) Transition(user string, from, to router.State, by string) {
	d.Recorder.Transition(user, from, to, by)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil {
		d.seen = map[string][]router.State{}
	}
	d.seen[user] = append(d.seen[user], to)
}

// take gives what was seen, and forgets it.
func (d *demoSteps) take() map[string][]router.State {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := d.seen
	d.seen = nil
	return seen
}

func (t *tourist) say(format string, args ...any) {
	t.step++
	fmt.Fprintf(t.p.out, "\n%d. "+format+"\n", append([]any{t.step}, args...)...)
}

// verb runs a verb as the admin types it, against the running gateway, and shows what it prints. It must end with want.
func (t *tourist) verb(ctx context.Context, want int, args ...string) (string, error) {
	fmt.Fprintf(t.p.out, "   $ mailgate %s\n", strings.Join(args, " "))
	var out bytes.Buffer
	got := run(ctx, append([]string{"-c", filepath.Join(t.dir, "mailgate.yaml")}, args...), strings.NewReader(""), &out, &out)
	steps := false
	for line := range strings.Lines(out.String()) {
		switch begins := strings.Contains(line, " to new:") || strings.Contains(line, " to old:"); {
		case begins && strings.Contains(line, " move"):
			if t.plans++; t.plans > 1 { // they are always the same
				steps = true
				line = strings.TrimRight(line, ":\n") + ", by the same steps\n"
			}
		case strings.HasPrefix(line, "FENCE to RELEASE") && steps:
			steps = false
			continue
		case steps:
			continue
		}
		fmt.Fprintf(t.p.out, "     %s\n", strings.TrimRight(line, " \n"))
	}
	if got != want {
		return out.String(), fmt.Errorf("mailgate %s: exit %d, want %d", strings.Join(args, " "), got, want)
	}
	return out.String(), nil
}

// passed shows by which states users came since it was last called.
func (t *tourist) passed() {
	seen := t.steps.take()
	for _, user := range demoNames() {
		var list []string
		for _, s := range seen[user] {
			list = append(list, string(s))
		}
		if len(list) > 0 {
			fmt.Fprintf(t.p.out, "   %s: %s\n", user, strings.Join(list, " -> "))
		}
	}
}

func (t *tourist) tour(ctx context.Context) error {
	for i, a := range t.g.proxy.Addrs() {
		t.addr[i] = a.String()
	}
	fmt.Fprintf(t.p.out, `mailgate demo: OLD and NEW run in memory, the gateway stands before both.

  Any mail client reaches it, on this machine, with the user's address as login name and the certificate accepted:

  IMAP        127.0.0.1 port %s (SSL/TLS) or %s (STARTTLS)
  SMTP        127.0.0.1 port %s (SSL/TLS) or %s (STARTTLS)
  users       alice@example.com / wonderland, bob@example.com / builder, carol@example.com / carol
  read        curl -k -u alice@example.com:wonderland 'imaps://%s/INBOX;MAILINDEX=1'
  mutt        mutt -f 'imaps://alice@example.com@%s/INBOX'
  send        swaks --server %s --tls-on-connect --auth PLAIN --auth-user bob@example.com --auth-password builder \
              --from bob@example.com --to alice@example.com
  files       %s/mailgate.yaml and %s/routes
`, t.port(0), t.port(1), t.port(2), t.port(3), t.addr[0], t.addr[0], t.addr[2], t.dir, t.dir)
	for _, part := range []func(context.Context) error{t.users, t.together, t.held, t.there, t.back} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(t.p.out, "\nThe tour is over.")
	return err
}

// users work, on OLD.
func (t *tourist) users(context.Context) error {
	t.say("Alice logs in at the gateway and reads her mail.")
	if err := t.read("OLD"); err != nil {
		return err
	}
	t.say("Bob sends Alice a message through the gateway's submission port.")
	if err := t.send(); err != nil {
		return err
	}
	return t.read("a message from Bob")
}

// together starts the wave, and waits until its mailboxes are the same on both sides.
func (t *tourist) together(ctx context.Context) error {
	t.say("Alice, Bob and Carol are the wave pilot. The admin starts it: from now on their mailboxes on OLD and NEW are kept equal.")
	if _, err := t.verb(ctx, exitOK, "wave", "start", "pilot"); err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); ; {
		ready := 0
		for _, user := range demoNames() {
			var u admin.UserStatus
			if err := (admin.Client{Local: t.g.api().Handler()}).Call(ctx, http.MethodGet, "/user", url.Values{"user": {user}}, &u); err != nil {
				return err
			}
			if u.Ready != nil && u.Ready.Ready {
				ready++
			}
		}
		if ready == len(demoNames()) {
			break
		}
		if time.Now().After(end) {
			return errors.New("the mailboxes are not equal after a minute")
		}
		if err := pauseFor(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	_, err := t.verb(ctx, exitOK, "status", "alice@example.com")
	return err
}

// held shows that no flip passes a hold.
func (t *tourist) held(ctx context.Context) error {
	t.say("What will a move mean? The plan says it, before anything is done.")
	if _, err := t.verb(ctx, exitOK, "flip", "alice@example.com", "new", "--dry-run"); err != nil {
		return err
	}
	if _, err := t.verb(ctx, exitOK, "flip", "pilot", "new", "--dry-run"); err != nil {
		return err
	}
	t.say("Somebody holds the wave. No move passes that, and who asks is told why.")
	if _, err := t.verb(ctx, exitOK, "hold", "pilot", "--reason", "the network is being mended"); err != nil {
		return err
	}
	if _, err := t.verb(ctx, exitRefused, "flip", "pilot", "new", "--yes"); err != nil {
		return err
	}
	_, err := t.verb(ctx, exitOK, "unhold", "pilot")
	return err
}

// there moves the wave to NEW.
func (t *tourist) there(ctx context.Context) error {
	t.say("Now the wave moves to NEW. Each user comes by the same states; sessions end between two commands, and logins wait for a moment.")
	t.steps.take()
	if _, err := t.verb(ctx, exitOK, "flip", "pilot", "new", "--yes"); err != nil {
		return err
	}
	t.passed()
	for _, user := range demoNames() {
		if p, _ := t.g.router.Lookup(user); p.Side != config.New {
			return fmt.Errorf("%s is on %s", user, p.Side)
		}
	}
	t.say("Alice logs in again: same name, same port, same password, same mail. She writes something.")
	if err := t.read("a message from Bob"); err != nil {
		return err
	}
	return t.write()
}

// back moves it back to OLD.
func (t *tourist) back(ctx context.Context) error {
	t.say("Is the way back open? Whatever was done on NEW is brought to OLD all the time.")
	if _, err := t.verb(ctx, exitOK, "status", "alice@example.com"); err != nil {
		return err
	}
	t.say("The wave goes back to OLD.")
	t.steps.take()
	if _, err := t.verb(ctx, exitOK, "rollback", "pilot", "--yes"); err != nil {
		return err
	}
	t.passed()
	for _, user := range demoNames() {
		if p, _ := t.g.router.Lookup(user); p.Side != config.Old {
			return fmt.Errorf("%s is on %s", user, p.Side)
		}
	}
	t.say("Alice is on OLD again, and has there what she wrote on NEW.")
	if err := t.read("written on NEW"); err != nil {
		return err
	}
	_, err := t.verb(ctx, exitOK, "history", "alice@example.com", "--limit", "5")
	return err
}

func (t *tourist) port(i int) string {
	_, port, _ := net.SplitHostPort(t.addr[i])
	return port
}

// alice logs in at the gateway.
func (t *tourist) alice() (*imapclient.Client, error) {
	c, err := imapclient.DialTLS(t.addr[0], &imapclient.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		return nil, err
	}
	if err := c.Login("alice@example.com", demoUsers()["alice@example.com"]).Wait(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// read lists Alice's INBOX, where a subject must hold want.
func (t *tourist) read(want string) error {
	c, err := t.alice()
	if err != nil {
		return err
	}
	defer c.Close()
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		return err
	}
	var set imap.SeqSet
	set.AddRange(1, box.NumMessages)
	list, err := c.Fetch(set, &imap.FetchOptions{Envelope: true}).Collect()
	if err != nil {
		return err
	}
	found := false
	for _, m := range list {
		fmt.Fprintf(t.p.out, "   INBOX %d: %s\n", m.SeqNum, m.Envelope.Subject)
		found = found || strings.Contains(m.Envelope.Subject, want)
	}
	if !found {
		return fmt.Errorf("no message about %q in the INBOX", want)
	}
	return c.Logout().Wait()
}

// write puts a message into Alice's INBOX, wherever she is.
func (t *tourist) write() error {
	c, err := t.alice()
	if err != nil {
		return err
	}
	defer c.Close()
	text := "From: alice@example.com\r\nTo: alice@example.com\r\nSubject: A note, written on NEW\r\n\r\nDo not forget.\r\n"
	a := c.Append("INBOX", int64(len(text)), nil)
	if _, err := a.Write([]byte(text)); err != nil {
		return err
	}
	if err := a.Close(); err != nil {
		return err
	}
	if _, err := a.Wait(); err != nil {
		return err
	}
	fmt.Fprintln(t.p.out, "   stored: A note, written on NEW")
	return c.Logout().Wait()
}

func (t *tourist) send() error {
	c, err := smtp.DialTLS(t.addr[2], &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", "bob@example.com", demoUsers()["bob@example.com"])); err != nil {
		return err
	}
	text := "From: bob@example.com\r\nTo: alice@example.com\r\nSubject: This is a message from Bob\r\n\r\nHello Alice.\r\n"
	if err := c.SendMail("bob@example.com", []string{"alice@example.com"}, strings.NewReader(text)); err != nil {
		return err
	}
	for _, side := range config.Sides {
		if n := len(t.hosts[side].Sent()); n > 0 {
			fmt.Fprintf(t.p.out, "   accepted: %s has taken %d message\n", t.hosts[side].Name, n)
		}
	}
	return c.Quit()
}

// pauseFor waits a while, or until ctx ends.
func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
