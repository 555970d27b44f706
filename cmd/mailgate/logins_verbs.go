package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"mailgate/admin"
	"mailgate/logins"
	"mailgate/syncer"
)

func (p *program) statusCommand() *cobra.Command {
	c := &cobra.Command{Use: "status [USER]", Short: "Show the gateway, or where a user is and why; or who is not ready to be moved", Args: upTo(1),
		Long: "Show the gateway, or where a user is and why.\n\n" +
			"With --not-ready: list the users of the routes file who have not logged in through the gateway, or who lack what else is asked for\n" +
			"in mailgate.yaml: a hash of their password (login.learn.hash), the hook (login.learn.hook), a login that a side refuses with the\n" +
			"password that worked on the other. A login is told of some seconds later, its time is exact to five minutes.\n" +
			"Exit codes: 0 shown, or everybody is ready; 2 somebody is not ready; 6 the store cannot be read or is in use by another verb, 64 usage.",
		Example: "  mailgate status\n  mailgate status alice@example.com\n  mailgate status --not-ready --wave pilot --since 336h",
		RunE:    p.status}
	c.Flags().Bool("not-ready", false, "list who is not ready to be moved")
	c.Flags().String("wave", "", "with --not-ready: only the users of a wave")
	c.Flags().Duration("since", 0, "with --not-ready: logins that are older do not count, such as 336h for two weeks")
	return c
}

func (p *program) status(c *cobra.Command, args []string) error {
	ready, _ := c.Flags().GetBool("not-ready")
	switch {
	case ready && len(args) > 0:
		return exitError{exitUsage, errors.New("--not-ready, or an address: not both")}
	case ready:
		return p.notReady(c)
	case c.Flags().Changed("wave") || c.Flags().Changed("since"):
		return exitError{exitUsage, errors.New("--wave and --since are for --not-ready")}
	case len(args) == 0:
		var o admin.Overview
		if err := p.call(c, "GET", "/status", url.Values{}, &o); err != nil {
			return err
		}
		return p.print(o, func(w io.Writer) { printOverview(w, o) })
	}
	var u admin.UserStatus
	if err := p.call(c, "GET", "/user", userForm(args), &u); err != nil {
		return err
	}
	return p.print(u, func(w io.Writer) { printUser(w, u) })
}

func (p *program) notReady(c *cobra.Command) error {
	form := url.Values{}
	if wave, _ := c.Flags().GetString("wave"); c.Flags().Changed("wave") {
		if wave == "" {
			return exitError{exitUsage, errors.New("--wave: which?")}
		}
		form.Set("wave", wave)
	}
	if c.Flags().Changed("since") {
		d, _ := c.Flags().GetDuration("since")
		if d <= 0 {
			return exitError{exitUsage, errors.New("--since is more than 0, such as 336h for two weeks")}
		}
		form.Set("since", time.Now().Add(-d).Format(time.RFC3339Nano))
	}
	var out NotReady
	if err := p.stream(c.Context(), "ready", form, func(syncer.Progress) {}, &out); err != nil {
		return err
	}
	if err := p.print(out, func(w io.Writer) { printNotReady(w, out) }); err != nil {
		return err
	}
	if len(out.NotReady) > 0 {
		return exitError{exitDifference, fmt.Errorf("%d of %d users are not ready", len(out.NotReady), out.Users)}
	}
	return nil
}

