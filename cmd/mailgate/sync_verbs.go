package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/op"
	"mailgate/syncer"
	"mailgate/syncer/merge"
)

const whoHelp = `
USER is an address, a wave of the routes file, @FILE with an address on each line, several of these, or --all for the users of
the routes file. With -o json a single address is answered by an object, everything else by an array; a user who failed is an
object with "user", "error" and "exit" in it.`

func (p *program) syncCommand() *cobra.Command {
	c := &cobra.Command{Use: "sync", Short: "Bring a user's mailboxes on OLD and NEW together"}
	plan := &cobra.Command{Use: "plan USER...", Short: "Show which folder becomes which, before anything is written",
		Long: "Show which folder becomes which on the other side, and what will be done about it. Nothing is written anywhere.\n" +
			"Exit codes: 0 shown, 3 something in it is refused (it says what to write), 6 a side could not be reached, 64 usage." + whoHelp,
		Example: "  mailgate sync plan alice@example.com", RunE: p.syncPlan}
	run := &cobra.Command{Use: "run USER...", Short: "Make one pass: afterwards both sides are equal",
		Long: "Make one pass over a user's mailboxes. The first pass copies everything: every message byte for byte with its date and flags,\n" +
			"and subscriptions. Every further pass carries what has changed since: new mail, flags, moves, deletes, renamed folders. The side\n" +
			"that the user is routed to decides. A pass that is interrupted, or killed, loses and doubles nothing; the next one goes on.\n\n" +
			"Deletes that look like an accident (an emptied folder, a fifth of one) are held back and named; --deletes lets them\n" +
			"through, an hour after they were first seen (sync.confirm).\n" +
			"Exit codes: 0 done; 4 done but for what is named, or ended early; 3 refused, and nothing was written: by the folder plan, for\n" +
			"want of a login, or because another pass or a flip of the user is under way; 6 a side could not be reached; 1 failed, or\n" +
			"interrupted by Ctrl-C; 64 usage." + whoHelp,
		Example: "  mailgate sync run alice@example.com --dry-run\n  mailgate sync run alice@example.com --yes\n  mailgate sync run --all --jobs 4 --yes --progress lines",
		RunE:    p.syncRun}
	run.Flags().Bool("once", false, "one pass (that is what this verb does; it is there for scripts that say so)")
	run.Flags().Bool("dry-run", false, "say what would be done")
	run.Flags().Bool("yes", false, "do not ask")
	run.Flags().Bool("deletes", false, "carry deletes however many they are")
	for _, x := range []*cobra.Command{plan, run} {
		whoFlags(x)
	}
	c.AddCommand(plan, run, p.syncLimitsCommand())
	c.AddCommand(p.pauseCommands()...)
	return c
}

func whoFlags(c *cobra.Command) {
	c.Flags().Bool("all", false, "all users of the routes file")
	c.Flags().Int("jobs", 2, "users at a time")
	c.Flags().String("progress", "auto", "auto, bar, lines or none")
}

func (p *program) verifyCommand() *cobra.Command {
	c := &cobra.Command{Use: "verify USER...", Short: "Compare both sides, message by message",
		Long: "Compare a user's mailboxes on both sides: every message's presence, flags, size and date; the contents of a sample, or of all\n" +
			"with --deep, byte for byte. Each difference is named. Nothing is written.\n" +
			"What waits in quarantine is a difference until somebody has waived it; what is waived is named as explained.\n" +
			"Exit codes: 0 equal, 2 there are differences, 6 could not compare, 3 refused: for want of a login, or because a pass or a flip\n" +
			"of the user is under way, 64 usage." + whoHelp,
		Example: "  mailgate verify alice@example.com --deep --html alice.html", RunE: p.verify}
	c.Flags().Bool("deep", false, "compare the contents of every message")
	c.Flags().String("html", "", "write a report for people to this file (one user only)")
	whoFlags(c)
	return c
}

