package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-isatty"

	"mailgate/syncer"
)

// progress shows how far passes are: a line for each on a terminal, drawn over again, or a line in a log now and then. It is
// safe for concurrent use.
type progress struct {
	w    io.Writer
	mode string // "bar", "lines" or "none"

	mu    sync.Mutex
	now   map[string]syncer.Progress
	last  map[string]time.Time
	drawn int // lines of the bars on the terminal
	next  time.Time
}

// How often bars and lines are shown.
const (
	barEvery  = 100 * time.Millisecond
	lineEvery = 5 * time.Second
)

func newProgress(w io.Writer, mode string) (*progress, error) {
	switch mode {
	case "auto":
		mode = "lines"
		if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
			mode = "bar"
		}
	case "bar", "lines", "none":
	default:
		return nil, exitError{exitUsage, fmt.Errorf("unknown progress %q; auto, bar, lines or none", mode)}
	}
	return &progress{w: w, mode: mode, now: map[string]syncer.Progress{}, last: map[string]time.Time{}}, nil
}

// at notes how far a user's pass is.
func (p *progress) at(user string, g syncer.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now[user] = g
	now := time.Now()
	switch p.mode {
	case "bar":
		if now.After(p.next) {
			p.next = now.Add(barEvery)
			p.erase()
			p.draw(now)
		}
	case "lines":
		if p.last[user].IsZero() {
			p.last[user] = now // nothing is said of what is done within moments
		} else if now.Sub(p.last[user]) >= lineEvery {
			p.last[user] = now
			fmt.Fprintln(p.w, line(user, g, now))
		}
	}
}

// done takes a user's line away.
func (p *progress) done(user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.now, user)
	p.erase()
}

// print lets f write without disturbing the bars.
func (p *progress) print(f func(io.Writer)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	f(p.w)
}

func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
}

// erase takes the bars off the terminal. The caller holds mu.
func (p *progress) erase() {
	for ; p.drawn > 0; p.drawn-- {
		fmt.Fprint(p.w, "\x1b[1A\x1b[2K") // a line up, and clear it (ECMA-48)
	}
}

func (p *progress) draw(now time.Time) {
	for _, user := range slices.Sorted(maps.Keys(p.now)) {
		g := p.now[user]
		bar := ""
		if total := g.Messages[1]; total > 0 && (g.Phase == "copy" || g.Phase == "verify") {
			n := int(min(g.Messages[0], total) * 20 / total)
			bar = "[" + strings.Repeat("#", n) + strings.Repeat(".", 20-n) + "] "
		}
		fmt.Fprintln(p.w, bar+line(user, g, now))
		p.drawn++
	}
}

// line is a pass in a line: whose, what, how far, how fast, how long still.
func line(user string, g syncer.Progress, now time.Time) string {
	return user + ": " + g.Phase + far(g, now)
}

// far is how far a pass is, how fast, and how long still: each behind a comma.
func far(g syncer.Progress, now time.Time) (s string) {
	took := now.Sub(g.Began)
	if g.Folders[1] > 0 {
		s += fmt.Sprintf(", folders %d/%d", g.Folders[0], g.Folders[1])
	}
	if g.Messages[1] > 0 || g.Messages[0] > 0 {
		s += fmt.Sprintf(", messages %d/%d", g.Messages[0], max(g.Messages[0], g.Messages[1]))
	}
	if g.Bytes[0] > 0 {
		s += ", " + bytesText(g.Bytes[0])
	}
	if g.Messages[0] > 0 && took > time.Second {
		rate := float64(g.Messages[0]) / took.Seconds()
		s += fmt.Sprintf(", %.0f/s", rate)
		if left := g.Messages[1] - g.Messages[0]; left > 0 {
			s += fmt.Sprintf(", %s left", (time.Duration(float64(left)/rate) * time.Second).Round(time.Second))
		}
	}
	if g.Failed > 0 {
		s += fmt.Sprintf(", %d set aside", g.Failed)
	}
	return s
}

// bytesText is a number of bytes as people read it.
func bytesText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/unit, 0
	for v >= unit && i < 3 {
		v, i = v/unit, i+1
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGT"[i])
}
