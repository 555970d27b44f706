package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/tlsconf"
)

func (p *program) doctorCommand() *cobra.Command {
	var user, passwordFile string
	c := &cobra.Command{Use: "doctor", Short: "Look at certificates, backends, capabilities and a login: pass, fail or unknown", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := p.load()
			if err != nil {
				return err
			}
			return (&doctor{p: p, conf: conf}).look(c.Context(), user, passwordFile)
		}}
	c.Flags().StringVar(&user, "user", "", "also log this user in on both sides")
	c.Flags().StringVar(&passwordFile, "password-file", "", "file with his password (- for standard input)")
	return c
}

// check is one finding; verdict is pass, fail or unknown.
type check struct {
	Verdict string `json:"verdict"`
	Name    string `json:"name"`
	Detail  string `json:"detail"`
}

type doctor struct {
	p      *program
	conf   *config.Config
	dialer *backend.Dialer
	checks []check
}

func (d *doctor) note(verdict, name, format string, args ...any) {
	d.checks = append(d.checks, check{verdict, name, fmt.Sprintf(format, args...)})
}

// expirySoon is when a certificate's end is worth a word.
const expirySoon = 14 * 24 * time.Hour

func (d *doctor) look(ctx context.Context, user, passwordFile string) (err error) {
	if d.dialer, err = backend.NewDialer(d.conf.Backends, slog.New(slog.DiscardHandler), nil); err != nil {
		return err
	}
	d.certificates()
	d.routes()
	seen := map[config.Protocol][2]*backend.Seen{}
	for _, pr := range []config.Protocol{config.IMAP, config.Submission} {
		seen[pr] = d.backends(ctx, pr)
	}
	d.compareIMAP(seen[config.IMAP])
	d.compareSubmission(seen[config.Submission])
	if user != "" {
		if err := d.logins(ctx, user, passwordFile); err != nil {
			return err
		}
	}
	d.note("pass", "insertion", "behind the gateway OLD and NEW see all logins come from its address: raise their limits for that address "+
		"(connections per user and address, such as mail_max_userip_connections; bans such as fail2ban), or let them trust it (client_address)")
	err = d.p.print(d.checks, func(w io.Writer) {
		for _, c := range d.checks {
			fmt.Fprintf(w, "%s\t%s\t%s\n", c.Verdict, c.Name, c.Detail)
		}
	})
	if err != nil {
		return err
	}
	for verdict, code := range map[string]int{"fail": exitDifference, "unknown": exitUnknown} {
		if slices.ContainsFunc(d.checks, func(c check) bool { return c.Verdict == verdict }) {
			err = exitError{code, fmt.Errorf("there are checks that say %s", verdict)}
			if verdict == "fail" {
				return err
			}
		}
	}
	return err
}

func (d *doctor) certificates() {
	certs, err := tlsconf.NewCertificates(d.conf.TLS, slog.New(slog.DiscardHandler))
	if err != nil {
		d.note("fail", "certificate", "%v", err)
		return
	}
	named := false
	for _, leaf := range certs.Leaves() {
		left := time.Until(leaf.NotAfter)
		verdict := "pass"
		if left < 0 {
			verdict = "fail"
		}
		text := fmt.Sprintf("%s, until %s", strings.Join(leaf.DNSNames, " "), leaf.NotAfter.Format(time.DateOnly))
		if left > 0 && left < expirySoon {
			text += fmt.Sprintf(" (only %d days)", int(left.Hours()/24))
		}
		d.note(verdict, "certificate", "%s", text)
		named = named || leaf.VerifyHostname(d.conf.Hostname) == nil
	}
	if !named && len(d.conf.TLS.Certificates) > 0 {
		d.note("fail", "certificate", "none is for %s, the name that clients use", d.conf.Hostname)
	}
}

func (d *doctor) routes() {
	r, err := config.LoadRoutes(d.conf)
	if err != nil {
		d.note("fail", "routes", "%v", err)
		return
	}
	d.note("pass", "routes", "%d users, default %s", len(r.Users), r.Default)
}

