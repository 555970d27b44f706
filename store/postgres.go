package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"mailgate/op"
)

//go:embed schema/postgres/*.sql
var schemaPostgres embed.FS

// Numbers of the advisory locks: "mailgate" in two words, and what for.
const (
	lockMigrate = 0x6d61696c67617401
	lockWriter  = 0x6d61696c67617402
	// lockCondition is shared by commits and taken alone by who changes nodes or holds.
	lockCondition = 0x6d61696c67617403
)

// silence is how long a statement may take: the longest is one row, or the wait for a lock.
const silence = 30 * time.Second

// Postgres is a store in a PostgreSQL database. Several processes may have it open. It implements op.Store and
// syncer.Store. Lost connections are made anew by the next call.
type Postgres struct {
	database
	writer *writer // nil when opened by OpenPostgres
	conf   *pgx.ConnConfig
	shared bool // by Lead: the connections are another's
}

// OpenPostgres opens the store at url (postgres://user@host/database, or keywords as in libpq), and brings its schema up
// to date. Others may have it open and write.
func OpenPostgres(ctx context.Context, url string) (*Postgres, error) {
	return openPostgres(ctx, url, false, "")
}

// OpenPostgresNode is OpenPostgres for a process among several; tag is what its incarnations begin with, up to a dot: RemoveNode tells
// its connections from others by it.
func OpenPostgresNode(ctx context.Context, url, tag string) (*Postgres, error) {
	return openPostgres(ctx, url, false, tag)
}

// OpenPostgresWriter is OpenPostgres for the one process that may write the state of users: op.ErrInUse when there is
// another. When the connection is lost and another process took its place meanwhile, all writes give op.ErrInUse.
func OpenPostgresWriter(ctx context.Context, url string) (*Postgres, error) {
	return openPostgres(ctx, url, true, "")
}

func openPostgres(ctx context.Context, url string, alone bool, tag string) (*Postgres, error) {
	conf, where, err := postgresConfig(url)
	if err != nil {
		return nil, err
	}
	if tag != "" { // PostgreSQL keeps 63 bytes of a name
		name := conf.RuntimeParams["application_name"]
		conf.RuntimeParams["application_name"] = name[:min(len(name), 63-len(nameTag(tag)))] + nameTag(tag)
	}
	db := stdlib.OpenDB(*conf, stdlib.OptionShouldPing(func(_ context.Context, p stdlib.ShouldPingParams) bool {
		return p.IdleDuration > 100*time.Millisecond
	}))
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(4)
	db.SetConnMaxIdleTime(5 * time.Minute)
	s := &Postgres{database: database{write: db, read: db, doubts: &doubts{db: db, pids: map[uint32]bool{}}, dialect: postgresDialect()}, conf: conf}
	if err = s.migrate(ctx); err == nil && alone {
		err = s.lead(ctx, op.Node{})
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("store %s: %w", where, err)
	}
	return s, nil
}

