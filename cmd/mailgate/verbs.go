package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
)

// call calls the running gateway, or, when nothing runs, the same API in this process on the store that it opens.
//
// A running gateway must be reached, to look and to roll back, also while the files on disk have a mistake in them.
func (p *program) call(c *cobra.Command, method, path string, form url.Values, out any) error {
	sign(form)
	what := asVerbNode
	switch {
	case method == http.MethodGet, path == "/kick", path == "/hold", path == "/unhold", path == "/nodes/remove":
		what = asLook
	case path == "/op/cancel": // nothing that waits is to begin with it
		what = asOnly
	}
	looks := what != asVerbNode
	if p.local == nil {
		conf, bad := p.loadAnyway()
		err := admin.Client{Socket: conf.Control.Socket}.Call(c.Context(), method, path, form, out)
		switch {
		case !errors.Is(err, admin.ErrNotRunning):
			return err
		case p.follows:
			return fmt.Errorf("%w any more; what was asked for goes on at its next start", err)
		case bad != nil:
			return bad
		}
		if p.local, err = p.openLocal(c.Context(), what); err != nil {
			return err
		}
		p.works = !looks
	}
	if !looks && !p.works { // it was opened to look first
		if err := p.workLocal(c.Context()); err != nil {
			return err
		}
		p.works = true
	}
	return admin.Client{Local: p.local.api().Handler()}.Call(c.Context(), method, path, form, out)
}

// sign says who asks, for the history.
func sign(form url.Values) {
	form.Set("by", by())
	if ssh := os.Getenv("SSH_CONNECTION"); ssh != "" {
		form.Set("ssh", ssh)
	}
}

// noServe is what verbs about sessions say when nothing runs.
const noServe = "mailgate serve does not run: there are no sessions"

