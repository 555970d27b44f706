package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// job is one measurement, given to a load process on its standard input.
type job struct {
	Kind     kind
	TLS      bool
	Targets  []target
	Direct   string // the backend's own service, for what a proxy adds
	Clients  int
	Sessions int
	For      time.Duration
}

// target is a proxy under load.
type target struct {
	Name string
	Addr string
	PID  int
}

// kind is what is measured.
type kind string

const (
	idle        kind = "idle"
	logins      kind = "logins"
	submissions kind = "submissions"
	fetch       kind = "fetch"
	loginAlone  kind = "login alone"
	submitAlone kind = "submission alone"
	noop        kind = "noop"
	scramAlone  kind = "SCRAM login alone"
	scramHost   kind = "SCRAM login at a host"
	popIdle     kind = "POP3 idle"
	popLogins   kind = "POP3 logins"
	popAlone    kind = "POP3 login alone"
	popStat     kind = "POP3 STAT"
	storm       kind = "storm"
)

// figures are named numbers; sample has them by target.
type (
	figures map[string]float64
	sample  map[string]figures
)

// submitted is the size of a submitted message.
const submitted = 10 << 10

func (j *job) run() (sample, error) {
	switch j.Kind {
	case idle:
		return j.each(func(t target) (figures, error) { return j.idle(t, j.enterIdle) })
	case popIdle: // a client between two commands
		return j.each(func(t target) (figures, error) {
			return j.idle(t, func(addr string, user int) (*client, error) { return popLogin(addr, j.TLS, user, 512) })
		})
	case popLogins:
		return j.each(func(t target) (figures, error) { return j.rate(t, 1000, j.fetchMail) })
	case popAlone:
		return j.alone(j.fetchMail)
	case popStat:
		return j.roundTrip(popLogin, func(c *client) error { return c.pop("STAT") })
	case storm:
		return j.each(j.storm)
	case logins:
		return j.each(func(t target) (figures, error) { return j.rate(t, 1000, j.login) })
	case submissions:
		text := string(message(submitted))
		return j.each(func(t target) (figures, error) {
			return j.rate(t, 1000, func(addr string, user int) error { return submit(addr, j.TLS, user, text) })
		})
	case fetch:
		return j.each(j.fetch)
	case loginAlone:
		return j.alone(j.login)
	case submitAlone:
		text := string(message(submitted))
		return j.alone(func(addr string, user int) error { return submit(addr, j.TLS, user, text) })
	case noop:
		return j.roundTrip(imapLogin, func(c *client) error {
			_, err := c.imap("NOOP")
			return err
		})
	case scramAlone, scramHost: // nginx cannot, and Dovecot's proxy needs the password
		j.Targets = append(slices.DeleteFunc(slices.Clone(j.Targets), func(t target) bool { return t.Name != mailgate && t.Name != bare }), target{Name: direct, Addr: j.Direct})
		return j.alone(j.scramLogin)
	}
	return nil, fmt.Errorf("no measurement %q", j.Kind)
}

func (j *job) each(f func(target) (figures, error)) (sample, error) {
	out := sample{}
	for _, t := range j.Targets {
		r, err := f(t)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		out[t.Name] = r
	}
	return out, nil
}

// login is one client who looks in and leaves.
func (j *job) login(addr string, user int) error {
	c, err := imapLogin(addr, j.TLS, user, 1024)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.imap("LOGOUT")
	return err
}

// rate runs f in j.Clients goroutines for a while. CPU is told for each per calls. Any failure fails the measurement: a proxy
// that refuses is cheap.
func (j *job) rate(t target, per float64, f func(addr string, user int) error) (figures, error) {
	if err := f(t.Addr, 0); err != nil { // warm: pools, lazily made state
		return nil, err
	}
	cpu, err := cpuSeconds(t.PID)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	took, err := j.workers(func(worker, i int) error { return f(t.Addr, worker+i*j.Clients) })
	if err != nil {
		return nil, err
	}
	elapsed := time.Since(start).Seconds()
	after, err := cpuSeconds(t.PID)
	if err != nil {
		return nil, err
	}
	n := float64(len(took))
	return figures{"rate": n / elapsed, "cpu_s": (after - cpu) / n * per, "p50_us": quantile(took, .5), "p99_us": quantile(took, .99)}, nil
}

