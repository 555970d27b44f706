package syncer_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestRotated: on OLD somebody deletes a folder, gives its name to another, and perhaps makes a new one where that was, as who keeps last year's mail does. Both sides
// have the same names and mail at once; what was deleted waits on NEW under another name until its time is over.
func TestRotated(t *testing.T) {
	t.Parallel()
	// Where OLD gives what is renamed other UIDs, nothing tells the two apart: the mailbox began anew, and its mail is in doubt.
	for _, product := range []faulty.Product{faulty.Dovecot(), faulty.DovecotPrefixed(), faulty.Cyrus(), faulty.Courier()} {
		for _, again := range []bool{false, true} {
			for _, flipped := range []bool{false, true} {
				w := &asideWorld{newFaultyWorld(t, faulty.Dovecot(), product, 1, func(o *syncer.Options) { o.Grace = 24 * time.Hour }), t}
				old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
				var names [2]map[string]string
				for side := range names {
					names[side] = map[string]string{}
					for _, n := range []string{"Now", "Last", "Now/Lists", "Last/Lists"} {
						names[side][n] = w.hosts[side].Account.Name(strings.Split(n, "/")...)
					}
				}
				for _, n := range []string{"Now", "Last", "Now/Lists", "Last/Lists"} {
					old.Create(names[0][n])
					w.put(config.Old, n, "in "+n, 10)
				}
				w.run()
				old.Delete(names[0]["Last/Lists"])
				old.Delete(names[0]["Last"])
				if !old.Rename(names[0]["Now"], names[0]["Last"]) {
					t.Fatal("rename")
				}
				if again {
					old.Create(names[0]["Now"])
					w.put(config.Old, "Now", "new", 10)
				}
				decides := config.Old
				run := func(deletes bool) {
					t.Helper()
					r, err := w.Run(t.Context(), "user", syncer.RunOptions{Deletes: deletes, Decides: func(context.Context, string) (config.Side, int64, error) {
						return decides, int64(decides), nil
					}})
					if err != nil || len(r.Errors) > 0 {
						t.Fatalf("%s, made again %v: %v %v", product.Name, again, err, r.Errors)
					}
				}
				subjects := func(side config.Side, folder string) (out []string) {
					for _, m := range w.hosts[side].Account.Contents()[names[side][folder]] {
						_, s, _ := strings.Cut(string(m.Body), "Subject: ")
						s, _, _ = strings.Cut(s, "\r\n")
						out = append(out, s)
					}
					return out
				}
				check := func(what string) {
					t.Helper()
					for _, side := range config.Sides {
						if got := subjects(side, "Last"); !slices.Equal(got, []string{"in Now"}) {
							t.Errorf("%s, made again %v, %s: Last on %s holds %q", product.Name, again, what, side, got)
						}
						if got := subjects(side, "Last/Lists"); !slices.Equal(got, []string{"in Now/Lists"}) {
							t.Errorf("%s, made again %v, %s: Last/Lists on %s holds %q", product.Name, again, what, side, got)
						}
						if got := subjects(side, "Now"); again != slices.Equal(got, []string{"new"}) {
							t.Errorf("%s, made again %v, %s: Now on %s holds %q", product.Name, again, what, side, got)
						}
					}
				}
				run(false)
				run(false)
				check("at once")
				if !slices.ContainsFunc(now.Names(), func(n string) bool { return strings.HasSuffix(n, "-deleted") }) {
					t.Errorf("%s: what was deleted does not wait: %q", product.Name, now.Names())
				}
				if flipped { // NEW decides, in spite of what waits: it is as good as never deleted
					decides = config.New
					run(false)
					run(false)
					check("flipped")
					if !slices.ContainsFunc(old.Names(), func(n string) bool { return strings.HasSuffix(n, "-deleted") }) {
						t.Errorf("%s: OLD has %q", product.Name, old.Names())
					}
					continue
				}
				w.clock.Add(int64(100 * 24 * time.Hour))
				run(true)
				run(true)
				check("later")
				if slices.ContainsFunc(now.Names(), func(n string) bool { return strings.Contains(n, "-deleted") }) {
					t.Errorf("%s: %q", product.Name, now.Names())
				}
			}
		}
	}
}

// TestRotatedAgain rotates folders again while what was deleted first still waits: each name means the folder that has it now, the waiting ones are told
// apart, and go when their time is over.
func TestRotatedAgain(t *testing.T) {
	t.Parallel()
	for _, product := range []faulty.Product{faulty.Dovecot(), faulty.Cyrus(), faulty.Courier()} {
		for _, how := range []string{"rotated", "back"} {
			w := &asideWorld{newFaultyWorld(t, faulty.Dovecot(), product, 1, func(o *syncer.Options) { o.Grace = 24 * time.Hour }), t}
			old := w.hosts[config.Old].Account
			name := func(side config.Side, n string) string { return w.hosts[side].Account.Name(n) }
			do := func(ok bool) {
				t.Helper()
				if !ok {
					t.Fatalf("%s, %s: refused; OLD has %q", product.Name, how, old.Names())
				}
			}
			for _, n := range []string{"Now", "Last"} {
				do(old.Create(name(config.Old, n)))
				w.put(config.Old, n, "first "+n, 10)
			}
			run := func(deletes bool) {
				t.Helper()
				r, err := w.Run(t.Context(), "user", syncer.RunOptions{Deletes: deletes})
				if err != nil || len(r.Errors) > 0 || len(r.Quarantine) > 0 {
					t.Fatalf("%s, %s: %v %v %v", product.Name, how, err, r.Errors, r.Quarantine)
				}
			}
			run(false)
			do(old.Delete(name(config.Old, "Last")))
			do(old.Rename(name(config.Old, "Now"), name(config.Old, "Last")))
			do(old.Create(name(config.Old, "Now")))
			w.put(config.Old, "Now", "second", 10)
			run(false)
			run(false)
			want := map[string]string{}
			switch how {
			case "rotated":
				do(old.Delete(name(config.Old, "Last")))
				do(old.Rename(name(config.Old, "Now"), name(config.Old, "Last")))
				do(old.Create(name(config.Old, "Now")))
				w.put(config.Old, "Now", "third", 10)
				want["Now"], want["Last"] = "third", "second"
			case "back":
				do(old.Rename(name(config.Old, "Last"), name(config.Old, "Before")))
				do(old.Create(name(config.Old, "Last")))
				w.put(config.Old, "Last", "third", 10)
				want["Now"], want["Last"], want["Before"] = "second", "third", "first Now"
			}
			check := func(what string, waiting bool) {
				t.Helper()
				for _, side := range config.Sides {
					for folder, subject := range want {
						list := w.hosts[side].Account.Contents()[name(side, folder)]
						if len(list) != 1 || !strings.Contains(string(list[0].Body), "Subject: "+subject+"\r\n") {
							t.Errorf("%s, %s, %s: %s on %s has %d messages, want %q", product.Name, how, what, folder, side, len(list), subject)
						}
					}
					names := w.hosts[side].Account.Names()
					if got := slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, "-deleted") }); got != (waiting && side == config.New) {
						t.Errorf("%s, %s, %s: %s has %q", product.Name, how, what, side, names)
					}
				}
			}
			run(false)
			run(false)
			check("at once", true)
			w.clock.Add(int64(100 * 24 * time.Hour))
			run(true)
			run(true)
			check("later", false)
		}
	}
}