// print writes v as JSON when asked, else calls table.
func (p *program) print(v any, table func(w io.Writer)) error {
	if p.output == "json" {
		e := json.NewEncoder(p.out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
	table(w)
	return w.Flush()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

func (p *program) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check or show the configuration"}
	c.AddCommand(&cobra.Command{Use: "check", Short: "Check mailgate.yaml and the routes file; all errors at once", Args: none,
		RunE: func(*cobra.Command, []string) error {
			conf, err := p.load()
			if err != nil {
				return err
			}
			if _, err := learnKey(conf); err != nil {
				return err
			}
			if _, err := newVerifiers(conf); err != nil {
				return err
			}
			r, err := config.LoadRoutes(conf)
			if err != nil {
				return err
			}
			warnings := append(append([]string{}, conf.Warnings()...), conf.WaveWarnings(r)...)
			v := map[string]any{"warnings": warnings, "listeners": len(conf.Listen), "users": len(r.Users), "patterns": len(r.Patterns), "default": r.Default.String()}
			return p.print(v, func(w io.Writer) {
				fmt.Fprintf(w, "ok: %d listeners, %d users, %d patterns, default %s\n", len(conf.Listen), len(r.Users), len(r.Patterns), r.Default)
				for _, text := range warnings {
					fmt.Fprintf(w, "careful: %s\n", text)
				}
			})
		}}, &cobra.Command{Use: "show", Short: "Print the configuration in force, with where each value comes from", Args: none,
		RunE: func(*cobra.Command, []string) error {
			conf, err := p.load()
			if err != nil {
				return err
			}
			return conf.Show(p.out)
		}})
	return c
}

func (p *program) reloadCommand() *cobra.Command {
	return &cobra.Command{Use: "reload", Short: "Take over mailgate.yaml and the routes file: whole, or not at all", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			var r admin.Reloaded
			if err := p.call(c, http.MethodPost, "/reload", url.Values{}, &r); err != nil {
				return err
			}
			err := p.print(r, func(w io.Writer) {
				flips := r.Import.Flips()
				fmt.Fprintf(w, "reloaded: %d lines changed, %d flips asked for\n", r.Import.Changed, len(flips))
				for _, o := range flips {
					fmt.Fprintf(w, "%s\t%s to %s\n", o.ID, o.User, o.Target)
				}
				if r.Follows {
					fmt.Fprintln(w, "this node does not lead: who is where is taken over by the one that does, from its own copy of the routes file")
				}
				for _, key := range r.Restart {
					fmt.Fprintf(w, "%s takes effect at the next start\n", key)
				}
			})
			if err == nil && r.Import.Waiting != nil {
				return exitError{exitRefused, fmt.Errorf("the routes file was not taken over: %s %s", r.Import.Waiting.Reason, r.Import.Waiting.ID)}
			}
			return err
		}}
}

func (p *program) sessionsCommand() *cobra.Command {
	return &cobra.Command{Use: "sessions [USER]", Short: "List live sessions", Args: upTo(1),
		RunE: func(c *cobra.Command, args []string) error {
			var list []admin.SessionInfo
			if err := p.call(c, http.MethodGet, "/sessions", userForm(args), &list); err != nil {
				return err
			}
			return p.print(list, func(w io.Writer) {
				if p.local != nil {
					fmt.Fprintln(w, noServe)
					return
				}
				printSessions(w, list)
			})
		}}
}

func userForm(args []string) url.Values {
	v := url.Values{}
	if len(args) > 0 {
		v.Set("user", args[0])
	}
	return v
}

func printSessions(w io.Writer, list []admin.SessionInfo) {
	several := slices.ContainsFunc(list, func(s admin.SessionInfo) bool { return s.Node != "" })
	fmt.Fprintln(w, "ID\tUSER\tPROTOCOL\tSIDE\tHOST\tCLIENT\tSINCE"+mark(several, "\tNODE"))
	for _, s := range list {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s%s\n", s.ID, s.User, s.Protocol, s.Side, s.Host, s.Client, stamp(s.Started), mark(several, "\t"+s.Node))
	}
}

func (p *program) kickCommand() *cobra.Command {
	return &cobra.Command{Use: "kick USER", Short: "End a user's sessions, each between two commands", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			var k admin.Kicked
			if err := p.call(c, http.MethodPost, "/kick", userForm(args), &k); err != nil {
				return err
			}
			err := p.print(k, func(w io.Writer) {
				if p.local != nil {
					fmt.Fprintln(w, noServe)
					return
				}
				fmt.Fprintf(w, "%d sessions asked to end, %d left\n", k.Asked, k.Left)
				for _, n := range k.Silent {
					fmt.Fprintf(w, "node %s does not answer: what he has there lives on\n", n)
				}
			})
			if err == nil && len(k.Silent) > 0 {
				return exitError{exitPartly, errors.New("not every node has answered")}
			}
			if err == nil && k.Left > 0 {
				return exitError{exitTimeout, errors.New("some sessions are in the middle of a command and end behind it")}
			}
			return err
		}}
}

func printOverview(w io.Writer, o admin.Overview) {
	if o.Serving {
		fmt.Fprintf(w, "%s\tmailgate %s, up since %s\n", o.Hostname, o.Version, stamp(o.Since))
	} else {
		fmt.Fprintf(w, "%s\tmailgate serve does not run; this is what its store says\n", o.Hostname)
	}
	fmt.Fprintf(w, "users\t%d on old, %d on new, %d being moved now\n", o.Users["old"], o.Users["new"], o.Fenced)
	if o.Owed > 0 {
		fmt.Fprintf(w, "rows owed\t%d new users are not in the store yet\n", o.Owed)
	}
	for _, k := range []string{"imap old", "imap new", "submission old", "submission new"} {
		fmt.Fprintf(w, "sessions %s\t%d%s\n", k, o.Sessions[k], without(o.Silent))
	}
	for _, b := range o.Backends {
		state := "ok"
		if b.Error != "" {
			state = b.Error
		}
		fmt.Fprintf(w, "%s %s %s\t%s\n", b.Side, b.Protocol, b.Host, state)
	}
	printNodes(w, o.Nodes)
	fmt.Fprintf(w, "store\t%s\nlast reload\t%s\n", o.Store, strings.ReplaceAll(o.Reload, "\n", "\n\t"))
	printAuthorities(w, o.Authorities)
	printManaged(w, o.Certificates)
	printSyncOverview(w, o.Sync)
	printReadyCounts(w, o.Ready)
	printBehind(w, o.Behind, o.BehindOf)
	printRefused(w, o)
	for _, h := range o.Holds {
		printHold(w, h)
	}
	for _, x := range o.Open {
		printOp(w, x)
	}
	for _, d := range o.Drift {
		why := "the last flip did not happen"
		if d.Pin != nil {
			why = "pinned by " + d.Pin.By
		}
		fmt.Fprintf(w, "drift\t%s is on %s, the routes file says %s (%s)\n", d.User, d.Actual, d.Desired, why)
	}
}

