// Package lab runs real mail servers for tests, as ordinary processes on loopback: OLD is Dovecot with Maildir,
// separator ".", prefix "INBOX." and Postfix for submission, NEW is Dovecot with sdbox and its submission service,
// relaying to the same Postfix. make setup installs them. Begin at Start.
package lab
