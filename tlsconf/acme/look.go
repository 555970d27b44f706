package acme

import (
	"context"
	"log/slog"

	"mailgate/config"
)

// Reach looks whether the authority answers, and gives the page of its terms, "" when it names none.
func Reach(ctx context.Context, c config.ACME) (terms string, err error) {
	i, err := newIssuer(c, newFolder(c.Storage), nil)
	if err != nil {
		return "", err
	}
	defer i.http.CloseIdleConnections()
	return i.reach(ctx)
}

// ProveDNS looks whether the zone's server takes our key, by a change that changes nothing, and whether all servers of the zone can
// be asked; silent are those that do not answer.
func ProveDNS(ctx context.Context, c config.ACME) (silent []string, err error) {
	s, err := newDNSSolver(c.DNS, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if err := s.prove(ctx); err != nil {
		return nil, err
	}
	return s.silent(ctx)
}
