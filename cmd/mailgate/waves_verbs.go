package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailgate/admin"
	wavegate "mailgate/cutover/gate"
	"mailgate/syncer"
)

func (p *program) waveCommand() *cobra.Command {
	c := &cobra.Command{Use: "wave", Short: "Waves: list, show, start, rehearse, rollback, complete, waive",
		Long: "A wave is a group of users that moves together: those whose lines in the routes file say wave=NAME. Its life:\n" +
			"  mailgate wave start NAME       its mailboxes are kept in sync from now on\n" +
			"  mailgate wave rehearse NAME    everything but the move\n" +
			"  mailgate flip NAME new         moves it; mailgate rollback NAME brings it back\n" +
			"  mailgate wave show NAME        how it stands, and what comes next\n" +
			"  mailgate wave complete NAME    behind the soak: it is over"}
	list := &cobra.Command{Use: "list", Short: "List waves: members, state, where they are", Args: none, RunE: func(c *cobra.Command, _ []string) error {
		var list []admin.WaveStatus
		if err := p.call(c, http.MethodGet, "/waves", url.Values{}, &list); err != nil {
			return err
		}
		return p.print(list, func(w io.Writer) {
			fmt.Fprintln(w, "WAVE\tUSERS\tSTATE\tSINCE\tOLD\tNEW\tPINNED\tHELD\tNEXT")
			for _, x := range list {
				held := "-"
				if x.Held {
					held = "held"
				}
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", x.Name, x.Users, x.State, stamp(x.Since), x.Sides["old"], x.Sides["new"], len(x.Pinned), held, x.Command)
			}
		})
	}}
	show := &cobra.Command{Use: "show NAME", Short: "How a wave stands: sides, holds, lag, gates, rollback, and what comes next", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			var x admin.WaveStatus
			if err := p.call(c, http.MethodGet, "/wave", url.Values{"wave": {args[0]}}, &x); err != nil {
				return err
			}
			return p.print(x, func(w io.Writer) { printWave(w, x) })
		}}
	start := &cobra.Command{Use: "start NAME", Short: "Keep a wave's mailboxes in sync from now on",
		Long: "start has the mailboxes of the wave brought together and kept so, as if the wave stood in sync.waves. It is remembered, also over\n" +
			"restarts, until mailgate wave complete. Nobody is moved. A wave that was complete is opened again.",
		Args: exactly(1), RunE: func(c *cobra.Command, args []string) error {
			form := url.Values{"wave": {args[0]}}
			dryRun(c, form)
			var x admin.Changed
			if err := p.call(c, http.MethodPost, "/wave/start", form, &x); err != nil {
				return err
			}
			return p.print(x, func(w io.Writer) {
				switch {
				case !x.Changed:
					fmt.Fprintf(w, "%s was started already; nothing to do\n", args[0])
				case x.DryRun:
					fmt.Fprintf(w, "%s would be started: its mailboxes would be kept in sync, nobody would be moved\n", args[0])
				default:
					fmt.Fprintf(w, "%s is started: its mailboxes are kept in sync (mailgate wave show %s)\n", args[0], args[0])
				}
				if p.local != nil {
					fmt.Fprintln(w, "mailgate serve does not run: it begins when that does")
				}
			})
		}}
	asksNothing(start)
	back := chooses(moving(&cobra.Command{Use: "rollback NAME", Short: "Move a wave back to old: the same as mailgate rollback NAME", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.moveMany(c, url.Values{"wave": args}, 0, true)
		}}))
	back.Flags().Bool("now", false, "NEW cannot be reached, see mailgate rollback --help")
	complete := &cobra.Command{Use: "complete NAME --confirm NAME", Short: "End a wave's soak and its sync: no way back any more",
		Long: "complete ends the life of a wave: rollback is not offered any more, and its mailboxes on OLD are not kept in sync any more, so that what comes\n" +
			"from now on is on NEW only. It is refused while members are not on NEW, or an enforced gate does not pass. mailgate wave start NAME opens it again.",
		Args: exactly(1), RunE: func(c *cobra.Command, args []string) error {
			confirm, _ := c.Flags().GetString("confirm")
			form := url.Values{"wave": {args[0]}, "confirm": {confirm}}
			dryRun(c, form)
			var x admin.Changed
			if err := p.call(c, http.MethodPost, "/wave/complete", form, &x); err != nil {
				return err
			}
			return p.print(x, func(w io.Writer) {
				switch {
				case !x.Changed:
					fmt.Fprintf(w, "%s was complete already; nothing to do\n", args[0])
				case x.DryRun:
					fmt.Fprintf(w, "%s would be complete: its mailboxes on old would not be kept in sync any more, and it would not go back\n", args[0])
				default:
					fmt.Fprintf(w, "%s is complete: its mailboxes on old are not kept in sync any more, and it does not go back\n", args[0])
				}
			})
		}}
	asksNothing(complete)
	complete.Flags().String("confirm", "", "the wave's name once more")
	waive := &cobra.Command{Use: "waive WAVE|USER GATE --reason TEXT --until DURATION", Short: "Let one gate pass for a while, by name", Args: exactly(2),
		Example: "  mailgate wave waive sales lag --reason \"one mailbox of 90 GB\" --until 24h",
		RunE: func(c *cobra.Command, args []string) error {
			reason, _ := c.Flags().GetString("reason")
			until, _ := c.Flags().GetString("until")
			form := url.Values{"what": {args[0]}, "gate": {args[1]}, "reason": {reason}, "until": {until}}
			var x admin.Changed
			if err := p.call(c, http.MethodPost, "/wave/waive", form, &x); err != nil {
				return err
			}
			return p.print(x, func(w io.Writer) { fmt.Fprintf(w, "gate %s holds %s no more for %s\n", args[1], args[0], until) })
		}}
	waive.Flags().String("reason", "", "why; it stands in the history")
	waive.Flags().String("until", "", "for how long, such as 24h")
	unwaive := &cobra.Command{Use: "unwaive WAVE|USER GATE", Short: "Take a waiver away again", Args: exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			var x admin.Changed
			if err := p.call(c, http.MethodPost, "/wave/unwaive", url.Values{"what": {args[0]}, "gate": {args[1]}}, &x); err != nil {
				return err
			}
			return p.print(x, func(w io.Writer) {
				if x.Changed {
					fmt.Fprintf(w, "gate %s of %s is waived no more\n", args[1], args[0])
				} else {
					fmt.Fprintln(w, "there was no such waiver; nothing to do")
				}
			})
		}}
	c.AddCommand(list, show, start, p.rehearseCommand(), back, complete, waive, unwaive)
	return c
}

