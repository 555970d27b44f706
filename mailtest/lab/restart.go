package lab

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

// Stop ends a host, "old", "new", "courier" or "cyrus" by its Name, as its administrator would: sessions end with it, mail stays. The
// caller lets nothing else of the lab begin or end meanwhile.
func (p *processes) Stop(t testing.TB, name string) (again func()) {
	t.Helper()
	i := slices.IndexFunc(p.servers, func(s *server) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("no host %q runs here", name)
	}
	s := p.servers[i]
	p.servers = slices.Delete(p.servers, i, i+1)
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // the process group that we made
	<-s.done
	s.log.Close()
	return func() {
		t.Helper()
		if err := p.run(s.name, s.change, s.args...); err != nil {
			t.Fatal(err)
		}
	}
}

// Restart is Stop and a start; it returns when the host greets again.
func (p *processes) Restart(t testing.TB, h Host) {
	t.Helper()
	p.Stop(t, h.Name)()
	p.Greets(t, h)
}

// Greets waits until a host greets.
func (p *processes) Greets(t testing.TB, h Host) {
	t.Helper()
	if err := p.until(time.Now().Add(deadline), func() error { return greets(h.IMAP) }); err != nil {
		t.Fatalf("%s does not come back: %v", h.Name, err)
	}
}
