package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"mailgate/config"
)

// run feeds responses; "-" stands for none yet.
func run(mechanism string, responses ...string) (challenges []string, c *Credentials, err error) {
	x, err := Start(mechanism)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range responses {
		var b []byte
		if r != "-" {
			b = []byte(r)
		}
		var challenge []byte
		if challenge, c, err = x.Next(b); err != nil || c != nil {
			return challenges, c, err
		}
		challenges = append(challenges, string(challenge))
	}
	return challenges, nil, nil
}

func TestExchanges(t *testing.T) {
	long := strings.Repeat("p", maxSecret)
	for _, x := range []struct {
		mechanism  string
		responses  []string
		challenges string
		user       string
		secret     string
		err        error
	}{
		// RFC 4616
		{"PLAIN", []string{"\x00bob\x00secret"}, "[]", "bob", "secret", nil},
		{"PLAIN", []string{"-", "\x00bob\x00secret"}, "[]", "bob", "secret", nil},
		{"PLAIN", []string{"bob\x00bob\x00secret"}, "[]", "bob", "secret", nil},
		{"PLAIN", []string{"root\x00bob\x00secret"}, "", "", "", ErrAuthzid},
		{"PLAIN", []string{"\x00bob\x00" + long}, "", "bob", long, nil},
		{"PLAIN", []string{"\x00bob\x00pässwörd €"}, "", "bob", "pässwörd €", nil},
		{"PLAIN", []string{"\x00bob\x00p\xe4ss"}, "", "bob", "p\xe4ss", nil}, // Latin-1 passwords exist
		{"PLAIN", []string{"\x00bob\x00" + long + "p"}, "", "", "", ErrMalformed},
		{"PLAIN", []string{""}, "", "", "", ErrMalformed},
		{"PLAIN", []string{"bob"}, "", "", "", ErrMalformed},
		{"PLAIN", []string{"\x00bob"}, "", "", "", ErrMalformed},
		{"PLAIN", []string{"\x00bob\x00secret\x00"}, "", "", "", ErrMalformed},
		{"PLAIN", []string{"\x00\x00secret"}, "", "", "", ErrMalformed},
		{"PLAIN", []string{"\x00bob\x00"}, "", "", "", ErrMalformed}, // an empty password is an anonymous bind elsewhere
		{"PLAIN", []string{"\x00" + strings.Repeat("b", 321) + "\x00secret"}, "", "", "", ErrMalformed},
		{"PLAIN", []string{"\x00b\xffb\x00secret"}, "", "", "", ErrMalformed},
		{"PLAIN", []string{"\x00bob\r\nA1 LOGOUT\x00secret"}, "", "", "", ErrControl},
		{"PLAIN", []string{"\x00bob\x00secret\n"}, "", "", "", ErrControl},
		{"PLAIN", []string{"\x00bob\x00sec\x7fret"}, "", "", "", ErrControl},
		{"PLAIN", []string{"\x00bob\x00sec\x01ret"}, "", "", "", ErrControl},

		{"LOGIN", []string{"-", "bob", "secret"}, "[Username: Password:]", "bob", "secret", nil},
		{"LOGIN", []string{"bob", "secret"}, "[Password:]", "bob", "secret", nil},
		{"LOGIN", []string{"-", "", "secret"}, "", "", "", ErrMalformed},
		{"LOGIN", []string{"bob\n", "secret"}, "", "", "", ErrControl},
		{"LOGIN", []string{"bob", ""}, "", "", "", ErrMalformed},
		{"LOGIN", []string{"bob", "sec\x00ret"}, "", "", "", ErrControl},

		{"XOAUTH2", []string{"user=bob\x01auth=Bearer tok\x01\x01"}, "[]", "bob", "tok", nil},
		{"XOAUTH2", []string{"-", "user=bob@example.com\x01auth=bearer tok=\x01\x01"}, "[]", "bob@example.com", "tok=", nil},
		{"XOAUTH2", []string{"user=bob\x01auth=Bearer tok\x01"}, "", "", "", ErrMalformed},
		{"XOAUTH2", []string{"user=bob\x01auth=Bearer \x01\x01"}, "", "", "", ErrMalformed},
		{"XOAUTH2", []string{"user=bob\x01auth=Basic tok\x01\x01"}, "", "", "", ErrMalformed},
		{"XOAUTH2", []string{"user=\x01auth=Bearer tok\x01\x01"}, "", "", "", ErrMalformed},
		{"XOAUTH2", []string{"auth=Bearer tok\x01user=bob\x01\x01"}, "", "", "", ErrMalformed},
		{"XOAUTH2", []string{"user=bob\x01auth=Bearer to\nk\x01\x01"}, "", "", "", ErrControl},
		{"XOAUTH2", []string{"user=b\rb\x01auth=Bearer tok\x01\x01"}, "", "", "", ErrControl},
		{"XOAUTH2", []string{"user=bob\x01auth=Bearer " + long + "x\x01\x01"}, "", "", "", ErrMalformed},
		{"XOAUTH2", []string{""}, "", "", "", ErrMalformed},

		// RFC 7628, section 3.1
		{"OAUTHBEARER", []string{"n,a=bob@example.com,\x01host=mail.example.com\x01port=143\x01auth=Bearer tok\x01\x01"}, "[]", "bob@example.com", "tok", nil},
		{"OAUTHBEARER", []string{"-", "y,a=b=2Cob=3D=3D2C,\x01auth=Bearer tok\x01\x01"}, "[]", "b,ob==2C", "tok", nil},
		{"OAUTHBEARER", []string{"n,,\x01auth=Bearer tok\x01\x01"}, "", "", "", ErrMalformed}, // whom to route is in the token only
		{"OAUTHBEARER", []string{"p=tls-unique,a=bob,\x01auth=Bearer tok\x01\x01"}, "", "", "", ErrMalformed},
		{"OAUTHBEARER", []string{"n,a=b=41b,\x01auth=Bearer tok\x01\x01"}, "", "", "", ErrMalformed},
		{"OAUTHBEARER", []string{"n,a=b=2=2CC,\x01auth=Bearer tok\x01\x01"}, "", "", "", ErrMalformed},
		{"OAUTHBEARER", []string{"n,a=bob,\x01auth=Bearer tok\x01auth=Bearer other\x01\x01"}, "", "", "", ErrMalformed},
		{"OAUTHBEARER", []string{"n,a=bob,\x01host=x\x01\x01"}, "", "", "", ErrMalformed},
		{"OAUTHBEARER", []string{"n,a=bob,\x01ho\nst=x\x01auth=Bearer tok\x01\x01"}, "", "", "", ErrMalformed},
		{"OAUTHBEARER", []string{"n,a=bob,\x01host\x01auth=Bearer tok\x01\x01"}, "", "", "", ErrMalformed},
		{"OAUTHBEARER", []string{"n,a=bob,x\x01auth=Bearer tok\x01\x01"}, "", "", "", ErrMalformed},
		{"OAUTHBEARER", []string{"\x01"}, "", "", "", ErrMalformed}, // the dummy answer to an error
		{"OAUTHBEARER", []string{"n,a=bob\r\n,\x01auth=Bearer tok\x01\x01"}, "", "", "", ErrControl},

		{"PLAIN", []string{strings.Repeat("x", maxName+maxSecret+1)}, "", "", "", ErrMalformed},
		{"CRAM-MD5", []string{"-"}, "", "", "", ErrMechanism},
		{"plain", []string{"-"}, "", "", "", ErrMechanism}, // the fronts fold case
		{"", []string{"-"}, "", "", "", ErrMechanism},
	} {
		challenges, c, err := run(x.mechanism, x.responses...)
		name := fmt.Sprintf("%s %.60q", x.mechanism, x.responses)
		if !errors.Is(err, x.err) || err != nil && c != nil || err == nil && c == nil {
			t.Errorf("%s: got %v, %v; want %v", name, c, err, x.err)
			continue
		}
		if err != nil {
			if strings.Contains(err.Error(), "sec") || strings.Contains(err.Error(), "tok\x01") {
				t.Errorf("%s: the error shows the secret: %v", name, err)
			}
			continue
		}
		secret := c.Password.Reveal() + c.Token.Reveal()
		if c.Username != x.user || secret != x.secret || c.Mechanism != x.mechanism || c.OAuth() != strings.Contains(x.mechanism, "OAUTH") {
			t.Errorf("%s: got %v", name, c)
		}
		if x.challenges != "" && fmt.Sprint(challenges) != x.challenges && !(x.challenges == "[]" && strings.Join(challenges, "") == "") {
			t.Errorf("%s: challenges %q", name, challenges)
		}
	}
}

