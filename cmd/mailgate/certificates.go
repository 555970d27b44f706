package main

import (
	"fmt"
	"io"
	"strings"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/tlsconf"
	"mailgate/tlsconf/acme"
)

// openCertificates reads the certificates of files, and those that were had from an authority before. None is asked for yet: what
// there is must do until then.
func (g *gateway) openCertificates(conf *config.Config) (err error) {
	if g.certs, err = tlsconf.NewCertificates(conf.TLS, g.log); err != nil {
		return err
	}
	for _, text := range conf.Warnings() {
		g.log.Warn(text)
	}
	if !conf.TLS.ACME.On() {
		return nil
	}
	g.acme, err = acme.New(acme.Options{Config: conf.TLS.ACME, Certificates: g.certs, Log: g.log, Recorder: g.metrics})
	if err == nil && g.noCertificate() {
		g.log.Warn("there is no certificate yet, so no client can use TLS until the authority gives one")
	}
	return err
}

// noCertificate tells whether clients need one and there is none.
func (g *gateway) noCertificate() bool {
	if g.certs == nil || len(g.certs.Leaves()) > 0 {
		return false
	}
	for _, e := range g.conf.Load().Listen {
		if e.Mode != config.Plain {
			return true
		}
	}
	return false
}

// managed is how it stands with the certificates that are had from an authority.
func (g *gateway) managed() (out []admin.Managed) {
	if g.acme == nil {
		return nil
	}
	for _, s := range g.acme.Status() {
		out = append(out, admin.Managed{Name: s.Name, Until: s.NotAfter, Renewal: s.RenewAt, Error: s.Error, Tried: s.Tried, Next: s.Next})
	}
	return out
}

// certificateTrouble is a line for each name whose last request failed.
func (g *gateway) certificateTrouble() (out []string) {
	for _, m := range g.managed() {
		if m.Error != "" {
			out = append(out, "certificate "+m.Name+": "+managedText(m))
		}
	}
	return out
}

// managedText tells how it stands with a name, in a line.
func managedText(m admin.Managed) string {
	var parts []string
	if m.Until.IsZero() {
		parts = append(parts, "none yet")
	} else {
		parts = append(parts, fmt.Sprintf("until %s, renewed from %s on", stamp(m.Until), stamp(m.Renewal)))
	}
	switch {
	case m.Error != "":
		parts = append(parts, fmt.Sprintf("the request of %s failed: %s", stamp(m.Tried), strings.ReplaceAll(m.Error, "\n", " ")), "again at "+stamp(m.Next))
	case m.Until.IsZero():
		parts = append(parts, "being asked for")
	}
	return strings.Join(parts, "; ")
}

func printManaged(w io.Writer, list []admin.Managed) {
	for _, m := range list {
		fmt.Fprintf(w, "certificate %s\t%s\n", m.Name, managedText(m))
	}
}
