package cutover

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"mailgate/config"
)

// Headers of what is sent to a server. The signature is "sha256=" and, in hex, the HMAC-SHA256 of the body with the hook's secret.
const (
	headerSignature = "X-Mailgate-Signature"
	headerEvent     = "X-Mailgate-Event"
	headerID        = "X-Mailgate-Id"
)

// post sends a call to a server. No error holds the URL, in which there may be a token.
func post(ctx context.Context, h config.Hook, call HookCall, body []byte) result {
	res, err := posted(ctx, h, call, body)
	if err == nil {
		return res
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	text := err.Error()
	if a, aerr := h.Address(); aerr == nil {
		text = strings.ReplaceAll(text, a.Reveal(), h.Where())
	}
	return result{outcome: hookFailed, said: tidied(text)}
}

func posted(ctx context.Context, h config.Hook, call HookCall, body []byte) (result, error) {
	address, err := h.Address()
	if err != nil {
		return result{}, err
	}
	secret, err := h.Secret()
	if err != nil {
		return result{}, err
	}
	trust, err := hookTrust(h.CA)
	if err != nil {
		return result{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address.Reveal(), bytes.NewReader(body))
	if err != nil {
		return result{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "mailgate")
	req.Header.Set(headerEvent, string(call.Event))
	req.Header.Set(headerID, call.ID)
	if secret != "" {
		mac := hmac.New(sha256.New, []byte(secret.Reveal()))
		mac.Write(body)
		req.Header.Set(headerSignature, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, DisableKeepAlives: true, MaxResponseHeaderBytes: maxHookSaid}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // what is told is told to the configured server, and to nobody else
	}}
	resp, err := client.Do(req)
	if err != nil {
		return result{}, err
	}
	defer resp.Body.Close()
	var got said
	if _, err := io.CopyN(&got, resp.Body, maxHookSaid+1); err != nil && !errors.Is(err, io.EOF) {
		return result{}, err
	}
	secrets := []string{secret.Reveal(), address.Reveal()}
	if path := req.URL.RequestURI(); len(path) >= tokenLength {
		secrets = append(secrets, path)
	}
	if resp.StatusCode/100 == 2 {
		return got.judge(call.Event, secrets...), nil
	}
	if a, ok := got.answer(); ok && a.Veto != "" {
		return result{outcome: hookDone, veto: tidied(without(a.Veto, secrets))}, nil
	}
	text := fmt.Sprintf("%s answers %d", h.Where(), resp.StatusCode)
	if line := got.first(secrets...); line != "" {
		text += ": " + line
	}
	return result{outcome: hookFailed, said: tidied(text)}, nil
}

// tokenLength is how long the path of a URL is, at least, that may hold a token.
const tokenLength = 16

// hookTrust is whom a server's certificate may be signed by.
func hookTrust(file string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if file == "" {
		return c, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", file)
	}
	return c, nil
}
