package gate

import "time"

// Counts are what happened, in numbers.
type Counts struct {
	LoginsOK      int64 `json:"logins_ok,omitempty"`
	LoginsRefused int64 `json:"logins_refused,omitempty"` // by the password
	LoginsFailed  int64 `json:"logins_failed,omitempty"`  // for the host's sake: temporary
	Sessions      int64 `json:"sessions,omitempty"`       // that ended, however
	Broken        int64 `json:"broken,omitempty"`         // of those: by the host, in the middle
	MailOK        int64 `json:"mail_ok,omitempty"`        // messages that the host took
	MailRefused   int64 `json:"mail_refused,omitempty"`   // 5xx of the host to MAIL, RCPT or the message
}

// Add is the sum of both.
func (c Counts) Add(d Counts) Counts {
	return Counts{c.LoginsOK + d.LoginsOK, c.LoginsRefused + d.LoginsRefused, c.LoginsFailed + d.LoginsFailed, c.Sessions + d.Sessions,
		c.Broken + d.Broken, c.MailOK + d.MailOK, c.MailRefused + d.MailRefused}
}

// Share is how many of a number of tries failed.
type Share struct {
	Failed  int64 `json:"failures"`
	Samples int64 `json:"samples"`
}

// Ratio is from 0 to 1; 0 where nothing was tried.
func (s Share) Ratio() float64 {
	if s.Samples == 0 {
		return 0
	}
	return float64(s.Failed) / float64(s.Samples)
}

// Logins is the share of logins that the password was wrong of; what failed otherwise says nothing about that.
func (c Counts) Logins() Share { return Share{c.LoginsRefused, c.LoginsOK + c.LoginsRefused} }

// Backend is the share of logins and sessions that failed for the host's sake.
func (c Counts) Backend() Share {
	return Share{c.LoginsFailed + c.Broken, c.LoginsOK + c.LoginsRefused + c.LoginsFailed + c.Sessions}
}

// Mail is the share of messages that were refused for good.
func (c Counts) Mail() Share { return Share{c.MailRefused, c.MailOK + c.MailRefused} }

// Baseline is what a user met on the side that he came from, recorded when he left it.
type Baseline struct {
	User string    `json:"user"`
	At   time.Time `json:"at"`   // of the flip
	Week Counts    `json:"week"` // the 7 days before
	Day  Counts    `json:"day"`  // the 24 hours before
}
