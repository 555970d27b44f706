package mailtest

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// Errors of an exchange of SCRAM.
var (
	ErrScramProof  = errors.New("scram: the other end does not know the password")
	errScramSyntax = errors.New("scram: not a message of this step")
)

// scramSum is a mechanism's hash.
func scramSum(mechanism string) func() hash.Hash {
	if mechanism == "SCRAM-SHA-1" {
		return sha1.New
	}
	return sha256.New
}

// scramKeys are made of a password (RFC 5802, section 3).
type scramKeys struct{ client, stored, server []byte }

func newScramKeys(sum func() hash.Hash, password string, salt []byte, iterations int) (k scramKeys, err error) {
	salted, err := pbkdf2.Key(sum, password, salt, iterations, sum().Size())
	if err != nil {
		return k, err
	}
	k.client, k.server = mac(sum, salted, "Client Key"), mac(sum, salted, "Server Key")
	h := sum()
	h.Write(k.client)
	k.stored = h.Sum(nil)
	return k, nil
}

func mac(sum func() hash.Hash, key []byte, text string) []byte {
	h := hmac.New(sum, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	subtle.XORBytes(out, a, b)
	return out
}

// scramNonce is 24 random bytes.
func scramNonce() string {
	var b [18]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.StdEncoding.EncodeToString(b[:])
}

// ScramClient is the client's end of SCRAM-SHA-256 or SCRAM-SHA-1 (RFC 5802), for names and passwords of ASCII.
type ScramClient struct {
	sum            func() hash.Hash
	user, password string
	gs2, bare      string
	signature      []byte
	done           bool
}

// NewScramClient makes a client whose GS2 header is "n,,", or another one such as "y,,".
func NewScramClient(mechanism, gs2, user, password string) *ScramClient {
	return &ScramClient{sum: scramSum(mechanism), user: user, password: password, gs2: gs2}
}

// First is the first message.
func (c *ScramClient) First() string {
	c.bare = "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(c.user) + ",r=" + scramNonce()
	return c.gs2 + c.bare
}

// Next answers a challenge: the server's first message by the proof, its last one by nothing, once it is known to be the server.
func (c *ScramClient) Next(challenge string) (string, error) {
	if c.signature != nil {
		return "", c.Verify(challenge)
	}
	var nonce string
	var salt []byte
	iterations := 0
	for f := range strings.SplitSeq(challenge, ",") {
		key, value, _ := strings.Cut(f, "=")
		var err error
		switch key {
		case "r":
			nonce = value
		case "s":
			salt, err = base64.StdEncoding.DecodeString(value)
		case "i":
			iterations, err = strconv.Atoi(value)
		}
		if err != nil {
			return "", errScramSyntax
		}
	}
	_, mine, _ := strings.Cut(c.bare, ",r=")
	if !strings.HasPrefix(nonce, mine) || nonce == mine || salt == nil || iterations < 1 || iterations > 1<<20 {
		return "", errScramSyntax
	}
	k, err := newScramKeys(c.sum, c.password, salt, iterations)
	if err != nil {
		return "", err
	}
	last := "c=" + base64.StdEncoding.EncodeToString([]byte(c.gs2)) + ",r=" + nonce
	all := c.bare + "," + challenge + "," + last
	c.signature = mac(c.sum, k.server, all)
	return last + ",p=" + base64.StdEncoding.EncodeToString(xor(k.client, mac(c.sum, k.stored, all))), nil
}

// Verify reads the server's last message, which may come with its OK.
func (c *ScramClient) Verify(last string) error {
	text, ok := strings.CutPrefix(last, "v=")
	got, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || c.signature == nil || !bytes.Equal(got, c.signature) {
		return fmt.Errorf("%w: %q", ErrScramProof, last)
	}
	c.done = true
	return nil
}

// Verified tells whether the server has proved itself.
func (c *ScramClient) Verified() bool { return c.done }

// ScramServer is the server's end; it knows one password.
type ScramServer struct {
	sum    func() hash.Hash
	keys   scramKeys
	salt   []byte
	rounds int // iterations

	User        string // as the client's first message has it, escapes and all
	gs2, before string
	nonce       string
}

// NewScramServer makes the keys, which costs iterations.
func NewScramServer(mechanism, password string, iterations int) (*ScramServer, error) {
	s := &ScramServer{sum: scramSum(mechanism), salt: []byte("salt of the tests"), rounds: iterations}
	var err error
	s.keys, err = newScramKeys(s.sum, password, s.salt, iterations)
	return s, err
}

// Fresh is another exchange with the same keys.
func (s *ScramServer) Fresh() *ScramServer {
	return &ScramServer{sum: s.sum, keys: s.keys, salt: s.salt, rounds: s.rounds}
}

// First answers the client's first message.
func (s *ScramServer) First(message string) (string, error) {
	f := strings.SplitN(message, ",", 3)
	if len(f) < 3 {
		return "", errScramSyntax
	}
	user, nonce, ok := strings.Cut(f[2], ",r=")
	if !ok || !strings.HasPrefix(user, "n=") {
		return "", errScramSyntax
	}
	s.User, s.gs2, s.nonce = user[2:], f[0]+","+f[1]+",", nonce+scramNonce()
	first := "r=" + s.nonce + ",s=" + base64.StdEncoding.EncodeToString(s.salt) + ",i=" + strconv.Itoa(s.rounds)
	s.before = f[2] + "," + first + ","
	return first, nil
}

// Last answers the proof, or tells that it is none (ErrScramProof).
func (s *ScramServer) Last(message string) (string, error) {
	without, proof, ok := strings.Cut(message, ",p=")
	p, err := base64.StdEncoding.DecodeString(proof)
	if !ok || err != nil || len(p) != len(s.keys.stored) || without != "c="+base64.StdEncoding.EncodeToString([]byte(s.gs2))+",r="+s.nonce {
		return "", errScramSyntax
	}
	all := s.before + without
	h := s.sum()
	h.Write(xor(p, mac(s.sum, s.keys.stored, all)))
	if !hmac.Equal(h.Sum(nil), s.keys.stored) {
		return "", ErrScramProof
	}
	return "v=" + base64.StdEncoding.EncodeToString(mac(s.sum, s.keys.server, all)), nil
}
