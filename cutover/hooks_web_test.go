package cutover

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/config"
)

// webHook is a server with TLS that answers as it is told, and a hook that asks it.
func webHook(t *testing.T, answer http.HandlerFunc, on ...config.HookEvent) (config.Hook, *httptest.Server) {
	t.Helper()
	s := httptest.NewUnstartedServer(answer)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	return config.Hook{Name: "w", On: on, URL: config.Secret(s.URL + "/services/T0PSECRET/hunter2"), CA: file, Timeout: 20 * time.Second, Veto: true}, s
}

// TestWebHookAnswers: what a server can answer ahead of a flip, and what that means.
func TestWebHookAnswers(t *testing.T) {
	for name, x := range map[string]struct {
		status  int
		body    string
		why     string
		counted string
		warn    string
	}{
		"200":                 {status: 200, body: "ok", counted: "done"},
		"204":                 {status: 204, counted: "done"},
		"200, JSON of others": {status: 200, body: `{"ok":true}`, counted: "done"},
		"200, veto":           {status: 200, body: `{"veto":"change freeze"}`, why: "hook w says no: change freeze", counted: "vetoed"},
		"409, veto":           {status: 409, body: `{"veto":"change freeze"}`, why: "hook w says no: change freeze", counted: "vetoed"},
		"200, warn":           {status: 200, body: `{"warn":"on call is away"}`, counted: "warned", warn: "on call is away"},
		"500":                 {status: 500, body: "\n  oops\nmore", why: "hook w has failed: URL answers 500: oops", counted: "failed"},
		"404, token told":     {status: 404, body: "no /services/T0PSECRET/hunter2 here", why: "hook w has failed: URL answers 404: (there is a secret in what it says)", counted: "failed"},
		"200, token told":     {status: 200, body: `{"warn":"/services/T0PSECRET/hunter2"}`, counted: "warned", warn: "(there is a secret in what it says)"},
		"403, key told":       {status: 403, body: `{"veto":"key0 is wrong"}`, why: "hook w says no: (there is a secret in what it says)", counted: "vetoed"},
		"302":                 {status: 302, why: "hook w has failed: URL answers 302", counted: "failed"},
		"too long":            {status: 200, body: `{"x":"` + strings.Repeat("x", maxHookSaid) + `"}`, why: "hook w has failed: what it says begins as JSON", counted: "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			h, s := webHook(t, func(w http.ResponseWriter, q *http.Request) {
				asked++
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(x.status)
				_, _ = io.WriteString(w, x.body)
			}, config.HookBefore)
			h.SecretFile = filepath.Join(t.TempDir(), "key")
			must(t, os.WriteFile(h.SecretFile, []byte("key0\n"), 0o600))
			r := newHookRig(t, h)
			err := r.Before(t.Context(), aMove())
			var refusal *Refusal
			why := strings.Replace(x.why, "URL", s.URL+"/...", 1)
			switch {
			case x.why == "" && err != nil:
				t.Error(err)
			case x.why != "" && (!errors.As(err, &refusal) || !strings.HasPrefix(refusal.Why, why)):
				t.Errorf("%v, want %s", err, why)
			}
			same(t, "counted", r.runs.n, map[string]int{"before " + x.counted: 1})
			same(t, "requests", asked, 1)
			shown := fmt.Sprint(err, r.history())
			if strings.Contains(shown, "hunter2") || strings.Contains(shown, "key0") || !strings.Contains(shown, x.warn) {
				t.Errorf("%s", shown)
			}
		})
	}
}

// TestWebHookRequest: a POST of JSON, signed, the same each time but for the attempt; and it is retried.
func TestWebHookRequest(t *testing.T) {
	type seen struct {
		header http.Header
		method string
		body   []byte
	}
	var mu sync.Mutex
	var all []seen
	h, _ := webHook(t, func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		mu.Lock()
		defer mu.Unlock()
		if all = append(all, seen{q.Header, q.Method, b}); len(all) < 3 {
			w.WriteHeader(503)
		}
	}, config.HookAfter)
	h.SecretFile, h.Retries = filepath.Join(t.TempDir(), "key"), 5
	h.URLFile = filepath.Join(t.TempDir(), "url")
	must(t, os.WriteFile(h.SecretFile, []byte("key0\n"), 0o600))
	must(t, os.WriteFile(h.URLFile, []byte(h.URL.Reveal()+"\n"), 0o600))
	h.URL = ""
	r := newHookRig(t, h).quick()
	must(t, r.Start(t.Context()))
	r.After(aMove())
	r.told()
	same(t, "counted", r.runs.n, map[string]int{"after done": 1, "after failed": 2})
	for i, s := range all {
		var call HookCall
		must(t, json.Unmarshal(s.body, &call))
		mac := hmac.New(sha256.New, []byte("key0"))
		mac.Write(s.body)
		same(t, "head", []string{s.method, s.header.Get("Content-Type"), s.header.Get("X-Mailgate-Event"), s.header.Get("X-Mailgate-Id"), s.header.Get("X-Mailgate-Signature")},
			[]string{"POST", "application/json", "after", "op-1/after/w", "sha256=" + hex.EncodeToString(mac.Sum(nil))})
		same(t, "attempt", call.Attempt, i+1)
		same(t, "user and side", call.User+" "+call.To, alice+" new")
	}
	same(t, "requests", len(all), 3)
}

// TestWebHookTrust: a server that cannot prove who it is hears nothing; one that is silent is not waited for; and no error shows the URL.
func TestWebHookTrust(t *testing.T) {
	heard := false
	h, s := webHook(t, func(_ http.ResponseWriter, q *http.Request) {
		heard = true
		_, _ = io.Copy(io.Discard, q.Body) // else the server does not see that the client is gone
		<-q.Context().Done()
	}, config.HookBefore)
	ca := h.CA
	h.CA = ""
	r := newHookRig(t, h)
	err := r.Before(t.Context(), aMove())
	if err == nil || !strings.Contains(err.Error(), "certificate") || heard {
		t.Errorf("%v, heard %t", err, heard)
	}
	h.CA, h.Timeout = ca, 200*time.Millisecond
	r.Configure([]config.Hook{h})
	if err = r.Before(t.Context(), aMove()); err == nil || err.Error() != "hook w has not answered within 200ms; mend it, or write veto: false for it, then ask again" {
		t.Error(err)
	}
	s.Close()
	h.Timeout = 20 * time.Second
	r.Configure([]config.Hook{h})
	if err = r.Before(t.Context(), aMove()); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Error(err)
	}
	must(t, os.WriteFile(ca, []byte("nothing"), 0o600))
	if err = r.Before(t.Context(), aMove()); err == nil || !strings.Contains(err.Error(), "holds no PEM certificate") {
		t.Error(err)
	}
	if text := fmt.Sprint(r.history()); strings.Contains(text, "hunter2") {
		t.Error(text)
	}
	same(t, "counted", r.runs.n, map[string]int{"before failed": 3, "before late": 1})
}
