package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a child that the harness has started, with all that it starts itself.
type process struct {
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
}

// start runs a command; what it says goes to a log file. Its output may be taken with cmd.Stdout before.
func start(log string, cmd *exec.Cmd) (*process, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	if cmd.Stdout == nil {
		cmd.Stdout = f
	}
	cmd.Stderr = f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		f.Close()
		return nil, err
	}
	p := &process{cmd: cmd, log: f, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process politely, then its whole process group, and waits for it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
	}
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL) // the group that start made
	<-p.done
	p.log.Close()
}

// said is the end of what the process wrote.
func (p *process) said() string {
	b, _ := os.ReadFile(p.log.Name())
	return string(b[max(0, len(b)-2000):])
}

// await waits until f succeeds, or the process ends.
func (p *process) await(ctx context.Context, what string, f func() error) error {
	limit := time.After(15 * time.Second)
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.done:
			return fmt.Errorf("%s: ended at once; its log ends:\n%s", what, p.said())
		case <-limit:
			return fmt.Errorf("%s: %w; its log ends:\n%s", what, err, p.said())
		case <-time.After(20 * time.Millisecond): // a server that starts gives no other sign
		}
	}
}

// tree lists a process and all its descendants.
func tree(pid int) []int {
	out := []int{pid}
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, t := range tasks {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		for _, f := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(f); err == nil {
				out = append(out, tree(child)...)
			}
		}
	}
	return out
}

// ticksPerSecond is USER_HZ, 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// cpuSeconds is the user and system time of a process tree, reaped children included (proc(5), /proc/PID/stat). Ticks of
// 10 ms are cut off at both ends of a measurement, so a difference is not biased.
func cpuSeconds(pid int) (float64, error) {
	var ticks int64
	for _, p := range tree(pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		if errors.Is(err, os.ErrNotExist) && p != pid {
			continue // a child that has just ended: its parent's sum has it
		}
		if err != nil {
			return 0, err
		}
		s := string(b)
		f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:]) // f[0] is field 3
		for _, field := range f[11:15] {                         // utime, stime, cutime, cstime
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	return float64(ticks) / ticksPerSecond, nil
}

// footprint is what a process tree holds.
type footprint struct {
	pss       float64 // KiB; pages shared between processes count once
	fds       int
	pipes     int // of the fds
	processes int
}

func footprintOf(pid int) (m footprint, err error) {
	for _, p := range tree(pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		if err != nil {
			return m, err
		}
		m.processes++
		for _, line := range strings.Split(string(b), "\n") {
			f := strings.Fields(line)
			if len(f) < 2 || f[0] != "Pss:" {
				continue
			}
			n, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				return m, err
			}
			m.pss += n
		}
		dir := fmt.Sprintf("/proc/%d/fd", p)
		fds, err := os.ReadDir(dir)
		if err != nil {
			return m, err
		}
		m.fds += len(fds)
		for _, fd := range fds {
			if to, _ := os.Readlink(dir + "/" + fd.Name()); strings.HasPrefix(to, "pipe:") {
				m.pipes++
			}
		}
	}
	return m, nil
}
