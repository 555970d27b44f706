package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/spf13/cobra"

	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/syncer"
)

func (p *program) demoCommand() *cobra.Command {
	c := &cobra.Command{Use: "demo", Short: "OLD and NEW in memory, the gateway before them, and a tour; nothing to install", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			only, _ := c.Flags().GetBool("tour-only")
			return p.demo(c.Context(), only)
		}}
	c.Flags().Bool("tour-only", false, "end behind the tour")
	return c
}

// demoUsers are the users of the demo, with their passwords.
func demoUsers() map[string]string {
	return map[string]string{"alice@example.com": "wonderland", "bob@example.com": "builder", "carol@example.com": "carol"}
}

// demo runs a whole gateway on loopback with backends in memory, and shows a flip.
func (p *program) demo(ctx context.Context, tourOnly bool) error {
	dir, err := os.MkdirTemp("", "mailgate-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var hosts [2]*mailtest.Memory
	for _, side := range config.Sides {
		if hosts[side], err = mailtest.StartMemory(side.String()+".example.com", demoUsers()); err != nil {
			return err
		}
		defer hosts[side].Close()
		for user := range demoUsers() {
			text := "From: postmaster@example.com\r\nTo: " + user + "\r\nSubject: Welcome to the " + strings.ToUpper(side.String()) +
				" host\r\n\r\nThis message lies on the " + side.String() + " host.\r\n"
			if err := hosts[side].Deliver(user, []byte(text)); err != nil {
				return err
			}
		}
	}
	if err := writeDemo(dir, hosts); err != nil {
		return err
	}
	gate := &program{in: strings.NewReader(""), out: p.out, err: io.Discard, file: filepath.Join(dir, "mailgate.yaml"), output: "table"}
	if os.Getenv("MAILGATE_DEMO_LOG") != "" {
		gate.err = p.err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tour := make(chan error, 1)
	served := make(chan error, 1)
	go func() {
		served <- gate.serve(ctx, func(g *gateway) { tour <- (&tourist{p: p, g: g, hosts: hosts, dir: dir}).tour(ctx) })
	}()
	select {
	case err = <-tour:
	case err = <-served:
		return errors.Join(err, errors.New("the gateway ended early"))
	}
	if err == nil && !tourOnly {
		fmt.Fprintln(p.out, "\nThe gateway keeps running; end it with Ctrl-C. Now it is your turn, in another terminal:")
		fmt.Fprintln(p.out)
		for _, verb := range []string{"sync plan bob@example.com", "sync run bob@example.com", "verify bob@example.com --deep",
			"flip bob@example.com new", "status"} {
			fmt.Fprintf(p.out, "  %s %s\n", verb0(dir), verb)
		}
		fmt.Fprintf(p.out, "  edit %s/routes, and save\n", dir)
		select {
		case <-ctx.Done():
		case err = <-served:
			return errors.Join(err, errors.New("the gateway ended early"))
		}
	}
	cancel()
	return errors.Join(err, <-served)
}

// verb0 is how a verb of the running program is typed.
func verb0(dir string) string {
	name := "mailgate"
	if exe, err := os.Executable(); err == nil {
		name = exe
		if wd, err := os.Getwd(); err == nil {
			if rel, err := filepath.Rel(wd, exe); err == nil && !strings.HasPrefix(rel, "..") {
				name = rel
			}
		}
	}
	return name + " -c " + filepath.Join(dir, "mailgate.yaml")
}

func writeDemo(dir string, hosts [2]*mailtest.Memory) error {
	if err := selfSigned(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")); err != nil {
		return err
	}
	yaml := "hostname: mail.example.com\nlisten: [\"imaps://127.0.0.1:0\", \"imap+starttls://127.0.0.1:0\", " +
		"\"submissions://127.0.0.1:0\", \"submission+starttls://127.0.0.1:0\"]\n" +
		"tls:\n  certificates:\n    - {cert: cert.pem, key: key.pem}\nbackends:\n"
	for _, side := range config.Sides {
		yaml += fmt.Sprintf("  %s:\n    imap: imap://%s\n    submission: submission://%s\n    sync: {secrets: secrets}\n", side, hosts[side].IMAP,
			hosts[side].Submission)
	}
	secrets := "# address and password: how the sync verbs log in on both sides\n"
	for _, user := range slices.Sorted(maps.Keys(demoUsers())) {
		secrets += user + " " + demoUsers()[user] + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "secrets"), []byte(secrets), 0o600); err != nil {
		return err
	}
	routes := "# address            side  options\ndefault old\n"
	for _, user := range []string{"alice@example.com", "bob@example.com", "carol@example.com"} {
		routes += user + "  old   wave=pilot\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "routes"), []byte(routes), 0o600); err != nil {
		return err
	}
	yaml += "routes: {file: routes, watch: 100ms}\n"
	return os.WriteFile(filepath.Join(dir, "mailgate.yaml"), []byte(yaml), 0o600)
}

// selfSigned makes a certificate on the spot.
func selfSigned(cert, key string) error {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "mail.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 1, 0), DNSNames: []string{"mail.example.com", "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &k.PublicKey, k)
	if err != nil {
		return err
	}
	kb, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb}), 0o600))
}

