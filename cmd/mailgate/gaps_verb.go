package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mailgate/syncer"
)

func (p *program) gapsCommand() *cobra.Command {
	c := &cobra.Command{Use: "gaps USER...", Short: "Show what of a user does not travel to NEW, and what to do about it",
		Long: "Show what a user has on OLD that passes do not carry to NEW, and that NEW lacks: rights of others to his folders, annotations, calendars,\n" +
			"contacts, mailboxes of others, subscriptions to nothing, marks such as \\Sent, flags that NEW does not keep, limits. Each kind is\n" +
			"counted, none, or unknown and why: what a host does not tell is never taken for none. Mail itself is the matter of verify.\n\n" +
			"mailgate serve looks once a day at users of started waves whose first copy is done; what it saw last is shown, with its age.\n" +
			"--now looks anew: with a connection to each side, one command at a time; nothing is written to the mailboxes.\n" +
			"Exit codes: 0 nothing that does not travel, 2 there is something, 6 of some kind not all is known, or nobody has looked yet, 64 usage." + whoHelp,
		Example: "  mailgate gaps alice@example.com\n  mailgate gaps --wave pilot --now\n  mailgate gaps --all -o json", RunE: p.gaps}
	c.Flags().Bool("now", false, "look anew")
	c.Flags().StringArray("user", nil, "the same as USER")
	c.Flags().StringArray("wave", nil, "the users of a wave")
	whoFlags(c)
	return c
}

func (p *program) gaps(c *cobra.Command, args []string) error {
	named, _ := c.Flags().GetStringArray("user")
	waves, _ := c.Flags().GetStringArray("wave")
	for _, w := range waves {
		if w == "" || strings.Contains(w, "@") {
			return exitError{exitUsage, fmt.Errorf("--wave %q: that is no wave", w)}
		}
	}
	users, err := p.users(c, append(append(args, named...), waves...))
	if err != nil {
		return err
	}
	now, _ := c.Flags().GetBool("now")
	var all gapTotals
	err = p.each(c, users, true, func(ctx context.Context, user string, show *progress, out *shown) error {
		var r syncer.GapReport
		if err := p.stream(ctx, "gaps", url.Values{"user": {user}, "now": {fmt.Sprint(now)}}, func(syncer.Progress) {}, &r); err != nil {
			all.missing()
			return answered(show, out, user, err)
		}
		all.add(&r)
		var err error
		show.print(func(io.Writer) { err = out.add(&r, func(w io.Writer) error { return r.WriteTable(w, time.Now()) }) })
		if err == nil {
			err = gapsExit(&r)
		}
		return err
	})
	if !users.one && p.output != "json" {
		all.write(p.out)
	}
	return err
}

// gapTotals are what was found of several users. It is safe for concurrent use.
type gapTotals struct {
	mu     sync.Mutex
	users  int
	nobody int // users of whom nothing is known
	kinds  []syncer.GapKind
	things map[syncer.GapKind]int
	whose  map[syncer.GapKind]int // users who have some
	open   map[syncer.GapKind]int // users of whom not all is known
}

func (g *gapTotals) missing() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.nobody++
}

func (g *gapTotals) add(r *syncer.GapReport) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.things == nil {
		g.things, g.whose, g.open = map[syncer.GapKind]int{}, map[syncer.GapKind]int{}, map[syncer.GapKind]int{}
	}
	g.users++
	for _, x := range r.Gaps {
		if _, known := g.things[x.Kind]; !known {
			g.kinds = append(g.kinds, x.Kind)
		}
		g.things[x.Kind] += x.Count
		if x.Count > 0 {
			g.whose[x.Kind]++
		}
		if x.Answer == syncer.GapUnknown || x.Why != "" {
			g.open[x.Kind]++
		}
	}
}

// write sums up.
func (g *gapTotals) write(w io.Writer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "all together: %d looked at, %d not\nKIND\tTHINGS\tUSERS\tNOT ALL KNOWN OF\n", g.users, g.nobody)
	for _, k := range g.kinds {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\n", k, g.things[k], g.whose[k], g.open[k])
	}
	_ = t.Flush()
}
