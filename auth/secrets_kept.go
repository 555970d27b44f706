package auth

import (
	"cmp"
	"os"
	"sync"
	"syscall"
	"time"

	"mailgate/config"
)

// SecretsFile reads a file of passwords as ReadSecrets does, and takes it apart anew only when it is another one than before: with very
// many users that costs more than a login. The zero value is ready. It is safe for concurrent use.
type SecretsFile struct {
	grain   time.Duration // 0 means stampGrain; tests are in a hurry
	mu      sync.Mutex
	stamp   stamp
	path    string
	secrets map[string]config.Secret // nil while what was read may not be used again
}

// stamp is how a file looks from outside. Its change time is nobody's to choose: what is written into it, and a mode that lets others in,
// show there.
type stamp struct {
	device, inode uint64
	size          int64
	changed       syscall.Timespec
}

// stampOf looks at a file; ok is false when that cannot be.
func stampOf(path string) (s stamp, ok bool) {
	info, err := os.Stat(path)
	if err != nil {
		return s, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return s, false
	}
	return stamp{uint64(st.Dev), st.Ino, st.Size, st.Ctim}, true
}

// stampGrain is how long a file must have stood still for its stamp to be believed: clocks of file systems are coarse, and two changes
// within a tick look like one.
const stampGrain = 2 * time.Second

// Read gives the passwords by address. The map is shared: it must not be changed.
func (f *SecretsFile) Read(path string) (map[string]config.Secret, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, ok := stampOf(path)
	if ok && f.secrets != nil && path == f.path && before == f.stamp {
		return f.secrets, nil
	}
	f.secrets = nil
	began := time.Now()
	all, err := ReadSecrets(path)
	if err != nil {
		return nil, err
	}
	after, still := stampOf(path)
	if ok && still && before == after && began.Sub(time.Unix(after.changed.Unix())) > cmp.Or(f.grain, stampGrain) {
		f.path, f.stamp, f.secrets = path, after, all
	}
	return all, nil
}
