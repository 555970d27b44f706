package auth

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"time"
)

// passwordFile is a file with users and the hashes of their passwords, one a line: "user:hash", and what stands behind another colon is
// passed over, as in Dovecot's passwd-file and Apache's htpasswd. It is taken apart anew when it is another one than before. It is safe for
// concurrent use.
type passwordFile struct {
	path      string
	canonical func(name string) (string, error) // what makes names of one user equal
	grain     time.Duration                     // 0 means stampGrain; tests are in a hurry

	mu    sync.Mutex
	stamp stamp
	users *passwords // nil while what was read may not be used again
}

// passwords are those of a file.
type passwords struct {
	of map[string]stored
	// nobody costs as much as most users do: who does not exist is compared with it, in vain.
	nobody stored
}

// read gives the users. The result is shared, and is not changed. It is not settled when the file was written just now, or is being.
func (f *passwordFile) read() (users *passwords, settled bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, ok := stampOf(f.path)
	if ok && f.users != nil && before == f.stamp {
		return f.users, true, nil
	}
	f.users = nil
	began := time.Now()
	users, err = readPasswords(f.path, f.canonical)
	if err != nil {
		return nil, false, err
	}
	after, still := stampOf(f.path)
	if ok && still && before == after && began.Sub(time.Unix(after.changed.Unix())) > cmp.Or(f.grain, stampGrain) {
		f.stamp, f.users, settled = after, users, true
	}
	return users, settled, nil
}

// readPasswords reads a whole file, which others than its owner cannot reach. Errors name file and line, never what the line holds.
func readPasswords(path string, canonical func(string) (string, error)) (*passwords, error) {
	b, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	out := &passwords{of: map[string]stored{}}
	kinds := map[string]int{}
	n, most := 0, 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		name, rest, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("%s:%d: %w: want a user, a colon and a hash", path, n, ErrMalformed)
		}
		user, err := canonical(name)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: the user: %w", path, n, err)
		}
		if _, twice := out.of[user]; twice {
			return nil, fmt.Errorf("%s:%d: %w: this user has a line above", path, n, ErrMalformed)
		}
		text, _, _ := strings.Cut(rest, ":")
		s, err := parseStored(text)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: the hash is %w", path, n, err)
		}
		out.of[user] = s
		if kinds[s.kind]++; kinds[s.kind] > most {
			out.nobody, most = s, kinds[s.kind]
		}
	}
	return out, nil
}
