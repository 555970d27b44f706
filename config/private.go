package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// ErrOpenToOthers means that a file with a secret in it can be read or changed by others.
var ErrOpenToOthers = errors.New("others can read or change it")

// maxPrivate is the size of a file with a secret in it, comments included, in bytes.
const maxPrivate = 64 << 10

// ReadPrivate reads a file that holds a secret: a regular one, which nobody but its owner may read or write. The mode is that of
// the open file; a FIFO is not waited for. No error says what the file holds.
func ReadPrivate(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s: %w (mode %04o); run: chmod 600 %s", path, ErrOpenToOthers, st.Mode().Perm(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPrivate+1))
	if err == nil && len(b) > maxPrivate {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxPrivate)
	}
	return b, err
}
