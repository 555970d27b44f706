package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"mailgate/syncer"
)

// quarantineReasons are those that --reason takes.
func quarantineReasons() []string {
	return []string{"quota", "too-big", "permission", "nul", "refused", "unreadable", "vanished", "reset", "suspect", "unknown"}
}

func (p *program) quarantineCommand() *cobra.Command {
	c := &cobra.Command{Use: "quarantine", Short: "Messages that could not be carried: list them, try them again, waive them"}
	list := &cobra.Command{Use: "list USER...", Short: "List the messages that wait, why, and what can be done",
		Long: "List each message that a pass could not carry, or must not carry without a person: where it is, what it is, why it waits, what the\n" +
			"server said, since when, how often it was tried, and the way out. Nothing is written. A pass may be under way. Where a host does\n" +
			"not answer, what it holds is listed without subject, date and size.\n" +
			"Exit codes: 0 nothing waits (but for what is waived), 2 something waits, 6 could not look, 64 usage." + whoHelp,
		Example: "  mailgate quarantine list alice@example.com\n  mailgate quarantine list --all -o json", RunE: p.quarantineList}
	retry := &cobra.Command{Use: "retry USER...", Short: "Try messages again in the next pass; takes a waiver back",
		Long: "Have messages in quarantine tried again in the next pass (mailgate sync run), however long they would have waited.\n" +
			"Reasons \"reset\", \"suspect\" and \"vanished\" are never tried without this: it says that the message is wanted, and it is carried over\n" +
			"as an ordinary new message. Such messages, and those that are waived, are meant only when they are named: by --uid, by\n" +
			"--reason, or (what is waived) by --waived.\n" +
			decideExits + whoHelp,
		Example: "  mailgate quarantine retry alice@example.com --reason quota\n  mailgate quarantine retry alice@example.com --folder INBOX --uid 17",
		RunE:    p.quarantineDecide("retry")}
	retry.Flags().Bool("waived", false, "also what is waived")
	waive := &cobra.Command{Use: "waive USER...", Short: "Say that messages need not be carried",
		Long: "Say that messages in quarantine need not be carried: they stay where they are, no pass copies or deletes them, and they are no\n" +
			"obstacle for verify and for a flip. verify and quarantine list go on naming them, with who waived them and when; so does\n" +
			"mailgate history. Without --folder, --side, --uid or --reason all of the user's are meant; --dry-run shows which.\n" +
			"mailgate quarantine retry takes it back.\n" +
			decideExits + whoHelp,
		Example: "  mailgate quarantine waive alice@example.com --reason too-big --dry-run\n  mailgate quarantine waive alice@example.com --folder INBOX.Sent --uid 17",
		RunE:    p.quarantineDecide("waive")}
	for _, x := range []*cobra.Command{list, retry, waive} {
		whoFlags(x)
	}
	for _, x := range []*cobra.Command{retry, waive} {
		x.Flags().String("folder", "", "only those of this folder, by its name on either side")
		x.Flags().String("side", "", "only those on old, or on new")
		x.Flags().StringSlice("uid", nil, "only these: 7, or 10:12; may be repeated")
		x.Flags().String("reason", "", "only those that wait for this reason: "+strings.Join(quarantineReasons(), ", "))
		x.Flags().Bool("dry-run", false, "say which are meant, and change nothing")
	}
	c.AddCommand(list, retry, waive)
	return c
}

const decideExits = "Exit codes: 0 done or nothing to do; 2 nothing in quarantine is what was asked for; 4 some users done and others not; 1 failed;\n" +
	"6 the store is in use by another verb; 64 usage, or the same UID is in several folders."

func (p *program) quarantineList(c *cobra.Command, args []string) error {
	users, err := p.users(c, args)
	if err != nil {
		return err
	}
	return p.each(c, users, true, func(ctx context.Context, user string, show *progress, out *shown) error {
		var l syncer.QuarantineList
		if err := p.stream(ctx, "quarantine", url.Values{"user": {user}, "action": {"list"}}, func(syncer.Progress) {}, &l); err != nil {
			return answered(show, out, user, err)
		}
		var err error
		show.print(func(io.Writer) { err = out.add(&l, l.WriteTable) })
		if err == nil && l.Open > 0 {
			return exitError{exitDifference, fmt.Errorf("%d messages wait", l.Open)}
		}
		return err
	})
}

// quarantineDecide is the verb that decides so.
func (p *program) quarantineDecide(action string) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		form, err := decideForm(c, action)
		if err != nil {
			return err
		}
		users, err := p.users(c, args)
		if err != nil {
			return err
		}
		if form.Has("uid") && len(users.list) > 1 {
			return exitError{exitUsage, fmt.Errorf("--uid means messages of one user, and there are %d", len(users.list))}
		}
		dry := form.Get("dry-run") == "true"
		return p.each(c, users, dry, func(ctx context.Context, user string, show *progress, out *shown) error {
			var d syncer.QuarantineDecided
			own := url.Values{"user": {user}}
			for k, v := range form {
				own[k] = v
			}
			if err := p.stream(ctx, "quarantine", own, func(syncer.Progress) {}, &d); err != nil {
				return answered(show, out, user, err)
			}
			var err error
			show.print(func(io.Writer) { err = out.add(&d, d.WriteTable) })
			return err
		})
	}
}

// decideForm is what the flags of retry and waive say.
func decideForm(c *cobra.Command, action string) (url.Values, error) {
	form := url.Values{"action": {action}}
	for _, name := range []string{"folder", "side", "reason"} {
		if v, _ := c.Flags().GetString(name); v != "" {
			form.Set(name, v)
		}
	}
	for _, name := range []string{"waived", "dry-run"} {
		if v, _ := c.Flags().GetBool(name); v {
			form.Set(name, "true")
		}
	}
	if uids, _ := c.Flags().GetStringSlice("uid"); len(uids) > 0 {
		if _, err := uidList(uids); err != nil {
			return nil, exitError{exitUsage, err}
		}
		form["uid"] = uids
	}
	form.Set("side", strings.ToLower(form.Get("side")))
	if r := form.Get("reason"); r != "" && !slices.Contains(quarantineReasons(), r) {
		return nil, exitError{exitUsage, fmt.Errorf("unknown reason %q; %s", r, strings.Join(quarantineReasons(), ", "))}
	}
	return form, sideFlag(form.Get("side"))
}