// An exchange that is over stays over.
func TestExchangeEnds(t *testing.T) {
	for _, responses := range [][]string{{"bob", "secret", "again"}, {"", "secret"}, {"b\nb", "secret"}} {
		x, _ := Start("LOGIN")
		var c *Credentials
		var err error
		for _, r := range responses {
			_, c, err = x.Next([]byte(r))
		}
		if c != nil || !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: got %v, %v", responses, c, err)
		}
	}
}

// What goes to a backend is read there as the same credentials, under the other login name.
func TestClientResponse(t *testing.T) {
	for _, x := range []struct{ mechanism, from, login, want string }{
		{"PLAIN", "\x00bob\x00secret", "bob,1@old", "\x00bob,1@old\x00secret"},
		{"LOGIN", "bob", "bob@old", "bob@old"},
		{"XOAUTH2", "user=bob\x01auth=Bearer tok\x01\x01", "bob@old", "user=bob@old\x01auth=Bearer tok\x01\x01"},
		{"OAUTHBEARER", "n,a=bob,\x01host=h\x01port=1\x01auth=bearer tok\x01\x01", "b=b,@old", "n,a=b=3Db=2C@old,\x01host=h\x01port=1\x01auth=Bearer tok\x01\x01"},
	} {
		responses := []string{x.from}
		if x.mechanism == "LOGIN" {
			responses = append(responses, "secret")
		}
		_, c, err := run(x.mechanism, responses...)
		if err != nil {
			t.Fatal(err)
		}
		got := string(ClientResponse(x.mechanism, c, x.login))
		if got != x.want {
			t.Errorf("%s: got %q, want %q", x.mechanism, got, x.want)
		}
		if x.mechanism == "LOGIN" {
			continue
		}
		_, back, err := run(x.mechanism, got)
		if err != nil || back.Username != x.login || back.Password != c.Password || back.Token != c.Token || fmt.Sprint(back.Extra) != fmt.Sprint(c.Extra) {
			t.Errorf("%s: comes back as %v, %v", x.mechanism, back, err)
		}
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	_, c, err := run("OAUTHBEARER", "n,a=bob,\x01key=hunter3\x01auth=Bearer hunter2\x01\x01")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Password("PLAIN", "bob", "hunter2")
	if err != nil {
		t.Fatal(err)
	}
	type holder struct {
		C *Credentials
		V Credentials
	}
	var logged strings.Builder
	for _, x := range []any{c, p, *c, *p, holder{c, *p}, []*Credentials{c}, map[string]Credentials{"a": *c}, c.Token, p.Password,
		fmt.Errorf("login: %v", c)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&logged, verb+"\n", x)
		}
		b, err := json.Marshal(x)
		if err != nil {
			t.Error(err)
		}
		logged.Write(b)
		for _, h := range []slog.Handler{slog.NewTextHandler(&logged, nil), slog.NewJSONHandler(&logged, nil)} {
			slog.New(h).Info("login", "creds", x, slog.Any("any", x))
		}
	}
	for _, secret := range []string{"hunter", "68756e746572"} {
		if i := strings.Index(logged.String(), secret); i >= 0 {
			t.Errorf("shown: ...%s", logged.String()[max(0, i-100):i+10])
		}
	}
	if !strings.Contains(logged.String(), "bob") {
		t.Error("not even the name is shown")
	}
}

