package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets the tests start helpers: this binary, as the harness does with its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "backend" || os.Args[1] == "relay" || os.Args[1] == "load") {
		if err := command(os.Args[1:]); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// rig is a backend with a bare relay before it.
func rig(t *testing.T) (*bench, *peer) {
	t.Helper()
	t.Setenv("GORACE", "atexit_sleep_ms=0") // a helper under the race detector would wait a second at its end
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{self: self, dir: t.TempDir(), progress: io.Discard}
	b.cert, b.key = filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem")
	if err := writeCertificate(b.cert, b.key); err != nil {
		t.Fatal(err)
	}
	back, err := b.startHelper(filepath.Join(b.dir, "backend.out"), &b.back, "backend")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(back.stop)
	p, err := b.startPeer(context.Background(), bare)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.main.stop)
	return b, p
}

func TestEveryMeasurementYieldsItsFigures(t *testing.T) {
	b, p := rig(t)
	for _, j := range append(plan(), job{Kind: idle, TLS: true, Clients: 2, Sessions: 10}, job{Kind: popIdle, TLS: true, Clients: 2, Sessions: 10},
		job{Kind: storm, TLS: true, Sessions: 10}) {
		j.For = 50 * time.Millisecond
		if err := b.measure(context.Background(), 0, j, p); err != nil {
			t.Fatal(err)
		}
	}
	for _, tb := range tables() {
		for _, c := range tb.columns {
			if c.kind == idle && !c.tls {
				continue
			}
			v := b.results.values(key{c.kind, c.tls, bare}, c.figure)
			if len(v) != 1 {
				t.Errorf("%s: %s: %v", tb.title, c.title, v)
			}
		}
	}
	if fds := median(b.results.values(key{idle, true, bare}, "fds")); fds != 2 {
		t.Errorf("%v descriptors for a session of the relay, want 2", fds)
	}
	if mb := median(b.results.values(key{fetch, true, bare}, "rate")); mb < 1 {
		t.Errorf("relayed %v MB/s", mb)
	}
}

// A proxy that refuses is cheap, so it must not be measured.
func TestRefusalsFailTheMeasurement(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		_ = accept(l, func(c net.Conn) {
			_, _ = io.WriteString(c, "* OK hello\r\n")
			buf := make([]byte, 100)
			_, _ = c.Read(buf)
			_, _ = io.WriteString(c, "a1 NO [UNAVAILABLE] not now\r\n")
		})
	}()
	j := job{Kind: logins, Clients: 2, For: 20 * time.Millisecond, Targets: []target{{"x", l.Addr().String(), os.Getpid()}}}
	if _, err := j.run(); err == nil || !strings.Contains(err.Error(), "UNAVAILABLE") {
		t.Errorf("error %v", err)
	}
}

func TestGates(t *testing.T) {
	r := results{}
	for _, v := range []float64{1, 9, 2} {
		r.add(key{logins, true, mailgate}, figures{"cpu_s": v})
		r.add(key{logins, true, dovecot}, figures{"cpu_s": v * 2})
	}
	r.add(key{idle, true, mailgate}, figures{"fds": 6})
	for _, c := range []struct {
		g     gate
		value float64
		kept  bool
	}{
		{gate{kind: logins, tls: true, figure: "cpu_s", peer: dovecot, limit: 1}, .5, true},
		{gate{kind: logins, tls: true, figure: "cpu_s", peer: dovecot, limit: .4}, .5, false},
		{gate{kind: logins, tls: true, figure: "cpu_s", peer: dovecot, limit: 1, atLeast: true}, .5, false},
		{gate{kind: logins, tls: true, figure: "cpu_s", limit: 2}, 2, true},
		{gate{kind: idle, tls: true, figure: "fds", limit: 2}, 6, false},
		{gate{kind: logins, tls: false, figure: "cpu_s", peer: dovecot, limit: 1}, 0, false}, // never measured
	} {
		if value, _, _, kept := c.g.check(r); value != c.value || kept != c.kept {
			t.Errorf("%+v: %v %v", c.g, value, kept)
		}
	}
	var b strings.Builder
	missed, err := (&report{results: r, bench: &bench{}}).write(&b)
	if err != nil || missed != len(gates())-1 || !strings.Contains(b.String(), "| CPU per 1,000 logins | TLS | dovecot | 0.50 |") {
		t.Errorf("missed %d of %d, %v:\n%s", missed, len(gates()), err, b.String())
	}
}

func TestCPUAndFootprintAreOfTheWholeTree(t *testing.T) {
	// A child of the shell burns CPU and holds a pipe open.
	cmd := exec.Command("sh", "-c", `sleep 60 | (i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done >&2; cat)`)
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, p := range tree(cmd.Process.Pid) {
			if x, err := os.FindProcess(p); err == nil {
				_ = x.Kill()
			}
		}
		_ = cmd.Wait()
	}()
	if _, err := io.ReadFull(errs, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	cpu, err := cpuSeconds(cmd.Process.Pid)
	if err != nil || cpu < 0.05 {
		t.Errorf("%v s of CPU, %v", cpu, err)
	}
	m, err := footprintOf(cmd.Process.Pid)
	if err != nil || m.processes < 3 || m.pipes < 4 || m.pss < 100 {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := cpuSeconds(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
}

func TestMissingPeersAreNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := checkPeers("bin/mailgate")
	if err == nil || !strings.Contains(err.Error(), "nginx") || !strings.Contains(err.Error(), "scripts/setup.sh bench") {
		t.Errorf("error %v", err)
	}
}

func TestTemplatesRender(t *testing.T) {
	s := settings{Dir: t.TempDir(), Front: frontAddrs{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4", "127.0.0.1:8", "127.0.0.1:9"},
		Backend: backendAddrs{"127.0.0.1:5", "127.0.0.1:6", "127.0.0.1:10", "127.0.0.1:7"}}
	list, err := templates.ReadDir("templates")
	if err != nil || len(list) != 4 {
		t.Fatal(list, err)
	}
	for _, f := range list {
		if err := s.render(f.Name()); err != nil {
			t.Error(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(s.Dir, "dovecot.conf"))
	if err != nil || !strings.Contains(string(b), "eq;imap;5;%{if;%s;eq;pop3;10;6}}") {
		t.Errorf("%v\n%s", err, b)
	}
}

func TestSubmittedMessageHasItsSize(t *testing.T) {
	for _, n := range []int{200, submitted, messageSize} {
		m := message(n)
		if len(m) != n || !strings.HasSuffix(string(m), "\r\n") || strings.Count(string(m), "\n") != strings.Count(string(m), "\r\n") {
			t.Errorf("%d bytes for %d", len(m), n)
		}
	}
}

func TestDisplaced(t *testing.T) {
	var in []int
	for i := range 200 {
		in = append(in, i+i/100) // one failed
	}
	if d := displaced(in); d != 0 {
		t.Errorf("in order: %v", d)
	}
	for i := range 50 {
		in[i], in[199-i] = in[199-i], in[i]
	}
	if d := displaced(in); d < .9 {
		t.Errorf("the first half of the first are last: %v", d)
	}
}

func TestKindsAreChosen(t *testing.T) {
	b := &bench{}
	if err := b.choose("storm,POP3 STAT"); err != nil || len(b.chosen(b.fresh())) != 1 || len(b.chosen(plan())) != 2 {
		t.Errorf("%v, %v", b.chosen(plan()), err)
	}
	if err := b.choose("strom"); err == nil || !strings.Contains(err.Error(), "storm") {
		t.Errorf("a kind that is none: %v", err)
	}
}
