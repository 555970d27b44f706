package backend

// plain tells whether a password goes by PLAIN rather than by LOGIN: what is configured, or what the server lists.
func (c *conn) plain(listed bool) bool {
	switch c.conf.Auth {
	case "plain":
		return true
	case "login":
		return false
	}
	return listed
}
