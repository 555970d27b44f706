package acme

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/google/renameio/v2"
)

// ErrStorage means that the folder of certificates cannot be used.
var ErrStorage = errors.New("tls.acme.storage cannot be used")

// folder keeps account, keys and certificates, laid out as certmagic does. It implements certmagic.Storage: files are replaced in one
// step and are on disk when Store returns; locks are the system's (flock(2)), so that they end with the process, however it
// ends. It is safe for concurrent use, also by several gateways over one folder.
type folder struct {
	files certmagic.FileStorage

	mu     sync.Mutex
	locks  map[string]*os.File
	broken error                             // of the last Store that failed, until it is taken
	write  func(name string, b []byte) error // renameio, but in tests
}

func newFolder(path string) *folder {
	return &folder{files: certmagic.FileStorage{Path: path}, locks: map[string]*os.File{},
		write: func(name string, b []byte) error { return renameio.WriteFile(name, b, 0o600) }}
}

// certificates is the prefix of what certmagic keeps of certificates.
const certificates = "certificates/"

// proof is the size of what is written to see that the folder can be: more than key and certificate need, in bytes.
const proof = 32 << 10

// check makes the folder, and proves that it can be written, before an authority is asked for what could not be kept.
func (f *folder) check() error {
	path := f.files.Path
	err := os.MkdirAll(path, 0o700)
	if err == nil {
		var st os.FileInfo
		if st, err = os.Stat(path); err == nil && st.Mode().Perm()&0o077 != 0 {
			return fmt.Errorf("%w: others can read or change %s (mode %04o), where keys are; run: chmod 700 %s", ErrStorage, path, st.Mode().Perm(), path)
		}
	}
	if err == nil {
		name := filepath.Join(path, ".writable")
		err = f.write(name, make([]byte, proof))
		if gone := os.Remove(name); err == nil && !errors.Is(gone, fs.ErrNotExist) { // another gateway may look at the same moment
			err = gone
		}
	}
	if err != nil {
		return fmt.Errorf("%w, so nothing is asked for: %w", ErrStorage, err)
	}
	return nil
}

// Store implements certmagic.Storage.
func (f *folder) Store(_ context.Context, key string, value []byte) error {
	name := f.files.Filename(key)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrStorage, err)
	}
	if err := f.write(name, value); err != nil {
		err = fmt.Errorf("%w: %w", ErrStorage, err)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.broken = err
		return err
	}
	return nil
}

// takeBroken is why the last Store failed, once: certmagic passes on its text only.
func (f *folder) takeBroken() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.broken
	f.broken = nil
	return err
}

// Load implements certmagic.Storage.
func (f *folder) Load(ctx context.Context, key string) ([]byte, error) { return f.files.Load(ctx, key) }

// Delete implements certmagic.Storage, but for what belongs to certificates: certmagic deletes the key in use when the renewed
// certificate cannot be written, as on a full disk.
func (f *folder) Delete(ctx context.Context, key string) error {
	if strings.HasPrefix(key, certificates) {
		return nil
	}
	return f.files.Delete(ctx, key)
}

// Exists implements certmagic.Storage.
func (f *folder) Exists(ctx context.Context, key string) bool { return f.files.Exists(ctx, key) }

// List implements certmagic.Storage.
func (f *folder) List(ctx context.Context, path string, recursive bool) ([]string, error) {
	return f.files.List(ctx, path, recursive)
}

// Stat implements certmagic.Storage.
func (f *folder) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	return f.files.Stat(ctx, key)
}

// lockLook is how often a lock that another process has is tried again.
const lockLook = 500 * time.Millisecond

// Lock implements certmagic.Storage.
func (f *folder) Lock(ctx context.Context, name string) error {
	path := f.files.Filename("locks/" + certmagic.StorageKeys.Safe(name) + ".lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrStorage, err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStorage, err)
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			file.Close()
			return fmt.Errorf("%w: lock %s: %w", ErrStorage, path, err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return ctx.Err()
		case <-time.After(lockLook):
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.locks[name] = file
	return nil
}

// Unlock implements certmagic.Storage. The file stays: who removes it could remove another's lock.
func (f *folder) Unlock(_ context.Context, name string) error {
	f.mu.Lock()
	file := f.locks[name]
	delete(f.locks, name)
	f.mu.Unlock()
	if file == nil {
		return fmt.Errorf("lock %s is not held", name)
	}
	return file.Close()
}

// setAside puts key and certificate of a name out of the way which do not belong together, or are broken, so that new ones are made.
func (f *folder) setAside(issuer, name string) error {
	var errs []error
	for _, key := range []string{certmagic.StorageKeys.SitePrivateKey(issuer, name), certmagic.StorageKeys.SiteCert(issuer, name)} {
		file := f.files.Filename(key)
		if err := os.Rename(file, file+".unusable"); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%w: %w", ErrStorage, err))
		}
	}
	return errors.Join(errs...)
}
