package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailgate/backend"
	"mailgate/config"
)

func (p *program) doctorCommand() *cobra.Command {
	var user, passwordFile string
	var insertion bool
	c := &cobra.Command{Use: "doctor", Short: "Look at certificates, ports, backends, capabilities and a login: pass, fail or unknown", Args: none,
		Long: "Look at certificates, ports, both backends, what they offer, and the login of a user; show every door: how it is opened,\n" +
			"and what a client sees there on either side.\n" +
			"Exit code 0: all pass; 2: something fails; 6: nothing fails, but something cannot be seen from here.",
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := p.load()
			if err != nil {
				return err
			}
			d := newDoctor(p, conf)
			return d.look(c.Context(), user, passwordFile, insertion)
		}}
	c.Flags().StringVar(&user, "user", "", "also log this user in on both sides")
	c.Flags().StringVar(&passwordFile, "password-file", "", "file with his password (- for standard input)")
	c.Flags().BoolVar(&insertion, "before-insertion", false, "also look at what changes when the gateway is put before OLD")
	return c
}

// Verdicts of a check.
const (
	pass    = "pass"
	fail    = "fail"
	unknown = "unknown"
)

// check is one finding.
type check struct {
	Area    string `json:"area"`
	Verdict string `json:"verdict"`
	Name    string `json:"name"`
	Detail  string `json:"detail"`
	Lists   []list `json:"lists,omitempty"`
}

// list is a list that belongs to a finding.
type list struct {
	Label string   `json:"label"`
	Items []string `json:"items"`
}

type doctor struct {
	p      *program
	conf   *config.Config
	dialer *backend.Dialer
	area   string
	checks []check
	own    []string // which gateway greets at our listeners: one each run of serve

	dial    func(ctx context.Context, address string) error
	resolve func(ctx context.Context, name string) ([]string, error)
	mine    func() ([]net.Addr, error)
}

func newDoctor(p *program, conf *config.Config) *doctor {
	return &doctor{p: p, conf: conf, dial: knock, resolve: net.DefaultResolver.LookupHost, mine: net.InterfaceAddrs}
}

// knock tells whether something listens there.
func knock(ctx context.Context, address string) error {
	c, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

func (d *doctor) note(verdict, name, format string, args ...any) *check {
	d.checks = append(d.checks, check{d.area, verdict, name, fmt.Sprintf(format, args...), nil})
	return &d.checks[len(d.checks)-1]
}

// with adds a list to a finding.
func (c *check) with(label string, items []string) *check {
	c.Lists = append(c.Lists, list{label, slices.Clip(append([]string{}, items...))})
	return c
}

func (d *doctor) look(ctx context.Context, user, passwordFile string, insertion bool) (err error) {
	if d.dialer, err = backend.NewDialer(d.conf.Backends, slog.New(slog.DiscardHandler), nil); err != nil {
		return err
	}
	password := ""
	if user != "" { // asked first: it may come from a terminal
		if password, err = d.password(passwordFile); err != nil {
			return err
		}
	}
	d.area = "front"
	d.certificates(ctx)
	d.listeners(ctx)
	d.files()
	d.routes()
	d.hooks(ctx)
	d.area = "backends"
	seen := map[config.Protocol][2]*backend.Seen{}
	for _, pr := range d.protocols() {
		seen[pr] = d.backends(ctx, pr)
	}
	d.loops(ctx)
	d.area = "what clients are offered"
	for _, pr := range d.protocols() {
		d.compare(pr, seen[pr])
		d.mechanisms(pr, seen[pr])
	}
	in := entered{}
	if user != "" {
		d.area = "login"
		if in, err = d.logins(ctx, user, password); err != nil {
			return err
		}
	}
	d.doors(seen, in)
	if insertion {
		d.area = "before insertion"
		d.insertion(ctx, seen)
	}
	if err := d.p.print(d.checks, d.table); err != nil {
		return err
	}
	return d.verdict()
}

// protocols are those that a listener or a backend has.
func (d *doctor) protocols() (out []config.Protocol) {
	for _, pr := range config.Protocols() {
		if slices.ContainsFunc(d.conf.Listen, func(e config.Endpoint) bool { return e.Protocol == pr }) ||
			len(d.dialer.Names(config.Old, pr))+len(d.dialer.Names(config.New, pr)) > 0 {
			out = append(out, pr)
		}
	}
	return out
}

// verdict is the exit code: the worst of all checks.
func (d *doctor) verdict() error {
	count := map[string]int{}
	for _, c := range d.checks {
		count[c.Verdict]++
	}
	switch {
	case count[fail] > 0:
		return exitError{exitDifference, fmt.Errorf("%d of %d checks fail", count[fail], len(d.checks))}
	case count[unknown] > 0:
		return exitError{exitUnknown, fmt.Errorf("%d of %d checks are unknown", count[unknown], len(d.checks))}
	}
	return nil
}

// widths of the table for people.
const (
	screen   = 110
	nameMost = 34
)

// table prints the checks by area: verdict, name and detail in columns, lists below, all wrapped.
func (d *doctor) table(w io.Writer) {
	width := 0
	for _, c := range d.checks {
		width = max(width, min(len(c.Name), nameMost))
	}
	area := ""
	for _, c := range d.checks {
		if c.Area != area {
			if area != "" {
				fmt.Fprintln(w)
			}
			area = c.Area
			fmt.Fprintf(w, "%s\n", strings.ToUpper(area))
		}
		head := fmt.Sprintf("%-7s  %-*s  ", c.Verdict, width, c.Name)
		indent := strings.Repeat(" ", 11+width)
		if len(c.Name) > width {
			fmt.Fprintln(w, strings.TrimRight(head, " "))
			head = indent
		}
		fmt.Fprint(w, wrap(head, indent, c.Detail, " "))
		for _, l := range c.Lists {
			text, separator := strings.Join(l.Items, ", "), ", "
			if text == "" {
				text = "nothing"
			}
			if slices.ContainsFunc(l.Items, func(s string) bool { return len(s) > screen/4 }) {
				separator = " " // sentences, or a line of a protocol
			}
			fmt.Fprint(w, wrap(indent+l.Label+": ", indent+"    ", text, separator))
		}
	}
}

// wrap breaks a text at separators; the first line begins with head, others with indent.
func wrap(head, indent, text, separator string) string {
	var b strings.Builder
	line, empty := head, true
	parts := strings.Split(text, separator)
	for i, p := range parts {
		if i < len(parts)-1 {
			p += strings.TrimRight(separator, " ")
		}
		switch {
		case empty:
			line += p
		case len(line)+1+len(p) > screen:
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent + p
		default:
			line += " " + p
		}
		empty = false
	}
	return b.String() + strings.TrimRight(line, " ") + "\n"
}

func (d *doctor) routes() {
	r, err := config.LoadRoutes(d.conf)
	if err != nil {
		c := d.note(fail, "routes", "the routes file cannot be used")
		c.with("because", strings.Split(err.Error(), "\n"))
		return
	}
	d.note(pass, "routes", "%d users, %d patterns, default %s", len(r.Users), len(r.Patterns), r.Default)
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
