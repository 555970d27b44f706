package proxy

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailgate/mailtest"
)

// TestGuessers: while the world guesses one user's password, from thousands of addresses and from the one that he shares with others, he
// logs in where he did before without waiting, on every front.
func TestGuessers(t *testing.T) {
	t.Parallel()
	slow := time.Hour // a delay that no test lives to see the end of
	for name, tt := range map[string]struct {
		rig func(testing.TB, rigOptions) *rig
		old func(*mailtest.Talk)
		in  func(*rig) *mailtest.Talk
	}{
		"IMAP": {newRig, ends("old", "!silent"), (*rig).in},
		"POP3": {popRig, popEnds("old", "!silent"), (*rig).popClientIn},
		"sieve": {sieveRig, sieveEnds(""), func(r *rig) *mailtest.Talk {
			k := r.plain()
			k.Dialogue("S: \"IMPLEMENTATION\" ...\nS: \"SIEVE\" ...\nS: \"SASL\" ...\nS: OK ...\n" + sieveAuth)
			return k
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := tt.rig(t, rigOptions{old: tt.old, gone: true})
			tt.in(r)
			r.limiter.SetMax(slow)
			mine := netip.MustParseAddr("127.0.0.1")
			for i := range 5000 {
				r.limiter.Failed(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), user)
				r.limiter.Failed(mine, fmt.Sprintf("other%d@example.com", i%100))
			}
			tt.in(r)
		})
	}
}

// TestGuessersBehindBalancer: it is clients who are known and who guess, not the balancer that all of them come through.
func TestGuessersBehindBalancer(t *testing.T) {
	t.Parallel()
	right := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00pw"))
	r := newRig(t, rigOptions{gone: true, tune: proxied(t, "127.0.0.0/8"), old: func(k *mailtest.Talk) {
		k.Send("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n")
		line := k.Line()
		tag, _, _ := strings.Cut(line, " ")
		if !strings.HasSuffix(line, right) {
			k.Send(tag + " NO [AUTHENTICATIONFAILED] no\r\n")
			return
		}
		k.Send(tag + " OK [CAPABILITY IMAP4rev1] in on old\r\n")
		k.Silent()
	}})
	r.limiter.SetMax(time.Hour)
	from := func(ip, password string) *mailtest.Talk {
		k := r.plain()
		k.Send("PROXY TCP4 " + ip + " 10.0.0.1 4711 143\r\n")
		k.Dialogue("S: * OK ...\nC: a LOGIN " + user + " " + password)
		return k
	}
	const home = "192.0.2.7"
	from(home, "pw").Expect("a OK ...")
	for i := range 30 { // most of them wait for their answers for good
		from(fmt.Sprintf("203.0.113.%d", i), "wrong")
	}
	waits := func(ip, user string) bool {
		wait, release, err := r.limiter.Before(netip.MustParseAddr(ip), user)
		if err == nil {
			release()
		}
		return err != nil || wait > 0
	}
	r.until("strangers wait", func() bool { return waits("198.51.100.1", user) })
	for i := range 5000 { // and on it goes, until strangers wait for longer than this test lives
		r.limiter.Failed(netip.AddrFrom4([4]byte{203, 1, byte(i >> 8), byte(i)}), user)
	}
	from(home, "pw").Expect("a OK ...")
	if !r.limiter.Knows(netip.MustParseAddr(home), user) {
		t.Error("he is not known where he is")
	}
	if waits("198.51.100.1", "v@example.com") || waits("127.0.0.1", "v@example.com") || r.limiter.Knows(netip.MustParseAddr("127.0.0.1"), user) {
		t.Error("it is counted for others, or for the balancer")
	}
}
