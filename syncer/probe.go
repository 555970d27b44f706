package syncer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailgate/backend"
)

// Bounds of a probe.
const (
	probeLimit   = 2 * time.Minute // for all of it
	probeCleanup = 2 * time.Minute // Courier takes seconds for each DELETE
	probeStale   = time.Hour       // older scratch mailboxes were left by a probe that was killed
	maxHangUps   = 12              // connections that a server may end on us before the probe gives up
)

// scratchName begins the name of every mailbox that a probe makes; behind it stand the time of its making and a random part.
const scratchName = "mailgate-probe-"

// probe finds out how a server treats what mail holds, in a scratch mailbox of its own, which is gone afterwards whatever
// happens. open logs in; it is called again when the server ends the connection over something. The error is of open, of
// the scratch mailbox (a *backend.StatusError), or of ctx; what a server refuses is a finding, not an error.
func probe(ctx context.Context, open func(ctx context.Context) (*backend.Client, error), host string, now func() time.Time) (p *Profile, err error) {
	began := now()
	name, err := newScratch(began)
	if err != nil {
		return nil, err
	}
	r := &prober{open: open, p: &Profile{Host: host, At: began, Refuses: map[string]string{}, Alters: map[string]string{}}}
	defer func() {
		err = errors.Join(err, r.end(ctx))
		if err != nil {
			p = nil
			return
		}
		p.Took = now().Sub(began)
	}()
	limited, cancel := context.WithTimeoutCause(ctx, probeLimit, errors.New("the probe took too long"))
	defer cancel()
	if err := r.begin(limited, name, began); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{r.messages, r.copies, r.condstore, r.several, r.early, r.keywords, r.names, r.rename} {
		if err := step(limited); err != nil {
			return nil, err
		}
	}
	return r.p, nil
}

// newScratch is the last level of a scratch mailbox's name.
func newScratch(at time.Time) (string, error) {
	var b [5]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return scratchName + strconv.FormatInt(at.Unix(), 10) + "-" + hex.EncodeToString(b[:]), nil
}

// scratchTime tells when a mailbox was made for a probe.
func scratchTime(name, prefix string) (at time.Time, ok bool) {
	rest, ok := strings.CutPrefix(name, prefix+scratchName)
	if !ok {
		return at, false
	}
	digits, _, ok := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(digits, 10, 64)
	return time.Unix(n, 0), ok && err == nil
}

// prober is one probe. It belongs to one goroutine.
type prober struct {
	open func(ctx context.Context) (*backend.Client, error)
	p    *Profile

	c       *backend.Client // nil after the server ended it
	hangUps int
	prefix  string // of the personal namespace
	sep     byte   // 0 in a flat one
	box     string // the scratch mailbox; others that are made begin with its name. "" before begin
	plain   uint32 // UID of the ordinary message, 0 when there is none
	flagged uint32 // of the one with all flags
}

func (r *prober) note(format string, args ...any) {
	r.p.Notes = append(r.p.Notes, fmt.Sprintf(format, args...))
}

// conn gives a living connection.
func (r *prober) conn(ctx context.Context) (*backend.Client, error) {
	if r.c != nil {
		select {
		case <-r.c.Done():
			_ = r.c.Close()
			r.c = nil
		default:
			return r.c, nil
		}
	}
	c, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	r.c = c
	return c, nil
}

