package syncer

import (
	"reflect"
	"testing"
)

func TestFlagsPayload(t *testing.T) {
	t.Parallel()
	deltas := []flagDelta{{add: []string{`\Seen`, "work"}, uids: []uint32{1, 7, 1<<32 - 1}}, {remove: []string{`\Deleted`}, uids: []uint32{2}}}
	b := encodeFlags(deltas)
	if got, err := decodeFlags(b); err != nil || len(got) != 2 || !reflect.DeepEqual(got[0].add, deltas[0].add) || len(got[0].remove) != 0 ||
		!reflect.DeepEqual(got[0].uids, deltas[0].uids) || !reflect.DeepEqual(got[1].remove, deltas[1].remove) || !reflect.DeepEqual(got[1].uids, deltas[1].uids) {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range b {
		if got, err := decodeFlags(b[:n]); err == nil {
			t.Errorf("%d bytes of %d: %+v", n, len(b), got)
		}
	}
}
