package admin

import (
	"time"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
)

// Overview answers status without a user.
type Overview struct {
	Hostname string                  `json:"hostname"`
	Version  string                  `json:"version"`
	Serving  bool                    `json:"serving"` // false: mailgate serve does not run, and a verb opened the store itself
	Since    time.Time               `json:"since,omitzero"`
	Users    map[string]int          `json:"users"`                      // by side
	Sessions SessionCounts           `json:"sessions"`                   // of all nodes
	Silent   []string                `json:"sessions_unknown,omitempty"` // nodes that have not answered: their sessions are not counted
	Fenced   int                     `json:"fenced"`
	Owed     int                     `json:"rows_owed"` // rows of new users that the store has not taken yet
	Store    string                  `json:"store"`     // "ok", or what is wrong
	Backends []BackendHealth         `json:"backends"`
	Open     []op.Operation          `json:"open_operations"`
	Holds    []op.Hold               `json:"holds"` // stop signs that no flip passes
	Drift    []cutover.Drift         `json:"drift"`
	Reload   string                  `json:"last_reload"` // "ok", or why the files are not in force
	Sync     *SyncOverview           `json:"sync,omitempty"`
	Ready    map[string]*ReadyCounts `json:"ready,omitempty"`          // of users who are kept: "rollback", "flip"
	Behind   []string                `json:"left_behind,omitempty"`    // users of whom something may be left on the other side by rollback --now; the first of them
	BehindOf int                     `json:"left_behind_users"`        // all of them
	Refused  []RefusedLogin          `json:"refused_logins,omitempty"` // of passwords that worked on the other side, as far as they fit
	Refusals int                     `json:"refused_users"`            // users of whom there are some

	Nodes []NodeInfo `json:"nodes,omitempty"` // where there are several processes

	Authorities  *Authorities `json:"authorities,omitempty"`  // null where the side of each user verifies him
	Certificates []Managed    `json:"certificates,omitempty"` // those that are had from an authority
}

// Authorities tells who verifies the passwords of users.
type Authorities struct {
	Users      map[string]int `json:"users"`       // by authority
	WithoutOld []string       `json:"without_old"` // what ends when OLD is switched off, in plain words; empty when nothing
	Troubles   []string       `json:"troubles"`    // who cannot log in as it is, and what to do
}

// Managed is a certificate that is had from an authority.
type Managed struct {
	Name    string    `json:"name"`
	Until   time.Time `json:"until,omitzero"`   // of the one in use
	Renewal time.Time `json:"renewal,omitzero"` // when the next one is asked for
	Error   string    `json:"error,omitempty"`  // why the last request failed
	Tried   time.Time `json:"tried,omitzero"`   // when that was
	Next    time.Time `json:"next,omitzero"`    // when it is tried again
}

// SyncOverview tells how far the users of started waves are.
type SyncOverview struct {
	Waves        []string       `json:"waves"`
	UnknownWaves []string       `json:"unknown_waves,omitempty"` // those without a user in the routes file
	Users        int            `json:"users"`
	Phases       map[string]int `json:"phases"`
	LagSeconds   float64        `json:"lag_seconds"` // age of the oldest change that is known of and not carried yet
	Waiting      int            `json:"waiting"`     // messages in quarantine, and folders with deletes held back
	Scripts      int            `json:"scripts"`     // Sieve scripts that are not carried
	Partly       int            `json:"partly"`      // users with folders that the last pass could not do; the others are
	Watched      int            `json:"watched"`     // users whose host tells of changes at once
	Paused       *SyncPause     `json:"paused,omitempty"`
}

