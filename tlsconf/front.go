package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"mailgate/config"
)

// Certificates are those of the listeners. They are safe for concurrent use; a reload changes handshakes to come.
type Certificates struct {
	log *slog.Logger
	set atomic.Pointer[certSet]
}

type certSet struct {
	conf    config.TLS
	certs   []*tls.Certificate
	clients *authorities // of clients' certificates; nil when none are asked for
	stamp   string
	tls     *tls.Config
}

// NewCertificates reads all chains and keys, or fails. Without any, TLS handshakes fail.
func NewCertificates(c config.TLS, log *slog.Logger) (*Certificates, error) {
	f := &Certificates{log: log}
	return f, f.Apply(c)
}

// Apply reads the files of a configuration. On an error the old certificates stay.
func (f *Certificates) Apply(c config.TLS) error {
	s := &certSet{conf: c, stamp: stamp(c)}
	for _, k := range c.Certificates {
		crt, err := tls.LoadX509KeyPair(k.Cert, k.Key)
		if err != nil {
			return fmt.Errorf("certificate %s: %w", k.Cert, err)
		}
		s.certs = append(s.certs, &crt)
	}
	var err error
	if s.clients, err = readAuthorities(c.ClientCA); err != nil {
		return err
	}
	// One tls.Config for all handshakes: it holds the keys of session tickets.
	s.tls = &tls.Config{MinVersion: minVersion(c), GetCertificate: f.get}
	s.clients.ask(s.tls)
	if old := f.set.Load(); old != nil && old.conf.MinVersion == c.MinVersion && old.clients.same(s.clients) {
		s.tls = old.tls
	}
	f.set.Store(s)
	return nil
}

func minVersion(c config.TLS) uint16 {
	if c.MinVersion == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// Config is what tls.Server takes. It follows reloads.
func (f *Certificates) Config() *tls.Config { return f.set.Load().tls }

// get chooses by name: the first certificate that the client can use for the name it asks for, else the first that it
// can use at all (RFC 6066, section 3).
func (f *Certificates) get(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	certs := f.set.Load().certs
	if len(certs) == 0 {
		return nil, errors.New("no certificate is configured")
	}
	for _, c := range certs {
		if h.SupportsCertificate(c) == nil {
			return c, nil
		}
	}
	nameless := *h
	nameless.ServerName = ""
	for _, c := range certs {
		if nameless.SupportsCertificate(c) == nil {
			return c, nil
		}
	}
	return certs[0], nil
}

// Leaves are the certificates in use.
func (f *Certificates) Leaves() []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range f.set.Load().certs {
		if leaf, err := x509.ParseCertificate(c.Certificate[0]); err == nil {
			out = append(out, leaf)
		}
	}
	return out
}

// Watch reads the files again when they change, until ctx ends. It looks every interval: a renewal may be hours early,
// and a look costs two stat calls a file.
func (f *Certificates) Watch(ctx context.Context, interval time.Duration) {
	t := time.NewTicker(interval)
	defer t.Stop()
	failed := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		s := f.set.Load()
		now := stamp(s.conf)
		if now == s.stamp || now == failed {
			continue
		}
		if err := f.Apply(s.conf); err != nil {
			failed = now
			f.log.Error("certificates changed and cannot be used; the old ones stay", "err", err)
			continue
		}
		f.log.Info("certificates read again")
	}
}

func inode(st os.FileInfo) uint64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}

// stamp changes when one of the files does; symbolic links are followed.
func stamp(c config.TLS) string {
	s := ""
	files := []string{c.ClientCA}
	for _, k := range c.Certificates {
		files = append(files, k.Cert, k.Key)
	}
	for _, file := range files {
		if file != "" {
			if st, err := os.Stat(file); err == nil {
				s += fmt.Sprint(st.ModTime().UnixNano(), st.Size(), inode(st), ";")
			}
		}
	}
	return s
}
