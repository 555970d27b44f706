package backend

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Sample asks how many messages there are, for the unique-id of the first, "" where there is none (RFC 1939, section 7), and for the
// capabilities that hold behind the login, nil where the server does not tell (RFC 2449, section 5), and says QUIT.
// The caller sets a deadline. What was buffered must be empty still: it is meant for a connection of its own.
func (c *POP3Conn) Sample() (messages int, first string, caps []string, err error) {
	r := bufio.NewReaderSize(c.Conn, 512)
	ask := func(command string) (string, error) {
		if _, err := io.WriteString(c.Conn, command+"\r\n"); err != nil {
			return "", err
		}
		line, err := r.ReadSlice('\n')
		if err != nil {
			return "", fmt.Errorf("%s: %w", command, err)
		}
		ok, text := popStatus(strings.TrimRight(string(line), "\r\n"))
		if !ok {
			return "", fmt.Errorf("%s is refused: %s", command, printable(text))
		}
		return text, nil
	}
	text, err := ask("STAT")
	if err != nil {
		return 0, "", nil, err
	}
	word, _ := cutWord(text)
	if messages, err = strconv.Atoi(word); err != nil || messages < 0 {
		return 0, "", nil, fmt.Errorf("STAT answers %q", printable(text))
	}
	if messages > 0 {
		if text, err = ask("UIDL 1"); err != nil {
			return 0, "", nil, err
		}
		_, first = cutWord(text)
	}
	if _, err := ask("CAPA"); err == nil {
		for len(caps) < maxPopCapabilities {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return 0, "", nil, fmt.Errorf("CAPA: %w", err)
			}
			word := strings.TrimRight(string(line), "\r\n")
			if word == "." {
				break
			}
			caps = append(caps, printable(strings.ToUpper(word)))
		}
	}
	_, err = ask("QUIT")
	return messages, printable(first), caps, err
}
