package admin

import (
	"cmp"
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
		return WithOrigin(ctx, fmt.Sprintf("control socket, pid %d, uid %s", pid, who))
	}
	return ctx
}

// WithOrigin notes where the requests with ctx come from: what another node says of those that it passes on.
func WithOrigin(ctx context.Context, where string) context.Context {
	return context.WithValue(ctx, peerKey{}, where)
}

// Origin is what was noted of that, "" where nothing was.
func Origin(ctx context.Context) string {
	where, _ := ctx.Value(peerKey{}).(string)
	return where
}

// From tells where a request came from. What the caller says of his SSH connection is his word, and the rest the system's.
func From(ctx context.Context, ssh string) string {
	where := cmp.Or(Origin(ctx), "a verb that opened the store itself")
	if ssh := strings.Fields(ssh); len(ssh) > 1 {
		const most = 64 // bytes of an address
		where += ", ssh from " + ssh[0][:min(len(ssh[0]), most)]
	}
	return where
}

func from(r *http.Request) string { return From(r.Context(), r.FormValue("ssh")) }
