package main

import "strings"

// flipState is where a session stands when its user is moved. The texts are steps of mailtest.Talk.Dialogue.
type flipState struct {
	protocol, name string
	in             bool   // client begins behind a login
	client         string // how the client comes to it
	old            string // what OLD's server does behind its login: {at} when the state is reached, {go} once the flip waits
	slow           bool   // OLD has been asked for the login and not answered: {at} and {go} are there
	holds          bool   // the flip waits for what comes
	free           bool   // ... or is done before what comes, for nothing of the mailbox depends on it
	then           string // what the client does and hears when the flip has come; {bye} is our last line, and the end
}

// user is the one of a state.
func (s *flipState) user() string {
	return strings.ToLower(strings.NewReplacer(" ", "-", ",", "").Replace(s.protocol+" "+s.name)) + "@example.com"
}

// flipDoor is what a protocol's client says.
type flipDoor struct {
	hello string // up to the login
	login string // with {user} and {plain}
	bye   string
	probe string // a command behind the login on NEW, and its answer
}

var flipDoors = map[string]flipDoor{
	"imap":       {"S: * OK ...", "C: in LOGIN {user} pw\nS: in OK ...", "S: * BYE [UNAVAILABLE] ...\n!end", "C: n NOOP\nS: n OK done on new"},
	"pop3":       {"S: +OK ...", "C: USER {user}\nS: +OK ...\nC: PASS pw\nS: +OK in on ...", "S: -ERR [SYS/TEMP] ...\n!end", "C: STAT\nS: +OK done on new"},
	"sieve":      {"S~ OK ...", "C: AUTHENTICATE \"PLAIN\" \"{plain}\"\nS: OK ...", "S: BYE (TRYLATER) ...\n!end", "C: NOOP\nS: OK \"done on new\""},
	"submission": {"S: 220 ...\nC: EHLO client.example.org\nS~ 250 ...", "C: AUTH PLAIN {plain}\nS: 235 ...", "S: 421 4.3.2 ...\n!end", "C: NOOP\nS: 250 2.0.0 done on new"},
}

