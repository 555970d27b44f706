package syncer

import (
	"reflect"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/imapwire"
)

func spans(n ...uint32) (s imapwire.Spans) {
	for i := 0; i < len(n); i += 2 {
		s = s.Add(n[i], n[i+1])
	}
	return s
}

// TestProofs: what belongs together is one, what does not fit is forgotten, and what a pass gives back is there for the next.
func TestProofs(t *testing.T) {
	t.Parallel()
	var s Proofs
	at := spot{side: config.New, mailbox: 5, validity: 7}
	note := func(session uint64, most uint32, uids, marked imapwire.Spans) {
		s.Note("u", config.New, session, imapwire.Deletes{Mailbox: 5, Validity: 7, UIDs: uids, Most: most, Marked: marked})
	}
	note(1, 3, spans(1, 3), nil)
	note(2, 4, spans(3, 6), spans(1, 9)) // of another session, and partly the same
	note(1, 10, spans(1, 100), nil)      // only so many
	note(1, 5, spans(1, 100), nil)
	note(2, 12, spans(1, 100), nil) // the same ones perhaps
	want := map[spot][]proof{at: {
		{session: 1, uids: spans(1, 6), most: 6, marked: spans(1, 9)},
		{session: 1, uids: spans(1, 100), most: 15},
		{session: 2, uids: spans(1, 100), most: 12},
	}}
	got := s.take("u")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if s.spans != 0 || s.take("u") != nil {
		t.Errorf("%d spans are left", s.spans)
	}
	note(1, 2, spans(8, 9), nil)
	s.back("u", got)
	if got := s.take("u")[at]; got[0].most != 8 || !got[0].sure() || len(got) != 3 {
		t.Errorf("given back: %v", got)
	}
	for i := range uint32(2 * maxProofSpans) {
		note(uint64(i), 1, spans(2*i+1, 2*i+2), nil)
		if i%1000 == 0 && s.spans > maxProofSpans {
			t.Fatalf("%d spans", s.spans)
		}
	}
	if n := len(s.users["u"][at]); n != maxProofs {
		t.Errorf("%d proofs of a mailbox", n)
	}
	for i := range uint64(2 * maxProvenBoxes) {
		s.Note("u", config.New, 1, imapwire.Deletes{Mailbox: i + 1, Folder: true})
	}
	if n := len(s.users["u"]); n != maxProvenBoxes {
		t.Errorf("%d mailboxes", n)
	}
	s.Forget("u")
	if s.spans != 0 || len(s.users) != 0 {
		t.Errorf("%d spans, %v", s.spans, s.users)
	}
}

// TestObserved: deletes are first seen once, until they are held back no more or become many more.
func TestObserved(t *testing.T) {
	at := time.Unix(1000, 0)
	held := func(n int) []Held { return []Held{{Folder: "a", Side: "new", Messages: n, Of: 400}} }
	seen := observed(nil, held(100), at)
	seen = observed(seen, held(180), at.Add(time.Minute))
	if x := seen[heldKey("a", "new")]; x.since != at || x.messages != 100 {
		t.Errorf("%+v", x)
	}
	seen = observed(seen, held(181), at.Add(2*time.Minute))
	if x := seen[heldKey("a", "new")]; x.since != at.Add(2*time.Minute) || x.messages != 181 {
		t.Errorf("grown: %+v", x)
	}
	if seen = observed(seen, nil, at); len(seen) > 0 {
		t.Errorf("%+v", seen)
	}
	if seen = observed(seen, held(100), at.Add(time.Hour)); seen[heldKey("a", "new")].since != at.Add(time.Hour) {
		t.Errorf("again: %+v", seen)
	}
}
