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
	"strings"
	"syscall"

	"mailgate/op"
)

// Syncing is what runs passes over mailboxes; cmd/mailgate implements it.
type Syncing interface {
	// Sync does what a verb asks for; who asks, and where from, are "by" and "from" in form. progress may be called from any
	// goroutine, one at a time; what it is given is encoded as JSON. The end of ctx ends the call, cleanly.
	Sync(ctx context.Context, verb string, form url.Values, progress func(any)) (any, error)
	// Cancel tells a pass to end, by its operation; false when no such pass is under way.
	Cancel(id, by, from string) bool
	// Live adds to an operation how far its pass is; false when no such pass is under way.
	Live(o op.Operation) (op.Operation, bool)
	// Status tells how far a user is; nil when his mailboxes are not kept equal.
	Status(user string) *SyncStatus
}

// ErrEnded means that the gateway ended, or was killed, before it had answered.
var ErrEnded = errors.New("mailgate serve ended before this was done; nothing is lost, ask again when it runs")

// streamed is one line of an answer that takes its time: progress any number of times, then a result or a failure.
type streamed struct {
	Progress json.RawMessage `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Failure  *Failure        `json:"failure,omitempty"`
}

// stream answers POST /sync/VERB line by line.
func (a *API) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	if a.Syncing == nil {
		writeLine(w, streamed{Failure: &Failure{Error: "this process does not sync", Exit: ExitFailed}})
		return
	}
	if err := r.ParseForm(); err != nil {
		writeLine(w, streamed{Failure: &Failure{Error: err.Error(), Exit: ExitUsage}})
		return
	}
	r.Form.Set("from", from(r)) // not the caller's word
	v, err := a.Syncing.Sync(r.Context(), r.PathValue("verb"), r.Form, func(p any) {
		b, err := json.Marshal(p)
		if err == nil {
			writeLine(w, streamed{Progress: b})
		}
	})
	var end streamed
	if v != nil {
		if end.Result, _ = json.Marshal(v); string(end.Result) == "null" {
			end.Result = nil
		}
	}
	if err != nil {
		end.Failure = &Failure{Error: err.Error(), Exit: exitOf(err)}
	}
	writeLine(w, end)
}

func writeLine(w http.ResponseWriter, s streamed) {
	_ = json.NewEncoder(w).Encode(s)
	_ = http.NewResponseController(w).Flush()
}

// Stream calls POST path of a running gateway and reads the answer as it comes. The result, where there is one, is decoded
// into out also beside an error. Ending ctx ends what was asked for.
func (c Client) Stream(ctx context.Context, path string, form url.Values, progress func(json.RawMessage), out any) error {
	h := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", c.Socket)
		}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://mailgate"+path, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := h.Do(req)
	switch {
	case ctx.Err() != nil && err != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("%w (%w)", ErrEnded, err)
	case err != nil:
		return c.trouble(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
		return fmt.Errorf("control socket: %s: %s", res.Status, bytes.TrimSpace(text))
	}
	lines := json.NewDecoder(res.Body)
	for {
		var s streamed
		if err := lines.Decode(&s); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%w (%w)", ErrEnded, err)
		}
		if s.Progress != nil {
			progress(s.Progress)
			continue
		}
		if s.Result != nil {
			if err := json.Unmarshal(s.Result, out); err != nil {
				return err
			}
		}
		if s.Failure != nil {
			return CallError{*s.Failure}
		}
		return nil
	}
}
