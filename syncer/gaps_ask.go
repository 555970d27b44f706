package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mailgate/backend"
	"mailgate/config"
)

// Questions of a look, for gapSide.errs. Those about one folder have its raw name behind them.
const (
	askSpaces     = "namespaces"
	askFolders    = "folders"
	askOthers     = "folders of others"
	askSubscribed = "subscriptions"
	askHidden     = "hidden folders"
	askRights     = "rights "
	askMine       = "my rights "
	askMetadata   = "metadata " // "" is the account's
	askQuota      = "quota"
)

// hiddenFolder is one that LIST does not show, as Cyrus keeps calendars.
type hiddenFolder struct {
	name  string // raw
	items int    // that it holds; -1 where that was not told
}

// errSlow ends a look at a side that takes too long.
var errSlow = fmt.Errorf("its answers took longer than %s", gapTime)

// askGaps asks a side. Of NEW it asks only what k.ask wants.
func (s *Syncer) askGaps(ctx context.Context, side config.Side, user, login string, k *gapKnown) *gapSide {
	g := &gapSide{title: strings.ToUpper(side.String()), user: user, login: login, there: map[string]bool{}, rights: map[string][]backend.Right{},
		mine: map[string]string{}, metadata: map[string][]backend.Metadata{}, errs: map[string]error{}, has: func(string) bool { return false }}
	ctx, cancel := context.WithTimeoutCause(ctx, gapTime, errSlow)
	defer cancel()
	c, err := s.openOne(ctx, side, user)
	if err != nil {
		g.err = err
		return g
	}
	defer logout(ctx, []pooled{c})
	g.has = c.Has
	g.err = safely(func() error {
		g.product = product(ctx, c.Client)
		if err := g.list(ctx, c.Client); err != nil {
			return err
		}
		wants := k.ask
		if side == config.Old {
			wants = g.all()
			g.lookBehind(ctx, c.Client)
			g.note(askMetadata, func() (err error) {
				g.metadata[""], err = g.annotations(ctx, c.Client, "")
				return err
			})
		} else if wants.metadata[""] {
			g.note(askMetadata, func() (err error) {
				g.metadata[""], err = g.annotations(ctx, c.Client, "")
				return err
			})
		}
		g.each(ctx, c.Client, wants, side == config.New)
		g.note(askQuota, func() (err error) {
			g.quota, g.limited, err = c.Quota(ctx, inboxName)
			return err
		})
		g.limit = appendLimit(c.Capabilities())
		return c.Err()
	})
	if cause := context.Cause(ctx); cause != nil {
		g.err = cause
	}
	return g
}

// note keeps why a question was not answered.
func (g *gapSide) note(question string, ask func() error) {
	if err := ask(); err != nil {
		g.errs[question] = err
	}
}

