package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
)

// several reads whom a moving verb is about. ok is false for a single address.
func (p *program) several(c *cobra.Command, args []string) (form url.Values, ok bool, err error) {
	all, _ := c.Flags().GetBool("all")
	file, _ := c.Flags().GetString("file")
	n := len(args)
	if all {
		n++
	}
	if file != "" {
		n++
	}
	switch {
	case n != 1:
		return nil, false, exitError{exitUsage, fmt.Errorf("usage: %s; whom: an address, a wave's name, --all, or --file FILE", c.UseLine())}
	case all:
		return url.Values{"all": {"1"}}, true, nil
	case file != "":
		list, err := usersFile(file)
		if err == nil && len(list) == 0 {
			err = exitError{exitUsage, fmt.Errorf("%s names nobody", file)}
		}
		return url.Values{"user": list}, true, err
	case strings.Contains(args[0], "@"), p.isUser(args[0]):
		return nil, false, nil
	}
	return url.Values{"wave": {args[0]}}, true, nil
}

// isUser tells whether a name without @ means a user: where there is a default domain, and no wave of that name.
func (p *program) isUser(name string) bool {
	conf, err := p.load()
	if err != nil || conf.Routes.DefaultDomain == "" {
		return false
	}
	routes, err := config.LoadRoutes(conf)
	return err == nil && !slices.Contains(routes.Waves(conf), name)
}

// manyPlan is the plan of a move of several users: who, and what it is like.
type manyPlan struct {
	cutover.MovePlan
	Plan   *movePlan         `json:"plan"`
	Shares []admin.WaveShare `json:"shares,omitempty"`
	// Unlooked are members of whom it is not known with whom they share folders.
	Unlooked []admin.WaveUnlooked `json:"shares_unknown,omitempty"`
}

// moveMany moves a wave or a list of users: it shows the plan once for all, asks, and follows the operation.
func (p *program) moveMany(c *cobra.Command, form url.Values, to config.Side, rollback bool) error {
	form.Set("side", to.String())
	if rollback {
		form.Set("rollback", "1")
	}
	if now, _ := c.Flags().GetBool("now"); now {
		form.Set("now", "1")
	}
	plan, err := p.planMany(c, form, to, rollback)
	if err != nil {
		return err
	}
	dry, _ := c.Flags().GetBool("dry-run")
	if dry && p.output == "json" {
		err = p.print(plan, nil)
	} else {
		err = plan.write(p.err)
	}
	switch {
	case err != nil:
		return err
	case plan.Why != "":
		return exitError{exitRefused, &cutover.Refusal{Why: plan.Why, Do: plan.Do}}
	case dry:
		return nil
	case len(plan.Users) == 0 && len(plan.CallsOff) == 0:
		if err := p.print(plan.MovePlan, func(w io.Writer) { fmt.Fprintln(w, "nobody is to be moved: nothing to do") }); err != nil {
			return err
		}
		return plan.stayExit()
	}
	if yes, _ := c.Flags().GetBool("yes"); !yes {
		question := fmt.Sprintf("Move %d users to %s?", len(plan.Users), to)
		if len(plan.Users) == 0 {
			question = fmt.Sprintf("Call off %s?", strings.Join(plan.CallsOff, ", "))
		}
		if err := p.agreed(c.Context(), question); err != nil {
			return err
		}
	}
	form.Set("plan", plan.text())
	var o op.Operation
	if err := p.call(c, http.MethodPost, "/move", form, &o); err != nil {
		return err
	}
	return p.followMany(c, o, false)
}

// stayExit is how a verb ends that has nobody to move: well, unless some are left out who are not there.
func (m *manyPlan) stayExit() error {
	var stay []string
	for _, pin := range m.Pinned {
		stay = append(stay, pin.User)
	}
	stay = append(stay, m.Complete...)
	switch {
	case len(stay) == 0:
		return nil
	case len(m.There) == 0:
		return exitError{exitRefused, fmt.Errorf("nobody was moved: %d are left out (%s)", len(stay), someNames(stay))}
	}
	return exitError{exitPartly, fmt.Errorf("%d are on %s, %d are left out (%s)", len(m.There), m.Target, len(stay), someNames(stay))}
}

