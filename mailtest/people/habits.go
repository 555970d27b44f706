package people

import (
	"fmt"
	"strings"
)

// Habit is how somebody uses his mail.
type Habit struct {
	Name     string
	Mornings int            // messages that wait for him
	sessions int            // programs that are open at once
	Things   int            // that he does in a day
	does     map[string]int // how often each, of all
}

// habits are those of a company. Nobody deletes on the follower, or moves there: that is a phone's (person.stray).
func habits() []Habit {
	usual := func(more map[string]int) map[string]int {
		all := map[string]int{"deliver": 3, "flag": 4, "move": 2, "delete": 1, "stray": 2, "create": 1}
		for k, n := range more {
			all[k] = n
		}
		return all
	}
	return []Habit{
		{"light", 2, 1, 8, usual(nil)},
		{"heavy", 8, 1, 40, usual(map[string]int{"bulk": 2, "storm": 1, "rename": 1, "trash": 2, "empty": 1})},
		{"lists", 12, 1, 16, usual(map[string]int{"list": 10, "storm": 4})},
		{"phone and laptop", 5, 2, 30, usual(map[string]int{"flag": 8, "storm": 2, "trash": 3, "empty": 1})},
		{"pop", 5, 1, 8, map[string]int{"deliver": 3, "fetch": 5, "stray": 1}},
		{"filer", 6, 1, 30, usual(map[string]int{"create": 4, "rename": 3, "remove": 2, "move": 6, "bulk": 2})},
		{"keywords", 5, 1, 25, usual(map[string]int{"label": 8, "storm": 1})},
		{"odd mail", 3, 1, 18, usual(map[string]int{"odd": 6, "create": 3, "rename": 1})},
	}
}

// labels are few enough for a Maildir, which has 26 for a folder.
func labels() []string {
	return []string{"$Forwarded", "$Label1", "$Label2", "Work", "Private", "todo", "Invoice-2026"}
}

func systemFlags() []string { return []string{`\Seen`, `\Answered`, `\Flagged`, `\Draft`, `\Deleted`} }

// oddBodies are messages that servers stumble over. Each holds its mark.
func oddBodies(mark string) []string {
	head := "From: a@example.com\r\nSubject: " + mark + "\r\nMessage-ID: <" + mark + "odd@example.com>\r\n"
	return []string{
		"\r\nno headers at all " + mark + "\r\n",
		"no colon here " + mark + "\r\nand none here\r\n\r\nbody\r\n",
		"From: caf\xe9 <a@example.com>\r\nSubject: \xff\xfe " + mark + "\r\n\r\nna\xefve\r\n",
		head + "\r\nNUL: a\x00b\r\n",
		strings.ReplaceAll(head+"\r\nbare LF\r\n", "\r\n", "\n"),
		head + "X-Empty:\r\n\tfolded\r\n\r\n{10}\r\n)\r\n* BYE no\r\n.\r\n",
		head + "\r\nno CRLF at the end",
		head + "\r\n" + strings.Repeat("x", 20_000) + "\r\n",
		head + "\r\n" + strings.Repeat("The attachment that everybody sends to everybody, again and again and again.\r\n", 8000),
		"Subject: " + mark + "\r\nMessage-ID: <the-same@example.com>\r\n\r\nthe Message-ID of others\r\n",
	}
}

// oddNames are names of folders, by levels, that not every host can have as they are. The number makes each one new.
func oddNames(n int) [][]string {
	s := func(text string) string { return fmt.Sprintf("%s %d", text, n) }
	return [][]string{
		{s("Entw&APw-rfe")}, {s("&ZeVnLIqe-")}, {s("R&-D")}, {s("50% off")}, {s(`say "hello"`)}, {s("(paren)")}, {s("two  spaces")},
		{s("Case")}, {s("case")}, {s("CASE"), "sub"},
	}
}

// sepName is a name that only a host with another separator can have.
func sepName(sep string, n int) []string {
	if sep == "." {
		return []string{fmt.Sprintf("slash/inside %d", n)}
	}
	return []string{fmt.Sprintf("v1.%d final", n)}
}
