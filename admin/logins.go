package admin

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mailgate/config"
	"mailgate/logins"
)

// LoginStatus tells of a user's logins through the gateway.
type LoginStatus struct {
	Last    []LastLogin    `json:"last"`
	Refused []RefusedLogin `json:"refused,omitempty"`
	Hash    *KeptHash      `json:"hash,omitempty"` // null where none is kept
}

// LastLogin is when he was let in last at a side by a protocol, give or take five minutes.
type LastLogin struct {
	Side     config.Side     `json:"side"`
	Protocol config.Protocol `json:"protocol"`
	First    time.Time       `json:"first"`
	Last     time.Time       `json:"last"`
}

// RefusedLogin is one that a side refuses with a password that worked on the other.
type RefusedLogin struct {
	User     string          `json:"user"`
	Side     config.Side     `json:"refused_by"`
	Protocol config.Protocol `json:"protocol"`
	First    time.Time       `json:"first"`
	Last     time.Time       `json:"last"`
	Count    int64           `json:"logins"`
	Do       string          `json:"do"`
}

// KeptHash is a hash of a password that is kept, without the hash, and how the hook for it stands.
type KeptHash struct {
	Learned time.Time `json:"learned"`
	Seen    time.Time `json:"last_login"`
	Hook    time.Time `json:"hook_done,omitzero"`
	Tries   int       `json:"hook_failed,omitempty"` // so often, one after the other
	Next    time.Time `json:"hook_next,omitzero"`
	Error   string    `json:"hook_error,omitempty"`
}

// logins adds what is known of a user's logins.
func (a *API) logins(ctx context.Context, u *UserStatus) error {
	if a.Logins == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	all, err := logins.Read(ctx, a.Logins, u.User)
	if err != nil {
		return err
	}
	u.Seen = &LoginStatus{Last: []LastLogin{}}
	k := all[u.User]
	if k == nil {
		return nil
	}
	for _, x := range k.Logins {
		u.Seen.Last = append(u.Seen.Last, LastLogin{x.Side, x.Protocol, x.First, x.Last})
	}
	u.Seen.Refused = RefusedLogins(k.Refusals)
	if x := k.Kept; x != nil {
		u.Seen.Hash = &KeptHash{x.Learned, x.Seen, x.Hook.Done, x.Hook.Tries, x.Hook.Next, x.Hook.Error}
	}
	return nil
}

// RefusedLogins tells of refusals, and what to do about each.
func RefusedLogins(list []logins.Refusal) (out []RefusedLogin) {
	for _, r := range list {
		out = append(out, RefusedLogin{r.User, r.Side, r.Protocol, r.First, r.Last, r.Count, logins.WayOut(r.User, r.Side)})
	}
	return out
}

// loginMetrics count what follows from logins.
type loginMetrics struct {
	hashes      *prometheus.CounterVec
	hooks       *prometheus.CounterVec
	regressions *prometheus.CounterVec
	regressed   *prometheus.GaugeVec
}

func newLoginMetrics(m *Metrics) loginMetrics {
	l := loginMetrics{
		hashes: counter(m, "mailgate_learned_hashes_total", "Logins of which the password was to be hashed, by what became of it.", "result"),
		hooks:  counter(m, "mailgate_login_hook_runs_total", "Runs of the login hook, by how they ended.", "result"),
		regressions: counter(m, "mailgate_auth_regressions_total",
			"Logins that a side has refused with a password that worked on the other.", "side"),
		regressed: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mailgate_auth_regressed_users",
			Help: "Users whose password worked on the other side and is refused by this one."}, []string{"side"}),
	}
	m.Registry.MustRegister(l.regressed)
	return l
}

// zero makes series exist before the first event.
func (l loginMetrics) zero() {
	for _, r := range []string{"learned", "renewed", "kept", "dropped", "failed"} {
		l.hashes.WithLabelValues(r)
	}
	for _, r := range []string{"done", "failed", "late", "dropped"} {
		l.hooks.WithLabelValues(r)
	}
	for _, s := range config.Sides {
		l.regressions.WithLabelValues(s.String())
		l.regressed.WithLabelValues(s.String())
	}
}

// LearnedHash implements logins.Recorder.
func (m *Metrics) LearnedHash(result string) { m.logins.hashes.WithLabelValues(result).Inc() }

// LoginHook implements logins.Recorder.
func (m *Metrics) LoginHook(result string) { m.logins.hooks.WithLabelValues(result).Inc() }

// LoginRegression implements logins.Recorder.
func (m *Metrics) LoginRegression(s config.Side) {
	m.logins.regressions.WithLabelValues(s.String()).Inc()
}

// LoginsRegressed implements logins.Recorder.
func (m *Metrics) LoginsRegressed(s config.Side, users int) {
	m.logins.regressed.WithLabelValues(s.String()).Set(float64(users))
}