// without tells whose sessions are not in a number.
func without(silent []string) string {
	if len(silent) == 0 {
		return ""
	}
	return fmt.Sprintf(" (without %s: no answer)", strings.Join(silent, ", "))
}

func printUser(w io.Writer, u admin.UserStatus) {
	if u.State == "" {
		fmt.Fprintf(w, "%s\ton %s (epoch %d)\n", u.User, u.Side, u.Epoch)
	} else {
		fmt.Fprintf(w, "%s\ton %s since %s (epoch %d, %s)\n", u.User, u.Side, stamp(u.Since), u.Epoch, u.State)
	}
	fmt.Fprintf(w, "why\t%s\n", u.Why)
	if u.Ready != nil {
		fmt.Fprintf(w, "%s\t%s\n", u.Ready.Title(), u.Ready.Text(time.Now()))
	} else {
		fmt.Fprintf(w, "rollback\t%s\n", u.Rollback)
	}
	if u.Behind != "" {
		fmt.Fprintf(w, "left behind\t%s\n", u.Behind)
	}
	fmt.Fprintf(w, "login names\told: %s\tnew: %s\n", u.Login[0], u.Login[1])
	if u.Verified != string(config.ByRoute) {
		fmt.Fprintf(w, "password\tverified by %s\n", u.Verified)
	}
	if u.LockedOut != "" {
		fmt.Fprintf(w, "logins\the cannot log in, %s\n", u.LockedOut)
	}
	if u.Store != "ok" {
		fmt.Fprintf(w, "store\t%s\n", u.Store)
	}
	if u.Logins > 0 {
		fmt.Fprintf(w, "logins\t%d under way, %d held\n", u.Logins, u.Held)
	}
	if u.Desired != nil && *u.Desired != u.Side {
		fmt.Fprintf(w, "drift\tthe routes file says %s\n", u.Desired)
	}
	printLogins(w, u.Seen)
	printSyncStatus(w, u.Sync)
	for _, o := range u.Open {
		printOp(w, o)
	}
	if len(u.Sessions) > 0 {
		printSessions(w, u.Sessions)
	}
}

func printOp(w io.Writer, o op.Operation) {
	what := string(o.Kind)
	if o.User != "" {
		what += " " + o.User
	}
	if o.Kind == op.Wave && o.Wave != "" {
		what += " " + o.Wave
	}
	if o.Kind == op.Flip || o.Kind == op.Wave {
		what += " to " + o.Target.String()
	}
	if o.Total > 0 && (o.Kind == op.Wave || !o.Status.Final()) {
		what += fmt.Sprintf(" (%d of %d %s)", o.Done, o.Total, o.Unit)
	}
	fmt.Fprintf(w, "%s\t%s\t%s %s\t%s\t%s\t%s\n", o.ID, what, o.Status, o.Step, stamp(o.Changed), o.By, o.Reason)
}

// confirm prints the plan and asks on a terminal. --yes agrees, --dry-run ends here.
func (p *program) confirm(c *cobra.Command, plan *movePlan) (goOn bool, err error) {
	if dry, _ := c.Flags().GetBool("dry-run"); dry && p.output == "json" {
		return false, p.print(plan, nil)
	} else if err := plan.write(p.err); err != nil || dry {
		return false, err
	}
	if yes, _ := c.Flags().GetBool("yes"); yes {
		return true, nil
	}
	err = p.agreed(c.Context(), "Go on?")
	return err == nil, err
}

func moving(c *cobra.Command) *cobra.Command {
	c.Flags().Bool("yes", false, "do not ask")
	c.Flags().Bool("dry-run", false, "print the plan and stop")
	c.Flags().Duration("timeout", time.Minute, "how long to wait for the end of the operation; of a wave or a list: until it ends, unless this is given")
	return c
}