// planMany makes the plan. Who goes back waits for no look at anything.
func (p *program) planMany(c *cobra.Command, form url.Values, to config.Side, rollback bool) (*manyPlan, error) {
	plan := &manyPlan{}
	if err := p.call(c, http.MethodGet, "/move", form, &plan.MovePlan); err != nil {
		return nil, err
	}
	conf, _ := p.loadAnyway()
	plan.Plan = newPlan(conf, to, form.Get("now") != "")
	plan.Plan.Users = len(plan.Users)
	if len(plan.Users) == 1 {
		plan.Plan.User = plan.Users[0]
	}
	yes, _ := c.Flags().GetBool("yes")
	dry, _ := c.Flags().GetBool("dry-run")
	if plan.Plan.Now {
		plan.Plan.Behinds = p.behinds(c.Context(), plan.Users)
	}
	if plan.Plan.Carries && (dry || !yes) && !rollback {
		look := lookBefore
		if dry {
			look = lookDry
		}
		plan.Plan.Sum = p.forecasts(c.Context(), plan.Users, to, look)
	}
	if wave := form.Get("wave"); wave != "" && !rollback {
		var w admin.WaveStatus
		if err := p.call(c, http.MethodGet, "/wave", url.Values{"wave": {wave}}, &w); err == nil {
			plan.Shares, plan.Unlooked = w.Shares, w.Unlooked
		} else {
			for _, user := range plan.Users {
				plan.Unlooked = append(plan.Unlooked, admin.WaveUnlooked{User: user, Why: err.Error()})
			}
		}
	}
	return plan, nil
}

// write writes the plan for people.
func (m *manyPlan) write(w io.Writer) error {
	if len(m.Users) > 0 {
		if err := m.Plan.write(w); err != nil {
			return err
		}
	}
	if n := len(m.There); n > 0 {
		fmt.Fprintf(w, "%d are on %s already.\n", n, m.Target)
	}
	if n := len(m.Complete); n > 0 {
		fmt.Fprintf(w, "%d stay on %s: their waves are complete, and OLD is not kept in sync (mailgate wave start brings that back): %s\n", n, m.Target.Other(),
			strings.Join(m.Complete[:min(n, 10)], ", "))
	}
	for _, pin := range m.Pinned {
		fmt.Fprintf(w, "%s stays on %s: pinned by %s; mailgate unpin %s, or mailgate flip %s %s\n", pin.User, pin.Side, pin.By, pin.User, pin.User, m.Target)
	}
	for _, h := range m.Held {
		fmt.Fprintf(w, "%s stays: held by %s since %s (%s)\n", h.What(), h.By, stamp(h.At), h.Reason)
	}
	for _, s := range m.Shares {
		fmt.Fprintf(w, "%s shares %s with %s, who is not in the wave: they lose sight of each other's folders\n", s.User, strings.Join(s.Folders, ", "), s.With)
	}
	writeUnlooked(w, m.Unlooked, "Whether they share folders with people outside the wave: %s\n")
	for _, id := range m.CallsOff {
		fmt.Fprintf(w, "%s is called off.\n", id)
	}
	if m.Waits != "" {
		fmt.Fprintf(w, "Not at once: %s. mailgate op cancel calls it off.\n", m.Waits)
	}
	return nil
}

// text is the plan for the history: in short, the count first.
func (m *manyPlan) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d users to %s, %d there already, %d pinned, %d held\n", len(m.Users), m.Target, len(m.There), len(m.Pinned), len(m.Held))
	_ = m.write(&b)
	return b.String()
}

// manyLook is how often a move of several is looked at while somebody waits for it.
const manyLook = 2 * time.Second

