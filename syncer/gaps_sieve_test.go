package syncer_test

import (
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestSieveGaps: scripts that NEW does not take are counted, and automatic answers; where a side has no ManageSieve that is no "none".
func TestSieveGaps(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly()) // NEW lacks editheader and vacation-seconds
	r := newSieveRig(t, l.Old, l.New, 7)
	look := func() (scripts, vacation syncer.Gap) {
		t.Helper()
		list, err := r.SieveGaps(t.Context(), lab.User(7))
		if err != nil || len(list) != 2 || list[0].Kind != syncer.GapScripts || list[1].Kind != syncer.GapVacation {
			t.Fatalf("%v, %+v", err, list)
		}
		return list[0], list[1]
	}
	if s, v := look(); s.Answer != syncer.GapNone || v.Answer != syncer.GapNone {
		t.Errorf("nothing there: %+v, %+v", s, v)
	}
	r.on(config.Old, func(x *lab.SieveTalk) {
		x.Put("away", "require \"vacation\";\r\nvacation \"later\";\r\n")
		x.Put("odd", "require \"editheader\";\r\naddheader \"X-A\" \"b\";\r\n")
		x.Put("plain", "keep;\r\n")
		x.Activate("away")
	})
	if s, v := look(); s.Answer != syncer.GapCounted || s.Count != 3 || !strings.Contains(s.Things[0].What, "is not on NEW") || v.Count != 1 {
		t.Errorf("before the first pass: %+v, %+v", s, v)
	}
	r.pass(t)
	if s, v := look(); s.Count != 1 || !strings.Contains(s.Things[0].What, "editheader") || v.Count != 1 || v.Things[0].Perhaps {
		t.Errorf("behind a pass: %+v, %+v", s, v)
	}
	r.on(config.Old, func(x *lab.SieveTalk) { x.Activate("plain") })
	if _, v := look(); v.Answer != syncer.GapNone || len(v.Things) != 1 || !v.Things[0].Perhaps {
		t.Errorf("no more active: %+v", v)
	}
	r.ports[config.New].Store(0)
	if s, _ := look(); s.Count != 3 || !strings.Contains(s.Things[0].What, "no ManageSieve") {
		t.Errorf("NEW has none: %+v", s)
	}
	r.ports[config.New].Store(1) // nobody is there
	if s, _ := look(); s.Count != 1 || s.Why == "" {
		t.Errorf("NEW is down: %+v", s)
	}
	r.ports[config.Old].Store(0)
	if s, v := look(); s.Answer != syncer.GapUnknown || v.Answer != syncer.GapUnknown || !strings.Contains(v.Why, "backends.old.sieve") {
		t.Errorf("OLD has none: %+v, %+v", s, v)
	}
}