func chooses(c *cobra.Command) *cobra.Command {
	c.Flags().Bool("all", false, "everybody in the routes file")
	c.Flags().String("file", "", "file with an address on each line (a routes file will do)")
	return c
}

func (p *program) flipCommand() *cobra.Command {
	return chooses(moving(&cobra.Command{Use: "flip USER|WAVE|--all|--file FILE old|new", Short: "Move a user, a wave or a list: edits the lines of the routes file and asks for the flips",
		Long: "flip moves one user (an address), a wave (a name without @), everybody or the users of a file. The plan is shown once for all, with the\n" +
			"count, before it asks. A wave is one operation: it waits for its window (waves in mailgate.yaml), its gates are asked, all lines of the\n" +
			"routes file are edited in one write, and its members are moved several at once (flip.parallel). Whom the end of the window has left behind\n" +
			"is moved in the next one. Exit status: 0 all are there, 3 nobody has moved (a hold, a gate, the order of waves, all pinned; or each was called off),\n" +
			"4 some are there and some are not (those that are pinned are named), 5 it goes on: it waits for a window, or longer than --timeout.",
		Example: "  mailgate flip sales new --dry-run\n  mailgate flip sales new\n  mailgate flip alice@example.com new --yes",
		Args:    cobra.RangeArgs(1, 2), RunE: func(c *cobra.Command, args []string) error {
			word := args[len(args)-1]
			side, ok := config.ParseSide(word)
			if !ok {
				return exitError{exitUsage, fmt.Errorf("unknown side %q; old or new", word)}
			}
			form, many, err := p.several(c, args[:len(args)-1])
			switch {
			case err != nil:
				return err
			case many:
				return p.moveMany(c, form, side, false)
			}
			return p.move(c, "/flip", args[0], side)
		}}))
}

func (p *program) rollbackCommand() *cobra.Command {
	c := chooses(moving(&cobra.Command{Use: "rollback USER|WAVE|--all|--file FILE", Short: "Move a user, a wave or a list back to old, whatever the routes file says (leaves pins)",
		Long: "rollback moves back to OLD: one user (an address), a wave (a name without @), everybody or the users of a file. It waits for no gate, no\n" +
			"window and no analysis; only holds stop it, and it says who holds and how to let it on. A move of the same users to NEW that is under\n" +
			"way is called off; a wave of which only some are named goes on for the others. The routes file stays as it is: pins are left, and nothing moves again by itself.",
		Example: "  mailgate rollback sales\n  mailgate rollback alice@example.com --yes",
		Args:    upTo(1), RunE: func(c *cobra.Command, args []string) error { return p.rollBack(c, args) }}))
	c.Flags().Bool("now", false, "NEW cannot be reached: nothing is carried or compared; what is left behind is listed and brought over when NEW is back")
	return c
}

func (p *program) rollBack(c *cobra.Command, args []string) error {
	form, many, err := p.several(c, args)
	switch {
	case err != nil:
		return err
	case many:
		return p.moveMany(c, form, config.Old, true)
	}
	return p.move(c, "/rollback", args[0], config.Old)
}

func (p *program) move(c *cobra.Command, path, user string, side config.Side) error {
	var u admin.UserStatus
	if err := p.call(c, http.MethodGet, "/user", url.Values{"user": {user}}, &u); err == nil && !u.Listed && !u.Known {
		fmt.Fprintf(p.err, "%s stands in no line of the routes file and has never logged in: is it spelt right?\n", u.User)
	}
	dry, _ := c.Flags().GetBool("dry-run")
	yes, _ := c.Flags().GetBool("yes")
	now, _ := c.Flags().GetBool("now")
	look := dry || !yes && path != "/rollback" // who goes back waits for no look at anything, and a script for none either
	plan := p.planFor(c.Context(), &u, user, side, now, look)
	goOn, err := p.confirm(c, plan)
	if err != nil || !goOn {
		return err
	}
	form := url.Values{"user": {user}, "side": {side.String()}, "plan": {plan.text()}}
	if now {
		form.Set("now", "1")
	}
	var o op.Operation
	if err := p.call(c, http.MethodPost, path, form, &o); err != nil {
		return err
	}
	return p.follow(c, o)
}

