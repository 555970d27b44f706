package syncer

import "time"

// VerifyOptions of Verify.
type VerifyOptions struct {
	Deep     bool // hash every body; otherwise a sample
	Sample   int  // bodies hashed for each folder without Deep; 0 means 20
	Progress func(Progress)
}

// Verification is what both accounts look like beside each other.
type Verification struct {
	User      string               `json:"user"`
	At        time.Time            `json:"at"`
	Took      time.Duration        `json:"took_ns"`
	Deep      bool                 `json:"deep"`
	Authority string               `json:"authority"`
	Folders   []FolderVerification `json:"folders"`
	Messages  [2]int64             `json:"messages"`
	Compared  int64                `json:"compared"` // pairs
	Hashed    int64                `json:"hashed"`
	Equal     bool                 `json:"equal"`  // no difference, and nothing open in quarantine
	Open      int64                `json:"open"`   // in quarantine, and waiting for a person or the next try
	Waived    int64                `json:"waived"` // in quarantine, and no obstacle: a person has said so
	Sieve     *SieveVerification   `json:"sieve,omitempty"`
}

// FolderVerification is one folder of it.
type FolderVerification struct {
	Name        [2]string    `json:"name"` // as people read them
	Messages    [2]int64     `json:"messages"`
	Hashed      int64        `json:"hashed"`
	Found       int64        `json:"found"` // differences in all; no more than 1000 are listed
	Differences []Difference `json:"differences,omitempty"`
	Open        []Difference `json:"open,omitempty"`      // what waits in quarantine
	Waived      int64        `json:"waived"`              // of Explained, what a person has waived
	Explained   []Difference `json:"explained,omitempty"` // known and accepted: what is waived, flags that a side cannot keep

	compared int64
}

// Difference is one that was found.
type Difference struct {
	Kind      string    `json:"kind"` // "missing-old", "missing-new", "flags", "size", "date", "body", "folder", "subscription"
	UID       [2]uint32 `json:"uid"`
	Subject   string    `json:"subject,omitempty"`
	MessageID string    `json:"message_id,omitempty"`
	Old       string    `json:"old,omitempty"`
	New       string    `json:"new,omitempty"`
	Why       string    `json:"why,omitempty"`

	size, date int64
}
