package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mailgate/config"
)

// Certificates are those of the listeners: from files, and from whoever gets them while we serve (SetManaged). They are safe for
// concurrent use; a reload changes handshakes to come.
type Certificates struct {
	log        *slog.Logger
	set        atomic.Pointer[certSet]
	managed    atomic.Pointer[[]*tls.Certificate]
	challenges challenges
	applying   sync.Mutex
}

type certSet struct {
	conf    config.TLS
	certs   []*tls.Certificate // of files
	clients *authorities       // of clients' certificates; nil when none are asked for
	stamp   string
	tls     map[string]*tls.Config // by the oldest version that a listener takes, "" for tls.min_version
}

// NewCertificates reads all chains and keys, or fails. Without any, TLS handshakes fail.
func NewCertificates(c config.TLS, log *slog.Logger) (*Certificates, error) {
	f := &Certificates{log: log}
	f.managed.Store(&[]*tls.Certificate{})
	return f, f.Apply(c)
}

// Apply reads the files of a configuration. On an error the old certificates and ticket keys stay.
func (f *Certificates) Apply(c config.TLS) error {
	f.applying.Lock()
	defer f.applying.Unlock()
	return f.apply(c)
}

// apply is Apply; applying is held.
func (f *Certificates) apply(c config.TLS) error {
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
	var keys [][32]byte
	if c.TicketKeys != "" {
		var err error
		if keys, err = config.TicketKeys(c.TicketKeys); err != nil {
			return fmt.Errorf("tls.ticket_keys: %w", err)
		}
	}
	// One tls.Config for all handshakes of a kind: it holds the keys of session tickets, of its own making where no file has them.
	if old := f.set.Load(); old != nil && old.conf.MinVersion == c.MinVersion && (old.conf.TicketKeys == "") == (c.TicketKeys == "") && old.clients.same(s.clients) {
		s.tls = old.tls
	} else {
		s.tls = f.configs(c)
		for _, t := range s.tls {
			s.clients.ask(t)
		}
	}
	if len(keys) > 0 {
		for _, t := range s.tls {
			t.SetSessionTicketKeys(keys)
		}
	}
	f.set.Store(s)
	return nil
}

// Config is what tls.Server takes on most listeners. It follows reloads.
func (f *Certificates) Config() *tls.Config { return f.ConfigFor("") }

// ConfigFor is the same for a listener that takes versions from oldest on (config.Endpoint.OldTLS).
func (f *Certificates) ConfigFor(oldest string) *tls.Config { return f.set.Load().tls[oldest] }

// SetManaged puts certificates beside those of the files: they come first for the names that they are for. Each has its Leaf. The
// list must not be changed afterwards.
func (f *Certificates) SetManaged(certs []*tls.Certificate) { f.managed.Store(&certs) }

// ErrNoCertificate means that there is none yet.
var ErrNoCertificate = errors.New("there is no certificate")

// get chooses by name: a certificate that the client can use for the name it asks for, else one that it can use at all (RFC 6066,
// section 3); in order, but one that has expired only when there is no other.
func (f *Certificates) get(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	files, managed, now := f.set.Load().certs, *f.managed.Load(), time.Now()
	if len(files)+len(managed) == 0 {
		return nil, ErrNoCertificate
	}
	if h.ServerName != "" {
		if c := usable(h, now, managed, files); c != nil {
			return c, nil
		}
	}
	nameless := *h
	nameless.ServerName = ""
	if c := usable(&nameless, now, files, managed); c != nil {
		return c, nil
	}
	if len(files) > 0 {
		return files[0], nil
	}
	return managed[0], nil
}

// usable is the first certificate of the lists that a client can use: the first that has not expired, if any.
func usable(h *tls.ClientHelloInfo, now time.Time, lists ...[]*tls.Certificate) (late *tls.Certificate) {
	for _, list := range lists {
		for _, c := range list {
			if h.SupportsCertificate(c) != nil {
				continue
			}
			if c.Leaf == nil || now.Before(c.Leaf.NotAfter) {
				return c
			}
			if late == nil {
				late = c
			}
		}
	}
	return late
}

// Leaves are the certificates in use; those of one name in the order in which they are chosen, but for their dates.
func (f *Certificates) Leaves() []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range slices.Concat(*f.managed.Load(), f.set.Load().certs) {
		if leaf, err := x509.ParseCertificate(c.Certificate[0]); err == nil {
			out = append(out, leaf)
		}
	}
	return out
}

// Watch reads the files again when they change, until ctx ends. It looks every interval: a renewal may be hours early,
// and a look costs two stat calls a certificate.
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
		f.applying.Lock()
		if f.set.Load() != s { // a reload has put others in force meanwhile
			f.applying.Unlock()
			continue
		}
		err := f.apply(s.conf)
		f.applying.Unlock()
		if err != nil {
			failed = now
			f.log.Error("certificates or ticket keys changed and cannot be used; the old ones stay", "err", err)
			continue
		}
		f.log.Info("certificates and ticket keys read again")
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
	look := func(file string) {
		if st, err := os.Stat(file); err == nil {
			s += fmt.Sprint(st.ModTime().UnixNano(), st.Size(), inode(st), st.Mode(), ";")
		}
	}
	for _, k := range c.Certificates {
		look(k.Cert)
		look(k.Key)
	}
	for _, file := range []string{c.TicketKeys, c.ClientCA} {
		if file != "" {
			look(file)
		}
	}
	return s
}
