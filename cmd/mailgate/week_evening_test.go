package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// patience is how long both sides may take to be equal when nobody works.
const patience = 3 * time.Minute

// evening waits until both sides are equal, for everybody.
func (w *week) evening() {
	w.each(w.people, func(p *person) {
		if err := p.settle(); err != nil {
			w.t.Errorf("day %d: %v\n%s", w.day+1, err, p.story())
		}
	})
}

// settle waits until both sides hold what they have to, or the report says why not. Deletes that are held back are released.
func (p *person) settle() error {
	began := time.Now()
	held := 0
	var list []oddity
	var status string
	for tries := 0; ; tries++ {
		if tries > 0 {
			time.Sleep(400 * time.Millisecond)
		}
		u, err := p.week.gate.user(lab.User(p.n))
		if err != nil {
			return err
		}
		if u.Sync == nil {
			return fmt.Errorf("his mailboxes are not kept equal: %+v", u)
		}
		status = fmt.Sprintf("%+v", *u.Sync)
		if tries%6 == 0 && u.Sync.Phase == "converged" && !u.Sync.Running {
			if err := p.learnNames(); err != nil {
				status += ", " + err.Error()
			}
		}
		if list, err = p.look(); err != nil {
			return err
		}
		if len(list) > 0 && tries%6 == 5 && u.Sync.Phase == "converged" && !u.Sync.Running { // a pass under way would give way to verify
			if v, err := p.report(false); err == nil {
				list = unexplained(list, v)
			} else {
				status += ", " + err.Error()
			}
		}
		if len(list) == 0 && p.adopt() {
			continue // and look again: both sides have the same
		}
		if len(list) == 0 {
			break
		}
		// A folder that is gone waits for its time of grace first. What waits longer waits for an admin; the guard has to have had a reason.
		if u.Sync.Held > 0 && !u.Sync.Running && time.Since(began) > time.Duration(15+30*held)*time.Second {
			if held++; p.deleted+p.renamed == 0 {
				return fmt.Errorf("deletes are held back of one who has deleted nothing: %s", status)
			}
			p.release()
		}
		if time.Since(began) > patience {
			var odd []string
			for _, o := range list[:min(len(list), 30)] {
				odd = append(odd, o.String())
			}
			return fmt.Errorf("the sides are not equal after %v; status %s; %d oddities:\n%s", patience, status, len(list), strings.Join(odd, "\n"))
		}
	}
	p.settled()
	p.week.slowest(p, time.Since(began))
	return nil
}

// slowest notes how long the slowest took.
func (w *week) slowest(p *person, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count["ms that both sides took to be equal, the slowest"] = max(w.count["ms that both sides took to be equal, the slowest"], int(took.Milliseconds()))
}

// learnNames asks the plan which folder is which, where names do not follow from the levels.
func (p *person) learnNames() error {
	if p.habit.name != "odd mail" {
		return nil
	}
	code, out, errOut := p.week.gate.verb("sync", "plan", lab.User(p.n), "-o", "json")
	var plan struct{ Folders []syncer.Folder }
	if err := json.Unmarshal([]byte(out), &plan); err != nil {
		return fmt.Errorf("sync plan: exit %d, %w, %s", code, err, errOut)
	}
	here, there := p.route, p.route.Other()
	for _, f := range plan.Folders {
		for _, b := range p.boxes {
			if f.Name[here] == p.raw(here, b) && f.Name[there] != "" && f.Name[there] != p.raw(there, b) {
				p.names[there][b] = f.Name[there]
			}
		}
	}
	return nil
}
