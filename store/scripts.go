package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"mailgate/syncer"
)

// Scripts implements syncer.Store.
func (d *database) Scripts(ctx context.Context, user string) (out []syncer.Script, err error) {
	err = d.list(ctx, `SELECT s.name, s.old_base, s.new_base, s.old_active, s.new_active, s.state, s.why, s.tried, s.seen
		FROM scripts s JOIN accounts a ON a.id = s.account WHERE a.user = ? ORDER BY s.name`, []any{user}, func(s scanner) error {
		var x syncer.Script
		var name, why []byte
		var active [2]int64
		var seen int64
		err := s.Scan(&name, &x.Base[0], &x.Base[1], &active[0], &active[1], &x.State, &why, &x.Tried, &seen)
		x.Name, x.Why, x.Seen = string(name), string(why), when(seen)
		x.Active = [2]bool{active[0] != 0, active[1] != 0}
		out = append(out, x)
		return err
	})
	return out, err
}

func (a *applying) scripts(ctx context.Context, put []syncer.Script, drop []string) error {
	for _, name := range drop {
		if _, err := a.exec(ctx, "DELETE FROM scripts WHERE account=? AND name=?", a.account, blob(name)); err != nil {
			return err
		}
	}
	for _, s := range put {
		_, err := a.exec(ctx, `INSERT INTO scripts (account, name, old_base, new_base, old_active, new_active, state, why, tried, seen)
			VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (account, name) DO UPDATE SET old_base = excluded.old_base, new_base = excluded.new_base,
			old_active = excluded.old_active, new_active = excluded.new_active, state = excluded.state, why = excluded.why,
			tried = excluded.tried, seen = excluded.seen`,
			a.account, blob(s.Name), s.Base[0], s.Base[1], number01(s.Active[0]), number01(s.Active[1]), s.State, blob(s.Why), s.Tried, stamp(s.Seen))
		if err != nil {
			return err
		}
	}
	return nil
}

func number01(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// checkScripts finds hashes that are none, and two active scripts of one side.
func (s *Snapshot) checkScripts(ctx context.Context, f *Findings) error {
	active := map[string]int{}
	return s.list(ctx, "SELECT account, name, old_base, new_base, old_active, new_active FROM scripts ORDER BY account, name", nil, func(sc scanner) error {
		var account int64
		var name []byte
		var base [2]string
		var on [2]int64
		if err := sc.Scan(&account, &name, &base[0], &base[1], &on[0], &on[1]); err != nil {
			return err
		}
		for side, b := range base {
			if b != "" && (len(b) != 64 || strings.Trim(b, "0123456789abcdef") != "") {
				f.add("scripts: %q of account %d: %q is no hash", name, account, b)
			}
			key := strconv.FormatInt(account, 10) + " " + []string{"OLD", "NEW"}[side]
			if on[side] == 0 {
				continue
			}
			if active[key]++; active[key] == 2 {
				f.add("scripts: account %d has two active ones on %s", account, []string{"OLD", "NEW"}[side])
			}
		}
		if (base[0] == "") != (base[1] == "") {
			f.add("scripts: %q of account %d was in agreement with nothing", name, account)
		}
		return nil
	})
}

// checkContents looks into the rows themselves.
func (s *Snapshot) checkContents(ctx context.Context, f *Findings) error {
	if err := s.checkScripts(ctx, f); err != nil {
		return fmt.Errorf("scripts: %w", err)
	}
	return s.checkChunks(ctx, f)
}