// backends probes every host of both sides; the first that answers on each side is returned.
func (d *doctor) backends(ctx context.Context, p config.Protocol) (first [2]*backend.Seen) {
	for _, side := range config.Sides {
		for _, name := range d.dialer.Names(side, p) {
			s := d.dialer.Probe(ctx, side, p, name, d.conf.Hostname)
			title := fmt.Sprintf("%s %s %s", side, p, name)
			if s.Err != nil {
				d.note("fail", title, "%v", s.Err)
				continue
			}
			text := fmt.Sprintf("%s answers in %d ms", s.Endpoint.URL, s.Took.Milliseconds())
			if s.TLS != nil {
				text += fmt.Sprintf(", %s, certificate until %s", tls.VersionName(s.TLS.Version),
					s.TLS.PeerCertificates[0].NotAfter.Format(time.DateOnly))
			}
			d.note("pass", title, "%s", text)
			if first[side] == nil {
				first[side] = &s
			}
		}
	}
	return first
}

// compareIMAP tells what clients lose or gain, as far as it shows before login.
func (d *doctor) compareIMAP(seen [2]*backend.Seen) {
	d.compare("imap capabilities", seen, func(s *backend.Seen) []string { return imapwire.OfferableStrings(s.Capabilities) })
}

func (d *doctor) compareSubmission(seen [2]*backend.Seen) {
	d.compare("submission extensions", seen, func(s *backend.Seen) []string {
		var out []string
		for k, v := range s.Extensions {
			out = append(out, strings.TrimSpace(k+" "+v))
		}
		slices.Sort(out)
		return out
	})
}

func (d *doctor) compare(name string, seen [2]*backend.Seen, list func(*backend.Seen) []string) {
	if seen[config.Old] == nil || seen[config.New] == nil {
		d.note("unknown", name, "a side could not be reached")
		return
	}
	old, new := list(seen[config.Old]), list(seen[config.New])
	minus := func(a, b []string) string {
		var out []string
		for _, x := range a {
			if !slices.ContainsFunc(b, func(y string) bool { return strings.EqualFold(x, y) }) {
				out = append(out, x)
			}
		}
		if len(out) == 0 {
			return "nothing"
		}
		return strings.Join(out, ", ")
	}
	var both []string
	for _, x := range old {
		if slices.ContainsFunc(new, func(y string) bool { return strings.EqualFold(x, y) }) {
			both = append(both, x)
		}
	}
	d.note("pass", name, "on both: %s; only old (clients lose it): %s; only new (clients gain it): %s", strings.Join(both, ", "),
		minus(old, new), minus(new, old))
}

// logins tries one user on both sides and tells what he is offered after login.
func (d *doctor) logins(ctx context.Context, login, file string) error {
	password, err := d.password(file)
	if err != nil {
		return err
	}
	creds, err := auth.Password("PLAIN", login, password)
	if err != nil {
		return exitError{exitUsage, err}
	}
	r, err := config.LoadRoutes(d.conf)
	if err != nil {
		return err
	}
	user, err := r.Lookup(config.NewAddresses(d.conf.Routes), login)
	if err != nil {
		return exitError{exitUsage, err}
	}
	route := r.For(user)
	for _, side := range config.Sides {
		name := d.conf.LoginName(side, route)
		title := fmt.Sprintf("login %s as %s", side, name)
		c, err := d.dialer.DialIMAP(ctx, side, route.Host[side], backend.LoginIMAP{Credentials: creds, LoginName: name,
			ClientAddr: netip.AddrPort{}})
		if err != nil {
			d.note("fail", title, "imap: %v", err)
		} else {
			c.Close()
			d.note("pass", title, "imap: in; capabilities: %s", strings.Join(imapwire.OfferableStrings(c.Capabilities), " "))
		}
		if len(d.dialer.Names(side, config.Submission)) == 0 {
			continue
		}
		s, err := d.dialer.DialSubmission(ctx, side, route.Host[side], backend.LoginSubmission{Credentials: creds, LoginName: name,
			Helo: d.conf.Hostname, GatewayName: d.conf.Hostname})
		if err != nil {
			d.note("fail", title, "submission: %v", err)
			continue
		}
		s.Close()
		d.note("pass", title, "submission: in")
	}
	return nil
}

// password reads a password from a file: never from the command line, where others see it.
func (d *doctor) password(file string) (string, error) {
	var b []byte
	var err error
	switch file {
	case "":
		return "", exitError{exitUsage, fmt.Errorf("--user needs --password-file (- for standard input)")}
	case "-":
		b, err = io.ReadAll(io.LimitReader(d.p.in, 8<<10))
	default:
		b, err = os.ReadFile(file)
	}
	if err != nil {
		return "", fmt.Errorf("password: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}
