package proxy

import (
	"crypto/tls"
	"slices"

	"mailgate/auth"
)

// identify keeps whom the client's certificate speaks of, if he has shown one that counts.
func (c *client) identify(s tls.ConnectionState) {
	cert := c.srv.certs.Client(s)
	if cert == nil {
		return
	}
	name := auth.CertificateUser(cert)
	user, err := c.set.addresses.Canonical(name) // an address, and no login name of one side: issuers know of none
	if err != nil || !c.known(user) {
		c.srv.log.Info("certificate of nobody", "protocol", c.ln.Protocol, "client", c.addr, "name", name)
		return
	}
	c.identity = user
}

// known tells whether a user is one of ours: a certificate that speaks of somebody else lets nobody in, whatever the default side is.
func (c *client) known(user string) bool {
	_, known := c.srv.router.Lookup(user)
	return known || c.set.routes.Users[user] != nil
}

// external tells whether the client may log in with his certificate: his side must take the gateway's word for it, by its master user.
func (c *client) external() bool {
	if c.identity == "" {
		return false
	}
	p, _ := c.srv.router.Lookup(c.identity)
	at := c.target(c.identity, p)
	who, err := c.srv.master(at.Side, c.ln.Protocol, at.login)
	if err != nil {
		return false
	}
	for _, host := range c.srv.dialer.Names(at.Side, c.ln.Protocol) {
		if (at.host == "" || at.host == host) && (who.Only == nil || who.Only(host)) {
			return true
		}
	}
	return false
}

// mechanisms are the SASL mechanisms that this client may use.
func (c *client) mechanisms() []string {
	out := c.srv.mechanisms(c.set, c.ln.Protocol)
	if c.external() {
		out = append(out, "EXTERNAL")
	}
	return out
}

// exchange begins a SASL exchange; errMechanism for one that is not offered.
func (c *client) exchange(mechanism string) (auth.Exchange, error) {
	if !slices.Contains(c.mechanisms(), mechanism) {
		return nil, errMechanism
	}
	if mechanism == "EXTERNAL" {
		return auth.External(c.identity, func(authzid string) bool {
			user, err := c.set.routes.Lookup(c.set.addresses, authzid)
			return err == nil && user == c.identity
		}), nil
	}
	return auth.Start(mechanism)
}
