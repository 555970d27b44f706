package auth

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/go-crypt/crypt/algorithm/bcrypt"
	"github.com/go-crypt/crypt/algorithm/md5crypt"
	"github.com/go-crypt/crypt/algorithm/shacrypt"
)

// errHash means that a stored password is in no form that is understood. What it is, is not told.
var errHash = errors.New("not understood; write {BLF-CRYPT}$2y$..., {SHA512-CRYPT}$6$..., {ARGON2ID}$argon2id$... or {SSHA}..., as doveadm pw and htpasswd -B do")

// stored is a password as it stands in a file: a hash, and how it was made. Comparing takes the same time wherever they differ.
type stored struct {
	match func(password string) (bool, error)
	kind  string // scheme and cost, without salt and hash: those of a kind cost the same
}

// parseStored reads "{SCHEME}hash" as Dovecot has it, or without a scheme what crypt(5) and htpasswd write. Errors never hold the text.
func parseStored(text string) (stored, error) {
	scheme, body := "", text
	if rest, ok := strings.CutPrefix(text, "{"); ok {
		if scheme, body, ok = strings.Cut(rest, "}"); !ok {
			return stored{}, errHash
		}
	}
	switch scheme = strings.ToUpper(scheme); scheme {
	case "PLAIN", "CLEARTEXT":
		if body == "" {
			return stored{}, errHash
		}
		return stored{kind: scheme, match: func(p string) (bool, error) { return subtle.ConstantTimeCompare([]byte(p), []byte(body)) == 1, nil }}, nil
	case "SHA", "SHA1", "SSHA":
		return parseDigest(scheme, body, sha1.New, sha1.Size)
	case "SHA256", "SSHA256":
		return parseDigest(scheme, body, sha256.New, sha256.Size)
	case "SHA512", "SSHA512":
		return parseDigest(scheme, body, sha512.New, sha512.Size)
	}
	return parseCrypt(scheme, body)
}

// parseDigest reads base64 of a hash, and of the salt behind it where the scheme has one.
func parseDigest(scheme, body string, algorithm func() hash.Hash, size int) (stored, error) {
	b, err := base64.StdEncoding.DecodeString(body)
	salted := strings.HasPrefix(scheme, "SS")
	if err != nil || len(b) < size || salted != (len(b) > size) {
		return stored{}, errHash
	}
	return stored{kind: scheme, match: func(p string) (bool, error) {
		h := algorithm()
		h.Write([]byte(p))
		h.Write(b[size:])
		return subtle.ConstantTimeCompare(h.Sum(nil), b[:size]) == 1, nil
	}}, nil
}

// maxBcrypt is how much of a password bcrypt heeds, in bytes; Dovecot and htpasswd cut it there.
const maxBcrypt = 72

// parseCrypt reads "$id$...". The scheme, where there is one, must say the same.
func parseCrypt(scheme, body string) (stored, error) {
	f := strings.Split(body, "$")
	if len(f) < 4 || f[0] != "" {
		return stored{}, errHash
	}
	var names string // schemes of Dovecot for it
	var decode algorithm.DecodeFunc
	most := 0
	switch f[1] {
	case "2", "2a", "2b", "2y":
		names, decode, most = "BLF-CRYPT CRYPT", bcrypt.Decode, maxBcrypt
	case "5":
		names, decode = "SHA256-CRYPT CRYPT", shacrypt.Decode
	case "6":
		names, decode = "SHA512-CRYPT CRYPT", shacrypt.Decode
	case "argon2id":
		names, decode = "ARGON2ID ARGON2", argon2.Decode
	case "argon2i":
		names, decode = "ARGON2I ARGON2", argon2.Decode
	case "1":
		names, decode = "MD5-CRYPT MD5 CRYPT", md5crypt.Decode
	default:
		return stored{}, errHash
	}
	if scheme != "" && !strings.Contains(" "+names+" ", " "+scheme+" ") {
		return stored{}, errHash
	}
	d, err := decode(body)
	if err != nil { // its text holds parts of the hash
		return stored{}, errHash
	}
	kind := strings.Join(f[:len(f)-1], "$")
	if i := strings.LastIndexByte(kind, '$'); most == 0 && i > 0 { // in bcrypt the salt stands with the hash
		kind = kind[:i]
	}
	return stored{kind: kind, match: func(p string) (bool, error) {
		if most > 0 && len(p) > most {
			p = p[:most]
		}
		ok, err := d.MatchAdvanced(p)
		if err != nil {
			return false, fmt.Errorf("the stored hash cannot be compared: %w", errHash)
		}
		return ok, nil
	}}, nil
}