// follow waits for an operation and prints how it ended.
func (p *program) follow(c *cobra.Command, o op.Operation) error {
	if o.Kind == op.Import {
		return exitError{exitRefused, fmt.Errorf("%s: %s", o.ID, o.Reason)}
	}
	d, _ := c.Flags().GetDuration("timeout")
	if err := p.call(c, http.MethodPost, "/op/wait", url.Values{"id": {o.ID}, "timeout": {d.String()}}, &o); err != nil {
		return err
	}
	if err := p.print(o, func(w io.Writer) { printOp(w, o) }); err != nil {
		return err
	}
	switch {
	case o.Kind == op.Sync && o.Status == op.Failed:
		return exitError{exitFailed, errors.New(o.Reason)}
	case o.Kind == op.Sync && o.Reason != "":
		return exitError{exitPartly, errors.New(o.Reason)}
	case o.Status == op.Failed || o.Status == op.Cancelled:
		return exitError{exitRefused, errors.New(o.Reason)}
	}
	return nil
}

func (p *program) unpinCommand() *cobra.Command {
	return moving(&cobra.Command{Use: "unpin USER", Short: "Let the routes file decide about a user again; moves him if it says otherwise",
		Long: "unpin takes away the pin that a rollback has left. Where the routes file names the other side, the user is moved there: the plan is shown,\n" +
			"and on a terminal it asks.",
		Args: exactly(1), RunE: func(c *cobra.Command, args []string) error { return p.unpin(c, args[0]) }})
}

func (p *program) unpin(c *cobra.Command, user string) error {
	form := userForm([]string{user})
	dry, _ := c.Flags().GetBool("dry-run")
	var is admin.UserStatus
	err := p.call(c, http.MethodGet, "/user", form, &is)
	moves := err == nil && is.Pin != nil && is.Listed && is.Desired != nil && *is.Desired != is.Side
	switch {
	case err != nil && dry:
		return err
	case moves:
		yes, _ := c.Flags().GetBool("yes")
		asks := p.asks()
		plan := p.planFor(c.Context(), &is, user, *is.Desired, false, dry || !yes && asks)
		form.Set("plan", plan.text())
		if !dry && !yes && !asks { // scripts have no --yes for what this verb has always done
			if err := plan.write(p.err); err != nil {
				return err
			}
		} else if goOn, err := p.confirm(c, plan); err != nil || !goOn {
			return err
		}
	case dry:
		would := admin.Unpinned{User: is.User, Pinned: is.Pin != nil}
		return p.print(would, func(w io.Writer) {
			if would.Pinned {
				fmt.Fprintln(w, would.User+" would be unpinned; he is where the routes file says, or not in it")
			} else {
				fmt.Fprintln(w, would.User+" is not pinned; nothing to do")
			}
		})
	}
	var u admin.Unpinned
	if err := p.call(c, http.MethodPost, "/unpin", form, &u); err != nil {
		return err
	}
	if u.Operation != nil {
		return p.follow(c, *u.Operation)
	}
	return p.print(u, func(w io.Writer) {
		if u.Pinned {
			fmt.Fprintln(w, u.User+" is unpinned; he is where the routes file says, or not in it")
		} else {
			fmt.Fprintln(w, u.User+" is not pinned; nothing to do")
		}
	})
}