func (p *program) probeCommand() *cobra.Command {
	c := &cobra.Command{Use: "probe", Short: "Find out how the mail hosts behave"}
	b := &cobra.Command{Use: "backends", Short: "Try odd messages, flags and names in a scratch folder on both sides", Args: none,
		Long: "Store odd messages, flags and folder names in a scratch folder of a user on both sides, read them back, and keep what was seen\n" +
			"as the profile of the product: folder plans and passes heed it. The scratch folder is removed. With a master login, two users are\n" +
			"needed to prove that it opens the mailbox that was asked for; the scratch folder is the first one's.\n" +
			"Exit codes: 0 done, 3 a login is refused (it says what to write), 6 a side could not be reached.",
		Example: "  mailgate probe backends --user test1@example.com --user test2@example.com", RunE: p.probeBackends}
	b.Flags().StringArray("user", nil, "whose account to use, the first ones of the routes file by default")
	c.AddCommand(b)
	return c
}

// stream asks the running gateway, or does it in this process when nothing runs. The API is the same.
func (p *program) stream(ctx context.Context, verb string, form url.Values, progress func(syncer.Progress), out any) error {
	sign(form)
	conf, bad := p.loadAnyway()
	take := func(b json.RawMessage) {
		var g syncer.Progress
		if json.Unmarshal(b, &g) == nil {
			progress(g)
		}
	}
	p.opening.Lock()
	g := p.local
	p.opening.Unlock()
	if g == nil {
		err := admin.Client{Socket: conf.Control.Socket}.Stream(ctx, "/sync/"+verb, form, take, out)
		if !errors.Is(err, admin.ErrNotRunning) {
			return err
		}
		if bad != nil {
			return bad
		}
		if g, err = p.localSyncing(ctx); err != nil {
			if errors.Is(err, op.ErrInUse) && verb == "run" {
				return exitError{exitRefused, err}
			}
			return err
		}
	}
	form.Set("from", admin.From(ctx, form.Get("ssh")))
	v, err := g.syncing.Sync(ctx, verb, form, func(v any) {
		if x, ok := v.(syncer.Progress); ok {
			progress(x)
		}
	})
	if b, merr := json.Marshal(v); merr == nil && string(b) != "null" { // as over the socket
		err = errors.Join(err, json.Unmarshal(b, out))
	}
	return err
}