// flipStates are all of them. No command is left without its answer, and no answer is of the other side.
var flipStates = []flipState{
	{protocol: "imap", name: "before the login", client: "C: a NOOP\nS: a OK ...", then: "C: in LOGIN {user} pw\nS: in OK ...in on new"},
	{protocol: "imap", name: "half of LOGIN", client: "C: in LOGIN {user} {2}\nS: + ...", then: "C: pw\nS: in OK ...in on new"},
	{protocol: "imap", name: "LOGIN, not answered", slow: true, client: "C: in LOGIN {user} pw", then: "S: in OK ...in on new"},
	{protocol: "imap", name: "idle", in: true, then: "{bye}"},
	{protocol: "imap", name: "half a line", in: true, client: "C\" \"b FET\"", old: "C\" \"b FET\"\n{at}\n!end", then: "{bye}"},
	{protocol: "imap", name: "waiting in IDLE", in: true, client: "C: b IDLE\nS: + idling", old: "C: b IDLE\nS: + idling\n{at}\nC: DONE", then: "{bye}"},
	{protocol: "imap", name: "amid FETCH", in: true, holds: true, client: "C: b FETCH 1 BODY[]\nS: * 1 FETCH (BODY[] {10}\nS\" \"12345\"",
		old: "C: b FETCH 1 BODY[]\nS: * 1 FETCH (BODY[] {10}\nS\" \"12345\"\n{at}\n{go}\nS\" \"67890)\\r\\n\"\nS: b OK", then: "S\" \"67890)\\r\\n\"\nS: b OK\n{bye}"},
	{protocol: "imap", name: "amid APPEND", in: true, holds: true, client: "C: b APPEND x {10}\nS: + go\nC\" \"12345\"",
		old: "C: b APPEND x {10}\nS: + go\nC\" \"12345\"\n{at}\nC\" \"67890\\r\\n\"\nS: b OK stored", then: "C\" \"67890\\r\\nc SELECT x\\r\\n\"\nS: b OK stored\n{bye}"},
	{protocol: "imap", name: "commands without their answers", in: true, holds: true, client: "C: b STORE 1 +FLAGS x\nC: c EXPUNGE",
		old: "C: b STORE 1 +FLAGS x\nC: c EXPUNGE\n{at}\n{go}\nS: b OK\nS: * 1 EXPUNGE\nS: c OK", then: "S: b OK\nS: * 1 EXPUNGE\nS: c OK\n{bye}"},

	{protocol: "pop3", name: "before the login", client: "C: CAPA\nS: +OK ...\nS~ .", then: "C: USER {user}\nS: +OK ...\nC: PASS pw\nS: +OK in on new"},
	{protocol: "pop3", name: "USER without PASS", client: "C: USER {user}\nS: +OK ...", then: "C: PASS pw\nS: +OK in on new"},
	{protocol: "pop3", name: "half of AUTH", client: "C: AUTH PLAIN\nS: + ", then: "C: {plain}\nS: +OK in on new"},
	{protocol: "pop3", name: "PASS, not answered", slow: true, client: "C: USER {user}\nS: +OK ...\nC: PASS pw", then: "S: +OK in on new"},
	{protocol: "pop3", name: "idle", in: true, then: "{bye}"},
	{protocol: "pop3", name: "half a line", in: true, client: "C\" \"DEL\"", old: "C\" \"DEL\"\n{at}\n!end", then: "{bye}"},
	{protocol: "pop3", name: "amid RETR", in: true, holds: true, client: "C: RETR 1\nS: +OK\nS: half",
		old: "C: RETR 1\nS: +OK\nS: half\n{at}\n{go}\nS: ..\nS: rest\nS: .", then: "S: ..\nS: rest\nS: .\n{bye}"},
	{protocol: "pop3", name: "behind RETR", in: true, client: "C: RETR 1\nS: +OK\nS: .", old: "C: RETR 1\nS: +OK\nS: .\n{at}\n!end", then: "{bye}"},
	{protocol: "pop3", name: "behind DELE", in: true, holds: true, client: "C: DELE 1\nS: +OK", old: "C: DELE 1\nS: +OK\n{at}\nC: RETR 2\nS: +OK\nS: .\nC: QUIT\nS: +OK one gone",
		then: "C: RETR 2\nS: +OK\nS: .\nC: QUIT\nS: +OK one gone\n!end"},
	{protocol: "pop3", name: "behind DELE and RSET", in: true, client: "C: DELE 1\nS: +OK\nC: RSET\nS: +OK", old: "C: DELE 1\nS: +OK\nC: RSET\nS: +OK\n{at}\nC: QUIT", then: "{bye}"},
	{protocol: "pop3", name: "behind DELE, gone", in: true, holds: true, client: "C: DELE 1\nS: +OK", old: "C: DELE 1\nS: +OK\n{at}\n!end", then: "!close"}, // nothing is deleted
	{protocol: "pop3", name: "amid a batch", in: true, holds: true, client: "C\" \"STAT\\r\\nRETR 1\\r\\nDELE 1\\r\\nNOOP\\r\\nQUIT\\r\\n\"",
		old:  "C: STAT\nC: RETR 1\nC: DELE 1\nC: NOOP\nC: QUIT\n{at}\n{go}\nS: +OK 1 9\nS: +OK\nS: x\nS: .\nS: +OK\nS: +OK\nS: +OK one gone",
		then: "S: +OK 1 9\nS: +OK\nS: x\nS: .\nS: +OK\nS: +OK\nS: +OK one gone\n!end"},
	{protocol: "pop3", name: "amid a batch that reads", in: true, holds: true, client: "C\" \"STAT\\r\\nUIDL\\r\\nLIST\\r\\n\"",
		old:  "C: STAT\nC: UIDL\nC: LIST\n{at}\n{go}\nS: +OK 0 0\nS: +OK\nS: .\nS: +OK\nS: .",
		then: "S: +OK 0 0\nS: +OK\nS: .\nS: +OK\nS: .\n{bye}"},
	{protocol: "pop3", name: "at QUIT", in: true, holds: true, client: "C: DELE 1\nS: +OK\nC: QUIT", old: "C: DELE 1\nS: +OK\nC: QUIT\n{at}\n{go}\nS: +OK one gone", then: "S: +OK one gone\n!end"},

	{protocol: "sieve", name: "before the login", client: "C: NOOP\nS: OK ...", then: "C: AUTHENTICATE \"PLAIN\" \"{plain}\"\nS: OK ...\n{probe}"},
	{protocol: "sieve", name: "half of AUTHENTICATE", client: "C: AUTHENTICATE \"PLAIN\"\nS: \"\"", then: "C: \"{plain}\"\nS: OK ...\n{probe}"},
	{protocol: "sieve", name: "AUTHENTICATE, not answered", slow: true, client: "C: AUTHENTICATE \"PLAIN\" \"{plain}\"", then: "S: OK ...\n{probe}"},
	{protocol: "sieve", name: "idle", in: true, old: "C: LOGOUT", then: "{bye}"},
	{protocol: "sieve", name: "half a line", in: true, client: "C\" \"GETSC\"", old: "C\" \"GETSC\"\n{at}\n!end", then: "{bye}"},
	{protocol: "sieve", name: "amid PUTSCRIPT", in: true, holds: true, client: "C: PUTSCRIPT \"a\" {10+}\nC\" \"12345\"",
		old:  "C: PUTSCRIPT \"a\" {10+}\nC\" \"12345\"\n{at}\nC\" \"67890\\r\\n\"\nS: OK \"stored\"\nC: LOGOUT",
		then: "C\" \"67890\\r\\nSETACTIVE \\\"a\\\"\\r\\n\"\nS: OK \"stored\"\n{bye}"},
	{protocol: "sieve", name: "PUTSCRIPT, not answered", in: true, holds: true, client: "C: PUTSCRIPT \"a\" {5+}\nC: keep;",
		old: "C: PUTSCRIPT \"a\" {5+}\nC: keep;\n{at}\n{go}\nS: OK (WARNINGS) {4}\nS: warn\nC: LOGOUT", then: "S: OK (WARNINGS) {4}\nS: warn\n{bye}"},
	{protocol: "sieve", name: "amid GETSCRIPT", in: true, holds: true, client: "C: GETSCRIPT \"a\"\nS: {10}\nS\" \"12345\"",
		old: "C: GETSCRIPT \"a\"\nS: {10}\nS\" \"12345\"\n{at}\n{go}\nS\" \"67890\\r\\n\"\nS: OK\nC: LOGOUT", then: "S\" \"67890\\r\\n\"\nS: OK\n{bye}"},
	{protocol: "sieve", name: "amid a batch", in: true, holds: true, client: "C\" \"LISTSCRIPTS\\r\\nDELETESCRIPT \\\"a\\\"\\r\\nSETACTIVE \\\"\\\"\\r\\n\"",
		old: "C: LISTSCRIPTS\nC: DELETESCRIPT \"a\"\nC: SETACTIVE \"\"\n{at}\n{go}\nS: \"a\"\nS: OK\nS: OK\nS: OK\nC: LOGOUT", then: "S: \"a\"\nS: OK\nS: OK\nS: OK\n{bye}"},
	{protocol: "sieve", name: "at LOGOUT", in: true, holds: true, client: "C: LOGOUT", old: "C: LOGOUT\n{at}\n{go}\nS: OK \"bye\"", then: "S: OK \"bye\"\n!end"},

	{protocol: "submission", name: "before the login", client: "C: NOOP\nS: 250 ...", then: "C: AUTH PLAIN {plain}\nS: 235 2.7.0 in on new"},
	{protocol: "submission", name: "half of AUTH", client: "C: AUTH PLAIN\nS: 334 ", then: "C: {plain}\nS: 235 2.7.0 in on new"},
	{protocol: "submission", name: "AUTH, not answered", slow: true, client: "C: AUTH PLAIN {plain}", then: "S: 235 2.7.0 in on new"},
	{protocol: "submission", name: "idle", in: true, old: "C: QUIT\nS: 221", then: "{bye}"},
	{protocol: "submission", name: "half a line", in: true, client: "C\" \"MAIL FR\"", old: "C: QUIT\nS: 221", then: "{bye}"},
	{protocol: "submission", name: "behind MAIL", in: true, free: true, client: "C: MAIL FROM:<a@example.com>\nS: 250 ok",
		old:  "C: MAIL FROM:<a@example.com>\nS: 250 ok\n{at}\n" + restOfMail + "C: QUIT\nS: 221",
		then: restOfMail + "{bye}"},
	{protocol: "submission", name: "behind MAIL and RSET", in: true, client: "C: MAIL FROM:<a@example.com>\nS: 250 ok\nC: RSET\nS: 250 ok",
		old: "C: MAIL FROM:<a@example.com>\nS: 250 ok\nC: RSET\nS: 250 ok\n{at}\nC: QUIT\nS: 221", then: "{bye}"},
	{protocol: "submission", name: "amid DATA", in: true, free: true, client: mailAndData + "C: half",
		old:  mailAndData + "C: half\n{at}\nC: ..\nC: rest\nC: .\nS: 250 queued\nC: QUIT\nS: 221",
		then: "C\" \"..\\r\\nrest\\r\\n.\\r\\nMAIL FROM:<two@example.com>\\r\\n\"\nS: 250 queued\n{bye}"},
	{protocol: "submission", name: "end of DATA, not answered", in: true, free: true, client: mailAndData + "C: all\nC: .",
		old: mailAndData + "C: all\nC: .\n{at}\n{go}\nS: 250 queued\nC: QUIT\nS: 221", then: "S: 250 queued\n{bye}"},
	{protocol: "submission", name: "amid BDAT", in: true, free: true, client: mailAndRcpt + "C: BDAT 10\nC\" \"12345\"",
		old:  mailAndRcpt + "C: BDAT 10\nC\" \"12345\"\n{at}\nC\" \"67890\"\nS: 250 more\nC: BDAT 2 LAST\nC:\nS: 250 queued\nC: QUIT\nS: 221",
		then: "C\" \"67890\"\nS: 250 more\nC\" \"BDAT 2 LAST\\r\\n\\r\\nNOOP\\r\\n\"\nS: 250 queued\n{bye}"},
	{protocol: "submission", name: "a message refused, not yet read", in: true, client: mailAndData + "C: all\nC: .", old: mailAndData + "C: all\nC: .\nS: 552 too big\n{at}\nC: QUIT\nS: 221",
		then: "S: 552 too big\n{bye}"},
}

const (
	mailAndRcpt = "C: MAIL FROM:<a@example.com>\nS: 250 ok\nC: RCPT TO:<b@example.net>\nS: 250 ok\n"
	mailAndData = mailAndRcpt + "C: DATA\nS: 354 go\n"
	restOfMail  = "C: RCPT TO:<b@example.net>\nS: 250 ok\nC: DATA\nS: 354 go\nC: all of it\nC: .\nS: 250 queued\n"
)
