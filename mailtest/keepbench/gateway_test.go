//go:build bench

package keepbench

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// gateway is the program with a folder of its own.
type gateway struct {
	t             *testing.T
	dir           string
	old, new      int // ports of the hosts
	imap, metrics int // its own

	cmd  *exec.Cmd
	done chan struct{}
}

// freePorts are so many that nothing listens on now.
func freePorts(t testing.TB, n int) (out []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // all are held until all are chosen
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out
}

// newGateway makes the configuration: users of OLD with these numbers, in the wave "work", which start begins.
func newGateway(t *testing.T, old, new int, numbers []int) *gateway {
	t.Helper()
	p := freePorts(t, 2)
	g := &gateway{t: t, dir: t.TempDir(), old: old, new: new, imap: p[0], metrics: p[1]}
	var secrets strings.Builder
	for _, n := range numbers {
		fmt.Fprintf(&secrets, "%s %s\n", user(n), password(n))
	}
	g.write("secrets", secrets.String())
	g.routes(numbers, nil)
	return g
}

// routes puts users into the wave that starts, and others into one that does not.
func (g *gateway) routes(work, later []int) {
	var b strings.Builder
	for _, n := range work {
		fmt.Fprintf(&b, "%s old wave=work\n", user(n))
	}
	for _, n := range later {
		fmt.Fprintf(&b, "%s old wave=later\n", user(n))
	}
	g.write("routes", b.String())
}

func (g *gateway) write(name, text string) {
	g.t.Helper()
	file := filepath.Join(g.dir, name)
	if err := os.WriteFile(file+".tmp", []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(file+".tmp", file); err != nil {
		g.t.Fatal(err)
	}
}

// start runs serve with these waves, and everything else as it is by default, until stop or the test's end.
func (g *gateway) start(waves ...string) {
	g.t.Helper()
	g.write("mailgate.yaml", fmt.Sprintf(`hostname: mail.example.com
listen: ["imap://127.0.0.1:%d"]
backends:
  old: {imap: "imap://127.0.0.1:%d", sync: {secrets: secrets}}
  new: {imap: "imap://127.0.0.1:%d", sync: {secrets: secrets}}
admin: {listen: "127.0.0.1:%d"}
limits: {pre_auth_per_ip: 0}
routes: {file: routes, approve_share: 1}
sync: {waves: [%s]}
`, g.imap, g.old, g.new, g.metrics, strings.Join(waves, ", ")))
	log, err := os.OpenFile(filepath.Join(g.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		g.t.Fatal(err)
	}
	defer log.Close()
	g.cmd = exec.Command(os.Getenv("MAILGATE_BENCH"), "-c", filepath.Join(g.dir, "mailgate.yaml"), "serve")
	g.cmd.Stderr = log
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	cmd, done := g.cmd, make(chan struct{})
	g.done = done
	go func() { // ends with the process; stop waits for it
		_ = cmd.Wait()
		close(done)
	}()
	g.t.Cleanup(g.stop)
	g.until("ready", 20*time.Second, func() bool {
		r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", g.metrics))
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

// stop ends serve, if it runs.
func (g *gateway) stop() {
	if g.cmd == nil {
		return
	}
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.done:
	case <-time.After(30 * time.Second):
		_ = g.cmd.Process.Kill()
		<-g.done
	}
	g.cmd = nil
	if g.t.Failed() {
		b, _ := os.ReadFile(filepath.Join(g.dir, "log"))
		g.t.Logf("log of serve ends:\n%s", b[max(0, len(b)-3000):])
	}
}

func (g *gateway) pid() int { return g.cmd.Process.Pid }

// figures are the metrics of serve, by name and labels as they are written.
func (g *gateway) figures() map[string]float64 {
	g.t.Helper()
	out := map[string]float64{}
	r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", g.metrics))
	if err != nil {
		g.t.Fatal(err)
	}
	defer r.Body.Close()
	for s := bufio.NewScanner(r.Body); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), "} "); ok {
			out[name+"}"], _ = strconv.ParseFloat(value, 64)
		}
	}
	return out
}

// until waits for something to become true.
func (g *gateway) until(what string, most time.Duration, f func() bool) {
	g.t.Helper()
	for end := time.Now().Add(most); !f(); time.Sleep(200 * time.Millisecond) {
		select {
		case <-g.done:
			g.t.Fatalf("serve has ended, while waiting for: %s", what)
		default:
		}
		if time.Now().After(end) {
			g.t.Fatalf("not within %s: %s (%v)", most, what, g.figures())
		}
	}
}

// converged waits until all users are through with their first copy.
func (g *gateway) converged(users int, most time.Duration) {
	g.t.Helper()
	g.until("everybody is converged", most, func() bool {
		return g.figures()[`mailgate_sync_users{phase="converged"}`] == float64(users)
	})
}

// passes are how many there were, by result.
func (g *gateway) passes() map[string]float64 {
	g.t.Helper()
	out := map[string]float64{}
	for name, v := range g.figures() {
		if rest, ok := strings.CutPrefix(name, `mailgate_sync_passes_total{result="`); ok {
			out[strings.TrimSuffix(rest, `"}`)] = v
		}
	}
	return out
}
