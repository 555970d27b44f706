package proxy

import (
	"strconv"
	"strings"

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
	if _, ok := out["8BITMIME"]; !ok {
		delete(out, "SMTPUTF8") // RFC 6531, section 3.1: not without the other
	}
	if _, ok := out["CHUNKING"]; !ok {
		delete(out, "BINARYMIME") // RFC 3030, section 3
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

// fit makes a MAIL or RCPT command fit for this session's backend: hints that it does not know come off, and what would
// at best be refused by it, at worst be ignored, is refused here.
func (s *submissionSession) fit(name, line string) (fitting, refusal string) {
	params, at := parameters(line)
	var kept []string
	for _, p := range params {
		key, value, _ := strings.Cut(upper(p), "=")
		need, refusal := s.needs(name, key, value)
		if refusal != "" {
			return "", refusal
		}
		if _, has := s.back.Extensions[need]; need == "" || has {
			kept = append(kept, p)
			continue
		}
		switch {
		case key == "SIZE", key == "BODY" && value == "7BIT": // the message is the same without
		case key == "BODY" && value == "8BITMIME":
			return "", "554 5.6.3 The mail server takes no 8-bit messages"
		case key == "BODY":
			return "", "554 5.6.3 The mail server takes no binary messages"
		case key == "SMTPUTF8":
			return "", "550 5.6.7 The mail server takes no internationalized addresses"
		case key == "REQUIRETLS":
			return "", "550 5.7.30 The mail server does not support REQUIRETLS"
		default:
			return "", "555 5.5.4 Unsupported parameter: " + key
		}
	}
	if len(kept) == len(params) {
		return line, "" // to the letter
	}
	return strings.Join(append([]string{line[:at]}, kept...), " "), ""
}

// needs is the extension of a parameter, or why it cannot be had whatever the backend offers.
func (s *submissionSession) needs(name, key, value string) (extension, refusal string) {
	switch {
	case name == "RCPT" && (key == "NOTIFY" || key == "ORCPT"), name == "MAIL" && (key == "RET" || key == "ENVID"):
		return "DSN", ""
	case name != "MAIL":
	case key == "SIZE":
		n, err := strconv.ParseInt(value, 10, 64)
		if limit := s.set.cfg.Submit.MaxSize; err == nil && limit > 0 && n > limit {
			return "", sizeRefusal
		}
		return "SIZE", ""
	case key == "BODY" && value == "BINARYMIME":
		if _, chunking := s.back.Extensions["CHUNKING"]; !chunking { // RFC 3030, section 3: it takes BDAT
			return "CHUNKING", ""
		}
		return "BINARYMIME", ""
	case key == "BODY":
		return "8BITMIME", ""
	case key == "SMTPUTF8":
		return "SMTPUTF8", ""
	case key == "REQUIRETLS":
		if !s.tls {
			return "", "550 5.7.30 REQUIRETLS takes TLS"
		}
		return "REQUIRETLS", ""
	}
	return "", ""
}
