package proxy

import (
	"encoding/base64"
	"strings"
)

// attack is what a client does who is up to no good, or who speaks another protocol. It begins behind the greeting.
type attack struct {
	name string
	all  string    // the same at each door
	at   [4]string // or one for each of doors
}

// sasl gives an initial response.
func sasl(parts ...string) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Join(parts, "\x00")))
}

// authAttack is an initial response of PLAIN that nobody may be let in with, nor anything else be said to than that.
func authAttack(name, response string) attack {
	return attack{name: name, at: [4]string{
		"C: a AUTHENTICATE PLAIN " + response + "\nS: {refused}\n{noop}",
		"C: AUTH PLAIN " + response + "\nS: {refused}\n{noop}",
		"C: AUTHENTICATE \"PLAIN\" \"" + response + "\"\nS: {refused}\n{noop}",
		"C: EHLO client.example.org\nS~ 250 ...\nC: AUTH PLAIN " + response + "\nS: {refused}\n{noop}",
	}}
}

const helo = "C: EHLO client.example.org\nS~ 250 ...\n"

// attacks are held against each door by TestAttacks.
var attacks = []attack{
	{name: "no byte, gone", all: "!close"},
	{name: "no byte, reset", all: "!reset"},
	{name: "no byte, half-closed", all: "!eof\n!end"},
	{name: "half a line, gone", all: "C\" \"NOO\"\n!close"},
	{name: "half a line, reset", all: "C\" \"NOO\"\n!reset"},
	{name: "half a line, half-closed", all: "C\" \"NOO\"\n!eof\n!end"}, // it is not carried out
	{name: "half-closed behind a command", all: "{half}"},
	{name: "half-closed behind a login", all: "{login}\n{behind half}"},
	{name: "endless line", at: [4]string{"!endless 40000\n{gone}", "!endless 40000\n{gone}", "!endless 40000\n{gone}", "!endless 40000\nS: 500 5.5.6 ...\n{gone}"}},
	{name: "NUL", at: [4]string{
		"C\" \"n NOOP\\x00\\r\\n\"\n{gone}", "C\" \"NOOP\\x00\\r\\n\"\nS: -ERR Lines...\n{noop}",
		"C\" \"NOOP\\x00\\r\\n\"\nS: NO ...\n{noop}", "C\" \"NOOP\\x00\\r\\n\"\nS: 500 5.5.2 ...\n{noop}"}},
	{name: "bare CR", at: [4]string{
		"C\" \"n NOOP\\rn NOOP\\r\\n\"\n{gone}", "C\" \"NOOP\\rNOOP\\r\\n\"\nS: -ERR Lines...\n{noop}",
		"C\" \"NOOP\\rNOOP\\r\\n\"\nS: NO ...\n{noop}", "C\" \"NOOP\\rNOOP\\r\\n\"\nS: 500 5.5.2 ...\n{noop}"}},
	{name: "bare LF", at: [4]string{ // IMAP's clients by hand may
		"C\" \"n NOOP\\n\"\nS: n OK ...\n{noop}", "C\" \"NOOP\\nNOOP\\r\\n\"\n{gone}",
		"C\" \"NOOP\\nNOOP\\r\\n\"\n{gone}", "C\" \"NOOP\\nNOOP\\r\\n\"\nS: 500 5.5.2 ...\n{gone}"}},
	{name: "8 bits", at: [4]string{
		"C\" \"\\xff\\xfe NOOP\\r\\n\"\nS: * BAD ...\n{noop}", "C\" \"\\xff\\xfe NOOP\\r\\n\"\nS: -ERR ...\n{noop}",
		"C\" \"\\xff\\xfe NOOP\\r\\n\"\nS: NO ...\n{noop}", "C\" \"\\xff\\xfe NOOP\\r\\nEHLO \\xe4\\r\\n\"\nS: 500 ...\nS: 501 ...\n{noop}"}},
	{name: "a letter that Unicode folds", at: [4]string{ // "ſ" is an "s" to some
		"C: a ſTARTTLS\nS: a BAD ...", "C: ſTLS\nS: -ERR Unknown...", "C: ſTARTTLS\nS: NO ...", "C: ſTARTTLS\nS: 500 ..."}},
	{name: "empty lines", at: [4]string{
		"C:\nS: * BAD ...\nC: \nS: * BAD ...\n{noop}", "C:\nS: -ERR ...\n{noop}", "C:\nC:\n{noop}", "C:\nS: 500 ...\n{noop}"}},
	{name: "SSH", at: [4]string{
		"C: SSH-2.0-OpenSSH_9.2p1\nS: SSH-2.0-OpenSSH_9.2p1 BAD ...\n{noop}", "C: SSH-2.0-OpenSSH_9.2p1\nS: -ERR ...\n{noop}",
		"C: SSH-2.0-OpenSSH_9.2p1\nS: NO ...\n{noop}", "C: SSH-2.0-OpenSSH_9.2p1\nS: 500 ...\n{noop}"}},
	{name: "PROXY header of a stranger", at: [4]string{
		"C: PROXY TCP4 192.0.2.1 192.0.2.2 1 2\nS: PROXY BAD ...\n{noop}", "C: PROXY TCP4 192.0.2.1 192.0.2.2 1 2\nS: -ERR ...\n{noop}",
		"C: PROXY TCP4 192.0.2.1 192.0.2.2 1 2\nS: NO ...\n{noop}", "C: PROXY TCP4 192.0.2.1 192.0.2.2 1 2\nS: 500 ...\n{noop}"}},
	{name: "TLS where none is begun", at: [4]string{
		"C: s STARTTLS\nS: s BAD ...\n{noop}", "C: STLS\nS: -ERR ...\n{noop}", "C: STARTTLS\nS: NO ...\n{noop}", "C: STARTTLS\nS: 502 ...\n{noop}"}},
	{name: "AUTH, aborted", at: [4]string{
		"C: a AUTHENTICATE PLAIN\nS: + \nC: *\nS: a BAD ...\n{login}\n{behind}", "C: AUTH PLAIN\nS: + \nC: *\nS: -ERR ...\n{login}\n{behind}",
		"C: AUTHENTICATE \"PLAIN\"\nS: \"\"\nC: \"*\"\nS: NO ...\n{login}\n{behind}", helo + "C: AUTH PLAIN\nS: 334 \nC: *\nS: 501 ...\n{login}\n{behind}"}},
	{name: "AUTH, another command for a response", at: [4]string{ // it is a response, and no command
		"C: a AUTHENTICATE PLAIN\nS: + \nC: n NOOP\nS: a BAD ...\n{noop}", "C: AUTH PLAIN\nS: + \nC: STAT X\nS: -ERR ...base64\n{noop}",
		"C: AUTHENTICATE \"PLAIN\"\nS: \"\"\nC: NOOP\nS: NO ...\n{noop}", helo + "C: AUTH PLAIN\nS: 334 \nC: MAIL FROM:<x@example.com>\nS: 501 ...\n{noop}"}},
	{name: "AUTH, a response that is too long", at: [4]string{
		"C: a AUTHENTICATE PLAIN\nS: + \n!endless 40000\n{gone}", "C: AUTH PLAIN\nS: + \n!endless 40000\n{gone}",
		"C: AUTHENTICATE \"PLAIN\"\nS: \"\"\n!endless 40000\n{gone}", helo + "C: AUTH PLAIN\nS: 334 \n!endless 40000\nS: 500 5.5.6 ...\n{gone}"}},
	{name: "AUTH, not base64", at: [4]string{
		"C: a AUTHENTICATE PLAIN A===\nS: a BAD ...\n{noop}", "C: AUTH PLAIN A===\nS: -ERR ...base64\n{noop}",
		"C: AUTHENTICATE \"PLAIN\" \"A===\"\nS: NO ...\n{noop}", helo + "C: AUTH PLAIN A===\nS: 501 5.5.2 ...\n{noop}"}},
	{name: "AUTH, no mechanism, no such one", at: [4]string{
		"C: a AUTHENTICATE\nS: a BAD ...\nC: a AUTHENTICATE X-EVIL\nS: a NO ...\n{noop}", "C: AUTH X-EVIL\nS: -ERR ...\n{noop}",
		"C: AUTHENTICATE\nS: NO ...\nC: AUTHENTICATE \"X-EVIL\"\nS: NO ...\n{noop}", helo + "C: AUTH\nS: 504 ...\nC: AUTH X-EVIL\nS: 504 ...\n{noop}"}},
	{name: "AUTH, gone in the exchange", at: [4]string{
		"C: a AUTHENTICATE PLAIN\nS: + \nC\" \"AAA\"\n!reset", "C: AUTH PLAIN\nS: + \nC\" \"AAA\"\n!reset",
		"C: AUTHENTICATE \"PLAIN\"\nS: \"\"\nC\" \"AAA\"\n!reset", helo + "C: AUTH PLAIN\nS: 334 \nC\" \"AAA\"\n!reset"}},
	authAttack("PLAIN, empty", "="),
	authAttack("PLAIN without NUL", sasl("xyz")),
	authAttack("PLAIN with one NUL", sasl("u@example.com", "pw")),
	authAttack("PLAIN with three NULs", sasl("", "u@example.com", "pw", "pw")),
	authAttack("PLAIN, nobody", sasl("", "", "pw")),
	authAttack("PLAIN, no password", sasl("", "u@example.com", "")),
	authAttack("PLAIN for somebody else", sasl("boss@example.com", "u@example.com", "pw")),
	authAttack("PLAIN, not UTF-8", sasl("", "\xff\xfe@example.com", "pw")),
	authAttack("an answer in a name, IMAP", sasl("", "x\r\nn OK injected", "pw")),
	authAttack("an answer in a name, POP3", sasl("", "x\r\n+OK injected", "pw")),
	authAttack("an answer in a name, sieve", sasl("", "x\"\r\nOK \"injected", "pw")),
	authAttack("an answer in a name, submission", sasl("", "x\r\n250 injected", "pw")),
	authAttack("a command in a password", sasl("", "u@example.com", "pw\r\nDELE 1\r\nMAIL FROM:<x@example.com>")),
	{name: "a response code for a name", at: [4]string{
		"C: a LOGIN \"[ALERT] x\" pw\nS: {refused}\n{noop}", "C: USER [SYS/PERM] x\nS: +OK ...\nC: PASS pw\nS: {refused}\n{noop}",
		"C: AUTHENTICATE \"PLAIN\" \"" + sasl("", "(QUOTA) x", "pw") + "\"\nS: {refused}\n{noop}",
		helo + "C: AUTH PLAIN " + sasl("", "5.1.1 x y", "pw") + "\nS: {refused}\n{noop}"}},
	{name: "a login behind a login", at: [4]string{ // as one segment; the backend is a fool
		"C\" \"a LOGIN u@example.com pw\\r\\nc LOGIN v@example.com pw\\r\\nc AUTHENTICATE PLAIN AHYAcHc=\\r\\n\"\nS: a OK ...\nS: c BAD ...\nS: c BAD ...\n{behind}",
		"C\" \"USER u@example.com\\r\\nPASS pw\\r\\nUSER v@example.com\\r\\nPASS pw\\r\\nAUTH PLAIN AHYAcHc=\\r\\n\"\nS: +OK ...\nS: +OK ...\nS: -ERR ...\nS: -ERR ...\nS: -ERR ...\n{behind}",
		"{login}\nC: AUTHENTICATE \"PLAIN\" \"AHYAcHc=\"\nS: NO ...\n{behind}",
		"{login}\nC: AUTH PLAIN AHYAcHc=\nS: 503 ...\n{behind}"}},
	{name: "TLS behind a login", at: [4]string{
		"{login}\nC: s STARTTLS\nS: s BAD ...\n{behind}", "{login}\nC: STLS\nS: -ERR ...\n{behind}", "{login}\nC: STARTTLS\nS: NO ...\n{behind}",
		"{login}\nC: STARTTLS\nS: 503 ...\n{behind}"}},
	{name: "somebody else's address", at: [4]string{
		"{login}\nC: s XCLIENT ADDR=192.0.2.1\nS: s BAD ...\n{behind}", "C: XCLIENT ADDR=192.0.2.1\nS: -ERR ...\n{login}\nC: XCLIENT ADDR=192.0.2.1\nS: -ERR ...\n{behind}",
		"C: XCLIENT ADDR=192.0.2.1\nS: NO ...\n{noop}", "C: XCLIENT ADDR=192.0.2.1\nS: 500 ...\n{login}\nC: XCLIENT ADDR=192.0.2.1\nS: 500 ...\n{behind}"}},
	{name: "literal of 4 GB", at: [4]string{
		"C: a LOGIN {4294967296+}\n{gone}", "C: USER {4294967296+}\nS: +OK ...\n{noop}", "C: NOOP {4294967296+}\n{gone}", "C: NOOP {4294967296+}\nS: 250 ...\n{noop}"}},
	{name: "literal of less than nothing", at: [4]string{
		"C: a LOGIN {-1}\nS: a BAD ...\n{noop}", "C: USER {-1}\nS: +OK ...\n{noop}", "C: NOOP {-1+}\n{gone}", "C: BDAT -1\nS: 530 ...\n!end"}},
	{name: "literal without its end", at: [4]string{
		"C: a LOGIN {5+\nS: a BAD ...\n{noop}", "C: USER {5+\nS: +OK ...\n{noop}", "C: NOOP {5+\n{gone}", "C: BDAT\nS: 530 ...\n!end"}},
	{name: "literal, gone within", at: [4]string{
		"C: a LOGIN {5+}\nC\" \"ab\"\n!eof\n!end", "C\" \"USER a\"\n!eof\n!end", "C: NOOP {5+}\nC\" \"ab\"\n!eof\n!end", "C: BDAT 5\nC\" \"ab\"\n!eof\nS: 530 ...\n!end"}},
	{name: "literal that is not UTF-8", at: [4]string{
		"C: a LOGIN {2+}\nC\" \"\\xff\\xfe pw\\r\\n\"\nS: {refused}\n{noop}", "C\" \"USER \\xff\\xfe\\r\\nPASS pw\\r\\n\"\nS: +OK ...\nS: {refused}\n{noop}",
		"C: NOOP {2+}\nC\" \"\\xff\\xfe\\r\\n\"\nS: NO ...", "C\" \"NOOP \\xff\\xfe\\r\\n\"\nS: 250 ...\n{noop}"}},
}
