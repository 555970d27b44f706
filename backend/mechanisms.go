package backend

import (
	"slices"
	"strings"

	"mailgate/config"
)

// plusSuffix ends the name of a mechanism that is bound to the TLS connection (RFC 5802, section 6).
const plusSuffix = "-PLUS"

// Mechanisms are the SASL mechanisms that all hosts of a side list before login, in upper case; and those with channel binding that any of
// them lists, since one is enough to make a difference. There are none while they are not known.
func (f *Features) Mechanisms(p config.Protocol) []string { return f.mechanisms[index(p)] }

// Mechanisms are the SASL mechanisms that the host lists, in upper case.
func (s *Seen) Mechanisms() []string {
	switch s.Endpoint.Protocol {
	case config.IMAP:
		return imapMechanisms(s.Capabilities)
	case config.POP3:
		list, _ := popCapability(s.Capabilities, "SASL")
		return list
	case config.Sieve:
		if s.Sieve == nil {
			return nil
		}
		return s.Sieve.Mechanisms
	}
	return strings.Fields(s.Extensions["AUTH"])
}

// imapMechanisms are those of a list of capabilities.
func imapMechanisms(caps []string) (out []string) {
	for _, c := range caps {
		if m, ok := strings.CutPrefix(strings.ToUpper(c), "AUTH="); ok {
			out = append(out, m)
		}
	}
	return out
}

// commonMechanisms are those that all hosts have, and those with channel binding that any has.
func commonMechanisms(seen []Seen) (out []string) {
	for i := range seen {
		for _, m := range seen[i].Mechanisms() {
			all := !slices.ContainsFunc(seen, func(o Seen) bool { return !slices.Contains(o.Mechanisms(), m) })
			if (all || strings.HasSuffix(m, plusSuffix)) && !slices.Contains(out, m) {
				out = append(out, m)
			}
		}
	}
	return out
}
