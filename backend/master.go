package backend

import (
	"errors"
	"fmt"
	"strings"

	"mailgate/auth"
	"mailgate/config"
)

// ErrMasterLogin means that a login name cannot be put into a pattern such as {login}*{master}: it holds what parts the two there, so
// that the host could take another user out of it.
var ErrMasterLogin = errors.New("the login name holds a part of the pattern master_login, and could be read as another's")

// MasterAccount is a side's master user as he acts for the user with a login name there. Whether the host heeds for whom, is for its
// proof to tell. The password is the master's.
func MasterAccount(s config.SyncLogin, login string, password config.Secret) (who Account, err error) {
	who = Account{LoginName: s.MasterUser, Authzid: login}
	if s.MasterLogin != "authzid" {
		const mark = "\x00"
		for _, part := range strings.Split(strings.NewReplacer("{login}", mark, "{master}", mark).Replace(s.MasterLogin), mark) {
			if part != "" && strings.Contains(login, part) {
				return Account{}, fmt.Errorf("%q: %w", login, ErrMasterLogin)
			}
		}
		who = Account{LoginName: strings.NewReplacer("{login}", login, "{master}", s.MasterUser).Replace(s.MasterLogin)}
	}
	who.Credentials, err = auth.Password("PLAIN", who.LoginName, password.Reveal())
	return who, err
}