// printWave is operations at a glance: a line for each thing that one asks about a wave.
func printWave(w io.Writer, x admin.WaveStatus) {
	line := func(what, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", what, fmt.Sprintf(format, args...)) }
	running := "none"
	if x.Op != nil {
		running = fmt.Sprintf("%s, %s", x.Op.ID, x.Op.Status)
		if x.Op.Reason != "" {
			running += ": " + x.Op.Reason
		}
	}
	state := x.State
	if x.Row.Gate != "" {
		state += " (held: gate " + x.Row.Gate + ")"
	} else if x.Held {
		state += " (held)"
	}
	line("Wave", "%s   %d users   state %s   since %s   op %s", x.Name, x.Users, state, stamp(x.Since), running)
	for _, h := range x.Holds {
		line("Hold", "%s by %s since %s: %s (mailgate unhold %s)", h.What(), h.By, stamp(h.At), orDash(h.Reason), h.Verb())
	}
	if x.Row.Gate != "" {
		line("Hold", "gate %s since %s: %s", x.Row.Gate, stamp(x.Row.GateAt), x.Row.GateWhy)
	}
	if len(x.Holds) == 0 && x.Row.Gate == "" {
		line("Hold", "none")
	}
	if x.After != "" {
		line("After", "wave %s", x.After)
	}
	if !x.Opens.IsZero() {
		line("Window", "closed, opens %s", stamp(x.Opens))
	}
	line("Throttle", "%s", orNone(strings.Join(x.Throttles, "; ")))
	pinned := ""
	if len(x.Pinned) > 0 {
		var list []string
		for _, pin := range x.Pinned {
			list = append(list, fmt.Sprintf("%s %s by %s", pin.User, pin.Side, pin.By))
		}
		pinned = fmt.Sprintf("   (%d pinned: %s)", len(list), someNames(list))
	}
	line("Sides", "old %d   new %d%s", x.Sides["old"], x.Sides["new"], pinned)
	for _, t := range x.Protocols {
		n := t.Users["old"] + t.Users["new"]
		line("Traffic "+string(t.Protocol), "new %d/%d users who use it   sessions now: old %d, new %d%s", t.Users["new"], n, t.Sessions["old"], t.Sessions["new"], without(x.Silent))
	}
	kept := "kept in sync"
	if !x.Kept {
		kept = "not kept in sync"
	}
	phases := ""
	for _, k := range slices.Sorted(keysOf(x.Phases)) {
		phases += fmt.Sprintf("   %d %s", x.Phases[k], k)
	}
	line("Sync", "%s   first copy done %d/%d%s", kept, x.Copied, x.Users, phases)
	if x.Lag.Known > 0 {
		oldest := ""
		if x.Lag.Oldest != "" {
			oldest = "   oldest of " + x.Lag.Oldest
		}
		line("Lag", "p50 %s   max %s%s", seconds(x.Lag.P50), seconds(x.Lag.Max), oldest)
	} else {
		line("Lag", "unknown: nobody is kept in sync")
	}
	open := "closed"
	if x.Rollback.Open {
		open = "open"
	}
	if x.Rollback.Seconds > 0 {
		open += fmt.Sprintf(", est. %s for all", seconds(x.Rollback.Seconds))
	}
	line("Rollback", "%s: %s", open, x.Rollback.Why)
	if o := x.Owed; o != nil {
		for _, u := range o.Users {
			line("To go back", "%s: %s", u.User, orDash(u.Why))
		}
		line("To go back", "%d members, by %s (%s): tried %d times, last by %s; again from %s on, until they are back. mailgate op cancel ends it while it runs, mailgate flip %s new takes its place",
			len(o.Users), o.By, o.Why, o.Tries, o.Op, stamp(o.Again), x.Name)
	}
	if x.Refused != "" {
		line("To go back", "it could not be asked for: %s", x.Refused)
	}
	verify := "never compared"
	if n := x.Users - x.Verify.Never; n > 0 {
		verify = fmt.Sprintf("age %s   equal %d/%d", syncer.Seconds(time.Since(x.Verify.Oldest)), x.Verify.Equal, n)
		if len(x.Verify.Unequal) > 0 {
			verify += "   unequal: " + someNames(x.Verify.Unequal)
		}
		if x.Verify.Never > 0 {
			verify += fmt.Sprintf("   %d never compared", x.Verify.Never)
		}
	}
	line("Verify", "%s", verify)
	printGates(w, x.Gates)
	for _, s := range x.Shares {
		line("Shares", "%s shares %s with %s, who is not in the wave", s.User, strings.Join(s.Folders, ", "), s.With)
	}
	writeUnlooked(w, x.Unlooked, "Shares\t%s\n")
	next := x.Next
	if x.Command != "" {
		next += " -> " + x.Command
	}
	line("Next", "%s", next)
	for i, e := range x.Recent {
		what := ""
		if i == 0 {
			what = "Recent"
		}
		detail := strings.TrimSpace(strings.Join([]string{e.What, strings.TrimPrefix(e.User, "wave:"), e.After, e.Detail}, " "))
		line(what, "%s %s (%s)", stamp(e.At), detail, e.By)
	}
}

func printGates(w io.Writer, list []admin.WaveGate) {
	if len(list) == 0 {
		fmt.Fprintf(w, "Gates\tnone is asked\n")
	}
	for i, g := range list {
		what := ""
		if i == 0 {
			what = "Gates"
		}
		text := fmt.Sprintf("%s %s (%s): %s", g.Gate, g.Verdict, g.Mode, g.Why)
		if g.Verdict != wavegate.Pass && !g.Since.IsZero() {
			text += "   since " + stamp(g.Since)
		}
		if g.Waiver != nil {
			text += fmt.Sprintf("   waived by %s until %s: %s", g.Waiver.By, stamp(g.Waiver.Until), g.Waiver.Reason)
		}
		if g.Holds {
			text += "   HOLDS"
		}
		fmt.Fprintf(w, "%s\t%s\n", what, text)
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func someNames(list []string) string {
	const few = 5
	if len(list) > few {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:few], ", "), len(list)-few)
	}
	return strings.Join(list, ", ")
}

