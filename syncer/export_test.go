package syncer

import "time"

// SuspectPayload is the payload of an IntentSuspect about one message: its UID and the date of its copy, in seconds.
func SuspectPayload(uid uint32, date int64) []byte {
	return encodeItems([]item{{uid: uid, date: date, dated: true}})
}

// NewClockOf makes a Clock that was begun at a time, and has run for as long as since says.
func NewClockOf(start time.Time, since func() time.Duration) *Clock { return newClock(start, since) }
