package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"mailgate/mailtest/lab"
	"mailgate/mailtest/people"
	"mailgate/syncer"
)

// patience is how long both sides may take to be equal when nobody works.
const patience = 3 * time.Minute

// evening waits until both sides are equal, for everybody.
func (w *week) evening() {
	w.each(w.staff, func(p *person) {
		if err := p.settle(); err != nil {
			w.t.Errorf("day %d: %v\n%s", w.day+1, err, p.Story())
		}
	})
}

// settle waits until both sides hold what they have to, or the report says why not. Deletes that are held back are released.
func (p *person) settle() error {
	began := time.Now()
	held := 0
	var list []people.Oddity
	var status string
	for tries := 0; ; tries++ {
		if tries > 0 {
			time.Sleep(400 * time.Millisecond)
		}
		u, err := p.week.gate.user(lab.User(p.N))
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
		list, err = p.Look()
		if err != nil { // a folder that was listed may be gone, or have another name, when it is opened
			status += ", " + err.Error()
		}
		// A pass under way would give way to verify; but where our own looks at the mailboxes make passes, one is always under way.
		if err == nil && len(list) > 0 && tries%6 == 5 && u.Sync.Phase == "converged" && (!u.Sync.Running || tries%18 == 17) {
			if v, err := p.report(false); err == nil {
				list = people.Unexplained(list, v)
			} else {
				status += ", " + err.Error()
			}
		}
		if err == nil && len(list) == 0 && !p.Adopt() {
			break
		}
		// What the follower has lost is made again ahead of a flip, or when somebody asks: passes by themselves leave it.
		if len(list) > 0 && tries%10 == 9 && u.Sync.Phase == "converged" && !u.Sync.Running {
			if code, out, errOut := p.week.gate.verb("sync", "run", lab.User(p.N), "--yes", "--progress", "none"); code != 0 {
				status += fmt.Sprintf(", sync run: exit %d, %s%s", code, out, errOut)
			}
		}
		// A folder that is gone waits for its time of grace first. What waits longer waits for an admin; the guard has to have had a reason.
		if u.Sync.Held > 0 && !u.Sync.Running && time.Since(began) > time.Duration(15+30*held)*time.Second {
			if held++; p.Deleted+p.Renamed == 0 {
				return fmt.Errorf("deletes are held back of one who has deleted nothing: %s", status)
			}
			p.release()
		}
		if time.Since(began) > patience {
			var odd []string
			for _, o := range list[:min(len(list), 30)] {
				odd = append(odd, o.String())
			}
			odd = append(odd, p.Undecided()...)
			return fmt.Errorf("the sides are not equal after %v; status %s; %d oddities, and flags that may end either way:\n%s", patience, status, len(list), strings.Join(odd, "\n"))
		}
	}
	p.Settled()
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
	if p.Habit.Name != "odd mail" {
		return nil
	}
	code, out, errOut := p.week.gate.verb("sync", "plan", lab.User(p.N), "-o", "json")
	var plan struct{ Folders []syncer.Folder }
	if err := json.Unmarshal([]byte(out), &plan); err != nil {
		return fmt.Errorf("sync plan: exit %d, %w, %s", code, err, errOut)
	}
	p.Learn(plan.Folders)
	return nil
}

// report is what verify says of him, exit code and all.
func (p *person) report(deep bool) (*syncer.Verification, error) {
	args := []string{"verify", lab.User(p.N), "-o", "json", "--progress", "none"}
	if deep {
		args = append(args, "--deep")
	}
	code, out, errOut := p.week.gate.verb(args...)
	v := &syncer.Verification{}
	if err := json.Unmarshal([]byte(out), v); err != nil || code != 0 && code != exitDifference {
		return nil, fmt.Errorf("verify: exit %d, %s", code, errOut)
	}
	if (code == 0) != v.Equal {
		return nil, fmt.Errorf("verify: exit %d, equal: %v", code, v.Equal)
	}
	return v, nil
}