// localSyncing opens the store for the verbs that sync, once.
func (p *program) localSyncing(ctx context.Context) (*gateway, error) {
	p.opening.Lock()
	defer p.opening.Unlock()
	if p.local != nil {
		return p.local, nil
	}
	conf, err := p.load()
	if err != nil {
		return nil, err
	}
	g, err := p.open(ctx, func(config.Log) *slog.Logger {
		return slog.New(slog.NewTextHandler(p.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}, localWait, asOnly)
	switch {
	case errors.Is(err, op.ErrInUse):
		return nil, exitError{exitUnknown, p.inUse(conf, err)}
	case err != nil:
		return nil, err
	}
	if err := g.manager().Load(ctx); err != nil {
		return nil, errors.Join(err, g.close())
	}
	if err := g.openSyncing(conf); err != nil {
		return nil, errors.Join(err, g.close())
	}
	p.local = g
	p.pace = boundMemory()
	return g, nil
}

// answered keeps a user's failure in the JSON array, where his answer would stand.
func answered(show *progress, out *shown, user string, err error) error {
	if err != nil && !out.one {
		show.print(func(io.Writer) {
			err = errors.Join(err, out.add(failed{user, err.Error(), exitCode(err)}, func(io.Writer) error { return nil }))
		})
	}
	return err
}

func (p *program) syncPlan(c *cobra.Command, args []string) error {
	users, err := p.users(c, args)
	if err != nil {
		return err
	}
	return p.each(c, users, true, func(ctx context.Context, user string, show *progress, out *shown) error {
		var plan syncer.Plan
		if err := p.stream(ctx, "plan", url.Values{"user": {user}}, func(syncer.Progress) {}, &plan); err != nil {
			return answered(show, out, user, err)
		}
		var err error
		show.print(func(io.Writer) { err = out.add(&plan, plan.WriteTable) })
		if n := len(plan.Refused()); err == nil && n > 0 {
			return exitError{exitRefused, fmt.Errorf("%d folders are refused; nothing would be written", n)}
		}
		return err
	})
}

func (p *program) syncRun(c *cobra.Command, args []string) error {
	users, err := p.users(c, args)
	if err != nil {
		return err
	}
	dry, _ := c.Flags().GetBool("dry-run")
	deletes, _ := c.Flags().GetBool("deletes")
	if yes, _ := c.Flags().GetBool("yes"); !yes && !dry && len(users.list) > 0 {
		if err := p.agree(c, users.list); err != nil {
			return err
		}
	}
	return p.each(c, users, dry, func(ctx context.Context, user string, show *progress, out *shown) error {
		var r syncer.Report
		form := url.Values{"user": {user}, "dry-run": {fmt.Sprint(dry)}, "deletes": {fmt.Sprint(deletes)}}
		err := p.stream(ctx, "run", form, func(g syncer.Progress) { show.at(user, g) }, &r)
		show.done(user)
		if err != nil {
			return answered(show, out, user, err)
		}
		show.print(func(io.Writer) { err = out.add(&r, p.text(func(w io.Writer) { printReport(w, &r) })) })
		if left := len(r.Quarantine) + len(r.Errors) + len(r.Held); err == nil && left > 0 {
			return exitError{exitPartly, errors.New("done but for what is named above")}
		}
		return err
	})
}

// text is a table in columns.
func (p *program) text(f func(w io.Writer)) func(io.Writer) error {
	return func(io.Writer) error { return p.print(nil, f) }
}

// agree shows the plan of a single user, and asks.
func (p *program) agree(c *cobra.Command, users []string) error {
	whom := users[0]
	if len(users) > 1 {
		whom = fmt.Sprintf("%d users", len(users))
	} else if f, ok := p.in.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		var plan syncer.Plan
		if err := p.stream(c.Context(), "plan", url.Values{"user": users}, func(syncer.Progress) {}, &plan); err != nil {
			return err
		}
		if err := plan.WriteTable(p.err); err != nil {
			return err
		}
	}
	return p.agreed(c.Context(), "Bring both sides together for "+whom+"?")
}

// conflictWords tell how a conflict was decided.
func conflictWords(kind, authority string) string {
	switch kind {
	case merge.DeletedAndChanged:
		return "deleted on " + strings.ToUpper(authority) + ", which decides, and flagged on the other: they go"
	case merge.Exclusive:
		return "junk on one side and no junk on the other: " + strings.ToUpper(authority) + " decides"
	}
	return kind
}

// printReport says what a pass did.
func printReport(w io.Writer, r *syncer.Report) {
	what := "done"
	if r.DryRun {
		what = "would be done"
	}
	fmt.Fprintf(w, "%s: %s in %s; %s decides, %d folders, %d messages on both sides\n", r.User, what, r.Took.Round(time.Millisecond), r.Authority, r.Folders, r.Pairs)
	fmt.Fprintf(w, "\tcopied\tbytes\tmoved\tflags\texpunged\tfolders created\trenamed\tdeleted\tsubscriptions\n")
	for side, name := range []string{"on OLD", "on NEW"} {
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", name, r.Copied[side], bytesText(r.Bytes[side]), r.Moved[side], r.Flags[side], r.Expunged[side],
			r.Created[side], r.Renamed[side], r.Deleted[side], r.Subscribed[side])
	}
	if r.Paired > 0 {
		fmt.Fprintf(w, "%d messages were on both sides already, found by their contents\n", r.Paired)
	}
	for _, flag := range slices.Sorted(maps.Keys(r.Lost)) {
		fmt.Fprintf(w, "not kept by the other side: %s, on %d messages\n", flag, r.Lost[flag])
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Conflicts)) {
		fmt.Fprintf(w, "changed on both sides: %d messages, %s\n", r.Conflicts[kind], conflictWords(kind, r.Authority))
	}
	for _, h := range r.Held {
		fmt.Fprintf(w, "HELD BACK  %s: %d of %d messages on %s: %s\n", h.Folder, h.Messages, h.Of, strings.ToUpper(h.Side), h.Why)
	}
	for _, q := range r.Quarantine {
		fmt.Fprintf(w, "SET ASIDE  UID %d on %s (%s): %s\n", q.UID, strings.ToUpper(q.Side.String()), q.Reason, q.Detail)
	}
	if len(r.Quarantine) > 0 {
		fmt.Fprintf(w, "what is set aside, and what to do: mailgate quarantine list %s\n", r.User)
	}
	if n := len(r.Waived); n > 0 {
		fmt.Fprintf(w, "not carried, as somebody has waived it: %d messages (mailgate quarantine list %s)\n", n, r.User)
	}
	printSieve(w, r)
	for _, e := range r.Errors {
		fmt.Fprintf(w, "NOT DONE   %s: %s\n", e.Folder, strings.ReplaceAll(e.Error, "\n", "; "))
	}
}

