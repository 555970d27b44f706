package admin

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"mailgate/config"
	"mailgate/cutover/gate"
	"mailgate/op"
	"mailgate/router"
	"mailgate/syncer"
	"mailgate/syncer/merge"
)

// sourcesOf are sources with a listener, a certificate and two waves.
func sourcesOf(r *router.Router) Sources {
	return Sources{Router: r, Sync: func() (map[string]int, time.Duration) { return map[string]int{"converged": 2}, time.Second },
		Wave: func(user string) string {
			if strings.HasPrefix(user, "bob@") {
				return "pilot"
			}
			return ""
		},
		Waves:      func() []string { return []string{"pilot", "sales"} },
		Steps:      func() map[string]op.State { return map[string]op.State{"carol@example.com": op.Drain} },
		Operations: func() map[op.Kind]map[op.Status]int { return map[op.Kind]map[op.Status]int{op.Flip: {op.Accepted: 7}} },
		Connections: func() []Connection {
			return []Connection{{Protocol: config.IMAP, Listener: "imaps://:993", Mode: config.Implicit, N: 3}}
		},
		Gates: func() []gate.Status {
			return []gate.Status{{Wave: "pilot", Results: []gate.Result{{Gate: config.GateLag, Verdict: gate.Unknown}}, Baseline: map[string]float64{"login_failures": 0.25}},
				{Wave: "gone", Results: []gate.Result{{Gate: config.GateLag, Verdict: gate.Pass}}}}
		},
		NotAfter: func() []Expiry {
			return []Expiry{{Host: "mail.example.com", Port: "993", At: time.Unix(1800000000, 0)}}
		},
	}
}

