package backend

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxUIDLs is how many unique-ids are taken of a mailbox: each may be 70 bytes (RFC 1939, section 7).
const maxUIDLs = 200_000

// ErrManyUIDLs means that a mailbox holds more messages than unique-ids are taken of.
var ErrManyUIDLs = fmt.Errorf("more than %d messages", maxUIDLs)

// UIDLs asks for the unique-id of each message, in the order of their numbers, and says QUIT. It reads no message. The caller
// sets a deadline. What was buffered must be empty still: it is meant for a connection of its own.
func (c *POP3Conn) UIDLs() (list []string, err error) {
	r := bufio.NewReaderSize(c.Conn, 4096)
	if _, err := io.WriteString(c.Conn, "UIDL\r\n"); err != nil {
		return nil, err
	}
	next := func() (string, error) {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return "", fmt.Errorf("UIDL: %w", err)
		}
		return strings.TrimRight(string(line), "\r\n"), nil
	}
	line, err := next()
	if err != nil {
		return nil, err
	}
	if ok, text := popStatus(line); !ok {
		return nil, fmt.Errorf("UIDL is refused: %s", printable(text))
	}
	list = []string{}
	for {
		if line, err = next(); err != nil {
			return nil, err
		}
		if line == "." {
			break
		}
		number, id := cutWord(line)
		if n, err := strconv.Atoi(number); err != nil || n != len(list)+1 || id == "" {
			return nil, fmt.Errorf("UIDL: message %d is answered by %q", len(list)+1, printable(line))
		}
		if len(list) == maxUIDLs {
			return nil, ErrManyUIDLs
		}
		list = append(list, id)
	}
	if _, err = io.WriteString(c.Conn, "QUIT\r\n"); err == nil {
		if line, err = next(); err == nil && !strings.HasPrefix(line, "+OK") {
			err = errors.New("QUIT is answered by " + printable(line))
		}
	}
	return list, err
}
