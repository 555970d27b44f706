package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailgate/learned"
	"mailgate/syncer"
)

func (p *program) secretsCommand() *cobra.Command {
	c := &cobra.Command{Use: "secrets", Short: "Passwords learned at login: list them, erase them, have them tried again, make the key",
		Long: "With login.learn.key the passwords of users in the routes file are kept when they log in, encrypted, so that the syncer can log in as\n" +
			"them where a side has sync.learned. No verb shows a password."}
	list := &cobra.Command{Use: "list [USER]", Short: "Whose password is known, until when, and whether it can be used", Args: upTo(1),
		Long: "List whose password is known: where it was learned, when, the last login with it, when it is erased, and its state:\n" +
			"  usable           it opens, and no side has refused it\n" +
			"  refused by SIDE  it is not tried there again until he logs in with another one\n" +
			"  expired          it is not used, and is erased within the hour\n" +
			"  other key        it does not open with the key of login.learn.key, or stands in another's place: it is not used\n" +
			"  not used         login.learn.key is not set, or that side has no sync.learned\n" +
			"Exit codes: 0 listed, 6 the store is in use by another verb, 64 usage.",
		Example: "  mailgate secrets list\n  mailgate secrets list alice@example.com -o json", RunE: p.secretsList}
	forget := &cobra.Command{Use: "forget USER|--all", Short: "Erase the learned password of a user, or of everybody",
		Long: "Erase what was learned of a user, or of everybody: in the store, its free pages and its write-ahead log, and in the memory of\n" +
			"mailgate serve. Who logs in again is learned again; to end that, take login.learn.key out of mailgate.yaml. Connections of the syncer\n" +
			"that are open stay until their pass or their watch ends. Backups and exports of the store have what they have: it opens only with the key.\n" +
			"Exit codes: 0 erased, 2 nothing was known, 4 erased, but something may be left in the files of the store (somebody reads it), 1 it\n" +
			"could not be written, 6 the store is in use by another verb, 64 usage.",
		Example: "  mailgate secrets forget alice@example.com\n  mailgate secrets forget --all", RunE: p.secretsChange("forget", "no password was known", printForgotten)}
	retry := &cobra.Command{Use: "retry USER|--all", Short: "Have passwords that a host has refused tried once more",
		Long: "A password that a host refuses is not tried there again until its user logs in with another one. When the host was wrong, and is\n" +
			"mended, say so: each that was refused, of a user or of everybody, is tried once more. When it is refused again that counts like the\n" +
			"first time, at the host too: hosts lock out who is refused often.\n" +
			"Exit codes: 0 done, 2 none was refused, 1 it could not be written, 6 the store is in use by another verb, 64 usage.",
		Example: "  mailgate secrets retry alice@example.com\n  mailgate secrets retry --all", RunE: p.secretsChange("retry", "no password was refused", printRetried)}
	for _, x := range []*cobra.Command{forget, retry} {
		x.Flags().Bool("all", false, "everybody")
	}
	key := &cobra.Command{Use: "key FILE", Short: "Make a key for login.learn.key", Args: exactly(1),
		Long: "Make a key (an age identity, X25519) in a new file with mode 0600, for login.learn.key. It opens every password that is learned: keep\n" +
			"it out of the backups of the store. A file that is there is never written over: what was learned would not open any more.\n" +
			"Exit codes: 0 written, 3 the file is there, 1 it could not be written, 64 usage.",
		Example: "  mailgate secrets key /etc/mailgate/learn.key",
		RunE:    func(_ *cobra.Command, args []string) error { return p.secretsKey(args[0]) }}
	c.AddCommand(list, forget, retry, key, p.secretsExportCommand())
	return c
}

func (p *program) secretsList(c *cobra.Command, args []string) error {
	form := url.Values{"action": {"list"}}
	if len(args) > 0 {
		form.Set("user", args[0])
	}
	var out SecretsList
	if err := p.stream(c.Context(), "secrets", form, func(syncer.Progress) {}, &out); err != nil {
		return err
	}
	return p.print(out, func(w io.Writer) { printSecrets(w, out) })
}