// tourist walks through the demo as a user and an admin would.
type tourist struct {
	p     *program
	g     *gateway
	hosts [2]*mailtest.Memory
	dir   string
	addr  [4]string
	step  int
}

func (t *tourist) say(format string, args ...any) {
	t.step++
	fmt.Fprintf(t.p.out, "\n%d. "+format+"\n", append([]any{t.step}, args...)...)
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

	t.say("Alice logs in at the gateway and reads her mail.")
	if err := t.read(ctx, "OLD"); err != nil {
		return err
	}
	t.say("Bob sends Alice a message through the gateway's submission port.")
	if err := t.send(); err != nil {
		return err
	}
	if err := t.read(ctx, "a message from Bob"); err != nil {
		return err
	}
	t.say("The admin brings Alice's mailboxes on OLD and NEW together: mailgate sync run alice@example.com")
	if err := t.sync(ctx); err != nil {
		return err
	}
	t.say("The admin edits the routes file: alice@example.com goes from old to new. The gateway sees the change by itself.")
	if err := t.flip(ctx, config.New); err != nil {
		return err
	}
	t.say("Alice logs in again: same name, same port, same password, same mail.")
	if err := t.read(ctx, "a message from Bob"); err != nil {
		return err
	}
	t.say("The admin changes the line back.")
	if err := t.flip(ctx, config.Old); err != nil {
		return err
	}
	t.say("Alice is on OLD again.")
	if err := t.read(ctx, "a message from Bob"); err != nil {
		return err
	}
	_, err := fmt.Fprintln(t.p.out, "\nThe tour is over.")
	return err
}

func (t *tourist) port(i int) string {
	_, port, _ := net.SplitHostPort(t.addr[i])
	return port
}

// read logs in as Alice and lists her INBOX, where a subject must hold want.
func (t *tourist) read(_ context.Context, want string) error {
	c, err := imapclient.DialTLS(t.addr[0], &imapclient.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Login("alice@example.com", demoUsers()["alice@example.com"]).Wait(); err != nil {
		return err
	}
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

// sync makes one pass over Alice's mailboxes.
func (t *tourist) sync(ctx context.Context) error {
	v, err := t.g.syncing.Sync(ctx, "run", url.Values{"user": {"alice@example.com"}, "by": {"demo"}}, func(any) {})
	if r, ok := v.(*syncer.Report); ok && r != nil {
		fmt.Fprintf(t.p.out, "   %d messages copied to NEW, %d to OLD: both hold %d now; %.1f s\n", r.Copied[config.New], r.Copied[config.Old],
			r.Pairs, r.Took.Seconds())
	}
	return err
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

// flip edits the file as an editor would, and waits for the gateway to have done it.
func (t *tourist) flip(ctx context.Context, side config.Side) error {
	before, _ := t.g.router.Lookup("alice@example.com")
	if _, _, err := config.EditRoute(t.g.conf.Load(), "alice@example.com", side); err != nil {
		return err
	}
	start := time.Now()
	for {
		p, _ := t.g.router.Lookup("alice@example.com")
		if p.Epoch > before.Epoch && p.Side == side {
			fmt.Fprintf(t.p.out, "   alice@example.com is on %s now (epoch %d), %.1f s after the file was saved\n", side, p.Epoch, time.Since(start).Seconds())
			return nil
		}
		if time.Since(start) > 30*time.Second {
			return errors.New("the flip did not happen within 30 s")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
