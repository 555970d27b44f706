package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailgate/admin"
	"mailgate/syncer"
)

// pauseCommands are sync pause and sync resume.
func (p *program) pauseCommands() []*cobra.Command {
	pause := &cobra.Command{Use: "pause USER|--all", Short: "Keep passes that begin by themselves from a user",
		Long: "mailgate serve brings the mailboxes of users of started waves (sync.waves) together by itself. pause keeps it from that, for a\n" +
			"user or for everybody, until sync resume; a restart changes nothing. A pass of that kind that is under way ends, and loses\n" +
			"nothing. Mail goes on, to the side that the user is on; sync run still works.\n" +
			"Exit codes: 0 paused, 3 refused (no such user), 64 usage.",
		Example: "  mailgate sync pause alice@example.com --reason 'restoring from a backup'\n  mailgate sync pause --all", RunE: p.pauseOrResume("pause")}
	pause.Flags().String("reason", "", "why, for status and the history")
	resume := &cobra.Command{Use: "resume USER|--all", Short: "Let passes begin by themselves again",
		Long: "Take back sync pause. A pause for everybody and one for a user are taken back each for itself.\n" +
			"Exit codes: 0 resumed, 2 nothing was paused so, 64 usage.",
		Example: "  mailgate sync resume alice@example.com", RunE: p.pauseOrResume("resume")}
	for _, c := range []*cobra.Command{pause, resume} {
		c.Flags().Bool("all", false, "everybody")
	}
	return []*cobra.Command{pause, resume}
}

func (p *program) pauseOrResume(verb string) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		all, _ := c.Flags().GetBool("all")
		if all == (len(args) == 1) || len(args) > 1 {
			return exitError{exitUsage, fmt.Errorf("sync %s takes one address, or --all", verb)}
		}
		form := url.Values{}
		if all {
			form.Set("all", "true")
		} else {
			form.Set("user", args[0])
		}
		if verb == "pause" {
			reason, _ := c.Flags().GetString("reason")
			form.Set("reason", reason)
		}
		var out Paused
		if err := p.stream(c.Context(), verb, form, func(syncer.Progress) {}, &out); err != nil {
			return err
		}
		if err := p.print(out, func(w io.Writer) { fmt.Fprintln(w, out.words(verb)) }); err != nil {
			return err
		}
		if verb == "resume" && !out.Changed {
			return exitError{exitDifference, errors.New("nothing was paused so")}
		}
		return nil
	}
}

// words say what has become of it.
func (o Paused) words(verb string) string {
	whom := o.User
	if o.User == syncer.Everybody {
		whom = "everybody"
	}
	switch {
	case verb == "pause" && !o.Changed:
		return fmt.Sprintf("%s was paused already, by %s", whom, o.By)
	case verb == "pause" && !o.Kept && o.User != syncer.Everybody:
		return whom + " is paused; his wave is not in sync.waves, so nothing began by itself before either"
	case verb == "pause":
		return whom + " is paused"
	case o.Everybody:
		return fmt.Sprintf("%s stays paused: everybody is, by %s (mailgate sync resume --all)", whom, o.By)
	case !o.Changed:
		return whom + " was not paused"
	case o.User == syncer.Everybody:
		return "everybody goes on, but for those who are paused themselves"
	case !o.Kept:
		return whom + " is paused no more; his wave is not in sync.waves, so nothing begins by itself"
	}
	return whom + " goes on"
}

// pausedBy says who has paused it, and why.
func pausedBy(p *admin.SyncPause) string {
	text := fmt.Sprintf("by %s at %s", p.By, stamp(p.At))
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}

func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d >= 10*time.Second {
		return d.Round(time.Second).String()
	}
	return d.Round(time.Millisecond).String()
}