// workers calls f again and again in j.Clients goroutines until the time is over; the result is how long each call took.
func (j *job) workers(f func(worker, i int) error) ([]time.Duration, error) {
	var mu sync.Mutex
	var all []time.Duration
	var errs []error
	var wg sync.WaitGroup
	end := time.Now().Add(j.For)
	for w := range j.Clients {
		wg.Go(func() {
			var took []time.Duration
			var err error
			for i := 0; err == nil && time.Now().Before(end); i++ {
				start := time.Now()
				err = f(w, i)
				took = append(took, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return all, errors.Join(errs[:min(len(errs), 3)]...)
}

// quantile is in microseconds.
func quantile(took []time.Duration, q float64) float64 {
	s := slices.Clone(took)
	slices.Sort(s)
	return float64(s[min(int(q*float64(len(s))), len(s)-1)].Nanoseconds()) / 1e3
}

// fetch reads the whole INBOX (20 messages of 1 MiB) again and again.
func (j *job) fetch(t target) (figures, error) {
	clients := make([]*client, j.Clients)
	for i := range clients {
		c, err := imapLogin(t.Addr, j.TLS, i, 64<<10)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		clients[i] = c
	}
	bytes := make([]int64, j.Clients)
	cpu, err := cpuSeconds(t.PID)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if _, err := j.workers(func(w, _ int) error {
		n, err := clients[w].imap("FETCH 1:20 (BODY.PEEK[])")
		bytes[w] += n
		return err
	}); err != nil {
		return nil, err
	}
	elapsed := time.Since(start).Seconds()
	after, err := cpuSeconds(t.PID)
	if err != nil {
		return nil, err
	}
	gb := 0.0
	for _, n := range bytes {
		gb += float64(n) / 1e9
	}
	return figures{"rate": gb * 1000 / elapsed, "cpu_s": (after - cpu) / gb}, nil
}

// turn is how long one proxy is measured before the next has its turn, where they take turns.
const turn = 100 * time.Millisecond

// alone has one client at a time, who visits the proxies by turns: whatever else the machine does meets all alike.
func (j *job) alone(f func(addr string, user int) error) (sample, error) {
	took := map[string][]time.Duration{}
	end := time.Now().Add(j.For)
	for i := 0; i < 2 || time.Now().Before(end); i++ {
		for _, t := range j.Targets {
			until := time.Now().Add(turn)
			for n := 0; n < 3 || time.Now().Before(until); n++ {
				start := time.Now()
				if err := f(t.Addr, n); err != nil {
					return nil, fmt.Errorf("%s: %w", t.Name, err)
				}
				if i > 0 { // the first turn warms up
					took[t.Name] = append(took[t.Name], time.Since(start))
				}
			}
		}
	}
	out := sample{}
	for name, d := range took {
		out[name] = figures{"p50_us": quantile(d, .5), "p99_us": quantile(d, .99)}
	}
	return out, nil
}

// roundTrip measures that of one command in a session that stands, through each proxy and directly, by turns.
func (j *job) roundTrip(login func(addr string, encrypted bool, user, buffer int) (*client, error), ask func(*client) error) (sample, error) {
	type session struct {
		name string
		c    *client
		took []time.Duration
	}
	var list []*session
	open := func(name, addr string, encrypted bool) error {
		c, err := login(addr, encrypted, 1, 1024)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		list = append(list, &session{name: name, c: c})
		return nil
	}
	defer func() {
		for _, s := range list {
			s.c.Close()
		}
	}()
	if err := open(direct, j.Direct, false); err != nil { // plain: so is every proxy's back side
		return nil, err
	}
	for _, t := range j.Targets {
		if err := open(t.Name, t.Addr, j.TLS); err != nil {
			return nil, err
		}
	}
	const block = 100
	end := time.Now().Add(j.For)
	for i := 0; i < 2 || time.Now().Before(end); i++ {
		for _, s := range list {
			for range block {
				start := time.Now()
				if err := ask(s.c); err != nil {
					return nil, fmt.Errorf("%s: %w", s.name, err)
				}
				if i > 0 {
					s.took = append(s.took, time.Since(start))
				}
			}
		}
	}
	out := sample{}
	alone := quantile(list[0].took, .5)
	for _, s := range list {
		p50 := quantile(s.took, .5)
		out[s.name] = figures{"p50_us": p50, "p99_us": quantile(s.took, .99), "added_us": p50 - alone}
	}
	return out, nil
}

// settle is how long idle sessions stand before memory is read.
const settle = 3 * time.Second

// enterIdle makes a session in IDLE.
func (j *job) enterIdle(addr string, user int) (*client, error) {
	c, err := imapLogin(addr, j.TLS, user, 512)
	if err != nil {
		return nil, err
	}
	if err := c.idle(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// atRest is a process' footprint when it has closed what measurements before have left it: its descriptors stand still for a moment.
func atRest(pid int) (footprint, error) {
	last, err := footprintOf(pid)
	for end := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(end); {
		time.Sleep(settle / 3)
		now, ferr := footprintOf(pid)
		if ferr == nil && now.fds == last.fds {
			return now, nil
		}
		last, err = now, ferr
	}
	return last, err
}

// idle holds sessions in which nothing happens and tells what each costs the proxy.
func (j *job) idle(t target, open func(addr string, user int) (*client, error)) (figures, error) {
	before, err := atRest(t.PID)
	if err != nil {
		return nil, err
	}
	held := make([]*client, j.Sessions)
	defer func() {
		for _, c := range held {
			if c != nil {
				c.Close()
			}
		}
	}()
	var wg sync.WaitGroup
	errs := make([]error, j.Clients)
	for w := range j.Clients {
		wg.Go(func() {
			for i := w; i < len(held) && errs[w] == nil; i += j.Clients {
				held[i], errs[w] = open(t.Addr, i)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	time.Sleep(settle)
	cpu, err := cpuSeconds(t.PID)
	if err != nil {
		return nil, err
	}
	after, err := footprintOf(t.PID)
	if err != nil {
		return nil, err
	}
	time.Sleep(time.Second)
	later, err := cpuSeconds(t.PID)
	if err != nil {
		return nil, err
	}
	k := float64(j.Sessions)
	return figures{"pss_kib": (after.pss - before.pss) / k, "fds": float64(after.fds-before.fds) / k,
		"pipes": float64(after.pipes-before.pipes) / k, "processes": float64(after.processes), "cpu_s": later - cpu}, nil
}
