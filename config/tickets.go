package config

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// ticketKeySize is the length of a key of session tickets, in bytes.
const ticketKeySize = 32

// TicketKeys reads a file of keys for session tickets (RFC 8446, section 4.6.1; RFC 5077): base64 of 32 bytes on each line; the first
// encrypts, all of them decrypt. Empty lines and those that begin with # are left out. No error says what the file holds.
func TicketKeys(file string) ([][ticketKeySize]byte, error) {
	b, err := ReadPrivate(file)
	if err != nil {
		return nil, err
	}
	var keys [][ticketKeySize]byte
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(line)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s:%d: not base64; make a key by: openssl rand -base64 %d", file, n, ticketKeySize)
		case len(raw) != ticketKeySize:
			return nil, fmt.Errorf("%s:%d: a key of %d bytes, where %d are needed; make one by: openssl rand -base64 %d", file, n, len(raw),
				ticketKeySize, ticketKeySize)
		}
		key := [ticketKeySize]byte(raw)
		for _, k := range keys {
			if k == key {
				return nil, fmt.Errorf("%s:%d: this key stands above already; keep one", file, n)
			}
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no key; make one by: openssl rand -base64 %d", file, ticketKeySize)
	}
	return keys, nil
}
