package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"mailgate/config"
	"mailgate/op"
	"mailgate/store"
)

func (p *program) storeCommand() *cobra.Command {
	c := &cobra.Command{Use: "store", Short: "Check, export or import what mailgate remembers",
		Long: "The store holds who is where, operations and history, and what the sync knows of both sides. It is an SQLite file\n" +
			"(store.path) or a PostgreSQL database (store.url)."}
	c.AddCommand(
		&cobra.Command{Use: "check", Short: "Read the whole store and look for what cannot be right", Args: none,
			Long: "Read the whole store and look for what cannot be right: a damaged file, message pairs that cannot be read or are out of\n" +
				"order, intents and quarantine of folders that are not there. Nothing is written; serve may run.\n" +
				"Exit codes: 0 nothing found, 2 something found, 6 could not look.",
			RunE: func(c *cobra.Command, _ []string) error { return p.storeCheck(c.Context()) }},
		&cobra.Command{Use: "export [FILE]", Short: "Write everything as lines of JSON", Args: upTo(1),
			Long: "Write everything that the store holds as lines of JSON, to FILE or, without one or with -, to the standard output.\n" +
				"It is the state of one moment; serve may run. Equal stores give equal bytes, whatever database they are in.\n" +
				"The file tells who has which mail folders, and holds passwords that were learned, encrypted: keep it as you keep the store.",
			RunE: func(c *cobra.Command, args []string) error {
				return p.storeExport(c.Context(), slices.Concat(args, []string{"-"})[0])
			}},
		&cobra.Command{Use: "import FILE", Short: "Fill an empty store with what store export wrote", Args: exactly(1),
			Long: "Fill an empty store with what store export wrote, from FILE or, with -, from the standard input: whole or not at all.\n" +
				"serve must not run. To move from SQLite to PostgreSQL: stop serve, set store.url, and run\n" +
				"    mailgate --set store.url= store export | mailgate store import -\n" +
				"Exit codes: 0 done, 3 refused (the store is not empty or in use, or FILE is not a whole export), 1 it could not be written.",
			RunE: func(c *cobra.Command, args []string) error { return p.storeImport(c.Context(), args[0]) }})
	return c
}

// look opens a snapshot of the store that the configuration names.
func (p *program) look(ctx context.Context) (*store.Snapshot, error) {
	conf, err := p.load()
	if err != nil {
		return nil, err
	}
	if conf.Store.URL != "" {
		return store.LookPostgres(ctx, conf.Store.URL.Reveal())
	}
	return store.Look(ctx, conf.Store.Path)
}

func (p *program) storeCheck(ctx context.Context) error {
	var found *store.Findings
	s, err := p.look(ctx)
	switch {
	case errors.Is(err, store.ErrDamaged):
		found = &store.Findings{Rows: map[string]int64{}, Problems: []string{err.Error()}}
	case config.IsErrors(err):
		return err
	case err != nil:
		return exitError{exitUnknown, err}
	default:
		found, err = s.Check(ctx)
		if err = errors.Join(err, s.Close()); err != nil {
			return exitError{exitUnknown, err}
		}
	}
	err = p.print(found, func(w io.Writer) {
		tables := make([]string, 0, len(found.Rows))
		for name := range found.Rows {
			tables = append(tables, name)
		}
		slices.Sort(tables)
		for _, name := range tables {
			fmt.Fprintf(w, "%s\t%d\n", name, found.Rows[name])
		}
		fmt.Fprintf(w, "pairs of messages\t%d\n", found.Pairs)
		for _, problem := range found.Problems {
			fmt.Fprintf(w, "problem: %s\n", problem)
		}
		if found.More > 0 {
			fmt.Fprintf(w, "and %d problems more\n", found.More)
		}
		if len(found.Problems) == 0 {
			fmt.Fprintln(w, "ok")
		}
	})
	if err == nil && len(found.Problems) > 0 {
		return exitError{code: exitDifference}
	}
	return err
}

// moved is what export and import say.
type moved struct {
	File string `json:"file"`
	Rows int64  `json:"rows"`
}

func (p *program) storeExport(ctx context.Context, file string) error {
	s, err := p.look(ctx)
	if err != nil {
		if config.IsErrors(err) {
			return err
		}
		return exitError{exitUnknown, err}
	}
	defer s.Close()
	if file == "-" {
		out := bufio.NewWriterSize(p.out, 64<<10)
		_, err := s.Export(ctx, out)
		return errors.Join(err, out.Flush())
	}
	rows, err := exportTo(ctx, s, file)
	if err != nil {
		return err
	}
	return p.print(moved{file, rows}, func(w io.Writer) { fmt.Fprintf(w, "%d rows written to %s\n", rows, file) })
}

// exportTo writes file whole or not at all, mode 0600.
func exportTo(ctx context.Context, s *store.Snapshot, file string) (rows int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name()) // when it was not renamed
	out := bufio.NewWriterSize(f, 64<<10)
	rows, err = s.Export(ctx, out)
	if err = errors.Join(err, out.Flush()); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	return rows, os.Rename(f.Name(), file)
}

func (p *program) storeImport(ctx context.Context, file string) error {
	conf, err := p.load()
	if err != nil {
		return err
	}
	in := p.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return exitError{exitRefused, err}
		}
		defer f.Close()
		in = f
	}
	if c, err := net.Dial("unix", conf.Control.Socket); err == nil {
		c.Close()
		return exitError{exitRefused, errors.New("mailgate serve runs; stop it first, nothing was changed")}
	}
	st, err := openStore(ctx, conf, localWait)
	if err != nil {
		return refusedIf(err)
	}
	rows, err := st.Load(ctx, bufio.NewReaderSize(in, 64<<10))
	if err = errors.Join(err, st.Close()); err != nil {
		return refusedIf(err)
	}
	return p.print(moved{file, rows}, func(w io.Writer) { fmt.Fprintf(w, "%d rows imported\n", rows) })
}

// refusedIf gives the exit code of an import that may not be.
func refusedIf(err error) error {
	for _, refusal := range []error{store.ErrNotEmpty, store.ErrBadExport, op.ErrInUse} {
		if errors.Is(err, refusal) {
			return exitError{exitRefused, fmt.Errorf("%w; nothing was changed", err)}
		}
	}
	return err
}