func (p *program) verify(c *cobra.Command, args []string) error {
	users, err := p.users(c, args)
	if err != nil {
		return err
	}
	deep, _ := c.Flags().GetBool("deep")
	page, _ := c.Flags().GetString("html")
	if page != "" {
		if err := pageFits(page, users); err != nil {
			return exitError{exitUsage, err}
		}
	}
	return p.each(c, users, true, func(ctx context.Context, user string, show *progress, out *shown) error {
		var v syncer.Verification
		err := p.stream(ctx, "verify", url.Values{"user": {user}, "deep": {fmt.Sprint(deep)}}, func(g syncer.Progress) { show.at(user, g) }, &v)
		show.done(user)
		if err != nil {
			if exitCode(err) == exitFailed {
				err = exitError{exitUnknown, err}
			}
			return answered(show, out, user, err)
		}
		show.print(func(io.Writer) { err = out.add(&v, v.WriteTable) })
		if err == nil && page != "" {
			err = writePage(page, &v)
		}
		switch {
		case err == nil && !v.Equal && v.Different() == 0:
			return exitError{exitDifference, fmt.Errorf("%d messages wait in quarantine: mailgate quarantine list %s", v.Open, v.User)}
		case err == nil && !v.Equal:
			return exitError{exitDifference, errors.New("the sides differ")}
		}
		return err
	})
}

// pageFits looks before hours go into a report that could not be written.
func pageFits(page string, users chosen) error {
	if !users.one {
		return errors.New("--html takes one address: each user has a report of his own")
	}
	if st, err := os.Stat(page); err == nil && st.IsDir() {
		return fmt.Errorf("--html %s is a folder: name a file in it", page)
	}
	if _, err := os.Stat(filepath.Dir(page)); err != nil {
		return fmt.Errorf("--html: %w", err)
	}
	return nil
}

// writePage writes the report whole, or leaves the file as it was.
func writePage(file string, v *syncer.Verification) error {
	f, err := renameio.NewPendingFile(file, renameio.WithPermissions(0o600))
	if err != nil {
		return err
	}
	defer f.Cleanup() //nolint:errcheck // nothing is left when it was replaced
	if err := v.WriteHTML(f); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

func (p *program) probeBackends(c *cobra.Command, _ []string) error {
	users, _ := c.Flags().GetStringArray("user")
	var out Probed
	err := p.stream(c.Context(), "probe", url.Values{"user": users}, func(syncer.Progress) {}, &out)
	if c.Context().Err() != nil {
		return exitError{exitFailed, errors.New("interrupted")}
	}
	if out.Profiles == [2]*syncer.Profile{} && (p.output != "json" || out.Errors == [2]string{}) {
		return err
	}
	if p.output == "json" {
		err = cmp.Or(p.print(out, nil), err)
	} else {
		err = cmp.Or(syncer.WriteProfiles(p.out, out.Profiles[0], out.Profiles[1]), err)
	}
	return err
}
