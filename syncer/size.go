package syncer

import (
	"context"

	"mailgate/backend"
)

// Size counts a user's messages on the side that decides, for the order of first copies: one LIST with STATUS.
func (s *Syncer) Size(ctx context.Context, user string) (messages int64, err error) {
	side, _, err := s.o.Route(ctx, user)
	if err != nil {
		return 0, err
	}
	c, err := s.openOne(ctx, side, user)
	if err != nil {
		return 0, &SideError{side, err}
	}
	defer s.idle.close(c)
	err = safely(func() error {
		return c.List(ctx, backend.ListOptions{Status: []string{"MESSAGES"}}, func(e backend.ListEntry) error {
			if e.Status != nil {
				messages += int64(e.Status.Messages)
			}
			return nil
		})
	})
	if err != nil {
		return 0, &SideError{side, err}
	}
	return messages, nil
}
