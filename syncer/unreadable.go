package syncer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"

	"mailgate/backend"
	"mailgate/imapwire"
)

// reasonUnreadable is the quarantine of what a server lists and does not give. Often it is the matter of a moment (a file got another name), so it is tried
// again by the next passes, without waiting, soonTries times.
const (
	reasonUnreadable = "unreadable"
	soonTries        = 4
)

// unavailable is what Courier gives for a message whose file it cannot open at that moment, because a flag or a delete has given it
// another name. The message may live.
const unavailable = "From: System Administrator <root@localhost>\nSubject: message unavailable\n\nThis message is no longer available on the server.\n"

// Passing tells that a pass has left something undone that may be over the next time: a folder was renamed or deleted while it was looked at, a file got
// another name, a message was deleted before it could be read.
func (r *Report) Passing() bool {
	soon := slices.ContainsFunc(r.Quarantine, func(q Quarantined) bool {
		return q.Reason == reasonUnreadable && q.Decision == Undecided && q.Tries < soonTries
	})
	return soon || slices.ContainsFunc(r.Errors, func(e FolderError) bool {
		switch e.Class {
		case ClassRefused, ClassProtocol, ClassUnreachable, ClassOther:
			return true
		}
		return false
	})
}

// standInHeader is what a digest has of it.
var standInHeader, _, _ = headerDigest([]byte(unavailable)) //nolint:gochecknoglobals // a constant

// standIn tells that a message of that many bytes is what a server gives in place of one, which is no mail. What it has read of b is in the reader that it gives.
func standIn(size int64, b io.Reader) (io.Reader, bool, error) {
	if size < int64(len(unavailable)) || size > int64(len(unavailable)+bytes.Count([]byte(unavailable), []byte("\n"))) {
		return b, false, nil
	}
	text, err := io.ReadAll(b)
	if err != nil {
		return nil, false, err
	}
	return bytes.NewReader(text), string(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))) == unavailable, nil
}

// readAgain looks once more for what the source has listed and not given: what is gone is no affair of ours any more, and what is there is read anew, in
// a mailbox that is opened anew. It returns what is refused still.
func (p *pass) readAgain(ctx context.Context, j *job, rest []refusal) ([]refusal, error) {
	from := j.to.Other()
	var uids []uint32
	for _, r := range rest {
		if errors.Is(r.err, errUnreadable) {
			uids = append(uids, r.uid)
		}
	}
	if len(uids) == 0 {
		return rest, nil
	}
	slices.Sort(uids)
	there := map[uint32]bool{}
	err := p.on(ctx, from, func(c *backend.Client) error {
		clear(there)
		sel, err := c.Select(j.f.Name[from], backend.SelectOptions{ReadOnly: true}).Result(ctx)
		if err != nil {
			return err
		}
		if sel.Validity != j.f.validity(from) {
			return errReset
		}
		for _, set := range imapwire.SplitUIDs(uids, lineLength) {
			err := c.Fetch(set, backend.FetchOptions{Items: []string{"FLAGS"}, Message: func(m *backend.Message) error {
				there[m.UID] = true
				return nil
			}}).Wait(ctx)
			if err != nil && !(refused(err) && sel.Exists == 0) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return rest, err
	}
	var try []item
	rest = slices.DeleteFunc(rest, func(r refusal) bool {
		switch {
		case !errors.Is(r.err, errUnreadable):
			return false
		case there[r.uid]:
			try = append(try, r.item)
		default: // the next pass sees what has become of it
			j.f.work.again = true
		}
		return true
	})
	slices.SortFunc(try, func(a, b item) int { return int(int64(a.uid) - int64(b.uid)) })
	left, err := p.again(ctx, j, try, lineOptions{to: j.to, single: true})
	return append(rest, left...), err
}
