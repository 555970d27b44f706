package main

import (
	"slices"
	"strings"

	"mailgate/config"
)

// differences compares what both sides offer behind the login, as far as it is for clients to notice: what is lost in words of its own.
func differences(p config.Protocol, sides [2][]string) (lost, gained []string) {
	old, new := keywords(p, sides[config.Old]), keywords(p, sides[config.New])
	for _, w := range old {
		if !slices.Contains(new, w) {
			lost = append(lost, inWords(p, w))
		}
	}
	for _, w := range new {
		if !slices.Contains(old, w) {
			gained = append(gained, w)
		}
	}
	return lost, gained
}

// keywords are the capabilities by their names, in order, without those that the gateway answers itself: these stay.
func keywords(p config.Protocol, list []string) (out []string) {
	own := map[config.Protocol][]string{
		config.IMAP: {"IMAP4REV1", "SASL-IR", "LITERAL-", "ID", "STARTTLS", "LOGINDISABLED"},
		config.POP3: {"CAPA", "SASL", "STLS", "USER", "IMPLEMENTATION", "RESP-CODES", "AUTH-RESP-CODE", "XCLIENT", "LOGIN-DELAY", "EXPIRE"},
	}[p]
	for _, w := range list {
		f := strings.Fields(strings.ToUpper(w))
		if len(f) == 0 || slices.Contains(own, f[0]) || strings.HasPrefix(f[0], "AUTH=") || slices.Contains(out, f[0]) {
			continue
		}
		if p == config.Sieve {
			f[0] = strings.ToLower(f[0])
		}
		out = append(out, f[0])
	}
	slices.Sort(out)
	return out
}

// inWords says what people notice when a capability is gone.
func inWords(p config.Protocol, name string) string {
	if p == config.Sieve {
		return name + " (NEW refuses scripts that need it)"
	}
	for _, w := range noticed() {
		if w.protocol == p && (w.name == name || strings.HasSuffix(w.name, "=") && strings.HasPrefix(name, w.name)) {
			return name + " (" + w.what + ")"
		}
	}
	return name
}

// noticed is what people notice of a capability that is gone.
func noticed() []struct {
	protocol   config.Protocol
	name, what string
} {
	return []struct {
		protocol   config.Protocol
		name, what string
	}{
		{config.IMAP, "IDLE", "new mail shows when the client looks for it, not at once"},
		{config.IMAP, "NOTIFY", "changes in other folders show when the client looks for them"},
		{config.IMAP, "MOVE", "clients copy and delete instead"},
		{config.IMAP, "UIDPLUS", "clients look for what they have saved, and delete less exactly"},
		{config.IMAP, "CONDSTORE", "clients read the flags of whole folders to see what changed"},
		{config.IMAP, "QRESYNC", "clients look through whole folders to see what went"},
		{config.IMAP, "SPECIAL-USE", "clients guess which folders are Sent, Drafts and Trash"},
		{config.IMAP, "LIST-STATUS", "the list of folders takes more requests"},
		{config.IMAP, "LIST-EXTENDED", "the list of folders takes more requests"},
		{config.IMAP, "NAMESPACE", "clients do not know where shared folders are"},
		{config.IMAP, "SORT", "clients sort by themselves, slowly in large folders"},
		{config.IMAP, "THREAD=", "clients make threads by themselves, slowly in large folders"},
		{config.IMAP, "ESEARCH", "searching large folders takes more data"},
		{config.IMAP, "QUOTA", "clients do not show how full the mailbox is"},
		{config.IMAP, "ACL", "clients cannot show or change who shares a folder"},
		{config.IMAP, "METADATA", "notes that clients keep with folders are gone"},
		{config.IMAP, "UTF8=ACCEPT", "clients fall back to older writing of names"},
		{config.IMAP, "LITERAL+", "saving messages takes one more round trip"},
		{config.IMAP, "PREVIEW", "clients read messages to show their beginnings"},
		{config.IMAP, "BINARY", "attachments are read in base64"},
		{config.POP3, "UIDL", "clients that leave mail on the server get all of it again"},
		{config.POP3, "TOP", "clients cannot look at the headers alone"},
		{config.POP3, "UTF8", "mail to addresses in other scripts may be shown wrongly"},
		{config.POP3, "PIPELINING", "reading many messages takes longer"},
	}
}
