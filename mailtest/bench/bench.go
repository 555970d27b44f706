package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is one run of the harness.
type bench struct {
	mailgate string // binary
	rounds   int
	sessions int
	jsonFile string
	peers    []string
	only     map[kind]bool // what is measured; nil for all
	progress io.Writer

	self      string
	dir       string
	cert, key string
	files     uint64
	back      backendAddrs
	results   results
	log       *json.Encoder // nil without -json
}

// errMissed means that everything was measured, and a gate was missed.
var errMissed = errors.New("a gate was missed")

// peers in the order in which the first round visits them; each round begins with the next.
var peers = []string{mailgate, nginx, dovecot, bare}

// plan is what a round measures besides the idle sessions. Where proxies are loaded one after the other, each is loaded for
// the time given; where they take turns, the time is for all.
func plan() []job {
	var all []job
	for _, tls := range []bool{false, true} {
		all = append(all,
			job{Kind: logins, TLS: tls, Clients: 64, For: 1500 * time.Millisecond},
			job{Kind: submissions, TLS: tls, Clients: 64, For: 1500 * time.Millisecond},
			job{Kind: fetch, TLS: tls, Clients: 2, For: 1500 * time.Millisecond},
			job{Kind: loginAlone, TLS: tls, For: 3 * time.Second},
			job{Kind: submitAlone, TLS: tls, For: 3 * time.Second},
			job{Kind: noop, TLS: tls, For: 3 * time.Second},
			job{Kind: popLogins, TLS: tls, Clients: 64, For: 1500 * time.Millisecond},
			job{Kind: popAlone, TLS: tls, For: 2 * time.Second},
			job{Kind: popStat, TLS: tls, For: 2 * time.Second})
	}
	all = append(all, job{Kind: scramAlone, For: 3 * time.Second}) // plain, as the backend itself is
	return all
}

// run measures and writes the report. What it starts it ends, whatever happens.
func (b *bench) run(ctx context.Context, out io.Writer) (err error) {
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if err := checkPeers(b.mailgate); err != nil {
		return err
	}
	if b.mailgate, err = filepath.Abs(b.mailgate); err != nil {
		return err
	}
	if b.files, err = raiseFiles(uint64(b.descriptors()*max(b.sessions, stormSize) + 1000)); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "mgb"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := os.Chmod(b.dir, 0o711); err != nil {
		return err
	}
	b.cert, b.key = filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem")
	if err := writeCertificate(b.cert, b.key); err != nil {
		return err
	}
	if b.jsonFile != "" {
		f, err := os.Create(b.jsonFile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		b.log = json.NewEncoder(f)
	}
	backend, err := b.startHelper(filepath.Join(b.dir, "backend.out"), &b.back, "backend")
	if err != nil {
		return err
	}
	defer backend.stop()
	began := time.Now()
	var loads []string
	for round := range b.rounds {
		load := loadAverage()
		loads = append(loads, load)
		fmt.Fprintf(b.progress, "round %d of %d (load average %s)\n", round+1, b.rounds, load)
		order := append(slices.Clone(b.peers[round%len(b.peers):]), b.peers[:round%len(b.peers)]...)
		if err := b.freshRound(ctx, round, order); err != nil {
			return err
		}
		if len(b.chosen(plan())) == 0 {
			continue
		}
		if err := b.loadRound(ctx, round, order); err != nil {
			return err
		}
		if err := b.scramRound(ctx, round, mailgate, 5*time.Second); err != nil {
			return err
		}
	}
	r := report{results: b.results, bench: b, began: began, loads: loads}
	missed, err := r.write(out)
	if err == nil && missed > 0 {
		return fmt.Errorf("%w (%d)", errMissed, missed)
	}
	return err
}

// fresh is what a round measures each time in a proxy that has just started.
func (b *bench) fresh() []job {
	return []job{
		{Kind: idle, Clients: 16, Sessions: b.sessions},
		{Kind: idle, TLS: true, Clients: 16, Sessions: b.sessions},
		{Kind: popIdle, TLS: true, Clients: 16, Sessions: b.sessions},
		{Kind: storm, TLS: true, Sessions: stormSize},
	}
}

// descriptors is how many a process here may need for a session: the relay splices through pipes.
func (b *bench) descriptors() int {
	if slices.Contains(b.peers, bare) {
		return 7
	}
	return 3
}

// choose keeps what is to be measured, by the names of kinds with commas between; "" is all.
func (b *bench) choose(names string) error {
	if names == "" {
		return nil
	}
	known := map[kind]bool{}
	for _, j := range append(plan(), b.fresh()...) {
		known[j.Kind] = true
	}
	b.only = map[kind]bool{}
	for _, name := range strings.Split(names, ",") {
		if !known[kind(name)] {
			return fmt.Errorf("no measurement %q; there are %v", name, slices.Sorted(maps.Keys(known)))
		}
		b.only[kind(name)] = true
	}
	return nil
}

// chosen are the jobs that are to be done.
func (b *bench) chosen(all []job) []job {
	return slices.DeleteFunc(all, func(j job) bool { return b.only != nil && !b.only[j.Kind] })
}

// stormSize is how many clients come at once.
const stormSize = 2000

// freshRound measures idle sessions and storms.
func (b *bench) freshRound(ctx context.Context, round int, order []string) error {
	for _, j := range b.chosen(b.fresh()) {
		for _, name := range order {
			p, err := b.startPeer(ctx, name)
			if err != nil {
				return err
			}
			err = b.measure(ctx, round, j, p)
			p.main.stop()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// loadRound runs the plan with all proxies up.
func (b *bench) loadRound(ctx context.Context, round int, order []string) error {
	var up []*peer
	defer func() {
		for _, p := range up {
			p.main.stop()
		}
	}()
	for _, name := range order {
		p, err := b.startPeer(ctx, name)
		if err != nil {
			return err
		}
		up = append(up, p)
	}
	for _, j := range b.chosen(plan()) {
		if err := b.measure(ctx, round, j, up...); err != nil {
			return err
		}
	}
	return nil
}

// measure runs one job in a process of its own and keeps its figures.
func (b *bench) measure(ctx context.Context, round int, j job, on ...*peer) error {
	if j.Direct = b.back.IMAP; j.Kind == popStat {
		j.Direct = b.back.POP3
	}
	for _, p := range on {
		j.Targets = append(j.Targets, target{Name: p.name, Addr: p.addr(j.Kind, j.TLS), PID: p.main.pid()})
	}
	in, err := json.Marshal(j)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.self, "load")
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("%s: %w: %s", key{j.Kind, j.TLS, ""}, err, strings.TrimSpace(stderr.String()))
	}
	var s sample
	if err := json.Unmarshal(stdout.Bytes(), &s); err != nil {
		return fmt.Errorf("%s: %w", j.Kind, err)
	}
	for name, f := range s {
		b.results.add(key{j.Kind, j.TLS, name}, f)
		if b.log != nil {
			if err := b.log.Encode(map[string]any{"round": round + 1, "kind": j.Kind, "tls": j.TLS, "proxy": name, "figures": f}); err != nil {
				return err
			}
		}
	}
	return nil
}

// raiseFiles lets this process and its children open many files. Setting the limit, even to what it is, also keeps Go
// from giving children the lower one that it began with.
func raiseFiles(want uint64) (uint64, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	l.Cur, l.Max = max(l.Max, want), max(l.Max, want)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("%d open files are needed (ulimit -Hn): %w", want, err)
	}
	return l.Cur, nil
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}
