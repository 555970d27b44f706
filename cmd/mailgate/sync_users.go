package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"mailgate/config"
)

// chosen are the users that a verb was given.
type chosen struct {
	list []string
	one  bool // a single address was named: with -o json the answer is an object and not an array
}

// users reads a verb's arguments: addresses, waves, files of addresses, or --all.
func (p *program) users(c *cobra.Command, args []string) (out chosen, err error) {
	all, _ := c.Flags().GetBool("all")
	switch {
	case all && len(args) > 0:
		return out, exitError{exitUsage, fmt.Errorf("--all, or %s: not both", strings.Join(args, " "))}
	case !all && len(args) == 0:
		return out, exitError{exitUsage, fmt.Errorf("whose mailboxes? %s: an address, a wave, @FILE, or --all", c.UseLine())}
	}
	var conf *config.Config
	var routes *config.RouteFile
	if all || slices.ContainsFunc(args, func(a string) bool { return !strings.Contains(a, "@") }) {
		if conf, err = p.load(); err != nil {
			return out, err
		}
		if routes, err = config.LoadRoutes(conf); err != nil {
			return out, err
		}
	}
	if all {
		out.list = slices.Sorted(maps.Keys(routes.Users))
	}
	for _, a := range args {
		list, one, err := named(a, conf, routes)
		if err != nil {
			return out, err
		}
		out.list, out.one = append(out.list, list...), one && len(args) == 1
	}
	seen := map[string]bool{}
	out.list = slices.DeleteFunc(out.list, func(u string) bool { // two passes over one user would be in each other's way
		twice := seen[u]
		seen[u] = true
		return twice
	})
	if len(out.list) == 0 {
		fmt.Fprintln(p.err, "no users there: nothing to do")
	}
	return out, nil
}

// named are the users that one argument means. conf and routes are set when it has no @ in it.
func named(arg string, conf *config.Config, routes *config.RouteFile) (list []string, one bool, err error) {
	if file, ok := strings.CutPrefix(arg, "@"); ok {
		list, err = usersFile(file)
		return list, false, err
	}
	if strings.Contains(arg, "@") {
		return []string{arg}, true, nil
	}
	waves := map[string]bool{}
	for user, r := range routes.Users {
		if r.Wave == arg {
			list = append(list, user)
		}
		if r.Wave != "" {
			waves[r.Wave] = true
		}
	}
	if len(list) > 0 {
		slices.Sort(list)
		return list, false, nil
	}
	if conf.Routes.DefaultDomain != "" {
		return []string{arg}, true, nil
	}
	known := "the routes file names none"
	if len(waves) > 0 {
		known = "the routes file names " + strings.Join(slices.Sorted(maps.Keys(waves)), ", ")
	}
	return nil, false, exitError{exitUsage, fmt.Errorf("%q is no address, and no wave of that name has users (%s)", arg, known)}
}

// usersFile reads a file with an address on each line; # begins a comment, and what stands behind the address does not count,
// so that a routes file will do.
func usersFile(file string) (list []string, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, exitError{exitUsage, fmt.Errorf("file of addresses: %w", err)}
	}
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "default" || strings.HasPrefix(f[0], "*") {
			continue
		}
		list = append(list, f[0])
	}
	return list, nil
}

// shown prints what came of users one after the other: as text, or as JSON, an array where it may be several. It is used by
// one goroutine at a time.
type shown struct {
	p   *program
	one bool
	n   int
}

// failed stands for a user in the array whose answer could not be had.
type failed struct {
	User  string `json:"user"`
	Error string `json:"error"`
	Exit  int    `json:"exit"`
}

// add prints v as JSON if that is asked for, and calls text otherwise.
func (s *shown) add(v any, text func(w io.Writer) error) error {
	if s.p.output != "json" {
		return text(s.p.out)
	}
	if s.one {
		return s.p.print(v, nil)
	}
	b, err := json.MarshalIndent(v, "  ", "  ")
	if err != nil {
		return err
	}
	before := ",\n  "
	if s.n == 0 {
		before = "[\n  "
	}
	s.n++
	_, err = fmt.Fprintf(s.p.out, "%s%s", before, b)
	return err
}

// end closes the array.
func (s *shown) end() {
	switch {
	case s.p.output != "json" || s.one:
	case s.n == 0:
		fmt.Fprintln(s.p.out, "[]")
	default:
		fmt.Fprintln(s.p.out, "\n]")
	}
}

// each does something for each user, several at once, and gives the exit code that fits all. Progress and answers are printed
// through show and out; question tells that nothing is done to anybody.
func (p *program) each(c *cobra.Command, users chosen, question bool, do func(ctx context.Context, user string, show *progress, out *shown) error) error {
	jobs, _ := c.Flags().GetInt("jobs")
	mode, _ := c.Flags().GetString("progress")
	if jobs < 1 {
		return exitError{exitUsage, errors.New("--jobs is at least 1")}
	}
	show, err := newProgress(p.err, mode)
	if err != nil {
		return err
	}
	defer show.end()
	out := &shown{p: p, one: users.one}
	defer out.end()
	queue := make(chan string, len(users.list))
	for _, u := range users.list {
		queue <- u
	}
	close(queue)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for range min(jobs, len(users.list)) {
		wg.Go(func() {
			for u := range queue {
				if c.Context().Err() != nil {
					return
				}
				err := do(c.Context(), u, show, out)
				if err == nil {
					continue
				}
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
				if !users.one && c.Context().Err() == nil {
					show.print(func(w io.Writer) { fmt.Fprintf(w, "%s: %v\n", u, err) })
				}
			}
		})
	}
	wg.Wait()
	switch {
	case c.Context().Err() != nil && question:
		return exitError{exitFailed, errors.New("interrupted")}
	case c.Context().Err() != nil:
		return exitError{exitFailed, errors.New("interrupted; the next pass goes on where this one was")}
	case len(errs) == 0:
		return nil
	case users.one:
		return errs[0]
	}
	return exitError{exitOfAll(errs, len(users.list), question), fmt.Errorf("%d of %d users: see above", len(errs), len(users.list))}
}

// exitOfAll is the exit code that fits n users of whom some failed. What was done to some and not to others is partly done;
// of a question, and where all failed, the gravest counts.
func exitOfAll(errs []error, n int, question bool) int {
	worst := exitDifference
	order := []int{exitDifference, exitPartly, exitUsage, exitRefused, exitUnknown, exitFailed}
	for _, err := range errs {
		code := exitCode(err)
		if code == exitPartly && !question {
			return exitPartly
		}
		if slices.Index(order, code) > slices.Index(order, worst) {
			worst = code
		}
	}
	if len(errs) < n && !question {
		return exitPartly
	}
	return worst
}
