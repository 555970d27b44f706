package store

// kind is what a column holds.
type kind byte

const (
	number kind = iota
	text
	bytesOf
)

// column is one of a table's.
type column struct {
	name string
	kind kind
}

// table is one that is exported.
type table struct {
	name    string
	columns []column
	order   string // by which its rows are sorted: its primary key
	where   string // which rows; "" means all
	counted bool   // its IDs are given out by the database, and never twice
}

// tables are all of the schema, those that others refer to first.
func tables() []table {
	n := func(names ...string) (c []column) {
		for _, name := range names {
			c = append(c, column{name, number})
		}
		return c
	}
	t := func(names ...string) (c []column) {
		for _, name := range names {
			c = append(c, column{name, text})
		}
		return c
	}
	b := func(names ...string) (c []column) {
		for _, name := range names {
			c = append(c, column{name, bytesOf})
		}
		return c
	}
	cols := func(parts ...[]column) (c []column) {
		for _, p := range parts {
			c = append(c, p...)
		}
		return c
	}
	return []table{
		// What a process writes about itself does not travel.
		{"meta", t("key", "value"), "key", "key NOT IN ('checked', 'writer', 'leader')", false},
		{"users", cols(t("user", "state", "op"), n("side", "epoch", "generation", "target", "since")), "user", "", false},
		{"operations", cols(n("id", "target", "pin", "created", "changed", "deadline", "took", "now"), t("kind", "user", "status", "step", "reason", "by",
			"payload", "wave", "parent", "origin", "plan")), "id", "", true},
		{"pins", cols(t("user", "by", "reason"), n("side", "at")), "user", "", false},
		{"history", cols(n("id", "at"), t("op", "user", "what", "before", "after", "by", "detail", "origin", "plan")), "id", "", true},
		{"desired", cols(t("user"), n("side")), "user", "", false},
		{"nodes", cols(t("name", "incarnation", "about"), n("since", "seen")), "name", "", false},
		{"holds", cols(t("scope", "by", "reason"), n("at")), "scope", "", false},
		{"waves", cols(t("name", "started_by", "flipped_by", "rolled_by", "rolled_why", "completed_by", "gate", "gate_why"),
			n("generation", "started", "flipped", "soak_until", "rolled", "completed", "gate_at")), "name", "", false},
		{"accounts", cols(n("id", "token", "lease"), t("user", "owner")), "id", "", false},
		{"mailboxes", cols(n("id", "account", "old_validity", "new_validity", "old_uidnext", "old_messages", "old_unseen", "old_modseq",
			"old_scanned", "new_uidnext", "new_messages", "new_unseen", "new_modseq", "new_scanned", "subscribed", "pairs", "gone"),
			b("old_name", "new_name", "old_mailboxid", "new_mailboxid", "special_use", "flags")), "id", "", true},
		{"chunks", cols(n("mailbox", "low", "generation"), b("data")), "mailbox, low", "", false},
		{"intents", cols(n("id", "mailbox", "side", "epoch", "validity", "uidnext", "created"), t("kind"), b("payload")), "id", "", true},
		{"quarantine", cols(n("mailbox", "side", "validity", "uid", "first", "last", "tries", "decided"), t("reason", "decision", "by"), b("detail")),
			"mailbox, side, validity, uid", "", false},
		{"scripts", cols(n("account", "old_active", "new_active", "seen"), t("old_base", "new_base", "state", "tried"), b("name", "why")),
			"account, name", "", false},
		{"runs", cols(n("id", "began", "ended"), t("user"), b("summary", "error")), "id", "", true},
		{"pauses", cols(t("user", "by", "reason"), n("at")), "user", "", false},
		{"learned", cols(t("user"), n("side", "learned", "seen", "expires", "refused_old", "refused_new"), b("sealed")), "user, side", "", false},
		{"known", cols(t("user", "network"), n("seen")), "user, network", "", false},
		{"logins", cols(t("user", "protocol"), n("side", "first", "last")), "user, side, protocol", "", false},
		{"kept", cols(t("user", "protocol", "hash", "error"), n("side", "learned", "seen", "expires", "done", "tries", "next")), "user", "", false},
		{"refusals", cols(t("user", "protocol"), n("side", "first", "last", "count")), "user, side, protocol", "", false},
		{"gaps", cols(t("user"), n("at"), b("text")), "user", "", false},
		{"baselines", cols(t("user"), n("at"), b("text")), "user", "", false},
		{"signals", cols(t("user", "node"), n("side", "day", "logins_ok", "logins_refused", "logins_failed", "sessions", "broken", "mail_ok", "mail_refused")),
			"user, side, day, node", "", false},
		{"waivers", cols(t("scope", "gate", "by", "reason"), n("at", "until")), "scope, gate", "", false},
		{"verified", cols(t("user"), n("at", "equal"), b("text")), "user", "", false},
		{"behind", cols(t("user"), n("at"), b("text")), "user", "", false},
		{"proofs", cols(t("user"), b("text")), "user", "", false},
		{"profiles", cols(n("side"), t("host"), b("text")), "side, host", "", false},
	}
}
