package backend

import "mailgate/config"

// Load tells how many connections to a host of a side there are, of user sessions and of the syncer, and how many there may be
// (max_connections); most is 0 where there is no cap. With name "" it is the sum over all hosts of the side that serve IMAP.
func (d *Dialer) Load(at config.Side, name string) (open, most int) {
	s := d.sides[at].Load()
	for _, h := range s.hosts {
		if h.IMAP.Host == "" || name != "" && h.Name != name {
			continue
		}
		h.mu.Lock()
		open += h.open
		h.mu.Unlock()
		most += s.MaxConnections
	}
	return open, most
}
