package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/mailtest"
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

// demoNames are their addresses, in order.
func demoNames() []string { return slices.Sorted(maps.Keys(demoUsers())) }

// demo runs a whole gateway on loopback with backends in memory, and shows a flip.
func (p *program) demo(ctx context.Context, tourOnly bool) error {
	dir, err := os.MkdirTemp("", "mailgate-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var hosts [2]*mailtest.Memory
	for _, side := range config.Sides {
		if hosts[side], err = mailtest.StartMemoryAfter(side.String()+".example.com", demoUsers(), 10*int(side)); err != nil {
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
	steps := &demoSteps{}
	gate := &program{record: func(r cutover.Recorder) cutover.Recorder { steps.Recorder = r; return steps }, in: strings.NewReader(""), out: p.out, err: io.Discard, file: filepath.Join(dir, "mailgate.yaml"), output: "table"}
	if os.Getenv("MAILGATE_DEMO_LOG") != "" {
		gate.err = p.err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tour := make(chan error, 1)
	served := make(chan error, 1)
	go func() {
		served <- gate.serve(ctx, func(g *gateway) { tour <- (&tourist{p: p, g: g, hosts: hosts, dir: dir, steps: steps}).tour(ctx) })
	}()
	select {
	case err = <-tour:
	case err = <-served:
		return errors.Join(err, errors.New("the gateway ended early"))
	}
	if err == nil && !tourOnly {
		fmt.Fprintln(p.out, "\nThe gateway keeps running; end it with Ctrl-C. Now it is your turn, in another terminal:")
		fmt.Fprintln(p.out)
		for _, verb := range []string{"flip pilot new", "rollback pilot --yes", "flip bob@example.com new --dry-run", "verify bob@example.com --deep",
			"wave show pilot", "status"} {
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
	for _, user := range demoNames() {
		secrets += user + " " + demoUsers()[user] + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "secrets"), []byte(secrets), 0o600); err != nil {
		return err
	}
	routes := "# address            side  options\ndefault old\n"
	for _, user := range demoNames() {
		routes += user + "  old   wave=pilot\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "routes"), []byte(routes), 0o600); err != nil {
		return err
	}
	yaml += "routes: {file: routes, watch: 100ms}\nsync: {poll: 1s, settle: 50ms}\n"
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
