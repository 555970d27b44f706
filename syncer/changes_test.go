package syncer_test

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"mailgate/mailtest/lab"
)

// change makes 200 changes to an account on OLD, as people make them: new mail, flags, moves, deletes, a renamed folder, a new one,
// subscriptions.
func change(x *talk, h lab.Host, seed uint64) {
	x.t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	name := func(s string) string { return h.Prefix + strings.ReplaceAll(s, "/", h.Sep) }
	for i := range 40 {
		x.append("INBOX", []string{"", `\Seen`, `\Flagged $Forwarded`, `\Deleted`}[i%4], letter(int(seed)*1000+i))
	}
	x.do("SELECT INBOX")
	uids := x.uids()
	rnd.Shuffle(len(uids), func(i, j int) { uids[i], uids[j] = uids[j], uids[i] })
	take := func(n int) (set string) {
		var s []string
		for _, u := range uids[:n] {
			s = append(s, fmt.Sprint(u))
		}
		uids = uids[n:]
		return strings.Join(s, ",")
	}
	x.do(`UID STORE %s +FLAGS (\Seen \Answered)`, take(20))
	x.do(`UID STORE %s -FLAGS (\Seen)`, take(20))
	x.do(`UID STORE %s +FLAGS (MyLabel $Junk)`, take(20))
	x.do(`UID STORE %s FLAGS (\Flagged)`, take(20))
	gone := take(20)
	x.do(`UID STORE %s +FLAGS (\Deleted)`, gone)
	x.do(`UID EXPUNGE %s`, gone)
	moved := take(20)
	to := name(fmt.Sprintf("Moved %d", seed))
	x.do(`CREATE "%s"`, to)
	x.do(`SUBSCRIBE "%s"`, to)
	x.do(`UID COPY %s "%s"`, moved, to)
	x.do(`UID STORE %s +FLAGS (\Deleted)`, moved)
	x.do(`UID EXPUNGE %s`, moved)
	x.do(`UID COPY %s "%s"`, take(10), to)
	from, renamed := name("Work"), name(fmt.Sprintf("Arbeit %d", seed))
	if seed > 1 {
		from = name(fmt.Sprintf("Arbeit %d", seed-1))
	}
	x.do(`RENAME "%s" "%s"`, from, renamed)
	x.do(`SELECT "%s"`, to)
	x.do(`UID STORE 1:5 +FLAGS (\Draft)`)
	x.do("SELECT INBOX")
}
