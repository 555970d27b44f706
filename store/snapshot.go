package store

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strconv"

	"github.com/jackc/pgx/v5/stdlib"

	"mailgate/auth"
	"mailgate/cutover/gate"
	"mailgate/learned"
	"mailgate/logins"
	"mailgate/op"
	"mailgate/syncer"
)

// Store is what both kinds of store are.
type Store interface {
	op.Store
	syncer.Store
	learned.Store
	auth.Memory
	logins.Store
	gate.Store
	// Load fills an empty store with what Snapshot.Export wrote.
	Load(ctx context.Context, in LineReader) (rows int64, err error)
}

// Snapshot looks at a store as it is at one moment, while another process may go on writing. It changes nothing.
type Snapshot struct {
	db     *sql.DB
	tx     *sql.Tx
	schema int
	lite   bool
	dialect
}

// Look opens a snapshot of the SQLite store at path. A file that is no store any more is ErrDamaged; one with another
// schema than this program's is an error.
func Look(ctx context.Context, path string) (*Snapshot, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w: %w", op.ErrUnavailable, err)
	}
	if err := inspect(ctx, path); err != nil {
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	db, err := sql.Open("sqlite", dsn(path)+"?mode=ro&_pragma=busy_timeout("+strconv.FormatInt(busyTime.Milliseconds(), 10)+")")
	if err != nil {
		return nil, err
	}
	steps, err := schema.ReadDir("schema")
	s := &Snapshot{db: db, lite: true, dialect: sqliteDialect()}
	if err == nil {
		err = s.begin(ctx, "PRAGMA user_version", len(steps), nil)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	return s, nil
}

// LookPostgres is Look for PostgreSQL.
func LookPostgres(ctx context.Context, url string) (*Snapshot, error) {
	conf, where, err := postgresConfig(url)
	if err != nil {
		return nil, err
	}
	steps, err := schemaPostgres.ReadDir("schema/postgres")
	s := &Snapshot{db: stdlib.OpenDB(*conf), dialect: postgresDialect()}
	if err == nil {
		err = s.begin(ctx, "SELECT version FROM schema_version", len(steps), &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("store %s: %w", where, err)
	}
	return s, nil
}

// begin begins the transaction that is the snapshot.
func (s *Snapshot) begin(ctx context.Context, version string, want int, o *sql.TxOptions) (err error) {
	if s.tx, err = s.db.BeginTx(ctx, o); err != nil {
		return s.wrap(err)
	}
	if err := s.tx.QueryRowContext(ctx, version).Scan(&s.schema); err != nil {
		return s.wrap(err)
	}
	if s.schema != want {
		return fmt.Errorf("it has schema %d, this program has %d; serve brings older ones up to date", s.schema, want)
	}
	return nil
}

// Close ends it.
func (s *Snapshot) Close() error {
	if s.tx != nil {
		_ = s.tx.Rollback()
	}
	return s.db.Close()
}

// list reads rows of the snapshot.
func (s *Snapshot) list(ctx context.Context, query string, args []any, scan func(scanner) error) error {
	rows, err := s.tx.QueryContext(ctx, s.bind(query), s.args(args)...)
	if err != nil {
		return s.wrap(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return s.wrap(err)
		}
	}
	return s.wrap(rows.Err())
}
