package proxy

import (
	"slices"
	"strings"

	"mailgate/config"
)

// commonCapabilities are capabilities of IMAP that matter after login and that clients look for before it; they are
// named when both sides name them before login.
func (s *Server) commonCapabilities() []string {
	old, new := s.dialer.Features(config.Old), s.dialer.Features(config.New)
	var out []string
	for _, name := range []string{"ENABLE", "IDLE", "NAMESPACE", "UIDPLUS", "MOVE", "CHILDREN", "UNSELECT"} {
		if slices.Contains(old.IMAP, name) && slices.Contains(new.IMAP, name) {
			out = append(out, name)
		}
	}
	return out
}

// mechanisms are the SASL mechanisms that a client may use: passwords always, OAuth where both sides have it. ManageSieve has no
// login but SASL, and every client of it has PLAIN: LOGIN is of no use.
func (s *Server) mechanisms(set *settings, p config.Protocol) []string {
	var out []string
	for _, m := range set.cfg.Login.Mechanisms {
		switch {
		case m == "LOGIN" && p == config.Sieve:
		case m == "PLAIN" || m == "LOGIN" || s.bothOffer(p, m):
			out = append(out, m)
		}
	}
	return out
}

func (s *Server) bothOffer(p config.Protocol, mechanism string) bool {
	for _, side := range config.Sides {
		f := s.dialer.Features(side)
		list := f.IMAP
		name := "AUTH=" + mechanism
		switch p {
		case config.Submission:
			list, name = strings.Fields(f.Submission["AUTH"]), mechanism
		case config.Sieve:
			if list, name = nil, mechanism; f.Sieve != nil {
				list = f.Sieve.Mechanisms
			}
		case config.POP3:
			list, _ = f.POP3Has("SASL")
			name = mechanism
		}
		if !slices.ContainsFunc(list, func(x string) bool { return strings.EqualFold(x, name) }) {
			return false
		}
	}
	return true
}

func (s *Server) offers(set *settings, p config.Protocol, mechanism string) bool {
	return slices.Contains(s.mechanisms(set, p), mechanism)
}
