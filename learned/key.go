package learned

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"

	"mailgate/config"
)

// Errors of what was sealed. They hold no secret.
var (
	// ErrOtherKey means that it was sealed for another key, or was changed since.
	ErrOtherKey = errors.New("it does not open with the key of login.learn.key")
	// ErrOtherPlace means that it was sealed for another user or side than the row that it stands in.
	ErrOtherPlace = errors.New("it was learned of somebody else, or at the other side: the row is not used")
)

// maxKeyFile is the size of a file that holds a key, comments included, in bytes.
const maxKeyFile = 64 << 10

// sealedFor is how what is sealed begins: what it is, and the version.
const sealedFor = "mailgate learned 1"

// padTo is the multiple to which what is sealed is filled up, in bytes: the length of a password is nobody's business.
const padTo = 256

// Key seals passwords and opens them (age, X25519). It is safe for concurrent use, and prints as "***".
type Key struct{ identity *age.X25519Identity }

// Format gives "***" for every verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "***") }

// ReadKey reads the file of login.learn.key. A file that others than its owner can reach is refused; the mode is that of the
// open file.
func ReadKey(path string) (*Key, error) {
	// O_NONBLOCK: opening a FIFO must not wait for a writer; it is refused below.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("login.learn.key: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("login.learn.key: %w", err)
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("login.learn.key: %s is not a regular file", path)
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("login.learn.key: others can read or change %s (mode %04o); run: chmod 600 %s", path, st.Mode().Perm(), path)
	}
	list, err := age.ParseIdentities(io.LimitReader(f, maxKeyFile))
	if err != nil || len(list) != 1 { // what age says of it may quote the line
		return nil, fmt.Errorf("login.learn.key: %s does not hold one age identity", path)
	}
	x, ok := list[0].(*age.X25519Identity)
	if !ok {
		return nil, fmt.Errorf("login.learn.key: %s holds an age identity of a kind that is not used here; X25519 is", path)
	}
	return &Key{x}, nil
}

// WriteKey makes a key in a new file, mode 0600, and gives its public part. It never writes over a file: os.ErrExist.
func WriteKey(path string, now time.Time) (public string, err error) {
	x, err := age.GenerateX25519Identity()
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	public = x.Recipient().String()
	_, err = fmt.Fprintf(f, "# created: %s\n# public key: %s\n%s\n", now.UTC().Format(time.RFC3339), public, x)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(path)) // half a key is none
	}
	return public, nil
}

// place is where a password was learned.
func place(user string, side config.Side) string {
	return sealedFor + "\x00" + user + "\x00" + side.String() + "\x00"
}

// Seal encrypts a password of a user at a side. Who and where is inside, so that a row in another's place opens for nobody.
func (k *Key) Seal(user string, side config.Side, password config.Secret) ([]byte, error) {
	plain := []byte(place(user, side) + password.Reveal() + "\x00")
	plain = append(plain, make([]byte, (padTo-len(plain)%padTo)%padTo)...)
	var b bytes.Buffer
	w, err := age.Encrypt(&b, k.identity.Recipient())
	if err == nil {
		if _, err = w.Write(plain); err == nil {
			err = w.Close()
		}
	}
	clear(plain)
	if err != nil {
		return nil, fmt.Errorf("seal a password: %w", err)
	}
	return b.Bytes(), nil
}

// Sealed tells whether something looks like what Seal gives: age's header (age-encryption.org/v1). It needs no key.
func Sealed(b []byte) bool { return bytes.HasPrefix(b, []byte("age-encryption.org/v1\n")) }

// Open decrypts what Seal gave for the same user and side: ErrOtherKey, ErrOtherPlace.
func (k *Key) Open(user string, side config.Side, sealed []byte) (config.Secret, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), k.identity)
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrOtherKey, err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrOtherKey, err)
	}
	defer clear(plain)
	rest, ok := bytes.CutPrefix(plain, []byte(place(user, side)))
	if !ok {
		return "", ErrOtherPlace
	}
	password, padding, ok := strings.Cut(string(rest), "\x00")
	if !ok || password == "" || strings.Trim(padding, "\x00") != "" {
		return "", ErrOtherPlace
	}
	return config.Secret(password), nil
}
