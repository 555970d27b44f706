package auth

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"mailgate/config"
)

// maxSecretsFile bounds a file of secrets, in bytes.
const maxSecretsFile = 16 << 20

// ReadSecretFile reads a file that holds one password, without the line end. A file that others than its owner can reach
// is refused. Errors never hold the secret.
func ReadSecretFile(path string) (config.Secret, error) {
	b, err := readPrivate(path)
	if err != nil {
		return "", err
	}
	s := strings.TrimRight(string(b), "\r\n")
	if s == "" || len(s) > maxSecret {
		return "", fmt.Errorf("%s: %w: password empty or too long", path, ErrMalformed)
	}
	if control(s) {
		return "", fmt.Errorf("%s: %w", path, ErrControl)
	}
	return config.Secret(s), nil
}

// readPrivate reads a regular file whose mode gives nothing to group and others. The mode is that of the open file, so
// that a file exchanged in between is not read by the mode of the other.
func readPrivate(path string) ([]byte, error) {
	// O_NONBLOCK: opening a FIFO must not wait for a writer; it is refused below.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: others can read or change this file of passwords (mode %04o); run: chmod 600 %s", path, st.Mode().Perm(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecretsFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSecretsFile {
		return nil, fmt.Errorf("%s: larger than %d MiB", path, maxSecretsFile>>20)
	}
	return b, nil
}
