package proxy

import (
	"strconv"
	"strings"

	"mailgate/backend"
	"mailgate/config"
)

// relayable are the extensions that a relayed transaction carries, in the order of our EHLO: PIPELINING (RFC 2920) and
// ENHANCEDSTATUSCODES (RFC 2034), SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), DSN (RFC 3461), CHUNKING
// and BINARYMIME (RFC 3030), REQUIRETLS (RFC 8689).
var relayable = [...]string{"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "BINARYMIME", "REQUIRETLS",
	"ENHANCEDSTATUSCODES"}

// extensions is the intersection of what both sides are known to offer, SIZE the minimum. A side that was never
// reached does not count: nobody can log in there, and each transaction is checked against its own backend again.
func (s *Server) extensions(c *client) map[string]string {
	var sides []map[string]string
	for _, side := range config.Sides {
		if f := s.dialer.Features(side).Submission; f != nil {
			sides = append(sides, f)
		}
	}
	return Extensions(sides, c.set.cfg.Submit.MaxSize, c.tls)
}

// Extensions is what EHLO answers for sides that offer these; own is the configured cap on SIZE, 0 for none.
func Extensions(sides []map[string]string, own int64, tls bool) map[string]string {
	out := map[string]string{"PIPELINING": ""}
	if len(sides) == 0 {
		return out
	}
	for _, name := range relayable[2:] {
		all := true
		for _, f := range sides {
			_, has := f[name]
			all = all && has
		}
		if all {
			out[name] = ""
		}
	}
	if !tls {
		delete(out, "REQUIRETLS") // RFC 8689, section 2: offered under TLS only
	}
	if n, ok := minSize(sides, own); ok {
		out["SIZE"] = ""
		if n > 0 {
			out["SIZE"] = strconv.FormatInt(n, 10)
		}
	}
	return out
}

// minSize is the smallest limit; ok is false when a side does not know SIZE. 0 means no limit (RFC 1870, section 3).
func minSize(sides []map[string]string, own int64) (limit int64, ok bool) {
	limit = own
	for _, f := range sides {
		p, has := f["SIZE"]
		if !has {
			return 0, false
		}
		n, err := strconv.ParseInt(strings.TrimSpace(p), 10, 64)
		if err == nil && n > 0 && (limit == 0 || n < limit) {
			limit = n
		}
	}
	return limit, true
}

// missing says why a MAIL or RCPT command cannot go to this backend: a parameter of an extension that it lacks. Passing
// it on would at best be refused, at worst be ignored.
func missing(line string, conn *backend.SubmissionConn) string {
	name, args := verb(line)
	i := strings.LastIndexByte(args, '>')
	for _, p := range strings.Fields(args[i+1:]) {
		key, value, _ := strings.Cut(strings.ToUpper(p), "=")
		need, reply := "", "555 5.5.4 Unsupported parameter: "+key
		switch {
		case key == "BODY" && value == "8BITMIME":
			need, reply = "8BITMIME", "554 5.6.3 The mail server takes no 8-bit messages"
		case key == "BODY" && value == "BINARYMIME":
			need, reply = "BINARYMIME", "554 5.6.3 The mail server takes no binary messages"
		case key == "SMTPUTF8":
			need, reply = "SMTPUTF8", "550 5.6.7 The mail server takes no internationalized addresses"
		case key == "REQUIRETLS":
			need, reply = "REQUIRETLS", "550 5.7.30 The mail server does not support REQUIRETLS"
		case key == "SIZE":
			need = "SIZE"
		case name == "MAIL" && (key == "RET" || key == "ENVID"), name == "RCPT" && (key == "NOTIFY" || key == "ORCPT"):
			need = "DSN"
		}
		if _, ok := conn.Extensions[need]; need != "" && !ok {
			if need == "SIZE" {
				continue // only a hint; stripSize takes it out
			}
			return reply
		}
	}
	return ""
}
