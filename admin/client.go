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

// Client calls a running gateway over its control socket.
type Client struct{ Socket string }

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
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w (nobody answers at %s)", ErrNotRunning, c.Socket)
	case err != nil:
		return fmt.Errorf("control socket: %w", err)
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
