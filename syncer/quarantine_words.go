package syncer

import (
	"strings"
	"time"
)

// words are what is said of a reason: {there} is the side that has the message, {other} the one that is to get it.
type words struct{ why, wayOut string }

// wordsOf puts a reason of quarantine, and what can be done about it, into plain words.
func wordsOf(q Quarantined) words {
	w, ok := map[string]words{
		"quota": {"the mailbox on {other} is full",
			"raise the user's quota on {other}, or have mail deleted there; then retry, or wait for the next try"},
		"too-big": {"{other} takes no message of this size",
			"raise the size limit of {other} and retry; or waive it"},
		"permission": {"{other} does not let mail be written into this folder",
			"give the user (or the master login) the right to insert mail there and retry; or waive it"},
		"nul": {"the message holds NUL bytes, which {other} does not take",
			"{other} will not take it as it is: waive it, or have the user save what is in it"},
		"unreadable": {"{there} has the message and does not give it",
			"have the mailbox repaired on {there} (Dovecot: doveadm force-resync, Cyrus: reconstruct) and retry; or waive it"},
		reasonVanished: {"{other} said that it took the message, and does not show it",
			"look whether it stands there in another form: if it does, waive this one; if not, retry"},
		reasonReset: {"the folder began anew on one side, and {other} does not have this message: deleted there or lost, nobody can tell",
			"to keep it, retry: it is carried over as a new message; to let go of it, waive it: it stays where it is"},
		reasonSuspect: {"it is perhaps a late copy of a message that was deleted meanwhile",
			"if the user wants it, retry: it is carried over as a new message; else waive it: it stays where it is, and the user may delete it"},
		"refused": {"{other} refuses the message",
			"see what {other} said, mend that and retry; or waive it"},
	}[q.Reason]
	if !ok {
		w = words{"it could not be carried to {other}", "see what was said, mend that and retry; or waive it"}
	}
	r := strings.NewReplacer("{there}", sideName(q.Side), "{other}", sideName(q.Side.Other()))
	return words{r.Replace(w.why), r.Replace(w.wayOut)}
}

// folderTitle is a raw name as people read it, where the separator is not known: neither of the usual ones is part of what UTF-7
// encodes.
func folderTitle(raw string) string {
	dots := &naming{separator: '.'}
	parts := strings.Split(raw, "/")
	for i := range parts {
		parts[i] = dots.shown(parts[i])
	}
	return strings.Join(parts, "/")
}

// aboutWaiver says of a message that somebody has waived it.
func aboutWaiver(q Quarantined) string {
	return "waived by " + oneLine(q.By, 100) + " on " + q.Decided.UTC().Format("2006-01-02 15:04 MST") + ", " + q.Reason + ": " + q.Detail
}

// stampText is a time for people, "" for none.
func stampText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04 MST")
}
