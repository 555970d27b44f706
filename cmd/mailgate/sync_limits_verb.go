package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailgate/admin"
	"mailgate/config"
)

// limitsLast is how long a change by hand lasts.
const limitsLast = "until mailgate serve ends, until the limits in mailgate.yaml change, or until mailgate sync limits --file"

func (p *program) syncLimitsCommand() *cobra.Command {
	c := &cobra.Command{Use: "limits", Short: "Show how the syncer is held back, and change it while it runs", Args: none,
		Long: "Show what the syncer may take of each side, and what it takes: connections to a host, messages and bytes per second, and whether\n" +
			"first copies are made now (sync.windows). With flags change that while mailgate serve runs: passes under way notice at once. 0 is no limit.\n\n" +
			"A change by hand holds " + limitsLast + ".\n" +
			"What is to stay belongs into mailgate.yaml: backends.old.sync.max_connections, .messages_per_second, .bytes_per_second,\n" +
			"sync.user_messages_per_second, sync.user_bytes_per_second, sync.windows.\n\n" +
			"A host that refuses a connection while others are open is taken to allow those, for ten minutes; that shows as its cap. Of a\n" +
			"host with max_connections the syncer takes a half at most, and none when less than a quarter is left for user sessions.\n" +
			"Exit codes: 0 shown or changed, 3 mailgate serve does not run and there is nothing to change, 64 usage.",
		Example: "  mailgate sync limits\n  mailgate sync limits --side new --bytes 5M --messages 100 --connections 4\n  mailgate sync limits --user-messages 20\n" +
			"  mailgate sync limits --file",
		RunE: p.syncLimits}
	c.Flags().String("side", "", "old or new: whose --connections, --messages and --bytes are meant")
	c.Flags().String("connections", "", "sync connections to a host, over all users")
	c.Flags().String("messages", "", "messages per second, over all users")
	c.Flags().String("bytes", "", "bytes per second, such as 500000, 512K or 5M")
	c.Flags().String("user-messages", "", "messages per second of each user")
	c.Flags().String("user-bytes", "", "bytes per second of each user")
	c.Flags().Bool("file", false, "take those of mailgate.yaml again")
	return c
}

func (p *program) syncLimits(c *cobra.Command, _ []string) error {
	form := url.Values{}
	sign(form)
	changes := false
	for _, key := range append(limitKeys(), "side") {
		if c.Flags().Changed(key) {
			v, _ := c.Flags().GetString(key)
			form.Set(key, v)
			changes = true
		}
	}
	if file, _ := c.Flags().GetBool("file"); file {
		form.Set("file", "true")
		changes = true
	}
	if err := sideFlag(form.Get("side")); err != nil {
		return err
	}
	if _, words, err := changeLimits(throttle{}, form); err != nil {
		return exitError{exitUsage, err}
	} else if form.Has("side") && words == "" {
		return exitError{exitUsage, errors.New("--side alone changes nothing: add --connections, --messages or --bytes")}
	}
	conf, bad := p.loadAnyway()
	var v SyncLimits
	err := admin.Client{Socket: conf.Control.Socket}.Stream(c.Context(), "/sync/limits", form, nil, &v)
	switch {
	case errors.Is(err, admin.ErrNotRunning) && bad != nil:
		return bad
	case errors.Is(err, admin.ErrNotRunning) && changes:
		return exitError{exitRefused, errors.New("mailgate serve does not run: there is nothing to change; what is to hold when it does belongs into mailgate.yaml " +
			"(mailgate sync limits --help names the keys)")}
	case errors.Is(err, admin.ErrNotRunning):
		v = *limitsOf(conf, throttleOf(conf), time.Now())
	case err != nil:
		return err
	}
	return p.print(&v, func(w io.Writer) { printLimits(w, &v, changes, time.Now()) })
}

// ofLimit is how much of a limit is used.
func ofLimit(now, limit int64, text func(int64) string) string {
	if limit == 0 {
		return text(now) + ", no limit"
	}
	return text(now) + " of " + text(limit)
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func printLimits(w io.Writer, v *SyncLimits, changed bool, now time.Time) {
	if !v.Running {
		fmt.Fprintln(w, "mailgate serve does not run; this is what mailgate.yaml says")
	}
	fmt.Fprintln(w, "side\tconnections to a host\tmessages/s\tbytes/s")
	for _, side := range config.Sides {
		s := v.Sides[side]
		open := 0
		for _, h := range s.Hosts {
			open += h.Open
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", side, ofLimit(int64(open), int64(s.MaxConnections), number), ofLimit(s.Present.Messages, s.Limit.Messages, number),
			ofLimit(s.Present.Bytes, s.Limit.Bytes, bytesText))
		for _, h := range s.Hosts {
			var notes []string
			if h.Learned > 0 {
				notes = append(notes, fmt.Sprintf("it refuses more than %d, tried again %s", h.Learned, fromNow(h.Until, now)))
			}
			if h.Waiting > 0 {
				notes = append(notes, fmt.Sprintf("%d passes wait", h.Waiting))
			}
			if len(notes) == 0 && len(s.Hosts) == 1 && h.Cap == s.MaxConnections {
				continue
			}
			name := h.Place
			if name == "" {
				name = "its hosts"
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\n", name, ofLimit(int64(h.Open), int64(h.Cap), number), strings.Join(notes, "; "))
		}
	}
	limit := func(n int64, text func(int64) string) string {
		if n == 0 {
			return "no limit"
		}
		return text(n)
	}
	fmt.Fprintf(w, "each user\t\t%s\t%s\n", limit(v.User.Messages, number), limit(v.User.Bytes, bytesText))
	switch {
	case len(v.Windows) == 0:
		fmt.Fprintln(w, "first copies: at any time")
	case v.Open && v.Until.IsZero():
		fmt.Fprintf(w, "first copies: at any time (%s)\n", strings.Join(v.Windows, "; "))
	case v.Open:
		fmt.Fprintf(w, "first copies: made until %s (%s)\n", v.Until.Local().Format("Mon 15:04"), strings.Join(v.Windows, "; "))
	case v.Until.IsZero():
		fmt.Fprintf(w, "first copies: not made (%s)\n", strings.Join(v.Windows, "; "))
	default:
		fmt.Fprintf(w, "first copies: made again from %s (%s)\n", v.Until.Local().Format("Mon 15:04"), strings.Join(v.Windows, "; "))
	}
	switch {
	case changed && v.Changed:
		fmt.Fprintf(w, "changed; this holds %s\n", limitsLast)
	case changed:
		fmt.Fprintln(w, "changed; this is what mailgate.yaml says")
	case v.Changed:
		fmt.Fprintf(w, "changed by hand; this holds %s\n", limitsLast)
	}
}

// fromNow is how long it is until a time, in words.
func fromNow(t, now time.Time) string {
	if d := t.Sub(now).Round(time.Second); d > 0 {
		return "in " + d.String()
	}
	return "at once"
}
