package syncer

import "time"

// Profile is what a probe saw of a server (uid-stable.md, section 4.7). It is kept as JSON. The zero value of each
// field is the safe default.
type Profile struct {
	Host         string            `json:"host"`
	Product      string            `json:"product"` // from ID or capabilities; "" when neither tells
	At           time.Time         `json:"at"`
	Took         time.Duration     `json:"took_ns,omitempty"`
	Capabilities []string          `json:"capabilities"`
	Refuses      map[string]string `json:"refuses,omitempty"`        // name of a corpus message -> what the server said
	Alters       map[string]string `json:"alters,omitempty"`         // name of a corpus message -> how it came back
	MaxKeywords  int               `json:"max_keywords,omitempty"`   // per mailbox; 0 means none found, up to 128
	KeywordFolds bool              `json:"keyword_folds,omitempty"`  // keywords take the letter case that the mailbox saw first
	UnknownFlags string            `json:"unknown_flags,omitempty"`  // STORE of a \Flag that is none: "kept", "dropped", "NO", "BAD"
	KeepsDates   bool              `json:"keeps_dates"`              // INTERNALDATE, as an instant, from 1970-01-02 to now
	KeepsZones   bool              `json:"keeps_zones"`              // and its zone
	ExactSizes   bool              `json:"exact_sizes"`              // RFC822.SIZE is the length of the body
	CopyKeeps    bool              `json:"copy_keeps"`               // COPY keeps bytes, date and flags, also within a mailbox
	RenameKeeps  bool              `json:"rename_keeps"`             // UIDVALIDITY and UIDs live through RENAME
	Ascending    bool              `json:"ascending"`                // APPEND gives ascending UIDs
	MultiAppend  bool              `json:"multiappend"`              // stores all messages of one command
	EarlyNo      bool              `json:"early_no"`                 // refuses before the literal; false too where LITERAL+ hides it
	CondStore    bool              `json:"condstore"`                // HIGHESTMODSEQ was seen to rise by STORE
	BadNames     string            `json:"bad_names,omitempty"`      // characters that folder names cannot hold; "8" stands for raw 8-bit
	BadFirst     string            `json:"bad_first,omitempty"`      // characters that they cannot begin with
	BadNameForms []string          `json:"bad_name_forms,omitempty"` // the same in words, with leading and trailing blanks and the like
	MaxName      int               `json:"max_name,omitempty"`       // bytes of one level that were accepted, of 100, 200 and 250; 0 when none was
	CaseFolds    bool              `json:"case_folds"`               // names that differ in letter case only are one folder
	MasterProven bool              `json:"master_proven"`            // master login opens the user's mailbox, seen for two users
	MasterLogin  string            `json:"master_login,omitempty"`   // whose, and how: what MasterProven holds for; it is void with any other
	SieveProven  string            `json:"sieve_proven,omitempty"`   // the same of ManageSieve: where, whose and how the master login was seen to heed whose scripts it asks for
	Proven       map[string]string `json:"proven,omitempty"`         // the same of other services, by protocol
	Notes        []string          `json:"notes,omitempty"`          // in plain words
}
