package auth

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"mailgate/config"
)

// introspector asks an authorization server whose token it is (RFC 7662). It is safe for concurrent use.
type introspector struct {
	conf      config.OAuth
	secret    config.Secret
	canonical func(name string) (string, error)
	client    *http.Client
	transport *http.Transport
	now       func() time.Time

	mu    sync.Mutex
	known lru[[sha256.Size]byte, believed] // tokens are kept as sums only
}

// believed is an answer that counts for a while.
type believed struct {
	user  string
	until time.Time
}

// maxAnswer bounds the answer of an authorization server, in bytes.
const maxAnswer = 64 << 10

func newIntrospector(c config.OAuth, canonical func(string) (string, error)) (*introspector, error) {
	x := &introspector{conf: c, canonical: canonical, now: time.Now}
	trust, err := trusting(c.CA)
	if err != nil {
		return nil, err
	}
	if c.ClientSecret != "" {
		if x.secret, err = ReadSecretFile(c.ClientSecret); err != nil {
			return nil, err
		}
	}
	x.transport = &http.Transport{TLSClientConfig: trust, DialContext: (&net.Dialer{Timeout: c.Timeout}).DialContext,
		TLSHandshakeTimeout: c.Timeout, MaxIdleConnsPerHost: 8, MaxConnsPerHost: maxDirectoryConnections, IdleConnTimeout: 30 * time.Second,
		MaxResponseHeaderBytes: maxAnswer, ForceAttemptHTTP2: true}
	x.client = &http.Client{Transport: x.transport, Timeout: c.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // a token is shown to the configured address, and to nobody else
	}}
	return x, nil
}

func (x *introspector) close() { x.transport.CloseIdleConnections() }

// verify asks whether a token is active, and the user's.
func (x *introspector) verify(ctx context.Context, user string, token config.Secret) error {
	sum := sha256.Sum256([]byte(token.Reveal()))
	x.mu.Lock()
	b, ok := x.known.get(sum)
	x.mu.Unlock()
	if !ok || !x.now().Before(b.until) {
		var err error
		if b, err = x.ask(ctx, token); err != nil {
			return err
		}
		if b.until.After(x.now()) {
			x.mu.Lock()
			x.known.put(sum, b)
			x.mu.Unlock()
		}
	}
	if b.user != user {
		return &RefusedError{config.ByOAuth, "the token is another user's"}
	}
	return nil
}

// ask makes the request of RFC 7662, section 2.1. The error is a *RefusedError where the server says that the token is not active.
func (x *introspector) ask(ctx context.Context, token config.Secret) (b believed, err error) {
	fail := func(format string, args ...any) (believed, error) {
		return believed{}, fmt.Errorf("authority.oauth: "+format, args...)
	}
	form := url.Values{"token": {token.Reveal()}, "token_type_hint": {"access_token"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, x.conf.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return fail("%w", err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	if x.conf.ClientID != "" { // RFC 6749, section 2.3.1
		r.SetBasicAuth(url.QueryEscape(x.conf.ClientID), url.QueryEscape(x.secret.Reveal()))
	}
	asked := x.now()
	resp, err := x.client.Do(r)
	if err != nil {
		return fail("%w", err) // it names the address, never what was sent
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fail("the answer: %w", err)
	case resp.StatusCode != http.StatusOK:
		return fail("the server answers %s; are client_id and client_secret right?", resp.Status)
	case len(body) > maxAnswer:
		return fail("the answer is longer than %d bytes", maxAnswer)
	}
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(body, &answer); err != nil {
		return fail("the answer is no JSON object")
	}
	var active bool
	if err := json.Unmarshal(answer["active"], &active); err != nil {
		return fail("the answer does not say whether the token is active (RFC 7662, section 2.2)")
	}
	if !active {
		return b, &RefusedError{config.ByOAuth, "the token is not active"}
	}
	b.until = asked.Add(x.conf.Cache)
	if raw, there := answer["exp"]; there {
		var exp float64
		if err := json.Unmarshal(raw, &exp); err != nil {
			return fail("exp is no number")
		}
		end := time.Unix(int64(exp), 0)
		if !asked.Before(end) {
			return b, &RefusedError{config.ByOAuth, "the token has expired"}
		}
		if end.Before(b.until) {
			b.until = end
		}
	}
	var name string
	if err := json.Unmarshal(answer[x.conf.Claim], &name); err != nil || name == "" {
		return fail("the answer has no %s; authority.oauth.claim names the member that says whose token it is", x.conf.Claim)
	}
	if b.user, err = x.canonical(name); err != nil {
		return b, &RefusedError{config.ByOAuth, "the token's user is no address"}
	}
	return b, nil
}
