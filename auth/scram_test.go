package auth

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"mailgate/config"
)

// TestScramFirst reads first messages; want is the name, or err.
func TestScramFirst(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		message, name string
		bind          bool
		err           error
	}{
		{message: "n,,n=user,r=rOprNGfwEbeRWgbNEkqO", name: "user"}, // RFC 7677, section 3
		{message: "y,,n=u@example.com,r=x", name: "u@example.com", bind: true},
		{message: "n,,n=a=2Cb=3Dc,r=x", name: "a,b=c"},
		{message: "n,a=u,n=u,r=x", name: "u"},
		{message: "n,a=a=2Cb,n=a=2Cb,r=x", name: "a,b"},
		{message: "n,,n=jürgen,r=x", name: "jürgen"},
		{message: "n,,n=u,r=x,ext=1", name: "u"}, // extensions may follow
		{message: "n,a=boss,n=u,r=x", err: ErrAuthzid},
		{message: "n,u,n=u,r=x", err: ErrMalformed},
		{message: "n,a=u=,n=u,r=x", err: ErrMalformed},
		{message: "p=tls-unique,,n=u,r=x", err: ErrMalformed},
		{message: "p=tls-exporter,,n=u,r=x", err: ErrMalformed},
		{message: "q,,n=u,r=x", err: ErrMalformed},
		{message: "N,,n=u,r=x", err: ErrMalformed},
		{message: ",,n=u,r=x", err: ErrMalformed},
		{message: "n,,m=ext,n=u,r=x", err: ErrMalformed}, // an extension that must be understood
		{message: "n,,u=u,r=x", err: ErrMalformed},
		{message: "n,,n=u=2c,r=x", err: ErrMalformed}, // RFC 5802, section 7: capitals
		{message: "n,,n=u=,r=x", err: ErrMalformed},
		{message: "n,,n=,r=x", err: ErrMalformed},
		{message: "n,,n=u", err: ErrMalformed},
		{message: "n,,n=u,r=", err: ErrMalformed},
		{message: "n,,n=u,x=r", err: ErrMalformed},
		{message: "n,,n=u,r=x y", err: ErrMalformed},
		{message: "n,,n=u,r=é", err: ErrMalformed},
		{message: "n,,n=u\r\nx,r=x", err: ErrMalformed},
		{message: "n,,n=u\x00,r=x", err: ErrMalformed},
		{message: "n,,n=\xff,r=x", err: ErrMalformed},
		{message: "n,n=u,r=x", err: ErrMalformed},
		{message: "", err: ErrMalformed},
		{message: ",,,", err: ErrMalformed},
		{message: "n,,n=" + strings.Repeat("u", maxName+1) + ",r=x", err: ErrMalformed},
		{message: "n,,n=u,r=" + strings.Repeat("x", maxRelayed), err: ErrMalformed},
	} {
		for _, m := range config.RelayedMechanisms() {
			x, err := Start(m)
			if err != nil {
				t.Fatal(err)
			}
			if challenge, c, err := x.Next(nil); err != nil || c != nil || challenge == nil || len(challenge) > 0 {
				t.Fatalf("%s asks with %q %v %v", m, challenge, c, err)
			}
			_, c, err := x.Next([]byte(tt.message))
			if tt.err != nil {
				if !errors.Is(err, tt.err) {
					t.Errorf("%.60q: %v, want %v", tt.message, err, tt.err)
				}
				continue
			}
			if err != nil || c.Username != tt.name || c.Relay.CouldBind != tt.bind || string(c.Relay.First) != tt.message || c.Mechanism != m ||
				c.Password != "" || c.Token != "" {
				t.Errorf("%.60q: %v %v", tt.message, c, err)
			}
		}
	}
}

// TestRelayBounds: neither end can say without end.
func TestRelayBounds(t *testing.T) {
	t.Parallel()
	response, failure := []byte("ok"), error(nil)
	asked := 0
	r := &Relay{Ask: func([]byte) ([]byte, error) { asked++; return response, failure }}
	if r.Begun() || (*Relay)(nil).Begun() {
		t.Error("it has begun before the first challenge")
	}
	if _, err := r.Next(make([]byte, maxRelayed+1)); err == nil || asked > 0 || r.Begun() {
		t.Errorf("a long challenge: %v, asked %d times", err, asked)
	}
	failure = fmt.Errorf("%w: fenced", ErrNotAsked)
	if _, err := r.Next([]byte("x")); !errors.Is(err, ErrNotAsked) || r.Begun() {
		t.Errorf("%v, begun: %v", err, r.Begun())
	}
	asked, failure = 0, nil
	if b, err := r.Next([]byte("x")); err != nil || !bytes.Equal(b, response) || !r.Begun() {
		t.Errorf("%q %v", b, err)
	}
	failure = errors.New("gone")
	if _, err := r.Next([]byte("x")); !errors.Is(err, failure) {
		t.Errorf("%v", err)
	}
	response, failure = make([]byte, maxRelayed+1), nil
	if _, err := r.Next([]byte("x")); !errors.Is(err, ErrMalformed) {
		t.Errorf("a long response: %v", err)
	}
	response = nil
	if _, err := r.Next([]byte("x")); err != nil {
		t.Errorf("challenge %d: %v", maxRounds, err)
	}
	if _, err := r.Next([]byte("x")); err == nil || errors.Is(err, ErrMalformed) || asked != maxRounds {
		t.Errorf("one challenge more: %v, asked %d times", err, asked)
	}
}

// FuzzScramFirst: whatever is taken holds one name that no server reads in another way, and goes on to the letter.
func FuzzScramFirst(f *testing.F) {
	for _, s := range []string{"n,,n=user,r=x", "y,a=u,n=u,r=x", "n,,n=a=2Cb=3Dc,r=x,y", "p=tls-unique,,n=u,r=x", "n,,m=1,n=u,r=x", "n,,n=\x00,r=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, m string) {
		_, c, err := scram("SCRAM-SHA-1").Next([]byte(m))
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrControl) && !errors.Is(err, ErrAuthzid) {
				t.Errorf("%q: %v", m, err)
			}
			return
		}
		escaped := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(c.Username)
		flag := map[bool]string{true: "y", false: "n"}[c.Relay.CouldBind]
		if !strings.HasPrefix(m, flag+",,n="+escaped+",r=") && !strings.HasPrefix(m, flag+",a="+escaped+",n="+escaped+",r=") {
			t.Errorf("%q was taken for %q", m, c.Username)
		}
		if string(c.Relay.First) != m || checkName(c.Username) != nil || control(m) {
			t.Errorf("%q: %v", m, c)
		}
	})
}

// TestScramShowsNothing: what a client says in an exchange lets others guess at his password.
func TestScramShowsNothing(t *testing.T) {
	t.Parallel()
	_, c, err := scram("SCRAM-SHA-256").Next([]byte("n,,n=u,r=thenonce"))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		if s := fmt.Sprintf(verb, c); strings.Contains(s, "nonce") {
			t.Error(s)
		}
	}
	_, _, err = scram("SCRAM-SHA-256").Next([]byte("n,,n=u,n=thenonce"))
	if err == nil || strings.Contains(err.Error(), "nonce=") || strings.Contains(err.Error(), "thenonce") {
		t.Error(err)
	}
}
