package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/caddyserver/certmagic"

	"mailgate/config"
)

// ErrUnusable means that a certificate that was kept cannot be used: its key is another, or one of the files is broken.
var ErrUnusable = errors.New("the certificate that was kept cannot be used")

// Stored reads the certificate of a name as it was kept last; its Leaf is set. The error is fs.ErrNotExist when there is none yet.
func Stored(c config.ACME, name string) (*tls.Certificate, error) {
	return newFolder(c.Storage).certificate(issuerKey(c), name)
}

func (f *folder) certificate(issuer, name string) (*tls.Certificate, error) {
	chain, err := f.Load(context.Background(), certmagic.StorageKeys.SiteCert(issuer, name))
	if err != nil {
		return nil, err
	}
	key, err := f.Load(context.Background(), certmagic.StorageKeys.SitePrivateKey(issuer, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: its key is not there", ErrUnusable)
	}
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	return &pair, nil
}

// issuerKey is the authority's name in the folder, as certmagic makes it of the directory's URL.
func issuerKey(c config.ACME) string {
	return (&certmagic.ACMEIssuer{CA: c.Directory}).IssuerKey()
}

// shortLived is a lifetime under which certificates are renewed at half of it, as authorities ask for; others when a third is left.
const shortLived = 10 * 24 * time.Hour

// RenewAt is when a certificate is due.
func RenewAt(c *tls.Certificate) time.Time {
	life := c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)
	if life < shortLived {
		return c.Leaf.NotAfter.Add(-life / 2)
	}
	return c.Leaf.NotAfter.Add(-life / 3)
}
