package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"mailgate/syncer"
)

// leavesBehind answers what a user would leave on his side by rollback --now. No host is asked.
func (s *syncing) leavesBehind(ctx context.Context, y *syncer.Syncer, form url.Values) (any, error) {
	user, _, _, err := s.g.Resolve(form.Get("user"))
	if err != nil {
		return nil, exitError{exitUsage, err}
	}
	return s.leaves(ctx, y, user)
}

// leaves tells what a user would leave on the side that he is on.
func (s *syncing) leaves(ctx context.Context, y *syncer.Syncer, user string) (*syncer.LeftBehind, error) {
	side := s.g.manager().Side(user)
	if p, ok := s.g.router.Lookup(user); ok {
		side = p.Side
	}
	b, err := y.Behind(ctx, user, side)
	if err != nil {
		return nil, err
	}
	for _, n := range s.open(user) {
		b.Sessions += n
	}
	if kp := s.keeping; kp != nil {
		st, _ := kp.k.State(user)
		b.Hinted = st.Since
		kp.mu.Lock()
		defer kp.mu.Unlock()
		if k := kp.users[user]; k != nil {
			b.Looked, b.Scripts = k.looked, k.scripts > 0
			if k.whole.After(b.Read) {
				b.Read = k.whole
			}
		}
	}
	return b, nil
}

// leftBehind implements admin.API.Behind.
func (g *gateway) leftBehind(ctx context.Context, user string) string {
	marks := new(behind)
	if g.syncing != nil { // it need not ask the store
		marks = &g.syncing.behind
	}
	if m, ok := marks.of(ctx, g, user); ok {
		return m.String()
	}
	return ""
}

// mostBehind is how many users are named who have left something behind.
const mostBehind = 20

// behindAll tells of whom something may be left: the first of them, and how many.
func (g *gateway) behindAll(ctx context.Context) (names []string, n int, err error) {
	list, err := g.store.Behind(ctx)
	for _, b := range list[:min(len(list), mostBehind)] {
		names = append(names, b.User)
	}
	return names, len(list), err
}

func printBehind(w io.Writer, names []string, n int) {
	if n == 0 {
		return
	}
	more := ""
	if n > len(names) {
		more = fmt.Sprintf(" and %d more", n-len(names))
	}
	fmt.Fprintf(w, "left behind\tmail of %s%s may still be on the side that rollback --now left; it comes over when that answers (mailgate status USER)\n", strings.Join(names, ", "), more)
}
