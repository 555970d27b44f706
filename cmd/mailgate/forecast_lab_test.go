package main

import (
	"strings"
	"testing"

	"mailgate/mailtest/lab"
)

// TestForecastByMaster: a plan compares UIDLs by a master login, which is proven by POP3 first; where it is not proven, the plan says that
// it does not know.
func TestForecastByMaster(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.StrictMasters())
	user := lab.User(1)
	fillInbox(t, l.Old, 1, 12)
	fillInbox(t, l.Old, 2, 3) // whom a proof tells apart
	d := newDoors(t, l.Old, l.New, [2]string{" ", `, master_login: "{login}*{master}"`}, user+" old\n"+lab.User(2)+" old\n", "")
	d.start()
	defer d.stop()
	plan := func() string {
		t.Helper()
		out, err := d.command("flip", user, "new", "--dry-run").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if out := plan(); !strings.Contains(out, "as the last pass knows it") || !strings.Contains(out, "the master login at") || !strings.Contains(out, "is not proven") {
		t.Errorf("before a proof:\n%s", out)
	}
	d.mustVerb("probe", "backends", "--user", user, "--user", lab.User(2))
	d.mustVerb("sync", "run", user, "--yes")
	out := plan()
	for _, want := range []string{"clients that leave mail on the server download again 12 of 12 messages: their UIDLs are others on NEW", "clients download again 12 messages (", "both hosts tell what has changed (CONDSTORE)"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	t.Log(out)
}
