package backend

import (
	"context"
	"time"

	"mailgate/config"
)

// Verify logs in at a side's IMAP and out again: the side says whether the credentials are right, and nothing is read. The error is an
// *Error, of kind AuthFailed when they are not. The connection counts, and tells of the host's health, like any login.
func (d *Dialer) Verify(ctx context.Context, at config.Side, name string, who LoginIMAP) error {
	c, err := d.DialIMAP(ctx, at, name, who)
	if err != nil {
		return err
	}
	_ = c.SetDeadline(time.Now().Add(time.Second)) // the answer is here already; that the host hears of the end is a courtesy
	_, _ = c.Write([]byte("mailgate LOGOUT\r\n"))
	return c.Close()
}
