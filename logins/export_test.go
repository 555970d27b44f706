package logins

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestWrite: each format to the letter, and names that would be something else in it.
func TestWrite(t *testing.T) {
	t.Parallel()
	const hash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR"
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	list := []Exported{{"anna@example.com", "anna", hash, "old", at, at}, {"jürg+o=x@example.com", "jürg", hash, "new", at, at}}
	for format, want := range map[string]string{
		"dovecot": "anna:{ARGON2ID}" + hash + "\njürg:{ARGON2ID}" + hash + "\n",
		"csv": "user,login,password,side,learned,last_login\nanna@example.com,anna,\"{ARGON2ID}" + hash + "\",old,2026-01-02T03:04:05Z,2026-01-02T03:04:05Z\n" +
			"jürg+o=x@example.com,jürg,\"{ARGON2ID}" + hash + "\",new,2026-01-02T03:04:05Z,2026-01-02T03:04:05Z\n",
		"ldif": "version: 1\n\ndn: uid=anna,mail=anna@example.com,dc=example.com\nchangetype: modify\nreplace: userPassword\nuserPassword: {ARGON2}" + hash + "\n-\n" +
			"\ndn:: dWlkPWrDvHJnLG1haWw9asO8cmdcK29cPXhAZXhhbXBsZS5jb20sZGM9ZXhhbXBsZS5jb20=\nchangetype: modify\nreplace: userPassword\nuserPassword: {ARGON2}" + hash + "\n-\n",
	} {
		var b strings.Builder
		if err := Write(&b, format, "uid={login},mail={address},dc={domain}", list); err != nil || b.String() != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", format, err, b.String(), want)
		}
	}
	twins := []Exported{{"anna@a.example", "anna", hash, "old", at, at}, {"anna@b.example", "Anna", hash, "old", at, at}}
	for _, format := range []string{"dovecot", "ldif"} {
		var shared *SharedError
		if err := Write(&strings.Builder{}, format, "uid={local},dc=example", twins); !errors.As(err, &shared) || shared.One != "anna@a.example" || shared.Other != "anna@b.example" {
			t.Errorf("%s of two users with one name: %v", format, err)
		}
	}
	var name *NameError
	for _, login := range []string{"a:b", "a\nb", "#a", ""} {
		if err := Write(&strings.Builder{}, "dovecot", "", []Exported{{Login: login, Hash: hash}}); !errors.As(err, &name) || name.Login != login {
			t.Errorf("%q: %v", login, err)
		}
	}
	if err := Write(&strings.Builder{}, "ldif", "ou=people,dc={domain}", list); !errors.Is(err, ErrDN) {
		t.Error(err)
	}
	if err := Write(&strings.Builder{}, "yaml", "", list); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	for in, want := range map[string]string{"plain": "plain", `a,b+c"d\e<f>g;h=i`: `a\,b\+c\"d\\e\<f\>g\;h\=i`, " x ": `\ x\ `, "#x": `\#x`, "x\x00": `x\00`} {
		if got := escapeDN(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