func printNotReady(w io.Writer, out NotReady) {
	if len(out.NotReady) > 0 {
		fmt.Fprintln(w, "user\twave\tside\tlast login\tlacks")
	}
	for _, u := range out.NotReady {
		last := "-"
		if u.At != nil {
			last = fmt.Sprintf("%s (%s, %s)", stamp(u.Last), u.By, *u.At)
		}
		var lacks []string
		for _, x := range u.Lacks {
			lacks = append(lacks, x.Text)
		}
		wave := u.Wave
		if wave == "" {
			wave = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", u.User, wave, u.Side, last, strings.Join(lacks, "; "))
	}
	fmt.Fprintf(w, "%d users, %d ready", out.Users, out.Ready)
	for _, r := range logins.Reasons() {
		if n := out.Reasons[r]; n > 0 {
			fmt.Fprintf(w, ", %d %s", n, r)
		}
	}
	fmt.Fprintln(w)
}

// printRefused names refused logins in the overview.
func printRefused(w io.Writer, o admin.Overview) {
	if o.Refusals == 0 {
		return
	}
	fmt.Fprintf(w, "logins refused\t%d users are refused with a password that worked on the other side\n", o.Refusals)
	for _, r := range o.Refused {
		fmt.Fprintf(w, "\t%s\n", refusedWords(r))
	}
	fmt.Fprintln(w, "\tmailgate status USER says what to do; mailgate status --not-ready lists them all")
}

func refusedWords(r admin.RefusedLogin) string {
	return fmt.Sprintf("%s by %s (%s), %d times since %s", r.User, strings.ToUpper(r.Side.String()), r.Protocol, r.Count, stamp(r.First))
}

// printLogins tells of a user's logins.
func printLogins(w io.Writer, s *admin.LoginStatus) {
	if s == nil {
		return
	}
	if len(s.Last) == 0 {
		fmt.Fprintln(w, "last login\tnone through mailgate yet")
	}
	for _, x := range s.Last {
		fmt.Fprintf(w, "last login\t%s\t%s on %s\n", stamp(x.Last), x.Protocol, x.Side)
	}
	for _, r := range s.Refused {
		fmt.Fprintf(w, "refused\t%s, with a password that worked on %s\nwhat to do\t%s\n", refusedWords(r), strings.ToUpper(r.Side.Other().String()), r.Do)
	}
	h := s.Hash
	if h == nil {
		return
	}
	fmt.Fprintf(w, "password hash\tsince %s, last login with it %s\n", stamp(h.Learned), stamp(h.Seen))
	switch {
	case !h.Hook.IsZero():
		fmt.Fprintf(w, "login hook\tdone %s\n", stamp(h.Hook))
	case h.Error != "":
		fmt.Fprintf(w, "login hook\tfailed %d times: %s\n", h.Tries, h.Error)
		fmt.Fprintf(w, "what to do\tmend the hook; it is tried again, not before %s, or at his next login\n", stamp(h.Next))
	}
}

func (p *program) secretsExportCommand() *cobra.Command {
	c := &cobra.Command{Use: "export FILE", Short: "Write hashes of passwords for NEW's user database", Args: exactly(1),
		Long: "With login.learn.hash a strong hash (argon2id) of each password is kept at login. Write them, with the users' login names on NEW, into\n" +
			"a new file with mode 0600, or with - to standard output, which must be no terminal. Formats:\n" +
			"  dovecot  a passwd-file: NAME:{ARGON2ID}HASH\n" +
			"  ldif     changes for ldapmodify that replace userPassword by {ARGON2}HASH, as OpenLDAP's module argon2 takes it; needs --dn\n" +
			"  csv      user,login,password,side,learned,last_login\n" +
			"A hash is no password, and a weak password can still be guessed from it: keep the file as you keep NEW's own.\n" +
			"Exit codes: 0 written, 2 there is none, 3 the file is there, or login.learn.hash is not set, 1 it could not be written, 6 the store is\n" +
			"in use by another verb, 64 usage.",
		Example: "  mailgate secrets export /var/lib/mailgate/passwd --format dovecot --wave pilot\n" +
			"  mailgate secrets export - --format ldif --dn 'uid={local},ou=people,dc=example,dc=com' | ldapmodify -x -D cn=admin,dc=example,dc=com -W",
		RunE: func(c *cobra.Command, args []string) error { return p.secretsExport(c, args[0]) }}
	c.Flags().String("format", "dovecot", strings.Join(logins.Formats(), ", "))
	c.Flags().String("dn", "", "for ldif: the name of a user's entry, with {address}, {local}, {domain} or {login} in it")
	c.Flags().String("wave", "", "only the users of a wave")
	c.Flags().String("user", "", "only this one")
	c.Flags().Bool("replace", false, "write over a file that is there")
	return c
}

func (p *program) secretsExport(c *cobra.Command, file string) error {
	format, _ := c.Flags().GetString("format")
	dn, _ := c.Flags().GetString("dn")
	replace, _ := c.Flags().GetBool("replace")
	form := url.Values{"action": {"export"}}
	for _, name := range []string{"wave", "user"} {
		v, _ := c.Flags().GetString(name)
		form.Set(name, v)
	}
	if !slices.Contains(logins.Formats(), format) {
		return exitError{exitUsage, fmt.Errorf("--format %s: %w", format, logins.ErrFormat)}
	}
	if format == "ldif" {
		if err := logins.CheckDN(dn); err != nil {
			return exitError{exitUsage, err}
		}
	}
	if f, ok := p.out.(*os.File); ok && file == "-" && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd())) {
		return exitError{exitRefused, errors.New("hashes are not shown on a terminal: name a file, or send them on by a pipe")}
	}
	if _, err := os.Lstat(file); file != "-" && !replace && err == nil {
		return exitError{exitRefused, fmt.Errorf("%s is there; it was not touched: --replace writes over it", file)}
	}
	var list []logins.Exported
	if err := p.stream(c.Context(), "secrets", form, func(syncer.Progress) {}, &list); err != nil {
		return err
	}
	if len(list) == 0 {
		return exitError{exitDifference, errors.New("no hash is kept: nothing is written")}
	}
	var b bytes.Buffer
	var name *logins.NameError
	var shared *logins.SharedError
	if err := logins.Write(&b, format, dn, list); errors.As(err, &name) || errors.As(err, &shared) {
		return exitError{exitRefused, err}
	} else if err != nil {
		return err
	}
	if file == "-" {
		_, err := p.out.Write(b.Bytes())
		return err
	}
	if err := writePrivate(file, b.Bytes(), replace); err != nil {
		return err
	}
	return p.print(map[string]any{"file": file, "format": format, "users": len(list)}, func(w io.Writer) {
		fmt.Fprintf(w, "hashes of %d users are in %s\n", len(list), file)
	})
}

// writePrivate writes a file with mode 0600: a new one, or in the place of one that is there, whole or not at all.
func writePrivate(file string, b []byte, replace bool) error {
	if replace {
		return renameio.WriteFile(file, b, 0o600, renameio.IgnoreUmask())
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return exitError{exitRefused, fmt.Errorf("%s is there; it was not touched: --replace writes over it", file)}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(file)) // half of it is worse than none
	}
	return nil
}
