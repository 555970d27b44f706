package logins

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrDN means that a template of names is missing, or gives the same name to everybody.
var ErrDN = errors.New("LDIF needs the name of each user's entry: write for example --dn 'uid={local},ou=people,dc=example,dc=com', " +
	"with {address}, {local}, {domain} or {login} in it")

// CheckDN refuses a template in which nothing is filled in.
func CheckDN(dn string) error {
	for _, name := range []string{"{address}", "{local}", "{login}"} {
		if strings.Contains(dn, name) {
			return nil
		}
	}
	return ErrDN
}

func writeLDIF(w io.Writer, dn string, list []Exported) error {
	if err := CheckDN(dn); err != nil {
		return err
	}
	if _, err := io.WriteString(w, "version: 1\n"); err != nil {
		return err
	}
	names := map[string]string{}
	for _, x := range list {
		local, domain := x.User, ""
		if i := strings.LastIndexByte(x.User, '@'); i >= 0 {
			local, domain = x.User[:i], x.User[i+1:]
		}
		name := strings.NewReplacer("{address}", escapeDN(x.User), "{local}", escapeDN(local), "{domain}", escapeDN(domain),
			"{login}", escapeDN(x.Login)).Replace(dn)
		if err := own(names, name, x.User); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "\n%s\nchangetype: modify\nreplace: userPassword\nuserPassword: {ARGON2}%s\n-\n", ldifLine("dn", name), x.Hash)
		if err != nil {
			return err
		}
	}
	return nil
}

// escapeDN puts a value into a name (RFC 4514, section 2.4).
func escapeDN(value string) string {
	var b strings.Builder
	for i, r := range value {
		switch {
		case r == 0:
			b.WriteString(`\00`)
			continue
		case strings.ContainsRune(`"+,;<>\=`, r), i == 0 && (r == ' ' || r == '#'), i == len(value)-1 && r == ' ':
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// ldifLine is an attribute with its value: as it is where that is safe, else in base64 (RFC 2849).
func ldifLine(attribute, value string) string {
	safe := value != "" && !strings.ContainsAny(value[:1], " :<") && value[len(value)-1] != ' '
	for i := 0; safe && i < len(value); i++ {
		safe = value[i] < 0x80 && value[i] != 0 && value[i] != '\r' && value[i] != '\n'
	}
	if safe {
		return attribute + ": " + value
	}
	return attribute + ":: " + base64.StdEncoding.EncodeToString([]byte(value))
}
