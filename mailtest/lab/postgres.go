package lab

import (
	"bytes"
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

// StartPostgres runs a PostgreSQL with an empty database until the test ends, and gives its DSN, on loopback, without a
// password. Settings such as "fsync=on" replace its own, which keep nothing for a crash of the machine.
func StartPostgres(t testing.TB, settings ...string) (dsn string) {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		t.Fatal("PostgreSQL is not installed; run make setup")
	}
	bin := filepath.Dir(found[len(found)-1])
	as, err := postgresUser()
	if err != nil {
		t.Fatal(err)
	}
	begin(t, "PostgreSQL", func() (*processes, error) {
		p := &processes{}
		var err error
		dsn, err = p.postgres(bin, as, settings)
		return p, err
	})
	return dsn
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
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: false}, nil
}

func (p *processes) postgres(bin string, as *syscall.Credential, settings []string) (dsn string, err error) {
	if err := p.folder(); err != nil {
		return "", err
	}
	data := filepath.Join(p.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return "", err
	}
	if as != nil {
		if err := os.Chown(data, int(as.Uid), int(as.Gid)); err != nil {
			return "", err
		}
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "--pgdata", data, "--no-sync", "--username=postgres", "--auth=trust",
		"--encoding=UTF8", "--locale=C", "--no-instructions")
	initdb.Dir, initdb.SysProcAttr = p.dir, &syscall.SysProcAttr{Credential: as}
	var out bytes.Buffer
	initdb.Stdout, initdb.Stderr = &out, &out
	if err := initdb.Run(); err != nil {
		return "", fmt.Errorf("initdb: %w: %s", err, out.Bytes())
	}
	ports, err := freePorts(1)
	if err != nil {
		return "", err
	}
	args := []string{filepath.Join(bin, "postgres"), "-D", data, "-p", strconv.Itoa(ports[0])}
	for _, s := range append([]string{"listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "synchronous_commit=off",
		"full_page_writes=off", "shared_buffers=32MB", "max_connections=100"}, settings...) {
		args = append(args, "-c", s)
	}
	err = p.run("postgres", func(c *exec.Cmd) { c.Dir = p.dir; c.SysProcAttr.Credential = as }, args...)
	if err != nil {
		return "", err
	}
	// On SIGTERM it waits for its clients; SIGINT ends them. Its children lead sessions of their own, but end with it.
	s := p.servers[0]
	p.ending = func(testing.TB, bool) { _ = s.cmd.Process.Signal(syscall.SIGINT) }
	end := time.Now().Add(deadline)
	ready := filepath.Join(bin, "pg_isready")
	return "postgres://postgres@" + Addr(ports[0]) + "/postgres?sslmode=disable", p.until(end, func() error {
		if out, err := exec.Command(ready, "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(ports[0])).CombinedOutput(); err != nil {
			return fmt.Errorf("pg_isready: %w %s", err, out)
		}
		return nil
	})
}
