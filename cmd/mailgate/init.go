package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailgate/backend"
	"mailgate/config"
)

func (p *program) initCommand() *cobra.Command {
	c := &cobra.Command{Use: "init", Short: "Ask for the two hosts, probe them, and write mailgate.yaml and a routes file", Args: none}
	var old, new, name, dir string
	c.Flags().StringVar(&old, "old", "", "host name of OLD")
	c.Flags().StringVar(&new, "new", "", "host name of NEW")
	c.Flags().StringVar(&name, "hostname", "", "the stable name that clients use")
	c.Flags().StringVar(&dir, "dir", ".", "folder for the files")
	c.RunE = func(c *cobra.Command, _ []string) error {
		in := bufio.NewReader(p.in)
		for _, q := range []struct {
			value *string
			text  string
		}{{&name, "Stable name that clients use (mail.example.com): "}, {&old, "Host name of OLD: "}, {&new, "Host name of NEW: "}} {
			if *q.value != "" {
				continue
			}
			fmt.Fprint(p.err, q.text)
			line, err := in.ReadString('\n')
			if *q.value = strings.TrimSpace(line); *q.value == "" {
				return exitError{exitUsage, errors.Join(errors.New("an answer is needed (or the flags --hostname, --old, --new)"), eof(err))}
			}
		}
		return p.writeInit(c.Context(), dir, name, [2]string{old, new})
	}
	return c
}

func eof(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// writeInit writes the two files; existing ones are left alone.
func (p *program) writeInit(ctx context.Context, dir, name string, hosts [2]string) error {
	file := filepath.Join(dir, "mailgate.yaml")
	for _, f := range []string{file, filepath.Join(dir, "routes")} {
		if _, err := os.Stat(f); err == nil {
			return exitError{exitRefused, fmt.Errorf("%s exists already; nothing was written", f)}
		}
	}
	for _, host := range append([]string{name}, hosts[:]...) { // a name that YAML or a URL would take for something else
		if e, err := config.ParseEndpoint("imaps://"+host, false); err != nil || e.Host == "" || strings.Contains(host, ":") {
			return exitError{exitUsage, fmt.Errorf("%q is no host name; write it without scheme and port", host)}
		}
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	var found [2]services
	for _, side := range config.Sides {
		found[side] = p.probeHost(ctx, hosts[side])
	}
	pop3 := found[config.Old].pop3 != "" && found[config.New].pop3 != ""
	listen := ""
	if pop3 {
		listen = "\n  - pop3s://:995\n  - pop3+starttls://:110"
	}
	if found[config.Old].sieve != "" && found[config.New].sieve != "" {
		listen += "\n  - sieve+starttls://:4190"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# mailgate: how. Who is where stands in the routes file. Check with: mailgate -c %s config check
hostname: %s
listen:                       # the scheme is the mode; plain text off loopback needs +insecure
  - imaps://:993
  - imap+starttls://:143%s
  - submissions://:465
  - submission+starttls://:587
tls:
  certificates:               # PEM, read again when they change; several names by SNI
    - cert: /etc/mailgate/tls/%s.pem
      key: /etc/mailgate/tls/%s.key
backends:
`, file, name, listen, name, name)
	for _, side := range config.Sides {
		x := found[side]
		if x.pop3 != "" && !pop3 {
			x.pop3 = "\n    # pop3: " + x.pop3 + "  # the other side has none; a listener for POP3 needs both"
		} else if pop3 {
			x.pop3 = "\n    pop3: " + x.pop3
		}
		if x.sieve != "" {
			x.sieve = "\n    sieve: " + x.sieve + "  # ManageSieve: filters travel"
		}
		fmt.Fprintf(&b, `  %s:
    imap: %s%s
    submission: %s%s
    login: "{address}"        # login name there: {address}, {local}, {domain}
    client_address: false     # true when this host trusts us: IMAP ID, XCLIENT
    # sync: {secrets: secrets}  # for mailgate sync: a file with address and password on each line, mode 0600; or a master, or tokens
`, side, x.imap, x.pop3, x.submission, x.sieve)
	}
	b.WriteString(`routes:
  file: routes
  local_part: fold            # Alice and alice are one user; "exact" if they are two
  subaddress: "+"
store:
  path: /var/lib/mailgate/mailgate.db
control:
  socket: /run/mailgate/control.sock
admin:
  listen: 127.0.0.1:9090      # /healthz, /readyz, /metrics
`)
	routes := "# address            side  options\n# alice@example.com    new   wave=pilot\n" +
		"# bob@example.com      old   wave=sales old=bob\ndefault old\n"
	if err := create(filepath.Join(dir, "routes"), routes); err != nil {
		return err
	}
	if err := create(file, b.String()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.out, "wrote %s and routes; next: put the certificate in place, then mailgate -c %s doctor\n", file, file)
	return err
}

// create writes a file that is not there yet, also when one came meanwhile.
func create(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// services are URLs of a host.
type services struct{ imap, pop3, submission, sieve string }

// probeHost finds the best way in: TLS from the first byte before STARTTLS. What cannot be reached is written as it
// should be, for the operator to correct; POP3 and ManageSieve are left out then, as many hosts have none.
func (p *program) probeHost(ctx context.Context, host string) services {
	try := func(urls ...string) (string, bool) {
		for _, u := range urls {
			e, err := config.ParseEndpoint(u, false)
			if err != nil {
				continue
			}
			b := config.Default().Backends[0]
			b.ConnectTimeout, b.LoginTimeout = 3*time.Second, 5*time.Second
			b.Hosts = []config.Host{{Name: host, IMAP: e, POP3: e, Submission: e, Sieve: e}}
			d, err := backend.NewDialer([2]config.Backend{b, b}, slog.New(slog.DiscardHandler), nil)
			if err != nil {
				continue
			}
			if seen := d.Probe(ctx, config.Old, e.Protocol, host, "mailgate.invalid"); seen.Err != nil {
				fmt.Fprintf(p.err, "  %s: %v\n", u, seen.Err)
				continue
			}
			fmt.Fprintf(p.err, "  %s: ok\n", u)
			return u, true
		}
		return urls[0] + " # could not be reached when this was written", false
	}
	var out services
	out.imap, _ = try("imaps://"+host+":993", "imap+starttls://"+host+":143")
	out.submission, _ = try("submissions://"+host+":465", "submission+starttls://"+host+":587")
	if pop3, ok := try("pop3s://"+host+":995", "pop3+starttls://"+host+":110"); ok {
		out.pop3 = pop3
	}
	if sieve, ok := try("sieve+starttls://"+host+":4190", "sieves://"+host+":4190"); ok {
		out.sieve = sieve
	}
	return out
}