// SyncPause is who has paused it.
type SyncPause struct {
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// SyncStatus tells how far a user is whose wave has started.
type SyncStatus struct {
	Phase       string         `json:"phase"` // "first copy", "converged", "no login", "failing", "paused"
	Running     bool           `json:"running"`
	Progress    string         `json:"progress,omitempty"`
	LagSeconds  float64        `json:"lag_seconds"`      // age of the oldest change that is known of and not carried yet
	Last        time.Time      `json:"last,omitzero"`    // whole pass
	TookSeconds float64        `json:"took_seconds"`     // that one
	Next        time.Time      `json:"next,omitzero"`    //
	Tries       int            `json:"tries,omitempty"`  // that failed, one after the other
	Error       string         `json:"error,omitempty"`  // of the last
	Do          string         `json:"do,omitempty"`     // about it
	Folders     int            `json:"folders"`          //
	Messages    int64          `json:"messages"`         // on both sides
	Quarantine  int            `json:"quarantine"`       // messages that wait for a person
	Held        int            `json:"held"`             // folders with deletes that the guard holds back
	Broken      []BrokenFolder `json:"broken,omitempty"` // folders that cannot be done; the others are
	Sieve       string         `json:"sieve,omitempty"`  // how his Sieve scripts stand; "" where there are none
	SieveNotes  []string       `json:"sieve_notes,omitempty"`
	Opens       time.Time      `json:"opens,omitzero"` // when first copies may be made again (sync.windows)
	Paused      *SyncPause     `json:"paused,omitempty"`
	Gaps        string         `json:"gaps,omitempty"` // what does not travel, in a line
	GapsAt      time.Time      `json:"gaps_at,omitzero"`
	Behind      string         `json:"behind,omitempty"` // what rollback --now left on the other side, until that is read again
}

// BrokenFolder is one that the last pass could not do.
type BrokenFolder struct {
	Folder string `json:"folder"`
	Error  string `json:"error"`
}

// BackendHealth is one host as last seen.
type BackendHealth struct {
	Side     config.Side     `json:"side"`
	Host     string          `json:"host"`
	Protocol config.Protocol `json:"protocol"`
	Error    string          `json:"error,omitempty"`
}

// UserStatus answers status USER.
type UserStatus struct {
	User     string         `json:"user"`
	Listed   bool           `json:"listed"`         // has a line in the routes file
	Known    bool           `json:"known"`          // has a row
	Side     config.Side    `json:"side"`           // where his sessions go
	Epoch    int64          `json:"epoch"`          // committed flips so far
	State    op.State       `json:"state"`          // "" when the store does not answer
	Since    time.Time      `json:"since,omitzero"` // of Side
	Desired  *config.Side   `json:"desired"`        // by the routes file
	Why      string         `json:"why"`            // in plain words
	Store    string         `json:"store"`          // "ok", or why what the store knows is missing here
	Login    [2]string      `json:"login"`          // login name on OLD and NEW
	Host     [2]string      `json:"host"`           // own host on OLD and NEW, "" for any
	Wave     string         `json:"wave,omitempty"`
	Pin      *op.Pin        `json:"pin,omitempty"`
	Rollback string         `json:"rollback"`              // whether he can go back, in a line
	Ready    *Readiness     `json:"ready"`                 // for the other side; null where nobody can tell
	Behind   string         `json:"left_behind,omitempty"` // what rollback --now left on the other side, until that is read again
	Logins   int            `json:"logins_under_way"`
	Held     int            `json:"logins_held"`
	Sessions []SessionInfo  `json:"sessions"`
	Open     []op.Operation `json:"open_operations"`
	Sync     *SyncStatus    `json:"sync,omitempty"` // null when his wave has not started
	Seen     *LoginStatus   `json:"logins,omitempty"`
	Verified string         `json:"verified_by"` // the authority over his password

	LockedOut string `json:"locked_out,omitempty"` // why he cannot log in with that authority, and what to do
}

// SessionInfo is a live session.
type SessionInfo struct {
	ID       uint64          `json:"id"`
	User     string          `json:"user"`
	Protocol config.Protocol `json:"protocol"`
	Side     config.Side     `json:"side"`
	Epoch    int64           `json:"epoch"`
	Host     string          `json:"host"`
	Client   string          `json:"client"`
	Started  time.Time       `json:"started"`
	Node     string          `json:"node,omitempty"` // the gateway that has it, where there are several
}

// NodeInfo is a gateway among those on one store.
type NodeInfo struct {
	Name          string    `json:"name"`
	Here          bool      `json:"here"`  // the one that was asked
	Leads         bool      `json:"leads"` // it runs operations and passes
	Since         time.Time `json:"since,omitzero"`
	Seen          time.Time `json:"seen,omitzero"`
	SilentSeconds float64   `json:"silent_seconds"` // it has not been heard of for so long; 0 when it has
	Sessions      int       `json:"sessions"`
	Version       string    `json:"version"`
	Serial        string    `json:"routes_serial"` // of its routes file
	Differs       bool      `json:"differs"`       // which is not the one that was last taken over
	Waiting       int       `json:"waiting"`       // what it was asked and has not answered
}

// Reloaded answers reload.
type Reloaded struct {
	Restart []string         `json:"needs_restart"` // keys that changed and take effect at the next start only
	Import  cutover.Imported `json:"routes"`
	Follows bool             `json:"follows,omitempty"` // another node leads, and takes the routes file over
}

// Kicked answers kick.
type Kicked struct {
	Asked int `json:"asked"`
	Left  int `json:"left"`

	Silent []string `json:"silent,omitempty"` // nodes that have not answered
}

// Unpinned answers unpin.
type Unpinned struct {
	User      string        `json:"user"`
	Pinned    bool          `json:"was_pinned"`
	Operation *op.Operation `json:"operation,omitempty"` // that moves him to where the routes file says
}

// Failure is how the API says no.
type Failure struct {
	Error string `json:"error"`
	Exit  int    `json:"exit"` // the exit code that fits: see design.md, section 9
}
