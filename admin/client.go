package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
)

// ErrNotRunning means that nothing serves the control socket.
var ErrNotRunning = errors.New("mailgate serve is not running")

// Client calls a running gateway over its control socket, or an API of the same process.
type Client struct {
	Socket string
	Local  http.Handler // instead of the socket
}

// ErrNotAllowed means that the control socket is somebody else's.
var ErrNotAllowed = errors.New("this user may not ask mailgate serve: run it as the user that serve runs as, or with sudo")

// trouble words why the gateway cannot be asked.
func (c Client) trouble(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w (nobody answers at %s)", ErrNotRunning, c.Socket)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w (%s: permission denied)", ErrNotAllowed, c.Socket)
	}
	return fmt.Errorf("control socket: %w", err)
}

// CallError is a refusal of the gateway, with the exit code that fits.
type CallError struct{ Failure }

// Error implements error.
func (e CallError) Error() string { return e.Failure.Error }

// Call makes one call, and decodes the answer into out unless that is nil.
func (c Client) Call(ctx context.Context, method, path string, form url.Values, out any) error {
	h := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", c.Socket)
		}}}
	if c.Local != nil {
		h.Transport = local{c.Local}
	}
	u := "http://mailgate" + path
	var body io.Reader
	if method == http.MethodGet {
		u += "?" + form.Encode()
	} else {
		body = bytes.NewReader([]byte(form.Encode()))
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := h.Do(req)
	if err != nil {
		return c.trouble(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		var f Failure
		if err := json.NewDecoder(res.Body).Decode(&f); err != nil {
			return fmt.Errorf("control socket: %s", res.Status)
		}
		return CallError{f}
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(out)
}

// local answers requests within the process.
type local struct{ http.Handler }

// RoundTrip implements http.RoundTripper.
func (l local) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &answer{header: http.Header{}, status: http.StatusOK}
	l.ServeHTTP(w, r)
	return &http.Response{StatusCode: w.status, Status: http.StatusText(w.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r}, nil
}

// answer collects what a handler writes.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// Serve answers one call within the process.
func Serve(ctx context.Context, h http.Handler, method, path string, form url.Values) (status int, body []byte) {
	r, err := http.NewRequestWithContext(ctx, method, "http://mailgate"+path, bytes.NewReader([]byte(form.Encode())))
	if err != nil {
		return http.StatusBadRequest, []byte(err.Error())
	}
	if method == http.MethodGet {
		r.URL.RawQuery = form.Encode()
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := &answer{header: http.Header{}, status: http.StatusOK}
	h.ServeHTTP(w, r)
	return w.status, w.body.Bytes()
}
