package syncer

import "time"

// Profile is what a probe saw of a server (uid-stable.md, section 4.7). It is kept as JSON. The zero value of each
// field is the safe default.
type Profile struct {
	Host         string            `json:"host"`
	Product      string            `json:"product"` // from ID, greeting or capabilities
	At           time.Time         `json:"at"`
	Capabilities []string          `json:"capabilities"`
	Refuses      map[string]string `json:"refuses,omitempty"`      // name of a corpus message -> what the server said
	Alters       map[string]string `json:"alters,omitempty"`       // name of a corpus message -> how it came back
	MaxKeywords  int               `json:"max_keywords,omitempty"` // per mailbox; 0 means none found
	KeepsDates   bool              `json:"keeps_dates"`
	RenameKeeps  bool              `json:"rename_keeps"`        // UIDVALIDITY and UIDs live through RENAME
	Ascending    bool              `json:"ascending"`           // APPEND gives ascending UIDs
	MultiAppend  bool              `json:"multiappend"`         // stores all messages of one command
	EarlyNo      bool              `json:"early_no"`            // refuses before the literal
	BadNames     string            `json:"bad_names,omitempty"` // characters that folder names cannot hold
	BadFirst     string            `json:"bad_first,omitempty"` // characters that they cannot begin with
	MaxName      int               `json:"max_name,omitempty"`  // bytes
	CaseFolds    bool              `json:"case_folds"`          // names that differ in letter case only are one folder
	MasterProven bool              `json:"master_proven"`       // master login opens the user's mailbox, seen for two users
	Notes        []string          `json:"notes,omitempty"`
}