// TestMetrics: the names and labels of operations.md, D2, are as they are written there, and pass the linter.
func TestMetrics(t *testing.T) {
	g := newRig(t, "alice@example.com old\nbob@example.com new\ncarol@example.com old\n")
	m := NewMetrics("1.2", "abc", sourcesOf(g.r))
	fresh := gather(t, m)
	for _, line := range []string{
		`mailgate_build_info{revision="abc",version="1.2"} 1`,
		`mailgate_connections{listener="imaps://:993",protocol="imap",tls="implicit"} 3`,
		`mailgate_sessions{protocol="submission",side="old",wave="sales"} 0`,
		`mailgate_users{state="DRAIN",wave=""} 1`,
		`mailgate_users{state="NEW",wave="pilot"} 1`,
		`mailgate_users{state="OLD",wave=""} 1`,
		`mailgate_users{state="RELEASE",wave="sales"} 0`,
		`mailgate_operations{kind="flip",state="accepted"} 7`,
		`mailgate_gate_status{gate="lag",verdict="fail",wave="pilot"} 0`,
		`mailgate_gate_status{gate="lag",verdict="unknown",wave="pilot"} 1`,
		`mailgate_wave_baseline_ratio{signal="login_failures",wave="pilot"} 0.25`,
		`mailgate_wave_baseline_ratio{signal="refused_submissions",wave="pilot"} 0`,
		`mailgate_tls_certificate_not_after_timestamp_seconds{host="mail.example.com",port="993"} 1.8e+09`,
		// Known label sets begin at zero.
		`mailgate_auth_attempts_total{mechanism="PLAIN",protocol="imap",result="held",side="new",wave=""} 0`,
		`mailgate_submission_messages_total{code_class="4xx",side="new"} 0`,
		`mailgate_state_transitions_total{actor="file",from="VERIFY",to="RELEASE",wave=""} 0`,
		`mailgate_relayed_bytes_total{direction="up",protocol="submission",side="old"} 0`,
		`mailgate_invariant_violations_total{invariant="panic"} 0`,
		`mailgate_flip_duration_seconds_count{kind="rollback",wave=""} 0`,
		`mailgate_session_duration_seconds_count{protocol="imap",side="new"} 0`,
		`mailgate_backend_connect_duration_seconds_count{protocol="imap",side="old"} 0`,
		`mailgate_backend_login_duration_seconds_count{protocol="imap",side="old"} 0`,
		`mailgate_sync_errors_total{class="unreachable",scope="folder"} 0`,
		`mailgate_sync_conflicts_total{kind="deleted-and-changed"} 0`,
		`mailgate_sync_messages_total{change="copied",side="new"} 0`,
		`mailgate_learned_hashes_total{result="kept"} 0`,
		`mailgate_login_hook_runs_total{result="late"} 0`,
		`mailgate_hook_runs_total{event="abort",outcome="given_up"} 0`,
		`mailgate_auth_regressions_total{side="new"} 0`,
		`mailgate_auth_regressed_users{side="new"} 0`,
	} {
		if !slices.Contains(fresh, line) {
			t.Errorf("missing: %s", line)
		}
	}
	if slices.ContainsFunc(fresh, func(line string) bool { return strings.Contains(line, `wave="gone"`) }) {
		t.Error("a wave that the routes file does not name is a label")
	}
	s := g.session("bob@example.com")
	defer s.Done()
	m.Connection(config.IMAP, "imaps://:993", config.Implicit)
	m.Auth(config.IMAP, config.New, "bob@example.com", "LOGIN", "ok")
	m.Auth(config.Submission, config.Old, "", "X-MADE-UP", "malformed")
	m.SessionEnd(config.IMAP, config.New, 3*time.Second, 10, 20)
	m.Message(config.New, "2xx")
	m.Violation("I1")
	m.Connected(config.New, config.IMAP, time.Millisecond)
	m.LoggedIn(config.New, config.IMAP, time.Millisecond)
	m.Up(config.New, config.IMAP, "new1", true)
	m.Up(config.Old, config.IMAP, "old1", false)
	m.Pass("partly", time.Second)
	m.Carried(700 * time.Millisecond)
	m.PassDid(&syncer.Report{Copied: [2]int64{0, 3}, Bytes: [2]int64{0, 900}, Conflicts: map[string]int64{merge.Exclusive: 2},
		Errors: []syncer.FolderError{{Folder: "Secret", Class: syncer.ClassRefused}}}, nil)
	m.PassDid(nil, syncer.ErrFenced)
	m.Flip("bob@example.com", config.New, 2*time.Second, true)
	m.Flip("bob@example.com", config.New, 20*time.Second, false)
	m.Transition("bob@example.com", router.Drain, router.Release, "routes file abc (cli: root)")
	m.Transition("alice@example.com", router.Drain, router.Settled, "cli: root")
	m.Transition("alice@example.com", router.Drain, router.Settled, "somebody new")
	m.LearnedPassword("dropped")
	m.LearnedHash("learned")
	m.LoginHook("done")
	m.HookRun("before", "vetoed")
	m.LoginRegression(config.New)
	m.LoginsRegressed(config.New, 7)
	m.StoreOK(time.Unix(1700000000, 0))
	m.Reloaded()
	after := gather(t, m)
	for _, line := range []string{
		`mailgate_connections_total{listener="imaps://:993",protocol="imap",tls="implicit"} 1`,
		`mailgate_sessions{protocol="imap",side="new",wave="pilot"} 1`,
		`mailgate_auth_attempts_total{mechanism="LOGIN",protocol="imap",result="ok",side="new",wave="pilot"} 1`,
		`mailgate_auth_attempts_total{mechanism="other",protocol="submission",result="malformed",side="old",wave=""} 1`,
		`mailgate_session_duration_seconds_sum{protocol="imap",side="new"} 3`,
		`mailgate_relayed_bytes_total{direction="down",protocol="imap",side="new"} 20`,
		`mailgate_submission_messages_total{code_class="2xx",side="new"} 1`,
		`mailgate_invariant_violations_total{invariant="I1"} 1`,
		`mailgate_backend_up{backend="new1",protocol="imap",side="new"} 1`,
		`mailgate_backend_up{backend="old1",protocol="imap",side="old"} 0`,
		`mailgate_backend_connect_duration_seconds_count{protocol="imap",side="new"} 1`,
		`mailgate_backend_login_duration_seconds_count{protocol="imap",side="new"} 1`,
		`mailgate_flip_duration_seconds_sum{kind="switch",wave="pilot"} 2`,
		`mailgate_learned_passwords_total{result="dropped"} 1`,
		`mailgate_learned_hashes_total{result="learned"} 1`,
		`mailgate_login_hook_runs_total{result="done"} 1`,
		`mailgate_hook_runs_total{event="before",outcome="vetoed"} 1`,
		`mailgate_auth_regressions_total{side="new"} 1`,
		`mailgate_auth_regressed_users{side="new"} 7`,
		`mailgate_learned_passwords_total{result="learned"} 0`,
		`mailgate_state_transitions_total{actor="file",from="DRAIN",to="RELEASE",wave="pilot"} 1`,
		`mailgate_state_transitions_total{actor="cli",from="DRAIN",to="SETTLED",wave=""} 1`,
		`mailgate_state_transitions_total{actor="serve",from="DRAIN",to="SETTLED",wave=""} 1`,
		`mailgate_state_store_last_success_timestamp_seconds 1.7e+09`,
		`mailgate_sync_passes_total{result="partly"} 1`,
		`mailgate_sync_carry_duration_seconds_sum 0.7`,
		`mailgate_sync_messages_total{change="copied",side="new"} 3`,
		`mailgate_sync_copied_bytes_total{side="new"} 900`,
		`mailgate_sync_conflicts_total{kind="exclusive"} 2`,
		`mailgate_sync_errors_total{class="refused",scope="folder"} 1`,
		`mailgate_sync_errors_total{class="owner",scope="user"} 1`,
	} {
		if !slices.Contains(after, line) {
			t.Errorf("missing: %s", line)
		}
	}
	problems, err := testutil.GatherAndLint(m.Registry)
	must(t, err)
	for _, p := range problems {
		t.Errorf("lint: %s: %s", p.Metric, p.Text)
	}
	for _, line := range after {
		if strings.Contains(line, "@") || strings.Contains(line, "Secret") {
			t.Errorf("an address: %s", line)
		}
		if v, ok := strings.CutPrefix(line, "mailgate_config_last_reload_success_timestamp_seconds "); ok && v == "0" {
			t.Error("the reload was not noted")
		}
	}
}

// gather is what a monitor reads, by line.
func gather(t *testing.T, m *Metrics) []string {
	t.Helper()
	w := httptest.NewRecorder()
	ok := func(context.Context) error { return nil }
	Health(m, func() string { return "" }, ok, nil).ServeHTTP(w, httptest.NewRequest(get, "/metrics", nil))
	return strings.Split(w.Body.String(), "\n")
}