func keysOf(m map[string]int) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (p *program) rehearseCommand() *cobra.Command {
	c := &cobra.Command{Use: "rehearse NAME [--user TEST@...]", Short: "Everything but the move for each member; with test users the whole life for real",
		Long: "rehearse makes a pass over each member's mailboxes, compares both sides, asks the gates, and tells what the move would be like: how long\n" +
			"logins wait, and what mail programs download again. Nobody is moved. For the test users that are named the whole life is led on the real\n" +
			"hosts: a message is put in, the user is moved, it is changed there, he is rolled back, and both sides are compared. A test user has a line\n" +
			"in the routes file, a mailbox on both hosts, and nobody who works in it. Exit status 2: something was found.",
		Args: exactly(1), RunE: func(c *cobra.Command, args []string) error {
			users, _ := c.Flags().GetStringSlice("user")
			var r rehearsal
			err := p.stream(c.Context(), "rehearse", url.Values{"wave": args, "user": users}, func(g syncer.Progress) {
				if g.Folder != "" {
					fmt.Fprintln(p.err, g.Folder)
				}
			}, &r)
			if r.Wave == "" {
				return err
			}
			if perr := p.print(r, func(w io.Writer) { printRehearsal(w, r) }); perr != nil {
				return perr
			}
			return err
		}}
	c.Flags().StringSlice("user", nil, "a test user (may be given more than once)")
	return c
}

