package main

import (
	"fmt"
	"slices"
	"strings"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/syncer"
)

// plainly is an error in one line.
func plainly(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// maxNamed bounds what is named of many.
const maxNamed = 3

// someOf lists the first of many.
func someOf[T any](list []T, word func(T) string) string {
	var out []string
	for i, x := range list {
		if i == maxNamed {
			out = append(out, fmt.Sprintf("and %d more", len(list)-maxNamed))
			break
		}
		out = append(out, word(x))
	}
	return strings.Join(out, "; ")
}

// obstacles are what a pass has left undone and what would be lost, or come back, behind a flip.
func obstacles(m cutover.Move, r *syncer.Report) error {
	switch {
	case len(r.Errors) > 0:
		return &cutover.Refusal{Why: fmt.Sprintf("%d folders could not be brought together: %s", len(r.Errors), someOf(r.Errors, func(e syncer.FolderError) string {
			return e.Folder + " (" + strings.ReplaceAll(e.Error, "\n", "; ") + ")"
		})), Do: mendFolders(m, r.Errors)}
	case len(r.Held) > 0:
		return &cutover.Refusal{Why: fmt.Sprintf("deletes are held back, and what they are about would come back behind the flip: %s", someOf(r.Held, func(h syncer.Held) string {
			return fmt.Sprintf("%d of %d messages of %s (%s)", h.Messages, h.Of, h.Folder, h.Why)
		})), Do: "if they are meant, carry them with mailgate sync run " + m.User + " --deletes; else bring the mail back on " + m.From.String() + "; then ask again"}
	case len(r.Quarantine) > 0:
		return &cutover.Refusal{Why: fmt.Sprintf("%d messages are in quarantine, and would be left behind: %s", len(r.Quarantine), someOf(r.Quarantine, func(q syncer.Quarantined) string {
			return q.Reason + ", on " + q.Side.String()
		})), Do: "see mailgate quarantine list " + m.User + ": mend the reason and retry, or waive them; then ask again"}
	}
	return nil
}

// mendFolders says what to do about folders that could not be done: a host that lists one and does not open it does so again until somebody mends it.
func mendFolders(m cutover.Move, list []syncer.FolderError) string {
	do := "mend what it says, see mailgate sync run " + m.User + ", and ask again"
	if slices.ContainsFunc(list, func(e syncer.FolderError) bool { return e.Class == syncer.ClassRefused }) {
		do += "; a folder that a host lists and does not open needs its index repaired there (Dovecot: doveadm force-resync, Cyrus: reconstruct) or the right to read it," +
			" or is left out by its name in sync.exclude, and stays behind"
	}
	return do
}

// standing refuses a flip for what differs and stays so, though it was carried in between.
func standing(m cutover.Move, before, now *syncer.Confirmation, last bool) error {
	side := config.Side(m.To)
	do := "see mailgate verify " + m.User + " and mailgate sync run " + m.User + ", then ask again"
	switch q := now.Quota[side]; {
	case q.Over():
		return &cutover.Refusal{Why: fmt.Sprintf("the account is full on %s: %s; nothing was changed", side, quotaWords(q)), Do: "raise the limit there and ask again"}
	case now.Aside > 0:
		return &cutover.Refusal{Why: fmt.Sprintf("%d messages are in quarantine; nothing was changed", now.Aside), Do: "see mailgate quarantine list " + m.User + ", then ask again"}
	case now.Different == 0 || before == nil:
		return nil
	}
	words := func(d syncer.FolderDeviation) string {
		s := d.Folder
		for i, uid := range d.UID {
			if uid != 0 {
				s += fmt.Sprintf(", UID %d on %s", uid, config.Side(i))
			}
		}
		return s + " (" + d.Kind + ": " + d.Why + ")"
	}
	was := map[syncer.FolderDeviation]bool{}
	for _, d := range before.Differences {
		was[d] = true
	}
	var same []syncer.FolderDeviation
	for _, d := range now.Differences {
		if was[d] {
			same = append(same, d)
		}
	}
	switch {
	case len(same) > 0:
		return &cutover.Refusal{Why: fmt.Sprintf("both sides differ, though all was carried; nothing was changed: %s", someOf(same, words)), Do: do}
	case last:
		return &cutover.Refusal{Why: fmt.Sprintf("somebody is at work in the mailboxes past mailgate, so that they differ each time; nothing was changed: %s",
			someOf(now.Differences, words)), Do: "end that, or try at a quieter time; " + do}
	}
	return nil
}

func quotaWords(q syncer.Quota) string {
	var s []string
	if q.StorageLimit > 0 {
		s = append(s, fmt.Sprintf("%s of %s", bytesText(q.Storage), bytesText(q.StorageLimit)))
	}
	if q.MessageLimit > 0 {
		s = append(s, fmt.Sprintf("%d of %d messages", q.Messages, q.MessageLimit))
	}
	return strings.Join(s, ", ")
}

// seen is what VERIFY saw, for the history.
func (w *flipWork) seen(c *syncer.Confirmation) string {
	s := fmt.Sprintf("%d folders, %d messages, %d looked into again, flags of %d compared, equal", c.Folders, c.Messages[w.m.From], c.Looked, c.Pairs)
	if n := c.Late[0] + c.Late[1]; n > 0 {
		s += fmt.Sprintf("; %d arrived meanwhile and are carried next", n)
	}
	if c.Waived > 0 {
		s += fmt.Sprintf("; %d stay behind, as somebody has waived them", c.Waived)
	}
	if c.Unkept > 0 {
		s += fmt.Sprintf("; %d have flags that the other side cannot keep", c.Unkept)
	}
	if c.Disorder > 0 {
		s += fmt.Sprintf("; in %d folders messages stand in another order on new than on old, which clients that sort by arrival show", c.Disorder)
	}
	if kp := w.s.keeping; kp != nil {
		if _, kept := kp.k.State(w.m.User); !kept && w.m.To == config.Old {
			s += "; from now on the sides are not kept equal, for his wave has not started"
		}
	}
	return s
}

// room refuses a flip where what is still to come does not fit, before it is carried.
func (w *flipWork) room() error {
	r, err := w.y.Room(w.u.ctx, w.m.User, nil)
	if err != nil {
		return w.refusal(err)
	}
	return w.fits(r)
}

// fits refuses what does not.
func (w *flipWork) fits(r syncer.Room) error {
	switch {
	case !r.Quota.Known:
		w.tell(cutover.Progress{Why: fmt.Sprintf("%s does not tell how much room there is", w.m.To)})
		return nil
	case !r.Fits(), r.Quota.Over():
		coming := ""
		if r.Messages > 0 {
			coming = fmt.Sprintf(", and %d messages (%s) are to come", r.Messages, bytesText(r.Bytes))
		}
		return &cutover.Refusal{Why: fmt.Sprintf("the mail does not fit on %s: it holds %s%s", w.m.To, quotaWords(r.Quota), coming), Do: "raise the limit there and ask again"}
	}
	return nil
}