// try does something that the server may refuse. refused is what it said then, or that it hung up; the next try has a new
// connection. err is only what ends the probe.
func (r *prober) try(ctx context.Context, what string, f func(c *backend.Client) error) (refused string, err error) {
	c, err := r.conn(ctx)
	if err != nil {
		return "", err
	}
	err = f(c)
	if err == nil {
		return "", nil
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if s := (*backend.StatusError)(nil); errors.As(err, &s) && s.Status != "BYE" {
		return saidBy(s), nil
	}
	_ = c.Close()
	r.c = nil
	r.note("%s: the server ended the connection (%v)", what, err)
	if r.hangUps++; r.hangUps > maxHangUps {
		return "", fmt.Errorf("%s: the server ended the connection %d times: %w", what, r.hangUps, err)
	}
	return "it ends the connection", nil
}

// saidBy is a refusal as the profile keeps it.
func saidBy(s *backend.StatusError) string {
	text := s.Status
	if s.Code.Name != "" {
		text += " [" + s.Code.Name + "]"
	}
	return strings.TrimSpace(text + " " + s.Text)
}

// begin makes the scratch mailbox, after removing those of probes that were killed.
func (r *prober) begin(ctx context.Context, name string, now time.Time) error {
	c, err := r.conn(ctx)
	if err != nil {
		return err
	}
	r.p.Capabilities = slices.Sorted(slices.Values(c.Capabilities()))
	r.p.Product = product(ctx, c)
	if r.prefix, r.sep, err = personal(ctx, c); err != nil {
		return err
	}
	var stale []string
	err = c.List(ctx, backend.ListOptions{Pattern: r.prefix + scratchName + "*"}, func(e backend.ListEntry) error {
		if at, ok := scratchTime(e.Name, r.prefix); ok && now.Sub(at) > probeStale {
			stale = append(stale, e.Name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(stale) > 0 {
		r.note("%d mailboxes of a probe that was killed were removed", len(stale))
		removeMailboxes(ctx, c, stale)
	}
	r.box = r.prefix + name
	if err := c.Create(r.box, "").Wait(ctx); err != nil {
		return fmt.Errorf("the scratch mailbox: %w", err)
	}
	return nil
}

// personal is the first personal namespace.
func personal(ctx context.Context, c *backend.Client) (prefix string, sep byte, err error) {
	ns, err := c.Namespace(ctx)
	if err != nil {
		return "", 0, err
	}
	if len(ns.Personal) == 0 {
		return "", 0, nil
	}
	return ns.Personal[0].Prefix, ns.Personal[0].Separator, nil
}

// product names the server, by ID or by capabilities that only one has.
func product(ctx context.Context, c *backend.Client) string {
	if c.Has("ID") {
		if id, err := c.ID(ctx, "name", "mailgate"); err == nil && id["name"] != "" {
			return strings.TrimSpace(id["name"] + " " + id["version"])
		}
	}
	switch {
	case c.Has("X-GM-EXT-1"):
		return "Gmail"
	case c.Has("ACL2=UNION"):
		return "Courier"
	case c.Has("X-CREATEDMODSEQ"):
		return "Cyrus IMAPD"
	}
	return ""
}

// end removes all that the probe made, also after an error and when ctx is over, and closes the connection.
func (r *prober) end(ctx context.Context) error {
	gone := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeCleanup)
	defer cancel()
	defer func() {
		if r.c != nil {
			_ = r.c.Logout(ctx)
			_ = r.c.Close()
		}
	}()
	if r.box == "" {
		return nil
	}
	if gone && r.c != nil { // a command that was given up may stand in the way
		_ = r.c.Close()
		r.c = nil
	}
	for try := 0; ; try++ {
		left, err := r.sweep(ctx)
		switch {
		case err == nil && len(left) == 0:
			return nil
		case try > 0 && err == nil:
			return fmt.Errorf("the probe's mailboxes could not be removed: %q", left)
		case try > 0:
			return fmt.Errorf("the probe's mailbox %q is left behind: %w", r.box, err)
		}
	}
}

// sweep removes the probe's mailboxes once, and lists those that stay.
func (r *prober) sweep(ctx context.Context) (left []string, err error) {
	c, err := r.conn(ctx)
	if err != nil {
		return nil, err
	}
	mine := func() (names []string, err error) {
		err = c.List(ctx, backend.ListOptions{Pattern: r.box + "*"}, func(e backend.ListEntry) error {
			if strings.HasPrefix(e.Name, r.box) {
				names = append(names, e.Name)
			}
			return nil
		})
		return names, err
	}
	names, err := mine()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	_ = c.Unselect().Wait(ctx) // it is an error where nothing is selected
	removeMailboxes(ctx, c, names)
	return mine()
}

// removeMailboxes deletes children before parents. What a server refuses to delete is found by listing again.
func removeMailboxes(ctx context.Context, c *backend.Client, names []string) {
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	for _, n := range names {
		_ = c.Unsubscribe(n).Wait(ctx)
		_ = c.Delete(n).Wait(ctx)
	}
}
