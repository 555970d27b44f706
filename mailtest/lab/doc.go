// Package lab runs real mail servers for tests, as ordinary processes on loopback: OLD is Dovecot with Maildir,
// separator ".", prefix "INBOX." and Postfix for submission, NEW is Dovecot with sdbox and its submission service,
// relaying to the same Postfix. Cyrus, Courier and PostgreSQL run by themselves. make setup installs them. Begin at Start.
package lab
