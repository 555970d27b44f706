package gate

import (
	"time"

	"mailgate/config"
)

// Verdict is what a gate answers.
type Verdict string

const (
	Pass    Verdict = "pass"
	Fail    Verdict = "fail"
	Unknown Verdict = "unknown"
)

// Verdicts lists them, for loops.
func Verdicts() []Verdict { return []Verdict{Pass, Fail, Unknown} }

// Phase is what is asked for.
type Phase uint8

const (
	// Start is asked before a flip, of a wave that is not moved yet or not wholly. What holds a start is what is proven bad, or what is
	// to be known beforehand and is not.
	Start Phase = iota
	// Soak is asked behind the flips: what ends a soak is what is proven good.
	Soak
)

// Answer is what something that is asked has to say.
type Answer struct {
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why"`
}

// Result is what one gate has answered.
type Result struct {
	Gate    config.Gate     `json:"gate"`
	Mode    config.GateMode `json:"mode"`
	Verdict Verdict         `json:"verdict"`
	Why     string          `json:"why"` // in plain words, with the numbers
	Waiver  *Waiver         `json:"waiver,omitempty"`
	Holds   bool            `json:"holds,omitempty"` // enforced, not passed, not waived
}

// Evidence is all that is known about some users when gates are judged.
type Evidence struct {
	Users int `json:"users"`
	Moved int `json:"moved"` // of them on NEW

	// Before is what those that have moved met in the week before their flips, on OLD; of a wave of which nobody has moved, what all of
	// them met in the last week. Unrecorded are those who have moved and of whom it is not known.
	Before     Counts   `json:"before"`
	Unrecorded []string `json:"unrecorded,omitempty"`
	// After is what those that have moved met since their flips, on NEW; Recent is that of the last hour.
	After  Counts `json:"after"`
	Recent Counts `json:"recent"`
	// Untold is what of these counts is not known, and why; "" when all is: other gateways count too.
	Untold string `json:"untold,omitempty"`

	Verified    []Compared `json:"verified,omitempty"`     // those that were compared
	Unverified  []string   `json:"unverified,omitempty"`   // and those that never were
	VerifiedWhy string     `json:"verified_why,omitempty"` // why that is not known; "" when it is
	Lags        []Lag      `json:"lags,omitempty"`

	Regressed    []string `json:"regressed,omitempty"`     // users refused by NEW with what worked on OLD
	RegressedWhy string   `json:"regressed_why,omitempty"` // why that is not known; "" when it is

	Bounces    Share                  `json:"bounces"`
	BouncesWhy string                 `json:"bounces_why,omitempty"` // the same
	Asked      map[config.Gate]Answer `json:"asked,omitempty"`       // what the operator's own checks answered
}

// Lag is the age of a user's oldest change that is not carried to the other side.
type Lag struct {
	User    string        `json:"user"`
	Age     time.Duration `json:"age_ns,omitempty"`
	Unknown string        `json:"unknown,omitempty"` // why it is not known
}

// Compared is that both sides of a user were compared.
type Compared struct {
	User  string    `json:"user"`
	At    time.Time `json:"at"`
	Equal bool      `json:"equal"`
	Seen  string    `json:"seen,omitempty"` // in plain words
}
