package syncer

// SuspectPayload is the payload of an IntentSuspect about one message: its UID and the date of its copy, in seconds.
func SuspectPayload(uid uint32, date int64) []byte {
	return encodeItems([]item{{uid: uid, date: date, dated: true}})
}