func printSecrets(w io.Writer, out SecretsList) {
	hashes := out.Hash || out.Hook
	switch {
	case !out.On && len(out.Passwords) > 0:
		fmt.Fprintln(w, "login.learn.key is not set: nothing is learned, and nothing of this is used; it goes when its time is over, or by mailgate secrets forget --all")
	case !out.On && hashes:
		fmt.Fprintln(w, "login.learn.key is not set: no passwords are learned, only hashes of them")
	case !out.On:
		fmt.Fprintln(w, "login.learn.key is not set: nothing is learned")
	case len(out.UsedBy) == 0:
		fmt.Fprintln(w, "no side has sync.learned: passwords are learned, and not used")
	}
	if !hashes && len(out.Hashes) > 0 {
		fmt.Fprintln(w, "neither login.learn.hash nor login.learn.hook is set: hashes go when their time is over, or by mailgate secrets forget --all")
	}
	if len(out.Passwords) == 0 {
		fmt.Fprintln(w, "no password is known")
	}
	if len(out.Passwords)+len(out.Hashes) == 0 {
		return
	}
	fmt.Fprintln(w, "user\tside\tlearned\tlast login\terased\tstate")
	for _, e := range out.Passwords {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.User, e.Side, stamp(e.Learned), stamp(e.Seen), stamp(e.Expires), stateWords(e, out))
	}
	for _, h := range out.Hashes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\thash\n", h.User, h.Side, stamp(h.Learned), stamp(h.Seen), stamp(h.Expires))
	}
}

// stateWords are a password's state.
func stateWords(e learned.Entry, out SecretsList) string {
	switch e.State {
	case learned.Expired:
		return "expired"
	case learned.NoKey:
		return "not used: login.learn.key is not set"
	case learned.OtherKey:
		return "other key"
	}
	if len(e.Refused) > 0 {
		return "refused by " + strings.ToUpper(strings.Join(e.Refused, " and "))
	}
	if !slices.Contains(out.UsedBy, e.Side.String()) && !slices.Contains(out.UsedBy, "new") { // NEW tries OLD's as well
		return "not used: no sync.learned"
	}
	return "usable"
}

// secretsChange is a verb that changes what is known of a user, or of everybody; none is said when there is nothing to change.
func (p *program) secretsChange(action, none string, words func(io.Writer, SecretsChanged)) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		all, _ := c.Flags().GetBool("all")
		if all == (len(args) == 1) || len(args) > 1 {
			return exitError{exitUsage, fmt.Errorf("secrets %s takes one address, or --all", action)}
		}
		form := url.Values{"action": {action}}
		if all {
			form.Set("all", "true")
		} else {
			form.Set("user", args[0])
		}
		var out SecretsChanged
		err := p.stream(c.Context(), "secrets", form, func(syncer.Progress) {}, &out)
		if err != nil && exitCode(err) != exitPartly {
			return err
		}
		if out.Passwords+out.Hashes == 0 && err == nil {
			err = exitError{exitDifference, errors.New(none)}
		}
		if perr := p.print(out, func(w io.Writer) { words(w, out) }); perr != nil {
			return perr
		}
		return err
	}
}

func printForgotten(w io.Writer, out SecretsChanged) {
	fmt.Fprintf(w, "%d passwords erased\n", out.Passwords)
	if out.Hashes > 0 {
		fmt.Fprintf(w, "hashes of %d users erased; with login.learn.hook the hook runs again at their next login\n", out.Hashes)
	}
	if out.On {
		fmt.Fprintln(w, "who logs in again is learned again, as long as login.learn.key is set")
	}
}

func printRetried(w io.Writer, out SecretsChanged) {
	fmt.Fprintf(w, "%d passwords that were refused may be tried once more\n", out.Passwords)
}

func (p *program) secretsKey(file string) error {
	public, err := learned.WriteKey(file, time.Now())
	switch {
	case errors.Is(err, os.ErrExist):
		return exitError{exitRefused, fmt.Errorf("%s is there; it was not touched: a key that is written over opens nothing any more", file)}
	case err != nil:
		return err
	}
	return p.print(map[string]string{"file": file, "public_key": public}, func(w io.Writer) {
		fmt.Fprintf(w, "%s is written, for %s\nnow write into mailgate.yaml:\n  login: {learn: {key: %s}}\nand sync: {learned: true} for each side that the syncer shall log in at so\n",
			file, public, file)
	})
}
