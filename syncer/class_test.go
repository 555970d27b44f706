package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/learned"
	"mailgate/mailtest/faulty"
	"mailgate/op"
	"mailgate/syncer"
	"mailgate/syncer/merge"
)

// TestClassOf: what a monitor counts errors as.
func TestClassOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want syncer.Class
	}{
		{&backend.Error{Step: backend.StepLogin, Kind: backend.AuthFailed, Reply: "no"}, syncer.ClassLogin},
		{&backend.Error{Step: backend.StepLogin, Code: "LIMIT", Reply: "too many"}, syncer.ClassCrowded},
		{&backend.Error{Step: backend.StepLogin, Kind: backend.Refused}, syncer.ClassPlan},
		{&backend.Error{Step: backend.StepConnect, Err: &net.OpError{Op: "dial", Err: errors.New("refused")}}, syncer.ClassUnreachable},
		{&backend.Error{Step: backend.StepLogin, Err: os.ErrDeadlineExceeded}, syncer.ClassSilent},
		{backend.ErrBudget, syncer.ClassCrowded},
		{backend.ErrDown, syncer.ClassUnreachable},
		{&backend.StatusError{Command: "SELECT", Status: "NO"}, syncer.ClassRefused},
		{&backend.StatusError{Command: "SELECT", Status: "NO", Text: "Suggested Backoff Time: 5000 milliseconds"}, syncer.ClassCrowded},
		{&backend.StatusError{Command: "SELECT", Status: "BAD"}, syncer.ClassProtocol},
		{&backend.StatusError{Command: "SELECT", Status: "BYE"}, syncer.ClassUnreachable},
		{imapwire.ErrGrammar, syncer.ClassProtocol},
		{io.ErrUnexpectedEOF, syncer.ClassUnreachable},
		{context.DeadlineExceeded, syncer.ClassSilent},
		{op.ErrUnavailable, syncer.ClassStore},
		{fmt.Errorf("%w as u", syncer.ErrNoLogin), syncer.ClassNoLogin},
		{&learned.UnknownError{}, syncer.ClassNoLogin},
		{syncer.ErrFenced, syncer.ClassOwner},
		{&syncer.PanicError{Value: "x"}, syncer.ClassDefect},
		{errors.New("who knows"), syncer.ClassOther},
	} {
		for _, err := range []error{c.err, fmt.Errorf("INBOX: %w", &syncer.SideError{Side: config.New, Err: c.err})} {
			if got := syncer.ClassOf(err); got != c.want {
				t.Errorf("%v is %s, want %s", err, got, c.want)
			}
		}
	}
}

// TestConflictsCounted: a message that one side deleted and the other flagged is named in the report; the side that decides wins.
func TestConflictsCounted(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
	w.put(config.Old, "INBOX", "a", 10)
	w.put(config.Old, "INBOX", "b", 10)
	if r := w.run(); len(r.Conflicts) > 0 {
		t.Errorf("%v", r.Conflicts)
	}
	w.hosts[config.Old].Account.Expunge("INBOX", 0)
	w.hosts[config.New].Account.Flag("INBOX", 0, []string{`\Flagged`}, nil)
	if r := w.run(); r.Conflicts[merge.DeletedAndChanged] != 1 || len(r.Conflicts) != 1 || r.Expunged[config.New] != 1 {
		t.Errorf("%v, expunged %v", r.Conflicts, r.Expunged)
	}
	w.verified(true, 0, 0)
}

// TestFolderErrorClassed: what a folder could not be done for has a class.
func TestFolderErrorClassed(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
	w.put(config.Old, "INBOX", "a", 10)
	w.run()
	w.put(config.Old, "INBOX", "b", 10)
	w.hosts[config.New].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Refuse}, Only: "SELECT INBOX", Text: "[NOPERM] not yours"})
	r, err := w.Run(t.Context(), "user", syncer.RunOptions{})
	if err != nil || len(r.Errors) != 1 || r.Errors[0].Class != syncer.ClassRefused {
		t.Errorf("%v, %+v", err, r)
	}
}
