package logins

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"mailgate/config"
)

// What a hash costs: 19 MiB and two passes on one core, some 20 to 50 ms; NEW pays as much for each login. It is the first choice of
// OWASP's table for argon2id.
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonSalt   = 16 // bytes
	argonKey    = 32 // bytes
)

// A hash that came into the store by an import may ask for no more than this.
const (
	mostArgonMemory = 256 << 10 // KiB
	mostArgonTime   = 16
	mostArgonBytes  = 64 // of salt and of key
)

// errHash means that a text is no hash as Hash gives it.
var errHash = errors.New("that is no argon2id hash of version 19")

// Hash makes an argon2id hash of a password (RFC 9106) in the form that crypt(3) gave the name to:
// $argon2id$v=19$m=...,t=...,p=1$SALT$KEY.
func Hash(password config.Secret) string { return hashWith(password, argonMemory, argonTime) }

// hashWith makes one of another cost: memory in KiB, and passes.
func hashWith(password config.Secret, memory, passes uint32) string {
	salt := make([]byte, argonSalt)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	key := argon2.IDKey([]byte(password.Reveal()), salt, passes, memory, 1, argonKey)
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=1$%s$%s", memory, passes, b64(salt), b64(key))
}

// Matches tells whether a hash is that of a password. What is no hash, or would cost too much, matches nothing.
func Matches(hash string, password config.Secret) bool {
	h, err := parseHash(hash)
	if err != nil {
		return false
	}
	key := argon2.IDKey([]byte(password.Reveal()), h.salt, h.time, h.memory, h.lanes, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

type argonHash struct {
	memory, time uint32
	lanes        uint8
	salt, key    []byte
}

func parseHash(text string) (h argonHash, err error) {
	f := strings.Split(text, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != "v=19" {
		return h, errHash
	}
	if _, err := fmt.Sscanf(f[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.lanes); err != nil ||
		f[3] != fmt.Sprintf("m=%d,t=%d,p=%d", h.memory, h.time, h.lanes) {
		return h, errHash
	}
	if h.memory > mostArgonMemory || h.time < 1 || h.time > mostArgonTime || h.lanes < 1 || h.memory < 8*uint32(h.lanes) {
		return h, errHash
	}
	var errs [2]error
	h.salt, errs[0] = base64.RawStdEncoding.DecodeString(f[4])
	h.key, errs[1] = base64.RawStdEncoding.DecodeString(f[5])
	if errors.Join(errs[:]...) != nil || len(h.salt) < 8 || len(h.salt) > mostArgonBytes || len(h.key) < 16 || len(h.key) > mostArgonBytes {
		return h, errHash
	}
	return h, nil
}

// IsHash tells whether a text is a hash as Hash gives it.
func IsHash(text string) bool {
	_, err := parseHash(text)
	return err == nil
}