// Lead makes a node the one process that may write the state of users: op.ErrInUse when there is another. What comes back writes with
// that right, over the same connections; Close gives the right up, and must come before that of s.
func (s *Postgres) Lead(ctx context.Context, n op.Node) (*Postgres, error) {
	l := &Postgres{database: s.database, conf: s.conf, shared: true}
	if err := l.lead(ctx, n); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (s *Postgres) lead(ctx context.Context, n op.Node) error {
	s.writer = &writer{db: s.write, node: n, lost: make(chan struct{})}
	if err := s.writer.take(ctx); err != nil {
		return err
	}
	s.begin = s.writer.check
	s.writer.watch()
	return nil
}

// Term is the number of the right to write; 0 without it. Lost is closed when another process has it by now.
func (s *Postgres) Term() int64 {
	if s.writer == nil {
		return 0
	}
	n, _ := strconv.ParseInt(s.writer.number, 10, 64)
	return n
}

// Lost implements what Term says; nil without the right.
func (s *Postgres) Lost() <-chan struct{} {
	if s.writer == nil {
		return nil
	}
	return s.writer.lost
}

// postgresConfig reads a URL; where names the database for messages.
func postgresConfig(url string) (conf *pgx.ConnConfig, where string, err error) {
	conf, err = pgx.ParseConfig(url)
	if err != nil { // it quotes the URL, without its password
		return nil, "", fmt.Errorf("store: %w", err)
	}
	if conf.ConnectTimeout == 0 {
		conf.ConnectTimeout = busyTime
	}
	for key, value := range map[string]string{"application_name": "mailgate", "lock_timeout": "5s",
		"idle_in_transaction_session_timeout": "60s"} { // a process that hangs does not lock the others out
		if _, set := conf.RuntimeParams[key]; !set {
			conf.RuntimeParams[key] = value
		}
	}
	return conf, fmt.Sprintf("%s:%d/%s", conf.Host, conf.Port, conf.Database), nil
}

// Close implements op.Store.
func (s *Postgres) Close() error {
	if s.writer != nil {
		s.writer.close()
	}
	if s.shared {
		return nil
	}
	return s.write.Close()
}

// migrate runs the schema's steps that the database has not had yet, all in one transaction; who comes second waits.
func (s *Postgres) migrate(ctx context.Context) error {
	steps, err := schemaPostgres.ReadDir("schema/postgres")
	if err != nil {
		return err
	}
	return s.tx(ctx, func(t *transaction) error {
		if _, err := t.tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(lockMigrate)); err != nil {
			return err
		}
		var there bool
		if err := t.row(ctx, "SELECT to_regclass('schema_version') IS NOT NULL").Scan(&there); err != nil {
			return err
		}
		have := 0
		if there {
			if err := t.row(ctx, "SELECT version FROM schema_version").Scan(&have); err != nil {
				return err
			}
		}
		if have > len(steps) {
			return fmt.Errorf("the database has schema %d, this program knows %d; use the newer program", have, len(steps))
		}
		if have == len(steps) {
			return nil // so that it opens while it is read-only, too
		}
		if !there {
			if _, err := t.tx.ExecContext(ctx, "CREATE TABLE schema_version (version BIGINT NOT NULL); INSERT INTO schema_version VALUES (0)",
				pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		for _, step := range steps[have:] {
			text, err := schemaPostgres.ReadFile("schema/postgres/" + step.Name())
			if err != nil {
				return err
			}
			if _, err := t.tx.ExecContext(ctx, string(text), pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("migration %s: %w", step.Name(), err)
			}
		}
		_, err := t.exec(ctx, "UPDATE schema_version SET version = ?", len(steps))
		return err
	})
}

func postgresDialect() dialect {
	return dialect{scrub: scrubPostgres, bind: binder(), args: postgresArgs, wrap: wrapPostgres, silence: silence, stale: stalePostgres, lockRow: " FOR UPDATE",
		freeze: func(ctx context.Context, t *transaction, shared bool) error {
			query := "SELECT pg_advisory_xact_lock(?)"
			if shared {
				query = "SELECT pg_advisory_xact_lock_shared(?)"
			}
			_, err := t.exec(ctx, query, int64(lockCondition))
			return err
		},
		now: func(ctx context.Context, t *transaction) (time.Time, error) { // that of the database: the processes' may differ
			var n int64
			err := t.row(ctx, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000").Scan(&n)
			return time.Unix(0, n), err
		},
		lastID: func(ctx context.Context, t *transaction, table string, n int64) error {
			_, err := t.exec(ctx, "SELECT setval(pg_get_serial_sequence(?, 'id'), ?, ? > 0)", table, max(n, 1), n)
			return err
		}}
}

// binder turns ? into $1, $2 and so on, and quotes the column user, which is a word of PostgreSQL's. Statements are few:
// it remembers them.
func binder() func(string) string {
	word := regexp.MustCompile(`\buser\b|\?`)
	var known sync.Map
	return func(query string) string {
		if q, ok := known.Load(query); ok {
			return q.(string)
		}
		n := 0
		q := word.ReplaceAllStringFunc(query, func(s string) string {
			if s == "user" {
				return `"user"`
			}
			n++
			return "$" + strconv.Itoa(n)
		})
		known.Store(query, q)
		return q
	}
}

// postgresArgs makes plain values of named types, which the driver would ask for their text. A text that PostgreSQL cannot
// hold (NUL, or no UTF-8) has its bad bytes replaced.
func postgresArgs(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		v := reflect.ValueOf(a)
		switch v.Kind() {
		case reflect.String:
			out[i] = strings.ReplaceAll(strings.ToValidUTF8(v.String(), "\uFFFD"), "\x00", "\uFFFD")
		case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
			out[i] = v.Int()
		case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32:
			out[i] = int64(v.Uint())
		case reflect.Bool:
			out[i] = int64(0)
			if v.Bool() {
				out[i] = int64(1)
			}
		default:
			out[i] = a
		}
	}
	return out
}

// wrapPostgres marks errors that are the connection's or the server's, by SQLSTATE: connection, out of resources,
// shutting down, I/O, read-only, locks, and transactions that only have to be tried again.
func wrapPostgres(err error) error {
	if err == nil || errors.Is(err, op.ErrUnavailable) {
		return err
	}
	var server *pgconn.PgError
	var network net.Error
	var connect *pgconn.ConnectError
	bad := false
	switch {
	case errors.As(err, &server):
		class := server.Code[:min(2, len(server.Code))]
		bad = class == "08" || class == "53" || class == "57" || class == "58" || class == "40" || class == "25" || server.Code == "55P03"
	case errors.As(err, &network), errors.As(err, &connect), pgconn.SafeToRetry(err):
		bad = true
	default:
		for _, e := range []error{driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.Canceled,
			context.DeadlineExceeded, sql.ErrTxDone, errSilent} {
			bad = bad || errors.Is(err, e)
		}
	}
	if bad {
		return fmt.Errorf("%w: %w", op.ErrUnavailable, err)
	}
	return err
}

// stalePostgres tells a dead connection from a server that cannot be reached.
func stalePostgres(err error) bool {
	var server *pgconn.PgError
	var connect *pgconn.ConnectError
	if errors.As(err, &server) {
		return server.Code == "57P01" || server.Code == "57P02" || server.Code == "57P05" // said when it was ended
	}
	return !errors.As(err, &connect) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) &&
		errors.Is(wrapPostgres(err), op.ErrUnavailable)
}

var _ op.Store = (*Postgres)(nil)
