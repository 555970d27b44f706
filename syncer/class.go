package syncer

import (
	"context"
	"errors"
	"io"
	"net"
	"os"

	"mailgate/backend"
	"mailgate/imapwire"
	"mailgate/op"
)

// Class sorts trouble for metrics and reports: a closed set of words.
type Class string

const (
	ClassLogin       Class = "login"       // the credentials are refused
	ClassNoLogin     Class = "no_login"    // there are none
	ClassCrowded     Class = "crowded"     // the host has as many connections as it takes, or asks for patience
	ClassUnreachable Class = "unreachable" // no connection, or it broke
	ClassSilent      Class = "silent"      // no answer in time
	ClassRefused     Class = "refused"     // the server said NO
	ClassProtocol    Class = "protocol"    // it said BAD, or what is no IMAP
	ClassPlan        Class = "plan"        // the folder plan, or the configuration, does not allow it
	ClassStore       Class = "store"       // the database, or its disk
	ClassOwner       Class = "owner"       // another process has the account
	ClassDefect      Class = "defect"      // of mailgate
	ClassOther       Class = "other"
)

// Classes lists them all, for metrics that exist before their first event.
func Classes() []Class {
	return []Class{ClassLogin, ClassNoLogin, ClassCrowded, ClassUnreachable, ClassSilent, ClassRefused, ClassProtocol, ClassPlan, ClassStore, ClassOwner, ClassDefect, ClassOther}
}

// ClassOf sorts an error of a pass or of a folder. The first that fits counts, in the order of what somebody should look at first.
func ClassOf(err error) Class {
	var (
		defect  *PanicError
		refused *RefusedError
		login   *backend.Error
		no      *backend.StatusError
		ours    *backend.DefectError
		limit   *imapwire.LimitError
		set     *imapwire.SetError
		none    interface{ NoLogin() }
		network net.Error
		broken  *net.OpError
	)
	switch {
	case errors.As(err, &defect), errors.As(err, &ours):
		return ClassDefect
	case errors.Is(err, op.ErrUnavailable):
		return ClassStore
	case errors.Is(err, ErrFenced):
		return ClassOwner
	case errors.As(err, &refused):
		return ClassPlan
	case errors.Is(err, ErrNoLogin), errors.As(err, &none):
		return ClassNoLogin
	case asked(err) > 0, crowded(err), full(err):
		return ClassCrowded
	case errors.As(err, &login) && login.Kind == backend.AuthFailed:
		return ClassLogin
	case errors.As(err, &login) && login.Kind == backend.Refused:
		return ClassPlan
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return ClassSilent
	case errors.Is(err, imapwire.ErrGrammar), errors.As(err, &limit), errors.As(err, &set):
		return ClassProtocol
	case errors.As(err, &no):
		switch no.Status {
		case "BAD":
			return ClassProtocol
		case "BYE":
			return ClassUnreachable
		}
		return ClassRefused
	case errors.As(err, &login), errors.As(err, &broken), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, backend.ErrDown), errors.Is(err, backend.ErrNoHost):
		return ClassUnreachable
	}
	return ClassOther
}
