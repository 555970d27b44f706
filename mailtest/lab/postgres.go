package lab

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Postgres is a PostgreSQL that runs, on loopback, without a password.
type Postgres struct {
	DSN string // of an empty database

	processes
	bin  string
	port int
	as   *syscall.Credential
	args []string
}

// StartPostgres runs a PostgreSQL with an empty database until the test ends, and gives its DSN. Settings such as
// "fsync=on" replace its own, which keep nothing for a crash of the machine.
func StartPostgres(t testing.TB, settings ...string) (dsn string) {
	t.Helper()
	return NewPostgres(t, settings...).DSN
}

// NewPostgres is StartPostgres for tests that stop and start it.
func NewPostgres(t testing.TB, settings ...string) *Postgres {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		t.Fatal("PostgreSQL is not installed; run make setup")
	}
	as, err := postgresUser()
	if err != nil {
		t.Fatal(err)
	}
	var p *Postgres
	begin(t, "PostgreSQL", func() (*processes, error) {
		p = &Postgres{bin: filepath.Dir(found[len(found)-1]), as: as}
		return &p.processes, p.create(settings)
	})
	return p
}

// postgresUser is who runs it: PostgreSQL refuses root. nil is the present user.
func postgresUser() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// create makes the database and starts it.
func (p *Postgres) create(settings []string) error {
	if err := p.folder(); err != nil {
		return err
	}
	data := filepath.Join(p.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	if p.as != nil {
		if err := os.Chown(data, int(p.as.Uid), int(p.as.Gid)); err != nil {
			return err
		}
	}
	initdb := exec.Command(filepath.Join(p.bin, "initdb"), "--pgdata", data, "--no-sync", "--username=postgres", "--auth=trust",
		"--encoding=UTF8", "--locale=C", "--no-instructions")
	initdb.Dir, initdb.SysProcAttr = p.dir, &syscall.SysProcAttr{Credential: p.as}
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	ports, err := p.ports.take(1)
	if err != nil {
		return err
	}
	p.port = ports[0]
	p.DSN = "postgres://postgres@" + Addr(p.port) + "/postgres?sslmode=disable"
	p.args = []string{filepath.Join(p.bin, "postgres"), "-D", data, "-p", strconv.Itoa(p.port)}
	for _, s := range append([]string{"listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "synchronous_commit=off",
		"full_page_writes=off", "shared_buffers=32MB", "max_connections=100"}, settings...) {
		p.args = append(p.args, "-c", s)
	}
	// On SIGTERM it waits for its clients; SIGINT ends them. Its children lead sessions of their own, but end with it.
	p.ending = func(testing.TB, bool) {
		for _, s := range p.servers {
			_ = s.cmd.Process.Signal(syscall.SIGINT)
		}
	}
	return p.up()
}

// up starts it and waits until it answers.
func (p *Postgres) up() error {
	err := p.run("postgres", func(c *exec.Cmd) { c.Dir = p.dir; c.SysProcAttr.Credential = p.as }, p.args...)
	if err != nil {
		return err
	}
	return p.until(time.Now().Add(deadline), func() error {
		out, err := exec.Command(filepath.Join(p.bin, "pg_isready"), "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(p.port)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("pg_isready: %w %s", err, out)
		}
		return nil
	})
}

// Stop ends it at once, as a crash would, with all its connections; Start starts it again, with the same data and DSN.
func (p *Postgres) Stop(t testing.TB) {
	t.Helper()
	for _, s := range p.servers {
		_ = s.cmd.Process.Signal(syscall.SIGQUIT)
		select {
		case <-s.done:
		case <-time.After(deadline):
			t.Fatal("PostgreSQL does not end")
		}
		s.log.Close()
	}
	p.servers = nil
}

// Start starts it again behind Stop.
func (p *Postgres) Start(t testing.TB) {
	t.Helper()
	if err := p.up(); err != nil {
		t.Fatal(err)
	}
}
