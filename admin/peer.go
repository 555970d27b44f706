package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"strconv"
	"strings"
)

type peerKey struct{}

// WithPeer is for http.Server.ConnContext: it notes which process is at the other end of a local socket, for the history.
func WithPeer(ctx context.Context, c net.Conn) context.Context {
	if pid, uid, ok := peerOf(c); ok {
		who := strconv.Itoa(uid)
		if u, err := user.LookupId(who); err == nil {
			who += " (" + u.Username + ")"
		}
		return context.WithValue(ctx, peerKey{}, fmt.Sprintf("control socket, pid %d, uid %s", pid, who))
	}
	return ctx
}

// from tells where a request came from. What the caller says of his SSH connection is his word, and the rest the system's.
func from(r *http.Request) string {
	where, ok := r.Context().Value(peerKey{}).(string)
	if !ok {
		where = "a verb that opened the store itself"
	}
	if ssh := strings.Fields(r.FormValue("ssh")); len(ssh) > 1 {
		const most = 64 // bytes of an address
		where += ", ssh from " + ssh[0][:min(len(ssh[0]), most)]
	}
	return where
}