// list asks for folders: his own, those of others, and what he has subscribed to. Without his own there is nothing to go by.
func (g *gapSide) list(ctx context.Context, c *backend.Client) error {
	spaces, err := c.Namespace(ctx)
	if err != nil {
		g.errs[askSpaces] = err
		spaces = backend.Namespaces{}
	}
	g.naming = newNaming(SideFolders{Namespaces: spaces})
	take := func(e backend.ListEntry) error {
		if g.there[peekName(e.Name)] {
			return nil
		}
		g.there[peekName(e.Name)] = true
		switch _, own := g.naming.personal(e.Name); {
		case !selectable(e) || virtual(e.Attributes):
		case own:
			g.own = append(g.own, e)
		default:
			g.others = append(g.others, e)
		}
		return nil
	}
	if err := c.List(ctx, backend.ListOptions{Special: true}, take); err != nil {
		return err
	}
	for _, ns := range slices.Concat(spaces.Other, spaces.Shared) { // LIST "*" need not show them
		if ns.Prefix == "" {
			continue
		}
		if err := c.List(ctx, backend.ListOptions{Pattern: ns.Prefix + "*"}, take); err != nil {
			g.errs[askOthers] = err
		}
	}
	slices.SortFunc(g.own, func(a, b backend.ListEntry) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(g.others, func(a, b backend.ListEntry) int { return strings.Compare(a.Name, b.Name) })
	g.note(askSubscribed, func() error {
		return c.List(ctx, backend.ListOptions{Subscribed: true}, func(e backend.ListEntry) error {
			g.subscribed = append(g.subscribed, e)
			return nil
		})
	})
	return nil
}

// isCyrus tells whether it is a Cyrus, which has folders that LIST does not show.
func (g *gapSide) isCyrus() bool { return strings.HasPrefix(g.product, "Cyrus") }

// lookBehind finds folders of Cyrus that LIST does not show: GETMETADATA takes patterns there, and shows them.
func (g *gapSide) lookBehind(ctx context.Context, c *backend.Client) {
	if !g.isCyrus() || !c.Has("METADATA") {
		return
	}
	g.note(askHidden, func() error {
		list, _, err := c.Metadata(ctx, g.naming.prefix+"*", backend.MetadataOptions{}, "/shared/vendor/cmu/cyrus-imapd/lastupdate")
		if err != nil {
			return err
		}
		if len(list) == 0 { // each folder has one
			return backend.ErrNoAnswer
		}
		for _, m := range list {
			if _, own := g.naming.personal(m.Mailbox); !own || g.there[peekName(m.Mailbox)] || len(g.hidden) == mostGapFolders {
				continue
			}
			h := hiddenFolder{m.Mailbox, -1}
			if st, err := c.Status(m.Mailbox, "MESSAGES").Result(ctx); err == nil && st.HasMessages {
				h.items = int(st.Messages)
			}
			g.hidden = append(g.hidden, h)
		}
		return nil
	})
}

// all are the folders of OLD: each is asked about.
func (g *gapSide) all() gapWants {
	w := gapWants{map[string]bool{}, map[string]bool{}}
	for _, e := range g.own {
		w.rights[e.Name], w.metadata[e.Name] = true, true
	}
	return w
}

// each asks about folders one by one. mine asks for our own rights, too.
func (g *gapSide) each(ctx context.Context, c *backend.Client, w gapWants, mine bool) {
	asked := 0
	for _, e := range g.own {
		if !w.rights[e.Name] && !w.metadata[e.Name] && !mine {
			continue
		}
		if asked++; asked > mostGapFolders || c.Err() != nil {
			g.left++
			continue
		}
		if c.Has("ACL") && w.rights[e.Name] {
			g.note(askRights+e.Name, func() (err error) {
				g.rights[e.Name], err = c.ACL(ctx, e.Name)
				return err
			})
		}
		if c.Has("ACL") && mine {
			g.note(askMine+e.Name, func() (err error) {
				g.mine[e.Name], err = c.MyRights(ctx, e.Name)
				return err
			})
		}
		if c.Has("METADATA") && w.metadata[e.Name] {
			g.note(askMetadata+e.Name, func() (err error) {
				g.metadata[e.Name], err = g.annotations(ctx, c, e.Name)
				return err
			})
		}
	}
}

// shortValue is how long a value of an annotation may be to be sent at the first asking, in bytes.
const shortValue = 4096

// annotations are those of a folder, or of the account ("").
func (g *gapSide) annotations(ctx context.Context, c *backend.Client, name string) ([]backend.Metadata, error) {
	// Of the account Dovecot shows nothing below /private alone, and what is /shared there is the host's.
	entries := []string{"/private", "/shared"}
	if name == "" {
		entries = []string{"/private", "/private/vendor", "/private/comment"}
	}
	o := backend.MetadataOptions{Deep: true, MaxSize: shortValue}
	list, long, err := c.Metadata(ctx, name, o, entries...)
	if err == nil && long { // what is left out would not be counted
		o.MaxSize = 0
		list, _, err = c.Metadata(ctx, name, o, entries...)
	}
	return list, err
}

// asked tells what to ask of NEW: whether it has what was found on OLD.
func (g *gapSide) asked(k *gapKnown) gapWants {
	w := gapWants{map[string]bool{}, map[string]bool{}}
	for name, list := range g.rights {
		if to := k.partner[peekName(name)]; to != "" && len(g.foreign(list)) > 0 {
			w.rights[to] = true
		}
	}
	for name, list := range g.metadata {
		to := ""
		if name != "" {
			if to = k.partner[peekName(name)]; to == "" {
				continue
			}
		}
		if slices.ContainsFunc(list, func(m backend.Metadata) bool { return !ofServer(m) }) {
			w.metadata[to] = true
		}
	}
	return w
}

// appendLimit is the size of the largest message (RFC 7889), 0 where the server does not tell it of all mailboxes.
func appendLimit(capabilities []string) int64 {
	for _, c := range capabilities {
		if text, ok := strings.CutPrefix(c, "APPENDLIMIT="); ok {
			if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
				return n
			}
		}
	}
	return 0
}

// whyNot says in a few words why a question was not answered.
func whyNot(err error) string {
	var no *backend.StatusError
	if errors.As(err, &no) {
		return oneLine(no.Command+" was answered "+no.Status+" "+no.Text, 300)
	}
	return oneLine(err.Error(), 300)
}
