package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// exportFormat is the version of the lines of Export.
const exportFormat = 1

// line is one of an export: the head, a row, the last ID given out of a table, or the end, which proves that it is whole.
type line struct {
	Format int             `json:"mailgate_store,omitempty"`
	Table  string          `json:"table,omitempty"`
	Row    json.RawMessage `json:"row,omitempty"`
	Last   *int64          `json:"last_id,omitempty"`
	End    *int64          `json:"end,omitempty"` // the number of rows
}

// ErrNotEmpty means that a store to be filled holds something already.
var ErrNotEmpty = errors.New("the store is not empty")

// ErrBadExport means that what was to be loaded is no export, not a whole one, or one of a newer program.
var ErrBadExport = errors.New("not a whole export of a store that this program knows")

// Export writes everything as lines of JSON: bytes in base64, times in nanoseconds, tables and rows in a fixed order, so
// that equal stores give equal bytes, whatever database they are in.
func (s *Snapshot) Export(ctx context.Context, w io.Writer) (rows int64, err error) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(line{Format: exportFormat}); err != nil {
		return 0, err
	}
	for _, t := range tables() {
		err := s.list(ctx, t.selects(), nil, func(sc scanner) error {
			row, err := t.read(sc)
			if err != nil {
				return err
			}
			rows++
			return e.Encode(line{Table: t.name, Row: row})
		})
		if err != nil {
			return rows, fmt.Errorf("%s: %w", t.name, err)
		}
		if t.counted {
			last, err := s.last(ctx, t.name)
			if err == nil {
				err = e.Encode(line{Table: t.name, Last: &last})
			}
			if err != nil {
				return rows, fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return rows, e.Encode(line{End: &rows})
}

// last is the last ID given out in a table.
func (s *Snapshot) last(ctx context.Context, table string) (n int64, err error) {
	query := "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM " + table + "_id_seq"
	if s.lite {
		query = "SELECT seq FROM sqlite_sequence WHERE name = '" + table + "'"
	}
	err = s.tx.QueryRowContext(ctx, query).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, s.wrap(err)
}

func (t table) names() string {
	var names []string
	for _, c := range t.columns {
		names = append(names, c.name)
	}
	return strings.Join(names, ", ")
}

func (t table) selects() string {
	q := "SELECT " + t.names() + " FROM " + t.name
	if t.where != "" {
		q += " WHERE " + t.where
	}
	return q + " ORDER BY " + t.order
}

// read makes JSON of a row, its columns in the order of the table.
func (t table) read(s scanner) (json.RawMessage, error) {
	values := make([]any, len(t.columns))
	for i, c := range t.columns {
		switch c.kind {
		case number:
			values[i] = new(int64)
		case text:
			values[i] = new(string)
		case bytesOf:
			values[i] = new([]byte)
		}
	}
	if err := s.Scan(values...); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for i, c := range t.columns {
		if p, ok := values[i].(*[]byte); ok {
			*p = blob(*p) // no bytes are "", not null
		}
		b.WriteString([]string{"{", ","}[min(i, 1)] + `"` + c.name + `":`)
		if err := e.Encode(values[i]); err != nil {
			return nil, err
		}
		b.Truncate(b.Len() - 1) // the encoder's line end
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
