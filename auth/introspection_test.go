package auth

import (
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
)

// introspectionServer answers by token.
func introspectionServer(t *testing.T, answer func(w http.ResponseWriter, token string)) (c config.OAuth, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if id, secret, ok := r.BasicAuth(); !ok || id != "mail%26gate" || secret != "top+secret" || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		answer(w, r.PostFormValue("token"))
	}))
	t.Cleanup(s.Close)
	dir := t.TempDir()
	ca, secret := filepath.Join(dir, "ca"), filepath.Join(dir, "secret")
	err := errors.Join(os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600),
		os.WriteFile(secret, []byte("top secret\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return config.OAuth{URL: s.URL + "/introspect", CA: ca, ClientID: "mail&gate", ClientSecret: secret, Claim: "username", Cache: time.Minute,
		Timeout: 30 * time.Second}, asked
}

func testIntrospector(t *testing.T, c config.OAuth) *introspector {
	t.Helper()
	x, err := newIntrospector(c, config.NewAddresses(config.Routes{LocalPart: "fold"}).Canonical)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.close)
	return x
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	const user = "alice@example.com"
	soon := fmt.Sprint(time.Now().Add(time.Hour).Unix())
	c, _ := introspectionServer(t, func(w http.ResponseWriter, token string) {
		switch token {
		case "redirect":
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusTemporaryRedirect)
		case "broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "long":
			_, _ = w.Write([]byte(`{"active":true,"username":"alice@example.com","x":"` + strings.Repeat("x", maxAnswer) + `"}`))
		default:
			_, _ = w.Write([]byte(token))
		}
	})
	x := testIntrospector(t, c)
	for token, want := range map[string]string{
		`{"active":true,"username":"alice@example.com"}`:                    "ok",
		`{"active":true,"username":"Alice@EXAMPLE.com","exp":` + soon + `}`: "ok",
		`{"active":true,"username":"alice@example.com","exp":1}`:            "refused",
		`{"active":true,"username":"alice@example.com","exp":1e300}`:        "refused",
		`{"active":true,"username":"alice@example.com","exp":"soon"}`:       "unknown",
		`{"active":false,"username":"alice@example.com"}`:                   "refused",
		`{"active":false}`: "refused",
		`{"active":true,"username":"bob@example.com"}`:     "refused",
		`{"active":true,"username":"@"}`:                   "refused",
		`{"active":true,"username":["alice@example.com"]}`: "unknown",
		`{"active":true,"username":""}`:                    "unknown",
		`{"active":true,"sub":"alice@example.com"}`:        "unknown",
		`{"active":"true","username":"alice@example.com"}`: "unknown",
		`{"username":"alice@example.com"}`:                 "unknown",
		`[]`:                                               "unknown",
		`null`:                                             "unknown",
		`active`:                                           "unknown",
		`{"active":true,"username":"alice@example.com"} {"active":1}`: "unknown",
		"redirect": "unknown",
		"broken":   "unknown",
		"long":     "unknown",
	} {
		err := x.verify(t.Context(), user, config.Secret(token))
		var refused *RefusedError
		got := "unknown"
		if err == nil {
			got = "ok"
		} else if errors.As(err, &refused) {
			got = "refused"
		}
		if got != want {
			t.Errorf("%s: %v, want %s", token, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "bob") {
			t.Errorf("the error tells whose token it is: %v", err)
		}
	}
	c.ClientID = "another"
	var refused *RefusedError
	if err := testIntrospector(t, c).verify(t.Context(), user, `{"active":true,"username":"alice@example.com"}`); err == nil || errors.As(err, &refused) {
		t.Errorf("a client that the server does not know: %v", err)
	}
}

// An answer counts for authority.oauth.cache, never past the token's end, and one that says no never.
func TestIntrospectionCache(t *testing.T) {
	t.Parallel()
	active := atomic.Bool{}
	active.Store(true)
	now := time.Now()
	end := now.Add(20 * time.Second)
	c, asked := introspectionServer(t, func(w http.ResponseWriter, token string) {
		fmt.Fprintf(w, `{"active":%v,"username":"alice@example.com"`, active.Load())
		if token == "ends" {
			fmt.Fprintf(w, `,"exp":%d`, end.Unix())
		}
		fmt.Fprint(w, "}")
	})
	x := testIntrospector(t, c)
	x.now = func() time.Time { return now }
	var refused *RefusedError
	ask := func(user, token string) error { return x.verify(t.Context(), user, config.Secret(token)) }
	for range 3 {
		if err := ask("alice@example.com", "t"); err != nil {
			t.Fatal(err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	if err := ask("bob@example.com", "t"); !errors.As(err, &refused) {
		t.Errorf("somebody else with that token: %v", err)
	}
	if _, kept := x.known.get(sha256.Sum256([]byte("t"))); !kept {
		t.Error("the token is not kept as a sum")
	}
	if err := ask("alice@example.com", "ends"); err != nil {
		t.Fatal(err)
	}
	active.Store(false)
	now = now.Add(30 * time.Second)
	if err := ask("alice@example.com", "t"); err != nil {
		t.Errorf("within a minute: %v", err)
	}
	if err := ask("alice@example.com", "ends"); !errors.As(err, &refused) {
		t.Errorf("past its end: %v", err)
	}
	now = now.Add(30 * time.Second)
	if err := ask("alice@example.com", "t"); !errors.As(err, &refused) {
		t.Errorf("after a minute: %v", err)
	}
	active.Store(true)
	if err := ask("alice@example.com", "t"); err != nil {
		t.Errorf("a refusal was kept: %v", err)
	}
}