func printSyncOverview(w io.Writer, o *admin.SyncOverview) {
	if o == nil {
		return
	}
	fmt.Fprintf(w, "sync\t%d users of the waves %s: %d converged, %d in their first copy, %d without a login, %d failing, %d paused\n", o.Users, strings.Join(o.Waves, ", "),
		o.Phases["converged"], o.Phases["first copy"], o.Phases["no login"], o.Phases["failing"], o.Phases["paused"])
	fmt.Fprintf(w, "sync watched\t%d users, whose host tells of changes at once; the others are polled\n", o.Watched)
	if o.LagSeconds > 0 {
		fmt.Fprintf(w, "sync lag\t%s since the oldest change that is not carried yet\n", seconds(o.LagSeconds))
	}
	if o.Waiting > 0 {
		fmt.Fprintf(w, "sync waits\t%d messages set aside and folders with deletes held back (mailgate quarantine list --all, mailgate status USER)\n", o.Waiting)
	}
	if o.Partly > 0 {
		fmt.Fprintf(w, "sync partly\t%d users have folders that cannot be done (mailgate status USER names them)\n", o.Partly)
	}
	if o.Scripts > 0 {
		fmt.Fprintf(w, "sync scripts\t%d Sieve scripts are not carried (mailgate status USER says why)\n", o.Scripts)
	}
	if p := o.Paused; p != nil {
		fmt.Fprintf(w, "sync paused\tfor everybody, %s\n", pausedBy(p))
	}
	for _, wave := range o.UnknownWaves {
		fmt.Fprintf(w, "sync.waves\t%s has no user in the routes file\n", wave)
	}
}

func printSyncStatus(w io.Writer, s *admin.SyncStatus) {
	if s == nil {
		return
	}
	text := s.Phase
	switch {
	case s.Paused != nil:
		text += ", " + pausedBy(s.Paused)
	case !s.Running && !s.Opens.IsZero():
		text += ", waits for its time (sync.windows) until " + s.Opens.Local().Format("Mon 15:04")
	case s.Running && s.Progress != "":
		text += ", a pass is under way: " + s.Progress
	case s.Running:
		text += ", a pass is under way"
	case !s.Next.IsZero() && !s.Next.After(time.Now()):
		text += ", waits for its turn"
	case !s.Next.IsZero():
		text += fmt.Sprintf(", next pass at %s at the latest", s.Next.Local().Format(time.TimeOnly))
	}
	if s.LagSeconds > 0 {
		text += fmt.Sprintf("; the oldest change not carried yet is %s old", seconds(s.LagSeconds))
	}
	fmt.Fprintf(w, "sync\t%s\n", text)
	if !s.Last.IsZero() {
		fmt.Fprintf(w, "last pass\t%s, took %s: %d messages in %d folders on both sides\n", stamp(s.Last), seconds(s.TookSeconds), s.Messages, s.Folders)
	}
	if s.Error != "" {
		fmt.Fprintf(w, "sync failed\t%s (%d times)\nwhat to do\t%s\n", s.Error, s.Tries, s.Do)
	}
	if s.Sieve != "" {
		fmt.Fprintf(w, "scripts\t%s\n", s.Sieve)
	}
	for _, note := range s.SieveNotes {
		fmt.Fprintf(w, "script\t%s\n", note)
	}
	for _, b := range s.Broken {
		fmt.Fprintf(w, "not done\t%s: %s\n", b.Folder, strings.ReplaceAll(b.Error, "\n", "; "))
	}
	if s.Quarantine > 0 {
		fmt.Fprintf(w, "set aside\t%d messages: mailgate quarantine list\n", s.Quarantine)
	}
	if s.Gaps != "" {
		fmt.Fprintf(w, "gaps\t%s; looked at %s (mailgate gaps)\n", s.Gaps, stamp(s.GapsAt))
	}
	if s.Held > 0 {
		fmt.Fprintf(w, "held back\tdeletes in %d folders: mailgate sync run shows them, --deletes lets them through\n", s.Held)
	}
}