func printRehearsal(w io.Writer, r rehearsal) {
	fmt.Fprintf(w, "Wave %s was rehearsed in %s\n", r.Wave, syncer.Seconds(r.Took))
	fmt.Fprintln(w, "USER\tPASS\tCOPIED\tBOTH SIDES\tLOGINS WAIT\tIN THE WAY")
	for _, m := range r.Members {
		gap, way := "unknown", "-"
		if m.Forecast != nil {
			if m.Forecast.Gap.Known {
				gap = "about " + seconds(m.Forecast.Gap.Seconds)
			}
			if n := len(m.Forecast.InWay); n > 0 {
				way = fmt.Sprintf("%d things (mailgate flip %s new --dry-run lists them)", n, m.User)
			}
		}
		if m.Error != "" {
			way = m.Error
			if m.Do != "" {
				way += "; " + m.Do
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\n", m.User, seconds(m.Took), m.Copied, orDash(m.Verdict), gap, way)
	}
	sum := &syncer.ForecastSum{}
	for _, m := range r.Members {
		if m.Forecast != nil {
			sum.To = m.Forecast.To
			sum.Add(m.Forecast)
		}
	}
	_ = sum.WriteText(w)
	for _, g := range r.Gates {
		fmt.Fprintf(w, "gate\t%s %s (%s): %s\n", g.Gate, g.Verdict, g.Mode, g.Why)
	}
	if r.Refused != "" {
		fmt.Fprintf(w, "refused now\t%s; %s\n", r.Refused, r.Do)
	}
	for _, s := range r.Shares {
		fmt.Fprintf(w, "shares\t%s shares %s with %s, who is not in the wave\n", s.User, strings.Join(s.Folders, ", "), s.With)
	}
	writeUnlooked(w, r.Unlooked, "shares\t%s\n")
	for _, l := range r.Lives {
		for _, s := range l.Steps {
			fmt.Fprintf(w, "shown\t%s: %s (%s)\n", l.User, s.What, seconds(s.Seconds))
		}
		if l.Error != "" {
			fmt.Fprintf(w, "FAILED\t%s: %s\n", l.User, l.Error)
		}
	}
	for _, what := range r.NotShown {
		fmt.Fprintf(w, "not shown\t%s\n", what)
	}
}
