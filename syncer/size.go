package syncer

import (
	"context"

	"mailgate/backend"
)

// Size counts a user's messages on the side that decides and looks when the newest one in his INBOX arrived, for the order of first
// copies: one LIST with STATUS, and one message's date.
func (s *Syncer) Size(ctx context.Context, user string) (e Extent, err error) {
	side, _, err := s.o.Route(ctx, user)
	if err != nil {
		return e, err
	}
	c, err := s.openOne(ctx, side, user)
	if err != nil {
		return e, &SideError{side, err}
	}
	defer s.idle.close(c)
	err = safely(func() error {
		err := c.List(ctx, backend.ListOptions{Status: []string{"MESSAGES"}}, func(l backend.ListEntry) error {
			if l.Status != nil {
				e.Messages += int64(l.Status.Messages)
			}
			return nil
		})
		if err != nil || e.Messages == 0 {
			return err
		}
		inbox, err := c.Select("INBOX", backend.SelectOptions{ReadOnly: true}).Result(ctx)
		if err != nil || inbox.Exists == 0 {
			return err
		}
		return c.Fetch("*", backend.FetchOptions{Items: []string{"INTERNALDATE"}, Message: func(m *backend.Message) error {
			e.Newest = m.InternalDate
			return nil
		}}).Wait(ctx)
	})
	if err != nil {
		return e, &SideError{side, err}
	}
	return e, nil
}
