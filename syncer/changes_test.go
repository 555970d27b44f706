package syncer_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"mailgate/mailtest/lab"
)

// change makes 200 changes to an account on OLD, as people make them: new mail, flags, moves, deletes, a renamed folder, a new one,
// subscriptions.
func change(t testing.TB, x *lab.Talk, h lab.Host, seed uint64) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	name := func(s string) string { return h.Prefix + strings.ReplaceAll(s, "/", h.Sep) }
	x.Do("SELECT INBOX") // appends to a large Maildir that is open are ten times as quick
	for i := range 40 {
		x.Append("INBOX", []string{"", `\Seen`, `\Flagged $Forwarded`, `\Deleted`}[i%4], letter(int(seed)*1000+i))
	}
	uids := x.UIDs()
	rnd.Shuffle(len(uids), func(i, j int) { uids[i], uids[j] = uids[j], uids[i] })
	take := func(n int) (set string) {
		var s []string
		for _, u := range uids[:n] {
			s = append(s, fmt.Sprint(u))
		}
		uids = uids[n:]
		return strings.Join(s, ",")
	}
	x.Do(`UID STORE %s +FLAGS (\Seen \Answered)`, take(20))
	x.Do(`UID STORE %s -FLAGS (\Seen)`, take(20))
	x.Do(`UID STORE %s +FLAGS (MyLabel $Junk)`, take(20))
	x.Do(`UID STORE %s FLAGS (\Flagged)`, take(20))
	gone := take(20)
	x.Do(`UID STORE %s +FLAGS (\Deleted)`, gone)
	x.Do(`UID EXPUNGE %s`, gone)
	moved := take(20)
	to := name(fmt.Sprintf("Moved %d", seed))
	x.Do(`CREATE "%s"`, to)
	x.Do(`SUBSCRIBE "%s"`, to)
	x.Do(`UID COPY %s "%s"`, moved, to)
	x.Do(`UID STORE %s +FLAGS (\Deleted)`, moved)
	x.Do(`UID EXPUNGE %s`, moved)
	x.Do(`UID COPY %s "%s"`, take(10), to)
	from, renamed := name("Work"), name(fmt.Sprintf("Arbeit %d", seed))
	if seed > 1 {
		from = name(fmt.Sprintf("Arbeit %d", seed-1))
	}
	x.Do(`RENAME "%s" "%s"`, from, renamed)
	x.Do(`SELECT "%s"`, to)
	x.Do(`UID STORE 1:5 +FLAGS (\Draft)`)
	x.Do("SELECT INBOX")
}

func letter(n int) string {
	return fmt.Sprintf("From: a@example.com\r\nSubject: change %d\r\nMessage-ID: <change-%d@example.com>\r\nDate: Wed, 25 Nov 2026 10:00:%02d +0000\r\n\r\nBody %d.\r\n", n, n, n%60, n)
}
