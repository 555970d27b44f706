package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// LineReader gives lines with their ends, as bufio.Reader does.
type LineReader interface {
	ReadBytes(delim byte) ([]byte, error)
}

// Load fills an empty store with what Snapshot.Export wrote, in one transaction: whole or not at all. ErrNotEmpty,
// ErrBadExport.
func (d *database) Load(ctx context.Context, in LineReader) (rows int64, err error) {
	err = d.tx(ctx, func(t *transaction) error {
		if err := t.empty(ctx); err != nil {
			return err
		}
		l := &loading{transaction: t, in: in, into: map[string]*filling{}}
		defer l.close()
		err := l.run(ctx)
		rows = l.rows
		return err
	})
	if err != nil {
		return 0, err
	}
	return rows, nil
}

// empty is ErrNotEmpty unless there is nothing.
func (t *transaction) empty(ctx context.Context) error {
	for _, tab := range tables() {
		var n int64
		q := "SELECT COUNT(*) FROM " + tab.name
		if tab.where != "" {
			q += " WHERE " + tab.where
		}
		if err := t.row(ctx, q).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("%w: %d rows in %s", ErrNotEmpty, n, tab.name)
		}
	}
	return nil
}

// filling is a table under way.
type filling struct {
	table
	st *statement
}

// loading is a Load under way.
type loading struct {
	*transaction
	in   LineReader
	into map[string]*filling
	rows int64
}

func (l *loading) close() {
	for _, f := range l.into {
		f.st.close()
	}
}

func (l *loading) run(ctx context.Context) error {
	for _, t := range tables() {
		st, err := l.prepare(ctx, "INSERT INTO "+t.name+" ("+t.names()+") VALUES (?"+strings.Repeat(",?", len(t.columns)-1)+")")
		if err != nil {
			return err
		}
		l.into[t.name] = &filling{t, st}
	}
	for n := 1; ; n++ {
		b, err := l.in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: it ends at line %d, without its last line", ErrBadExport, n)
		}
		if err != nil {
			return err
		}
		var x line
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&x); err != nil {
			return fmt.Errorf("%w: line %d: %w", ErrBadExport, n, err)
		}
		switch {
		case n == 1 && x.Format == exportFormat:
		case n == 1:
			return fmt.Errorf("%w: line 1 is not that of an export of version %d", ErrBadExport, exportFormat)
		case x.End != nil:
			if _, err := l.in.ReadBytes('\n'); *x.End != l.rows || !errors.Is(err, io.EOF) {
				return fmt.Errorf("%w: line %d says that it ends after %d rows, and there are %d or more", ErrBadExport, n, *x.End, l.rows)
			}
			return l.numbers(ctx)
		default:
			if err := l.line(ctx, x); err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
		}
	}
}

// line writes a row, or the last ID of a table.
func (l *loading) line(ctx context.Context, x line) error {
	f := l.into[x.Table]
	if f == nil {
		return fmt.Errorf("%w: table %q", ErrBadExport, x.Table)
	}
	if x.Last != nil && f.counted {
		return l.d.lastID(ctx, l.transaction, x.Table, *x.Last)
	}
	values, err := f.values(x.Row)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrBadExport, x.Table, err)
	}
	l.rows++
	_, err = f.st.exec(ctx, values...)
	return err
}

// numbers goes on after the highest ID where an export does not say which was the last.
func (l *loading) numbers(ctx context.Context) error {
	var n int64
	if err := l.row(ctx, "SELECT COALESCE(MAX(id), 0) FROM accounts").Scan(&n); err != nil {
		return err
	}
	return l.d.lastID(ctx, l.transaction, "accounts", n)
}

// values are a row's, in the order of the table's columns.
func (t table) values(row json.RawMessage) ([]any, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(row, &fields); err != nil {
		return nil, err
	}
	if len(fields) != len(t.columns) {
		return nil, fmt.Errorf("%d columns, not %d", len(fields), len(t.columns))
	}
	var out []any
	for _, c := range t.columns {
		var n int64
		var s *string
		var b []byte
		var err error
		switch c.kind {
		case number:
			err = json.Unmarshal(fields[c.name], &n)
			out = append(out, n)
		case text:
			if err = json.Unmarshal(fields[c.name], &s); err == nil && s != nil {
				out = append(out, *s)
			}
		case bytesOf:
			err = json.Unmarshal(fields[c.name], &b)
			out = append(out, blob(b))
		}
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.name, err)
		}
	}
	if len(out) != len(t.columns) {
		return nil, errors.New("a text is missing")
	}
	return out, nil
}