// Whatever a client sends: no panic, and credentials that come out are fit to be sent on.
func FuzzExchange(f *testing.F) {
	for _, m := range []string{"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"} {
		f.Add(m, []byte("\x00bob\x00secret"), []byte("secret"))
		f.Add(m, []byte("user=bob\x01auth=Bearer tok\x01\x01"), []byte("\r\n"))
		f.Add(m, []byte("n,a=b=2Cob,\x01host=h\x01auth=Bearer tok\x01\x01"), []byte{})
	}
	f.Fuzz(func(t *testing.T, mechanism string, first, second []byte) {
		x, err := Start(mechanism)
		if err != nil {
			return
		}
		var c *Credentials
		for _, r := range [][]byte{first, second} {
			if r == nil {
				r = []byte{}
			}
			challenge, got, err := x.Next(r)
			if err != nil {
				if got != nil || challenge != nil {
					t.Fatalf("%v beside %v, %q", err, got, challenge)
				}
				return
			}
			if c = got; c != nil {
				break
			}
		}
		if c == nil {
			t.Fatal("no end")
		}
		secret := c.Password + c.Token
		if c.Username == "" || secret == "" || control(c.Username) || control(secret.Reveal()) || c.Mechanism != mechanism ||
			(c.Password == "") == (c.Token == "") {
			t.Errorf("%v", c)
		}
		if mechanism == "LOGIN" {
			return
		}
		_, back, err := run(mechanism, string(ClientResponse(mechanism, c, c.Username)))
		if err != nil || back.Username != c.Username || back.Password+back.Token != config.Secret(secret) {
			t.Errorf("%v comes back as %v, %v", c, back, err)
		}
	})
}