func (p *program) opCommand() *cobra.Command {
	c := &cobra.Command{Use: "op", Short: "Operations: list, show, wait, cancel, approve"}
	list := &cobra.Command{Use: "list", Short: "List open operations", Args: none, RunE: func(c *cobra.Command, _ []string) error {
		form := url.Values{}
		if all, _ := c.Flags().GetBool("all"); all {
			form.Set("all", "1")
		}
		var ops []op.Operation
		if err := p.call(c, http.MethodGet, "/ops", form, &ops); err != nil {
			return err
		}
		return p.print(ops, func(w io.Writer) {
			for _, o := range ops {
				printOp(w, o)
			}
		})
	}}
	list.Flags().Bool("all", false, "ended ones too")
	one := func(use, short, method, path string) *cobra.Command {
		return &cobra.Command{Use: use + " ID", Short: short, Args: exactly(1), RunE: func(c *cobra.Command, args []string) error {
			var o op.Operation
			if err := p.call(c, method, path, url.Values{"id": {args[0]}}, &o); err != nil {
				return err
			}
			return p.showOp(c, o, true)
		}}
	}
	wait := &cobra.Command{Use: "wait ID", Short: "Wait for an operation to end", Args: exactly(1),
		Long: "wait returns when the operation has ended, also one that waits for a window, or after --timeout. Exit status: as the verb that asked for it\n" +
			"would have ended; 5 it has not ended, and goes on.",
		RunE: func(c *cobra.Command, args []string) error {
			var o op.Operation
			if err := p.call(c, http.MethodGet, "/op", url.Values{"id": {args[0]}}, &o); err == nil && o.Kind == op.Wave {
				return p.followMany(c, o, true)
			}
			return p.follow(c, op.Operation{ID: args[0]})
		}}
	wait.Flags().Duration("timeout", time.Minute, "how long to wait")
	approve := &cobra.Command{Use: "approve ID", Short: "Take over a routes file that waits for approval", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			var im cutover.Imported
			if err := p.call(c, http.MethodPost, "/op/approve", url.Values{"id": {args[0]}}, &im); err != nil {
				return err
			}
			return p.print(im, func(w io.Writer) {
				fmt.Fprintf(w, "approved: %d lines changed, %d flips asked for\n", im.Changed, len(im.Flips()))
			})
		}}
	c.AddCommand(list, one("show", "Show an operation", http.MethodGet, "/op"), wait,
		one("cancel", "End an operation that is not committed", http.MethodPost, "/op/cancel"), approve)
	return c
}

func (p *program) historyCommand() *cobra.Command {
	c := &cobra.Command{Use: "history [USER]", Short: "What was done, by whom, newest first", Args: upTo(1),
		Long: "history prints a line for each thing that was done: when, the operation, the user or wave, what, before and after, by whom, from where, and what\n" +
			"else is to be said; below a request the plan that was shown. A wave's name gives what concerns the wave, its flips and its waivers.",
		RunE: func(c *cobra.Command, args []string) error {
			form := userForm(args)
			if since, _ := c.Flags().GetDuration("since"); since > 0 {
				form.Set("since", time.Now().Add(-since).Format(time.RFC3339Nano))
			}
			if limit, _ := c.Flags().GetInt("limit"); limit < 1 {
				return exitError{exitUsage, errors.New("--limit is at least 1")}
			} else {
				form.Set("limit", strconv.Itoa(limit))
			}
			events := []op.Event{}
			if err := p.call(c, http.MethodGet, "/history", form, &events); err != nil {
				return err
			}
			return p.print(events, func(w io.Writer) {
				whole, _ := c.Flags().GetBool("plan")
				for _, e := range events {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", stamp(e.At), e.Op, e.User, e.What, change(e), e.By, orDash(e.From), e.Detail)
					printPlan(w, e.Plan, whole)
				}
			})
		}}
	c.Flags().Int("limit", 100, "at most so many")
	c.Flags().Bool("plan", false, "the plans as they were shown, whole (their first lines otherwise)")
	c.Flags().Duration("since", 0, "only what is not older than this, such as 24h")
	return c
}

// printPlan prints what was shown before a move below its line of the history: the first line, or all of it.
func printPlan(w io.Writer, plan string, whole bool) {
	lines := strings.Split(strings.TrimSpace(plan), "\n")
	for i, line := range lines {
		if line == "" {
			continue
		}
		if !whole && len(lines) > 1 {
			line += " ... (--plan)"
		}
		if i == 0 {
			line = "plan: " + line
		}
		fmt.Fprintf(w, "    %s\n", line)
		if !whole {
			return
		}
	}
}

// change is what an event changed, in words.
func change(e op.Event) string {
	switch {
	case e.Before == "" && e.After == "":
		return ""
	case e.Before == "":
		return "to " + short(e.After)
	case e.Before == e.After:
		return "stays " + e.After
	}
	return short(e.Before) + " -> " + short(e.After)
}

// short cuts the serials of routes files as messages have them.
func short(s string) string {
	if len(s) == 2*sha256.Size {
		return s[:12]
	}
	return s
}
