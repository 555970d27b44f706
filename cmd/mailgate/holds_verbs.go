package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"mailgate/admin"
	"mailgate/op"
)

// heldWhom is the form of a verb that takes an address, a wave's name, or --all.
func heldWhom(c *cobra.Command, args []string) (url.Values, error) {
	all, _ := c.Flags().GetBool("all")
	switch {
	case all && len(args) > 0:
		return nil, exitError{exitUsage, fmt.Errorf("--all, or %s: not both", args[0])}
	case all:
		return url.Values{"all": {"1"}}, nil
	case len(args) == 0:
		return nil, exitError{exitUsage, fmt.Errorf("whom? %s: an address, a wave's name, or --all", c.UseLine())}
	}
	return url.Values{"what": {args[0]}}, nil
}

func (p *program) holdCommand() *cobra.Command {
	c := &cobra.Command{Use: "hold USER|WAVE|--all --reason TEXT", Short: "Stop all flips of a user, a wave or everybody, both ways",
		Long: "hold sets a stop sign: no flip of its scope passes, neither to NEW nor back to OLD. Flips that are under way and not committed end, and\n" +
			"nothing is different for their users. It stands until mailgate unhold, also over restarts. It needs no plan and asks nothing.\n" +
			"A file does the same for everybody while it exists (flip.hold_file).",
		Example: "  mailgate hold --all --reason \"the new host is being mended\"\n  mailgate hold sales --reason \"quarter's end\"\n  mailgate hold alice@example.com --reason \"on a trade fair\"",
		Args:    upTo(1), RunE: func(c *cobra.Command, args []string) error {
			form, err := heldWhom(c, args)
			if err != nil {
				return err
			}
			reason, _ := c.Flags().GetString("reason")
			form.Set("reason", reason)
			dryRun(c, form)
			var h admin.Held
			if err := p.call(c, http.MethodPost, "/hold", form, &h); err != nil {
				return err
			}
			return p.print(h, func(w io.Writer) {
				switch {
				case !h.Changed:
					fmt.Fprintf(w, "was held already: ")
				case h.DryRun:
					fmt.Fprintf(w, "would be set: ")
				}
				printHold(w, h.Hold)
				for _, o := range h.Stops {
					fmt.Fprintf(w, "would stop: ")
					printOp(w, o)
				}
			})
		}}
	asksNothing(c)
	c.Flags().Bool("all", false, "everybody")
	c.Flags().String("reason", "", "why; whoever finds the hold reads it")
	return c
}

func (p *program) unholdCommand() *cobra.Command {
	c := &cobra.Command{Use: "unhold USER|WAVE|--all", Short: "Take a hold away again: flips may be asked for (none begins by itself)",
		Args: upTo(1), RunE: func(c *cobra.Command, args []string) error {
			form, err := heldWhom(c, args)
			if err != nil {
				return err
			}
			dryRun(c, form)
			var h admin.Held
			if err := p.call(c, http.MethodPost, "/unhold", form, &h); err != nil {
				return err
			}
			if err := p.print(h, func(w io.Writer) {
				switch {
				case h.Changed && h.DryRun:
					fmt.Fprintf(w, "would be taken away: ")
					printHold(w, h.Hold)
				case h.Changed:
					fmt.Fprintf(w, "%s: held no more\n", h.Hold.What())
				default:
					fmt.Fprintf(w, "%s: there was no hold of that scope; nothing to do\n", h.Hold.What())
				}
			}); err != nil || h.DryRun {
				return err
			}
			return p.otherHolds(c)
		}}
	asksNothing(c)
	c.Flags().Bool("all", false, "the hold of everybody (those of single users and waves stay)")
	return c
}

// asksNothing adds the flags of verbs that move somebody to one that needs no plan and does not ask.
func asksNothing(c *cobra.Command) {
	c.Flags().Bool("yes", false, "do not ask (it asks nothing)")
	c.Flags().Bool("dry-run", false, "say what it would do, and change nothing")
}

// dryRun has the API say what it would do, where the flag says so.
func dryRun(c *cobra.Command, form url.Values) {
	if dry, _ := c.Flags().GetBool("dry-run"); dry {
		form.Set("dry-run", "1")
	}
}

// otherHolds says what is held still, so that nobody is surprised.
func (p *program) otherHolds(c *cobra.Command) error {
	var list []op.Hold
	if err := p.call(c, http.MethodGet, "/holds", url.Values{}, &list); err != nil {
		return errors.Join(errors.New("the hold is gone; what else is held is not known"), err)
	}
	for _, h := range list {
		fmt.Fprint(p.err, "still: ")
		printHold(p.err, h)
	}
	return nil
}

func printHold(w io.Writer, h op.Hold) {
	fmt.Fprintf(w, "hold\t%s\tby %s since %s\t%s\n", h.What(), h.By, stamp(h.At), h.Reason)
}
