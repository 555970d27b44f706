package syncer_test

import (
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestNewSessionBehindFolderError: a session in which a folder that was listed did not open is not used by the next pass: what it lists may be
// old as long as it lives. A session in which all went well is.
func TestNewSessionBehindFolderError(t *testing.T) {
	t.Parallel()
	w := &asideWorld{newFaultyWorld(t, faulty.Dovecot(), faulty.Dovecot(), 1, func(o *syncer.Options) { o.Keep, o.Connections = time.Minute, 1 }), t}
	logins := func() (n int) {
		for _, line := range w.hosts[config.Old].Trace() {
			if strings.Contains(line, "AUTHENTICATE") || strings.Contains(line, " LOGIN ") {
				n++
			}
		}
		return n
	}
	w.put(config.Old, "INBOX", "a", 10)
	w.run()
	n := logins()
	w.put(config.Old, "INBOX", "b", 10)
	w.run()
	if logins() != n || n == 0 {
		t.Errorf("%d logins, then %d", n, logins())
	}
	w.put(config.Old, "INBOX", "c", 10)
	w.hosts[config.Old].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Refuse}, Only: "EXAMINE INBOX", Text: "[NONEXISTENT] no such mailbox"})
	if r, err := w.Run(t.Context(), "user", syncer.RunOptions{}); err != nil || len(r.Errors) != 1 {
		t.Fatalf("%v, %+v\n%s", err, r, strings.Join(w.hosts[config.Old].Trace(), "\n"))
	}
	w.hosts[config.Old].Fail(nil)
	w.run()
	if logins() != n+1 {
		t.Errorf("%d logins, then %d: the session that did not open a folder is used again", n, logins())
	}
}
