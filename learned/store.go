package learned

import (
	"context"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// Row is a password that was learned, as the store keeps it. One for each user and side.
type Row struct {
	User    string
	Side    config.Side // whose server let him in with it
	Sealed  []byte      // by Key.Seal
	Learned time.Time   // when it was first seen; tells one password from the next
	Seen    time.Time   // the last login with it, give or take a little
	Expires time.Time
	Refused [2]time.Time // by side: when the syncer was refused with it; zero where it was not
}

// Store keeps rows. Packages outside implement it. All methods are safe for concurrent use, each is one transaction, durable
// when it returns nil, and wraps op.ErrUnavailable when the cause is the disk, a lock or the database's connection.
type Store interface {
	// Secrets lists rows by user and side: all, or those of one user.
	Secrets(ctx context.Context, user string) ([]Row, error)
	// PutSecret writes a row, in the place of the one that is there.
	PutSecret(ctx context.Context, r Row) error
	// RenewSecret sets Seen and Expires of the row that has this Learned; false when there is none.
	RenewSecret(ctx context.Context, r Row) (bool, error)
	// RefuseSecret notes that a side refuses the row that has this Learned, with the event; false when there is none, or when
	// that is known.
	RefuseSecret(ctx context.Context, r Row, by config.Side, at time.Time, e op.Event) (bool, error)
	// AllowSecrets takes back that rows of a user, or of everybody (""), are refused, with an event when there were any, and tells how
	// many.
	AllowSecrets(ctx context.Context, user string, e op.Event) (int, error)
	// DropSecrets deletes the rows of a user, or of everybody (""), with an event when there were any, and tells how many.
	DropSecrets(ctx context.Context, user string, e op.Event) (int, error)
	// ExpireSecrets deletes the rows that expire at now or before, or were seen last at unseen or before, and tells how many.
	ExpireSecrets(ctx context.Context, now, unseen time.Time) (int, error)
	// ScrubSecrets sees to it that nothing of deleted rows is left in the files of the database: not in free pages, not in the
	// write-ahead log. An error means that something may be left; it is to be called again.
	ScrubSecrets(ctx context.Context) error
}