// followMany waits for a move of several users, shows how far it is, and tells how it ended. Who has asked for the move waits for its end, or as
// long as he says, but not for a window; who only waits does so as long as the flag says, whatever the move waits for.
func (p *program) followMany(c *cobra.Command, o op.Operation, only bool) error {
	limit, _ := c.Flags().GetDuration("timeout")
	var end time.Time
	if only || c.Flags().Changed("timeout") {
		end = time.Now().Add(limit)
	}
	p.follows = p.local == nil
	said := ""
	for !o.Status.Final() {
		look := manyLook
		if d := time.Until(end); !end.IsZero() && d < look {
			look = d
		}
		if look > 0 {
			err := p.call(c, http.MethodPost, "/op/wait", url.Values{"id": {o.ID}, "timeout": {look.String()}}, nil)
			var no admin.CallError
			if err != nil && !(errors.As(err, &no) && no.Exit == exitTimeout) {
				return err
			}
		}
		if err := p.lookAt(c, &o); err != nil {
			return err
		}
		if text := fmt.Sprintf("%s %s: %s", o.ID, o.Status, o.Reason); text != said && !o.Status.Final() {
			said = text
			fmt.Fprintln(p.err, text)
		}
		if !o.Status.Final() && (o.Status == op.Waiting && !only || !end.IsZero() && !time.Now().Before(end)) {
			return exitError{exitTimeout, fmt.Errorf("%s has not ended, it goes on (%s: %s)", o.ID, o.Status, o.Reason)}
		}
	}
	if err := p.lookAt(c, &o); err != nil {
		return err
	}
	if err := p.showOp(c, o, o.Reason != ""); err != nil {
		return err
	}
	return manyExit(o)
}

// lookAt reads how an operation stands now; what is empty now must not be as it was.
func (p *program) lookAt(c *cobra.Command, o *op.Operation) error {
	var now op.Operation
	err := p.call(c, http.MethodGet, "/op", url.Values{"id": {o.ID}}, &now)
	if err == nil {
		*o = now
	}
	return err
}

// manyExit is how a verb ends that moved several.
func manyExit(o op.Operation) error {
	switch {
	case o.Status == op.Failed:
		return exitError{exitRefused, errors.New(o.Reason)}
	case o.Status == op.Cancelled && o.Done == 0:
		return exitError{exitRefused, errors.New(o.Reason)}
	case o.Status == op.Cancelled, o.Reason != "":
		return exitError{exitPartly, fmt.Errorf("%s (mailgate op show %s)", o.Reason, o.ID)}
	}
	return nil
}

// showOp prints an operation; parts adds its flips, those that did not end well first.
func (p *program) showOp(c *cobra.Command, o op.Operation, parts bool) error {
	var list []op.Operation
	if parts && o.Kind == op.Wave {
		if err := p.call(c, http.MethodGet, "/op/parts", url.Values{"id": {o.ID}}, &list); err != nil {
			return err
		}
		slices.SortStableFunc(list, func(x, y op.Operation) int {
			well := func(o op.Operation) int {
				if o.Status == op.Done {
					return 1
				}
				return 0
			}
			return well(x) - well(y)
		})
	}
	v := any(o)
	if o.Kind == op.Wave {
		v = opWithParts{o, list}
	}
	return p.print(v, func(w io.Writer) {
		printOp(w, o)
		const most = 100
		for i, x := range list {
			if i == most {
				fmt.Fprintf(w, "  and %d more (-o json lists all)\n", len(list)-most)
				break
			}
			fmt.Fprint(w, "  ")
			printOp(w, x)
		}
		printOpDetails(w, o)
	})
}

// opWithParts is a move of several with its flips.
type opWithParts struct {
	op.Operation
	Parts []op.Operation `json:"parts,omitempty"`
}

// printOpDetails tells where a request came from, and what it belongs to.
func printOpDetails(w io.Writer, o op.Operation) {
	if o.From != "" {
		fmt.Fprintf(w, "from\t%s\n", o.From)
	}
	if o.Parent != "" {
		fmt.Fprintf(w, "part of\t%s\n", o.Parent)
	}
	if o.Wave != "" && o.Kind == op.Flip {
		fmt.Fprintf(w, "wave\t%s\n", o.Wave)
	}
	if !o.Deadline.IsZero() && o.Status == op.Waiting {
		fmt.Fprintf(w, "until\t%s\n", stamp(o.Deadline))
	}
}
