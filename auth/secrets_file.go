package auth

import (
	"fmt"
	"strings"

	"mailgate/config"
)

// ReadSecrets reads a file of passwords, one user a line: the address, then white space or a colon, then the password,
// which is the rest of the line as it stands. Empty lines and lines that begin with # are passed over. Addresses are
// given as written. Errors name file and line, never what the line holds.
func ReadSecrets(path string) (map[string]config.Secret, error) {
	b, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	secrets := make(map[string]config.Secret)
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		i := strings.IndexAny(line, " \t:")
		if i <= 0 {
			return nil, fmt.Errorf("%s:%d: %w: want an address, a colon or white space, and a password", path, n, ErrMalformed)
		}
		user, secret := line[:i], line[i+1:]
		if line[i] != ':' {
			secret = strings.TrimLeft(secret, " \t")
		}
		if err := checkName(user); err != nil {
			return nil, fmt.Errorf("%s:%d: the address: %w", path, n, err)
		}
		if secret == "" || len(secret) > maxSecret {
			return nil, fmt.Errorf("%s:%d: %w: password empty or too long", path, n, ErrMalformed)
		}
		if control(secret) {
			return nil, fmt.Errorf("%s:%d: %w", path, n, ErrControl)
		}
		if _, twice := secrets[user]; twice {
			return nil, fmt.Errorf("%s:%d: %w: this address has a line above", path, n, ErrMalformed)
		}
		secrets[user] = config.Secret(secret)
	}
	return secrets, nil
}
